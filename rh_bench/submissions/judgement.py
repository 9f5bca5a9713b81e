"""What is kept of every submission that a maintainer judged: which samples were drawn for it, and what came of it.

A record lies in the results repository, where no submission may write, under the hash of the submission's bytes:

```
judgements/<place of the submission>/<SHA-256 of its document>.json
```

The draw is written before anything is measured, the verdict after it. So neither a reviewer that is killed nor the same
bytes in another pull request get a second draw, and each new try costs twice the samples of the last.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import rh_bench
from rh_bench.artifacts.levels import Level, Verification
from rh_bench.artifacts.results_repo import JUDGEMENTS
from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.submissions.place import Place
from rh_bench.system.schema import load_json, validate_document

Outcome = Literal["taken in", "refused", "set aside"]
MOST_SAMPLES = 1_000_000
MOST_DOUBLINGS = 20
LONGEST_SALT = 200
_LONGEST_REASON, _MOST_REASONS = 2000, 64
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Submission:
    """What is judged: bytes at a place, who brought them, and what they say of their model."""

    place: Place
    sha256: str
    """Of the document that names the hash of every other file."""
    author: str
    pull_request: int
    commit: str
    model: tuple[str, str | None] | None
    """Id and revision, as far as the document has them."""
    samples: int | None
    """How many it has, by its own word."""

    @property
    def path(self) -> str:
        return f"{JUDGEMENTS}/{self.place.folder}/{self.sha256}.json"


@dataclass(frozen=True, slots=True)
class Draw:
    """Which samples are measured again: as many as `samples`, chosen by `salt`."""

    salt: str
    samples: int
    date: str
    version: str

    def to_json(self) -> Json:
        return {"salt": self.salt, "samples": self.samples, "date": self.date, "rh_bench": self.version}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. `set aside`: it takes more than the reviewer allows, so that nobody knows."""

    outcome: Outcome
    reasons: tuple[str, ...]
    levels: tuple[Level, ...]
    require: str
    date: str
    version: str

    def to_json(self) -> Json:
        return {
            "outcome": self.outcome,
            "reasons": [text[:_LONGEST_REASON] for text in self.reasons[:_MOST_REASONS]],
            "levels": [
                {
                    "level": level.name,
                    "reached": level.reached,
                    "reasons": [text[:_LONGEST_REASON] for text in level.reasons[:_MOST_REASONS]],
                }
                for level in self.levels
            ],
            "require": self.require,
            "date": self.date,
            "rh_bench": self.version,
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """The record of one submission. `draw` is None if nothing was to be measured again."""

    path: str
    sha256: str
    author: str | None
    pull_request: int | None
    commit: str | None
    model: tuple[str, str | None] | None
    draw: Draw | None = None
    verdict: Verdict | None = None

    @property
    def place(self) -> str:
        """Folder of the submission in the repository."""
        return self.path.removeprefix(f"{JUDGEMENTS}/").rpartition("/")[0]

    def to_json(self) -> Json:
        model = None if self.model is None else {"id": self.model[0], "revision": self.model[1]}
        return {
            "schema": "rh_bench/judgement",
            "schema_version": "1.0",
            "place": self.place,
            "sha256": self.sha256,
            "author": self.author,
            "pull_request": self.pull_request,
            "commit": self.commit,
            "model": model,
            "draw": self.draw.to_json() if self.draw else None,
            "verdict": self.verdict.to_json() if self.verdict else None,
        }

    def in_words(self) -> tuple[str, ...]:
        """What was found, and when."""
        if self.verdict is None:
            return ()
        by = f" in pull request {self.pull_request}" if self.pull_request else ""
        first = f"these files were already judged{by}, on {self.verdict.date}: {self.verdict.outcome}"
        return (first, *self.verdict.reasons)


def open_judgement(submission: Submission) -> Judgement:
    """The record of a submission of which nothing is known yet."""
    return Judgement(
        submission.path,
        submission.sha256,
        submission.author,
        submission.pull_request,
        submission.commit,
        submission.model,
    )


def read_judgement(path: Path, name: str) -> Judgement:
    """A record from its file.

    Args:
        name: its path in the repository.

    Raises:
        InputError: it is no such record, or that of other bytes.
    """
    document = load_json(path, max_bytes=_MOST_BYTES)
    problems = validate_document(document, "judgement")
    if problems:
        raise InputError(f"{problems[0][0]} {problems[0][1]}", where=name, hint="restore the maintainers' record")
    if name != f"{JUDGEMENTS}/{document['place']}/{document['sha256']}.json":
        raise InputError("is the record of another submission", where=name, hint="restore the maintainers' record")
    model, draw, verdict = document["model"], document["draw"], document["verdict"]
    return Judgement(
        name,
        document["sha256"],
        document["author"],
        document["pull_request"],
        document["commit"],
        None if model is None else (model["id"], model["revision"]),
        None if draw is None else Draw(draw["salt"], draw["samples"], draw["date"], draw["rh_bench"]),
        None if verdict is None else _verdict(verdict),
    )


def _verdict(document: Any) -> Verdict:
    levels = tuple(Level(one["level"], one["reached"], tuple(one["reasons"])) for one in document["levels"])
    outcome: Outcome = document["outcome"]
    reasons = tuple(document["reasons"])
    return Verdict(outcome, reasons, levels, document["require"], document["date"], document["rh_bench"])


def earlier(submission: Submission, known: Iterable[Judgement]) -> int:
    """How often the same was tried before with other bytes: under the same id; or, and refused, by the same submitter
    for the same model, whatever its revision and the protocol."""
    count = 0
    for other in known:
        if other.sha256 == submission.sha256:
            continue
        refused = other.verdict is not None and other.verdict.outcome == "refused"
        same_author = other.author is not None and other.author.lower() == submission.author.lower()
        same_model = other.model is not None and submission.model is not None and other.model[0] == submission.model[0]
        count += other.place == submission.place.folder or (refused and same_author and same_model)
    return count


def make_draw(
    submission: Submission, known: Iterable[Judgement], samples: int, salt: str | None, now: datetime | None = None
) -> Draw:
    """A draw: `samples`, doubled for each earlier try, up to all that there are.

    Args:
        salt: drawn here without it.
    """
    doubled = samples << min(earlier(submission, known), MOST_DOUBLINGS)
    most = MOST_SAMPLES if submission.samples is None else max(1, submission.samples)
    return Draw(
        secrets.token_hex(16) if salt is None else salt, min(doubled, most, MOST_SAMPLES), _moment(now), _version()
    )


def make_verdict(
    outcome: Outcome, reasons: Iterable[str], found: Verification | None, require: str, now: datetime | None = None
) -> Verdict:
    """What came of a verification, as it is kept."""
    levels = found.levels if found is not None else ()
    return Verdict(outcome, tuple(reasons), levels, require, _moment(now), _version())


def decided(judgement: Judgement, verdict: Verdict) -> Judgement:
    """The record with its verdict."""
    return replace(judgement, verdict=verdict)


def failures(found: Verification) -> tuple[str, ...]:
    """Why it is refused: what failed, but for limits."""
    failed = [level for level in found.levels if level.reached is False and level.exceeded is None]
    return tuple(f"{level.name}: {reason}" for level in failed for reason in level.reasons or ("not reached",))


def limits_exceeded(found: Verification) -> tuple[str, ...]:
    """What a verification took more of than it may have, in words; nothing if it kept within all limits."""
    return tuple(reason for level in found.levels if level.exceeded for reason in level.reasons)


def _moment(now: datetime | None) -> str:
    return (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _version() -> str:
    return rh_bench.__version__
