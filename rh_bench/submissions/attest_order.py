"""Orders for attested runs: what a maintainer has a job of the Hub measure, and the recipe by which the job does it.

An order lies in the results repository, where no submission may write, before its job is started:

```
attestations/<nonce>.json
```

Its nonce is drawn when the order is made, after model and set were named by their commits. So nothing that the model
or the set holds can know it; and the job has it in its command, in run.json, and in the last line that it says.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import rh_bench
from rh_bench.artifacts.results_repo import ATTESTATIONS
from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.system.schema import load_json, validate_document

RECIPE = 1
"""Version of what :func:`command` and :func:`environment` give."""
TOKEN = "HF_TOKEN"
"""The one secret of a job: by it the run is submitted."""
REQUIREMENTS = "RH_BENCH_REQUIREMENTS"
"""Variable of the job's environment that holds its pinned packages."""
MARK = "rh_bench-attested"
MOST_BYTES = 1 << 20
"""Of an order's document."""
INSTALL = f"""made=$(mktemp -d)
printf %s "${REQUIREMENTS}" > "$made/requirements.txt"
python3 -m venv "$made/rh-bench"
"$made/rh-bench/bin/python" -m pip --isolated install --quiet --no-input --disable-pip-version-check --no-deps \
--only-binary :all: --require-hashes --requirement "$made/requirements.txt"
exec "$made/rh-bench/bin/rh-bench" "$@"
"""
"""Installs what is pinned, and nothing else, then becomes rh-bench; ends where anything fails (`sh -e`)."""
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]{0,300}@sha256:[0-9a-f]{64}")
_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure, as options of `rh-bench evaluate`; None is what it does by itself."""

    dtype: str | None = None
    template: str | None = None
    engine: str | None = None
    thinking: str | None = None
    thought_tokens: int | None = None
    window: int | None = None

    def to_json(self) -> Json:
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def options(self) -> tuple[str, ...]:
        """As words of a command line."""
        given = ((name.replace("_", "-"), getattr(self, name)) for name in self.__slots__)
        return tuple(word for name, value in given if value is not None for word in (f"--{name}", str(value)))


@dataclass(frozen=True, slots=True)
class Started:
    """The job that was started for an order, as the Hub named it then."""

    job: str
    owner_id: str

    def to_json(self) -> Json:
        return {"id": self.job, "owner_id": self.owner_id}


@dataclass(frozen=True, slots=True)
class Order:
    """What one job is to measure, where, with what. A job's own settings and bytes follow from it."""

    nonce: str
    date: str
    version: str
    """Of rh_bench, here and in the job."""
    package_sha256: str
    """Of the package's source, here and in the job."""
    repo: str
    """The results repository to submit to."""
    namespace: str
    """The user or organisation under which the job runs."""
    model: tuple[str, str]
    """Id and commit."""
    haystack: tuple[str, str]
    """Id and commit."""
    image: str
    """By its digest."""
    requirements: str | None
    """Pinned packages to install; None if the image holds rh_bench."""
    flavor: str
    timeout: int
    """Seconds that the job may take."""
    settings: Settings = field(default_factory=Settings)
    started: Started | None = None

    @property
    def path(self) -> str:
        return order_path(self.nonce)

    def to_json(self) -> Json:
        return {
            "schema": "rh_bench/attestation",
            "schema_version": "1.0",
            "nonce": self.nonce,
            "date": self.date,
            "rh_bench": self.version,
            "package_sha256": self.package_sha256,
            "recipe": RECIPE,
            "repo": self.repo,
            "namespace": self.namespace,
            "model": {"id": self.model[0], "revision": self.model[1]},
            "haystack": {"id": self.haystack[0], "revision": self.haystack[1]},
            "settings": self.settings.to_json(),
            "image": self.image,
            "requirements": self.requirements,
            "flavor": self.flavor,
            "timeout_seconds": self.timeout,
            "command": list(command(self)),
            "job": None if self.started is None else self.started.to_json(),
        }


def order_path(nonce: str) -> str:
    """Where an order lies in the results repository."""
    return f"{ATTESTATIONS}/{nonce}.json"


def is_nonce(text: object) -> bool:
    return isinstance(text, str) and _NONCE.fullmatch(text) is not None


