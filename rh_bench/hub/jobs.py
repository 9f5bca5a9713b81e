"""Hub jobs: starting one for an order, and reading what the Hub shows of it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rh_bench.errors import InputError
from rh_bench.hub.client import Access, Most, again
from rh_bench.hub.failures import plain_errors
from rh_bench.hub.write import api_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LABEL = "rh-bench-nonce"
"""Label of a job, to find it if the answer to its start was lost."""
MOST_LINES = 100
"""Last lines of a log to read."""
_MOST_LOG = 16 << 20
_LOG_SECONDS = 120.0
_NEEDED = ("run_job", "inspect_job", "fetch_job_logs", "list_jobs")
_SHOWN = ("volumes", "network", "retry", "expose")
"""What the client must show of a job so that it can be judged; older versions leave some of it out."""


class NoSuchJob(InputError):
    """There is no such job, or this token cannot read it: the Hub need not say which."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is to run."""

    namespace: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    """Values by name. They are sent only to the Hub."""
    flavor: str
    timeout: int
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the Hub says about a job."""

    id: str
    owner: str
    """Name of the user or organisation."""
    owner_id: str
    """Does not change with the name."""
    stage: str
    image: str | None
    space: str | None
    command: tuple[str, ...]
    """With its arguments."""
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    """Names."""
    flavor: str | None
    started: str | None
    finished: str | None
    initiator: str | None
    """What started it: "user", "scheduled-job", …"""
    extras: tuple[str, ...]
    """What else it has: volumes, ports, a network, retries, SSH."""
    url: str


def refuse_without_jobs() -> None:
    """Check that the client library supports jobs.

    Raises:
        InputError: it cannot.
    """
    import huggingface_hub

    if not all(callable(getattr(huggingface_hub.HfApi, name, None)) for name in _NEEDED):
        raise InputError(
            f"huggingface_hub {huggingface_hub.__version__} does not support jobs",
            hint="run: pip install --upgrade huggingface_hub",
        )


def _refuse_to_see_half() -> None:
    """Check that the client library shows everything about a job that is checked.

    Raises:
        InputError: it does not.
    """
    import huggingface_hub

    refuse_without_jobs()
    known = getattr(getattr(huggingface_hub, "JobInfo", None), "__annotations__", {})
    hidden = [name for name in _SHOWN if name not in known]
    if hidden:
        raise InputError(
            f"huggingface_hub {huggingface_hub.__version__} does not show {' and '.join(hidden)} of a job",
            hint="run: pip install --upgrade huggingface_hub",
        )


def own_token(access: Access) -> str | None:
    """The token used for requests."""
    from huggingface_hub import get_token

    return access.token or get_token()


def start_job(spec: JobSpec, nonce: str, access: Access) -> Job:
    """Start a job, once: if the answer was lost, it is looked up before another is started.

    Raises:
        InputError: it cannot be started.
    """
    refuse_without_jobs()
    api = api_of(access)
    where = f"jobs of {spec.namespace}"
    tried = False

    def start() -> Any:
        nonlocal tried
        known = _labelled(api, spec.namespace, nonce) if tried else None
        tried = True
        return known or api.run_job(
            image=spec.image,
            command=list(spec.command),
            env=dict(spec.environment),
            secrets=dict(spec.secrets),
            flavor=spec.flavor,
            timeout=spec.timeout,
            labels={LABEL: nonce},
            namespace=spec.namespace,
        )

    with _hushed(spec.secrets.values()), _start_errors(where), plain_errors(None, "dataset"):
        return _job(again(start, access))


def _labelled(api: HfApi, namespace: str, nonce: str) -> Any:
    found = (job for job in api.list_jobs(namespace=namespace, labels={LABEL: nonce}))
    return next((job for job in found if (job.labels or {}).get(LABEL) == nonce), None)


def read_job(namespace: str, job: str, access: Access) -> Job:
    """What the Hub says about a job now.

    Raises:
        NoSuchJob: it cannot be read with this token, or does not exist.
        InputError: the Hub cannot be reached, or the server is not a Hub.
    """
    _refuse_to_see_half()
    api = api_of(access)
    with _read_errors(namespace, job), plain_errors(None, "dataset"):
        found = _job(again(lambda: api.inspect_job(job_id=job, namespace=namespace), access))
    if found.id != job:
        raise InputError(f"the server is not a Hub: it returned job {found.id[:60]!r}", where=f"job {namespace}/{job}")
    return found


def read_last_lines(namespace: str, job: str, access: Access) -> list[str]:
    """The last lines of a job's log, without empty ones at the end.

    Raises:
        NoSuchJob, InputError: see :func:`read_job`; also if its log is too large.
    """
    from rh_bench.hub.door import NotReached

    refuse_without_jobs()
    api = api_of(access)

    def read() -> list[str]:
        lines: deque[str] = deque(maxlen=MOST_LINES)
        try:
            for text in api.fetch_job_logs(job_id=job, namespace=namespace, tail=MOST_LINES):
                lines += text.splitlines() or [""]
        except NotReached as error:
            # The server keeps the log open, so silence means its end.
            if error.how != "ReadTimeout" or not lines:
                raise
        while lines and not lines[-1].strip():
            lines.pop()
        return list(lines)

    most = Most(_MOST_LOG, "may be read of a log", _LOG_SECONDS)
    with _read_errors(namespace, job), plain_errors(None, "dataset"):
        return again(read, access, most=most)


def _job(info: Any) -> Job:
    extras = {
        "volumes": info.volumes,
        "ports": getattr(info, "expose", None) or getattr(info, "expose_public", None) or info.status.expose_urls,
        "a network": info.network,
        "retries": getattr(info, "retry", None),
        "SSH": info.status.ssh_url,
    }
    return Job(
        info.id,
        info.owner.name,
        info.owner.id,
        str(getattr(info.status.stage, "value", info.status.stage)),
        info.docker_image,
        info.space_id,
        (*(info.command or ()), *(info.arguments or ())),
        dict(info.environment or {}),
        tuple(sorted(info.secrets or ())),
        None if info.flavor is None else str(getattr(info.flavor, "value", info.flavor)),
        _moment(info.started_at),
        _moment(info.finished_at),
        None if info.initiator is None else info.initiator.type,
        tuple(name for name, value in extras.items() if value),
        info.url,
    )


def _moment(found: datetime | None) -> str | None:
    return None if found is None else found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def _start_errors(where: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        status = _status(error)
        said = {
            401: ("the Hub does not let you start jobs", "log in with a token that can, or give --namespace"),
            403: ("the Hub does not let you start jobs", "log in with a token that can, or give --namespace"),
            402: ("the Hub asks for payment before running jobs", "see the billing page of that namespace"),
            404: ("the Hub has no such namespace", "give --namespace"),
            400: ("the Hub rejects this job", "check --flavor and --image"),
        }.get(status or 0)
        if said is None:
            raise
        raise InputError(said[0], where=where, hint=said[1]) from error


@contextmanager
def _read_errors(namespace: str, job: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if _status(error) in (401, 403, 404):
            raise NoSuchJob(
                "cannot be read with this token, or no longer exists",
                where=f"job {namespace}/{job}",
                hint=f"a member of {namespace} can read its jobs",
            ) from error
        raise


def _status(error: InputError) -> int | None:
    from huggingface_hub.errors import HfHubHTTPError

    cause = error.__cause__
    return cause.response.status_code if isinstance(cause, HfHubHTTPError) else None


class _Redacting(logging.Filter):
    """Removes secrets from a library's log: with HF_DEBUG it logs the bodies of requests."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if any(secret in text for secret in self._secrets):
            for secret in self._secrets:
                text = text.replace(secret, "<SECRET>")
            record.msg, record.args = text, ()
        return True


@contextmanager
def _hushed(secrets: Any) -> Iterator[None]:
    logger, redacting = logging.getLogger("huggingface_hub.utils._http"), _Redacting(tuple(secrets))
    logger.addFilter(redacting)
    try:
        yield
    finally:
        logger.removeFilter(redacting)
