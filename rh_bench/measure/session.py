"""One session of measuring: what was measured before is taken up, what is missing is measured, all of it is written.

    model loaded, prompts made → a folder by the document's id → journal, locked → measured → written → journal removed

A command brings a :class:`Measurement`, which knows nothing of files, and a :class:`Place`, which says where its
results lie and how they are written. :func:`hold_session` brings them together.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.journal import Entries, Unwritten, now, open_journal
from rh_bench.errors import InputError
from rh_bench.records import Json, Prompt
from rh_bench.system.files import make_folder

E = TypeVar("E")
"""A line of the journal."""
R = TypeVar("R")
"""Results: what is written when all is measured."""

_SAME = ("rh_bench", "torch", "transformers", "device", "device_name", "threads")
"""What of an environment must be equal for entries of two sessions to belong together."""


# What a caller is told


@dataclass(frozen=True)
class Step:
    """Where a measurement stands; `done` and `total` are in units of work, for the time left."""

    done: float
    total: float
    samples_done: int
    samples: int
    succeeded: int | None
    """None if success is not what is measured."""


OnStep = Callable[[Step], None]
OnStage = Callable[[str], None]
OnNote = Callable[[str], None]


def _nothing(_: object) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """Who is told how a session goes."""

    step: OnStep
    """Called when the measuring begins and after every unit of work."""
    stage: OnStage
    """Called with a few words when something begins that takes seconds."""
    note: OnNote
    """Called with a line about what is done for this model and not for others; the document has it, too."""

    @classmethod
    def of(cls, on_step: OnStep | None = None, on_stage: OnStage | None = None, on_note: OnNote | None = None) -> Watch:
        """A watch in which nobody may be told."""
        return cls(on_step or _nothing, on_stage or _nothing, on_note or _nothing)

    def notes(self, lines: Iterable[str]) -> None:
        """Tell several notes."""
        for line in lines:
            self.note(line)


class Progress:
    """Adds up what is done, and tells it."""

    def __init__(self, watch: Watch, total: float, samples: int, *, succeeds: bool) -> None:
        """
        Args:
            total: units of work, in all.
            samples: what is counted besides, in all.
            succeeds: whether success is what is measured.
        """
        self._watch, self._total, self._samples = watch, total, samples
        self._done, self._samples_done = 0.0, 0
        self._succeeded = 0 if succeeds else None

    def add(self, work: float, samples: int = 1, succeeded: int = 0) -> None:
        """Something is done; nobody is told yet."""
        self._done += work
        self._samples_done += samples
        if self._succeeded is not None:
            self._succeeded += succeeded

    def tell(self) -> None:
        """Tell how far it is."""
        self._watch.step(Step(self._done, self._total, self._samples_done, self._samples, self._succeeded))


# What a command brings


@dataclass(frozen=True)
class Findings(Generic[R]):
    """What a measurement came to."""

    results: R
    seconds: float
    """That the measuring took, in all sessions."""
    resumed: int
    """Units that an earlier, interrupted session had measured."""
    measured: int
    """Units that this one measured."""
    notes: Sequence[str] = ()
    """What a reader of the results should know of them."""


class Measurement(Protocol[E, R]):
    """A measurement that can begin: its model is loaded, its prompts are made. It knows of no folder."""

    @property
    def notes(self) -> Sequence[str]:
        """What is done for this model and not for others, as far as it is known before measuring."""
        ...

    def document(self) -> Json:
        """The document of the results, as far as it is known before measuring, with the id that decides its folder."""
        ...

    def deciding(self) -> Json:
        """What decides the entries besides the document's id and the environment."""
        ...

    def parse(self, line: Json) -> E | None:
        """An entry of a journal's line; None if it is none of this measurement."""
        ...

    def measure(self, journal: Entries[E], watch: Watch) -> Findings[R]:
        """Measure what the journal does not have, and write every entry to it as soon as it is there.

        Raises:
            NothingToKeepError: no results can come of it.
        """
        ...


@dataclass(frozen=True)
class Place(Generic[R]):
    """Where results lie, and how."""

    folder: Path
    finished: Callable[[Path], Json | None]
    """The document in a folder, if it is finished and sound; refuses one that is damaged."""
    write: Callable[[Path, Json, R], Json]
    """Writes results and their document, which comes last, and returns what the document became."""
    leftovers: tuple[str, ...] = ()
    """Files of a process that died while it wrote: they go before anything is measured."""


class NothingToKeepError(InputError):
    """No results can come of a measurement: what it has left in its folder is removed."""


@dataclass(frozen=True)
class Outcome:
    """Finished results, and how they came to be."""

    folder: Path
    document: Json
    resumed: int
    """Units (samples, answers, …) that an earlier, interrupted session had measured."""
    measured: int
    """Units that this one measured: 0 where the results were already there."""


# The session


def hold_session(measurement: Measurement[E, R], place_of: Callable[[Json], Place[R]], watch: Watch) -> Outcome:
    """Measure and write, unless the results are already there; goes on where an earlier session was interrupted.

    Args:
        place_of: gives the place of a document.

    Raises:
        InputError: the folder cannot be written, another process is at work in it, or it holds something else.
    """
    watch.notes(measurement.notes)
    document = measurement.document()
    place = place_of(document)
    folder = place.folder
    finished = place.finished(folder)
    if finished is not None:
        return Outcome(folder, finished, resumed=0, measured=0)
    make_folder(folder)
    with open_journal(folder, identity(document, measurement.deciding()), now(), measurement.parse) as journal:
        finished = place.finished(folder)  # another process may have been at work on it until just now
        if finished is not None:
            return Outcome(folder, finished, resumed=0, measured=0)
        _clear(place)
        try:
            found = measurement.measure(journal, watch)
        except NothingToKeepError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        document = place.write(folder, completed(document, found, journal.timings(found.seconds)), found.results)
        (folder / JOURNAL).unlink(missing_ok=True)
    return Outcome(folder, document, found.resumed, found.measured)


def hold_in_memory(measurement: Measurement[E, R], watch: Watch) -> tuple[Json, R]:
    """Measure, and write nothing: the document, with what is known after the measuring, and the results."""
    watch.notes(measurement.notes)
    document, started = measurement.document(), now()
    found = measurement.measure(Unwritten[E](), watch)
    timings = {"started": started, "finished": max(started, now()), "seconds": round(found.seconds, 3)}
    return completed(document, found, timings), found.results


def identity(document: Json, deciding: Json) -> Json:
    """What must be equal for entries of two sessions to belong to one document.

    Args:
        deciding: see :meth:`Measurement.deciding`.
    """
    name = "run_id" if "run_id" in document else "experiment_id"
    environment = document["environment"]
    return {name: document[name], **deciding, **{key: environment[key] for key in _SAME}}


def prompts_sha256(prompts: Iterable[Prompt]) -> str:
    """One hash of all prompts, in their order."""
    return hashlib.sha256("".join(prompt.sha256 for prompt in prompts).encode()).hexdigest()


def completed(document: Json, found: Findings[R], timings: Json) -> Json:
    """A document with what is known of a measurement after it."""
    engine = {**document["engine"], "notes": [*document["engine"]["notes"], *found.notes]}
    return {**document, "engine": engine, "timings": timings}


def _clear(place: Place[R]) -> None:
    """Remove what a process left that died between writing the first file and the last. Only who holds the journal's
    lock may: they could be those of a process that lives."""
    try:
        for name in place.leftovers:
            (place.folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=place.folder) from None
