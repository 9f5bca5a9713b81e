"""The record of what a maintainer found when verifying a run: kept beside the runs, for its very bytes alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import rh_bench
from rh_bench.artifacts.coverage import coverage
from rh_bench.artifacts.fingerprint import Fingerprint, read_fingerprint
from rh_bench.artifacts.levels import Verification
from rh_bench.artifacts.results_repo import Layout, run_folders
from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.system.files import regular_file, sha256_file
from rh_bench.system.schema import load_json, validate_document

_LONGEST_REASON = 2000


def read_verification(layout: Layout, folder: Path) -> Json | None:
    """The verification of a run's very bytes, or None: a record of other bytes than these says nothing about them.

    Args:
        folder: a run's folder below `layout.runs`.
    """
    if layout.verification is None:
        return None
    try:
        document = load_json(regular_file(layout.verification, f"{folder.parent.name}/{folder.name}.json"))
        digest = sha256_file(folder / "run.json")
    except InputError:
        return None
    if validate_document(document, "verification"):
        return None
    named = document["run"]
    same = (named["slug"], named["run_id"], named["run_sha256"]) == (folder.parent.name, folder.name, digest)
    return document if same else None


def set_sizes(layout: Layout) -> dict[str, int]:
    """How many samples a set has, by the SHA-256 of its manifest, as far as runs show it that were verified against it.

    Of a run that reached *recomputed*, a maintainer has held the samples against the set: what it says of the set's
    size is right, and if it claims to be of the whole set, so is the number of its samples.
    """
    found: dict[str, int] = {}
    for folder in run_folders(layout.runs) if layout.verification is not None else ():
        record = read_verification(layout, folder)
        reached = {level["level"]: level["reached"] for level in record["levels"]} if record else {}
        if not reached.get("recomputed") or False in reached.values():
            continue
        run = load_json(folder / "run.json")
        if validate_document(run, "run"):
            continue
        haystack = run["haystack"]
        covered = coverage(run)
        size = haystack.get("samples") or (covered.samples if covered.whole else 0)
        digest = haystack["manifest_sha256"]
        if size:  # more, if they should disagree: then a run is rather taken for a part than for a whole
            found[digest] = max(size, found.get(digest, 0))
    return found


def read_mark(path: Path) -> Fingerprint | None:
    """By what copies of a run are recognised, from the file of its verification; None if it does not say."""
    try:
        document = load_json(path)
    except InputError:
        return None
    if validate_document(document, "verification") or not document.get("fingerprint"):
        return None
    return read_fingerprint(document["fingerprint"])


def verification_document(
    found: Verification,
    *,
    rerun: int = 0,
    salt: str = "",
    pull_request: int | None = None,
    author: str | None = None,
    mark: Fingerprint | None = None,
    now: datetime | None = None,
    attestation: Json | None = None,
) -> Json:
    """What a verification found, as a document to keep beside the runs.

    Args:
        found: of a run in a folder named as runs are.
        rerun, salt: as the run was verified with.
        author: who opened the pull request.
        mark: by what a copy of the run will be recognised.
        now: an aware time; the present without it.
        attestation: what was seen of the job that made the run, if it is attested.
    """
    return {
        "schema": "rh_bench/verification",
        "schema_version": "1.2",
        "run": {
            "slug": found.folder.parent.name,
            "run_id": found.folder.name,
            "run_sha256": sha256_file(found.folder / "run.json"),
        },
        **verification_body(
            found, rerun=rerun, salt=salt, pull_request=pull_request, author=author, mark=mark, now=now
        ),
        "attestation": attestation,
    }


def verification_body(
    found: Verification,
    *,
    rerun: int,
    salt: str,
    pull_request: int | None,
    author: str | None,
    mark: Fingerprint | None,
    now: datetime | None,
) -> Json:
    """What a record says beside what it is about. Arguments as for :func:`verification_document`."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    levels = [
        {
            "level": level.name,
            "reached": level.reached,
            "reasons": [text[:_LONGEST_REASON] for text in level.reasons[:64]],
        }
        for level in found.levels
    ]
    return {
        "levels": levels,
        "rerun": {"samples": rerun, "salt": salt} if rerun else None,
        "rh_bench": rh_bench.__version__,
        "date": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "pull_request": pull_request,
        "author": author,
        "fingerprint": mark.to_json() if mark else None,
    }
