"""A session: taken up, measured, written; whatever it is that is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.journal import Entries
from rh_bench.errors import InputError
from rh_bench.measure.session import (
    Findings,
    NothingToKeepError,
    Outcome,
    Place,
    Progress,
    Step,
    Watch,
    hold_session,
    identity,
)
from rh_bench.records import Json

ENVIRONMENT: Json = {
    "rh_bench": "1",
    "python": "3",
    "torch": "2",
    "transformers": "5",
    "device": "cpu",
    "device_name": "x",
    "threads": 1,
}
DOCUMENT: Json = {
    "experiment_id": "e" * 16,
    "engine": {"name": "squares", "notes": ["slow"]},
    "environment": ENVIRONMENT,
}


@dataclass
class Squares:
    """Measures squares of numbers: enough of a measurement to go through all of a session."""

    numbers: Sequence[int] = (1, 2, 3, 4)
    worth: bool = True
    scale: int = 1
    notes: Sequence[str] = ("about the model",)
    asked: list[int] = field(default_factory=list)

    def document(self) -> Json:
        return json.loads(json.dumps(DOCUMENT))

    def deciding(self) -> Json:
        return {"scale": self.scale}

    def parse(self, line: Json) -> tuple[int, int] | None:
        return (line["number"], line["square"]) if set(line) == {"number", "square"} else None

    def measure(self, journal: Entries[tuple[int, int]], watch: Watch) -> Findings[dict[int, int]]:
        found = dict(journal.entries)
        resumed = len(found)
        progress = Progress(watch, sum(self.numbers), len(self.numbers), succeeds=True)
        for number in found:
            progress.add(number)
        progress.tell()
        for number in [number for number in self.numbers if number not in found]:
            self.asked.append(number)
            found[number] = number * number
            journal.write({"number": number, "square": found[number]})
            progress.add(number, succeeded=number % 2)
            progress.tell()
        if not self.worth:
            raise NothingToKeepError("nothing comes of squares")
        return Findings(found, 1.5, resumed, len(found) - resumed, ("about the answers",))


def place(folder: Path, *leftovers: str) -> Place[dict[int, int]]:
    def finished(where: Path) -> Json | None:
        path = where / "document.json"
        return json.loads(path.read_text()) if path.exists() else None

    def write(where: Path, document: Json, results: dict[int, int]) -> Json:
        (where / "squares.json").write_text(json.dumps(results))
        document = {**document, "sum": sum(results.values())}
        (where / "document.json").write_text(json.dumps(document))
        return document

    return Place(folder, finished, write, leftovers)


def hold(squares: Squares, where: Place[dict[int, int]], *, until: float | None = None) -> tuple[Outcome, list[object]]:
    """One session, and what was told in it."""
    told: list[object] = []

    def step(step: Step) -> None:
        told.append((step.done, step.samples_done, step.succeeded))
        if until is not None and step.done >= until:
            raise KeyboardInterrupt

    return hold_session(squares, lambda document: where, Watch.of(step, told.append, told.append)), told


def test_a_session_tells_measures_writes_and_removes_its_journal(tmp_path: Path) -> None:
    outcome, told = hold(Squares(), place(tmp_path / "a" / "b"))
    assert (outcome.resumed, outcome.measured, outcome.document["sum"]) == (0, 4, 30)
    assert outcome.document["engine"]["notes"] == ["slow", "about the answers"]
    assert outcome.document["timings"]["seconds"] == 1.5
    assert told == ["about the model", (0, 0, 0), (1, 1, 1), (3, 2, 1), (6, 3, 2), (10, 4, 2)]
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["document.json", "squares.json"]
    again = Squares()
    outcome, told = hold(again, place(tmp_path / "a" / "b"))
    assert (outcome.resumed, outcome.measured, again.asked, told) == (0, 0, [], ["about the model"])


def test_a_session_goes_on_where_another_was_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        hold(Squares(), place(tmp_path / "a"), until=3)
    (tmp_path / "a" / "squares.json").write_text("half")
    (tmp_path / "a" / "kept").write_text("")
    later = Squares()
    outcome, told = hold(later, place(tmp_path / "a", "squares.json"))
    assert (outcome.resumed, outcome.measured, later.asked) == (2, 2, [3, 4])
    assert told[:2] == ["about the model", (3, 2, 0)]
    assert json.loads((tmp_path / "a" / "squares.json").read_text()) == {"1": 1, "2": 4, "3": 9, "4": 16}
    assert (tmp_path / "a" / "kept").exists() and not (tmp_path / "a" / JOURNAL).exists()


def test_entries_of_something_else_are_not_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        hold(Squares(), place(tmp_path), until=3)
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(InputError, match=r"started with scale 1 \(now 2\)"):
        hold(Squares(scale=2), place(tmp_path))
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_nothing_is_left_of_what_nothing_can_come_of(tmp_path: Path) -> None:
    with pytest.raises(NothingToKeepError):
        hold(Squares(worth=False), place(tmp_path / "a"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    squares = Squares()
    with pytest.raises(InputError, match="file/a: cannot be written"):
        hold(squares, place(tmp_path / "file" / "a"))
    assert squares.asked == []


def test_what_must_be_equal_for_two_sessions() -> None:
    same = {name: value for name, value in ENVIRONMENT.items() if name != "python"}
    assert list(identity(DOCUMENT, {"prompts": "p"}).items()) == [
        ("experiment_id", "e" * 16),
        ("prompts", "p"),
        *same.items(),
    ]
    run = {"run_id": "r" * 16, "environment": ENVIRONMENT}
    assert next(iter(identity(run, {}).items())) == ("run_id", "r" * 16)


def test_success_is_not_counted_where_it_is_not_measured() -> None:
    steps: list[Step] = []
    progress = Progress(Watch.of(steps.append), 2, 1, succeeds=False)
    progress.add(2, succeeded=1)
    progress.tell()
    assert steps == [Step(2, 2, 1, 1, None)]
