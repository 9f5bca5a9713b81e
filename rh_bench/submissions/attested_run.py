"""What a job of the Hub does for an order: measure, submit, and say last what was submitted."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.hub.client import Access
from rh_bench.hub.refs import parse_repo
from rh_bench.measure.evaluate import Request, evaluate
from rh_bench.prompting.thinking import AUTO
from rh_bench.records import Json
from rh_bench.submissions.attest_order import Settings, check_image, is_nonce, last_line, package_sha256
from rh_bench.submissions.submit import submit_run
from rh_bench.system.files import sha256_file

JOB_ID, ACCELERATOR = "JOB_ID", "ACCELERATOR"
"""Variables by which a job of the Hub knows itself."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Errand:
    """What a job is told, by its command."""

    model: str
    haystack: str
    repo: str
    nonce: str
    namespace: str
    image: str
    package_sha256: str
    settings: Settings = field(default_factory=Settings)


def run_attested(
    errand: Errand,
    say: Callable[[str], None],
    variables: Mapping[str, str] = os.environ,
    access: Access | None = None,
) -> str:
    """Measure what was ordered and submit the run.

    Args:
        say: is told what is being done, in words of ours alone: nothing that a model is called or brings along.
        variables: the environment.

    Returns:
        The line that is to be said last.

    Raises:
        InputError: what runs here is not what was ordered, or cannot be measured or submitted.
    """
    _check(errand)
    settings = errand.settings
    with tempfile.TemporaryDirectory(prefix="rh_bench-attested-") as made:
        request = Request(
            model=errand.model,
            haystack=errand.haystack,
            out=Path(made),
            engine=settings.engine or "fast",
            dtype=settings.dtype or "auto",
            template=settings.template or "auto",
            thinking=settings.thinking or AUTO,
            thought_tokens=settings.thought_tokens,
            window=settings.window,
            attestation=_claim(errand, variables),
        )
        say("measuring")
        outcome = evaluate(request)
        say(f"measured: {outcome.measured} samples")
        submitted = submit_run(outcome.folder, errand.repo, access=access)
        say(f"submitted: pull request {submitted.pull_request}")
        return last_line(errand.nonce, sha256_file(outcome.folder / "run.json"))


def _check(errand: Errand) -> None:
    """See that everything is named for good, and that the source is the one that was ordered."""
    for name, text in (("MODEL", errand.model), ("--haystack", errand.haystack)):
        if not _COMMIT.fullmatch(parse_repo(text).revision or ""):
            raise InputError("does not name a commit", where=f"{name} {text!r}", hint="write it like org/name@COMMIT")
    if not is_nonce(errand.nonce):
        raise InputError("is not the nonce of an order", where="--nonce")
    check_image(errand.image)
    found = package_sha256()
    if found != errand.package_sha256:
        raise InputError(
            f"the source of rh_bench here has SHA-256 {found}, not {errand.package_sha256} as ordered",
            hint="order with the version in the image or the pinned packages",
        )


def _claim(errand: Errand, variables: Mapping[str, str]) -> Json:
    """What run.json says of how it was made."""
    job, flavor = variables.get(JOB_ID), variables.get(ACCELERATOR)
    return {
        "nonce": errand.nonce,
        "namespace": errand.namespace,
        "job": job if job and _WORD.fullmatch(job) else None,
        "image": errand.image,
        "accelerator": flavor if flavor and _WORD.fullmatch(flavor) else None,
        "package_sha256": errand.package_sha256,
    }
