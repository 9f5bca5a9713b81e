"""Whether a job is the one that was ordered, and a run the one that it made. Data only: nobody is asked here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rh_bench.artifacts.levels import Level
from rh_bench.hub.jobs import Job
from rh_bench.records import Json
from rh_bench.submissions.attest_order import MARK, TOKEN, Order, command, command_sha256, environment, last_line
from rh_bench.system.files import shown

RUNNING = ("SCHEDULING", "RUNNING")
ENDED = ("ERROR", "CANCELED", "DELETED")
DONE = "COMPLETED"
_BY_HAND = (None, "user", "org")
"""What starts a job that is nobody's copy or schedule."""
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen of the job of an attested run, to be kept beside it: the Hub need not show it forever."""

    order: Order
    job: Job

    def to_json(self) -> Json:
        return {
            "nonce": self.order.nonce,
            "namespace": self.order.namespace,
            "owner_id": self.job.owner_id,
            "job": self.job.id,
            "image": self.order.image,
            "command_sha256": command_sha256(self.order),
            "package_sha256": self.order.package_sha256,
            "flavor": self.order.flavor,
            "started": self.job.started,
            "finished": self.job.finished,
        }


@dataclass(frozen=True, slots=True)
class Attested:
    """What was found about the attestation of a run. `claimed`: whether the run says that it has one."""

    level: Level
    claimed: bool
    proof: Proof | None = None

    @property
    def reached(self) -> bool | None:
        return self.level.reached

    def to_json(self) -> Json:
        return {
            "reached": self.level.reached,
            "reasons": list(self.level.reasons),
            "proof": self.proof.to_json() if self.proof else None,
        }


def level(reached: bool | None, *reasons: str) -> Level:
    """What was found, as a level by that name."""
    return Level("attested", reached, reasons)


def run_problems(order: Order, run: Json, repo: str) -> Iterator[str]:
    """Where a valid run is not what was ordered.

    Args:
        repo: the results repository in which the order lies.
    """
    claim, model, haystack, grid = run["attestation"], run["model"], run["haystack"], run["protocol"]["grid"]
    pairs: tuple[tuple[str, object, object], ...] = (
        ("results repository", repo, order.repo),
        ("namespace", claim["namespace"], order.namespace),
        ("image", claim["image"], order.image),
        ("source of rh_bench", claim["package_sha256"], order.package_sha256),
        ("version of rh_bench", run["environment"]["rh_bench"], order.version),
        ("model", (model["source"], model["id"]), ("hub", order.model[0])),
        ("revision of the model", model["revision"], order.model[1]),
        ("set", haystack["location"], order.haystack[0]),
        ("revision of the set", haystack["revision"], order.haystack[1]),
        ("samples", (grid["kind"], grid["needles"], grid["limit"]), ("set", None, None)),
    )
    yield from (
        f"its {what} is {_said(found)}, not {_said(due)} as ordered" for what, found, due in pairs if found != due
    )


def job_problems(order: Order, job: Job) -> Iterator[str]:
    """Where a job is not the one that was ordered."""
    if job.owner != order.namespace:
        yield f"the job belongs to {_said(job.owner)}, not {_said(order.namespace)} as ordered"
    elif order.started is not None and job.owner_id != order.started.owner_id:
        yield f"the job belongs to another {_said(job.owner)} than the one that started it"
    pairs: tuple[tuple[str, object, object], ...] = (
        ("image", job.image if job.space is None else f"Space {job.space}", order.image),
        ("command", job.command, command(order)),
        ("environment", dict(job.environment), environment(order)),
        ("secrets", job.secrets, (TOKEN,)),
        ("flavor", job.flavor, order.flavor),
    )
    for what, found, due in pairs:
        if found != due:
            yield f"the job's {what} is not what was ordered: {_difference(found, due)}"
    yield from (f"the job has {extra}, which was not ordered" for extra in job.extras)
    if job.initiator not in _BY_HAND:
        yield f"the job was not started for its order, but by a {_said(job.initiator)}"


def stage_problem(job: Job) -> tuple[bool | None, str] | None:
    """What keeps a job from being one that ran to its end: whether that is for good (False), and why."""
    if job.stage == DONE:
        return None
    if job.stage in RUNNING:
        return None, "its job is still running: review it again when it is done"
    if job.stage in ENDED:
        return False, f"its job did not complete: {job.stage}"
    return None, f"its job is in an unknown stage: {_said(job.stage)}"


def log_problem(order: Order, run_sha256: str, lines: Sequence[str]) -> tuple[bool | None, str] | None:
    """Whether a job has said last what run it submitted.

    What a model is called or brings along can get into a log. But nothing of it can know the nonce, which was drawn
    after the model's commit was named, and nothing of it is said after the last line.
    """
    if not lines:
        return None, "the Hub has no log of its job"
    if sum(line.startswith(MARK) for line in lines) > 1:
        return False, "its job reports more than once what it measured"
    if not lines[-1].startswith(MARK):
        return False, "its job does not report at its end what it measured"
    if lines[-1] != last_line(order.nonce, run_sha256):
        return False, "its job reports at its end that it measured something other than this run"
    return None


def _difference(found: object, due: object) -> str:
    """Where two values first differ, so that long ones can be told apart."""
    if isinstance(found, tuple) and isinstance(due, tuple):
        for place, (one, other) in enumerate(zip(found, due, strict=False)):
            if one != other:
                return f"word {place} is {_said(one)}, not {_said(other)}"
        return f"it has {len(found)} of {len(due)}"
    if isinstance(found, dict) and isinstance(due, dict):
        names = sorted(name for name in {*found, *due} if found.get(name) != due.get(name))
        return f"it differs in {', '.join(_said(name) for name in names[:4])}"
    return f"{_said(found)}, not {_said(due)}"


def _said(value: Any) -> str:
    """A value in a reason: on one line, and cut."""
    if isinstance(value, tuple):
        value = " ".join("none" if part is None else str(part) for part in value)
    text = shown("none" if value is None else " ".join(str(value).split()))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