def new_order(
    *,
    repo: str,
    namespace: str,
    model: tuple[str, str],
    haystack: tuple[str, str],
    image: str,
    requirements: str | None,
    flavor: str,
    timeout: int,
    settings: Settings | None = None,
    now: datetime | None = None,
) -> Order:
    """An order with a nonce of its own. Arguments as for :class:`Order`.

    Raises:
        InputError: the image is not named by its digest.
    """
    check_image(image)
    moment = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Order(
        secrets.token_hex(16),
        moment,
        rh_bench.__version__,
        package_sha256(),
        repo,
        namespace,
        model,
        haystack,
        image,
        requirements,
        flavor,
        timeout,
        settings or Settings(),
    )


def check_image(image: str) -> None:
    """See that an image is named by what it holds.

    Raises:
        InputError: it is named by a tag, which can come to mean another one, or by nothing at all.
    """
    if not _IMAGE.fullmatch(image):
        raise InputError(
            "is not an image with its digest: a tag can be moved to another image",
            where=f"--image {image[:80]!r}",
            hint="write it like NAME@sha256:… with 64 hexadecimal digits",
        )


def command(order: Order) -> tuple[str, ...]:
    """The words of the job's command: all that decides what is measured stands in them."""
    words = (
        "rh-bench",
        "run-attested",
        f"{order.model[0]}@{order.model[1]}",
        *("--haystack", f"{order.haystack[0]}@{order.haystack[1]}"),
        *("--repo", order.repo),
        *("--nonce", order.nonce),
        *("--namespace", order.namespace),
        *("--image", order.image),
        *("--package", order.package_sha256),
        *order.settings.options,
    )
    return words if order.requirements is None else ("sh", "-ec", INSTALL, *words)


def environment(order: Order) -> dict[str, str]:
    """The variables of the job's environment, but for its secret."""
    return {} if order.requirements is None else {REQUIREMENTS: order.requirements}


def command_sha256(order: Order) -> str:
    """One number for image, command and environment."""
    text = json.dumps([order.image, command(order), environment(order)], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def last_line(nonce: str, run_sha256: str) -> str:
    """What a job says last: for which order it measured, and the SHA-256 of the run.json that it submitted."""
    return f"{MARK} {RECIPE} {nonce} {run_sha256}"


def package_sha256() -> str:
    """SHA-256 over the source of this package, as it is installed here: names and bytes of its modules."""
    root = Path(rh_bench.__file__).resolve().parent
    whole = hashlib.sha256()
    # Links are followed: in a checkout two of the package's folders are links, in an installed package none is.
    modules = (Path(folder) / name for folder, _, names in os.walk(root, followlinks=True) for name in names)
    found = (path for path in modules if path.suffix == ".py")
    for path in sorted(found, key=lambda one: one.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        whole.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n".encode())
    return whole.hexdigest()


def with_job(order: Order, job: str, owner_id: str) -> Order:
    """The order, when its job has been started."""
    return replace(order, started=Started(job, owner_id))


def read_order(path: Path, name: str) -> Order:
    """An order from its file.

    Args:
        name: its path in the repository.

    Raises:
        InputError: it is no order, another's, or one of another recipe.
    """
    document = load_json(path, max_bytes=MOST_BYTES)
    problems = validate_document(document, "attestation")
    if problems:
        raise InputError(f"{problems[0][0]} {problems[0][1]}", where=name)
    if name != order_path(document["nonce"]):
        raise InputError("is an order with another name", where=name)
    order = _order(document)
    if document["recipe"] != RECIPE or document["command"] != list(command(order)):
        hint = "verify it with the version that ordered it"
        raise InputError("was ordered with a recipe other than this version's", where=name, hint=hint)
    return order


def _order(document: Mapping[str, Json]) -> Order:
    started = document["job"]
    found: Mapping[str, object] = {
        "nonce": document["nonce"],
        "date": document["date"],
        "version": document["rh_bench"],
        "package_sha256": document["package_sha256"],
        "repo": document["repo"],
        "namespace": document["namespace"],
        "model": (document["model"]["id"], document["model"]["revision"]),
        "haystack": (document["haystack"]["id"], document["haystack"]["revision"]),
        "image": document["image"],
        "requirements": document["requirements"],
        "flavor": document["flavor"],
        "timeout": document["timeout_seconds"],
        "settings": Settings(**document["settings"]),
        "started": None if started is None else Started(started["id"], started["owner_id"]),
    }
    return Order(**found)  # type: ignore[arg-type]
