"""What is kept of a submission: draws that grow, verdicts that no run can talk its way out of, files read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rh_bench.artifacts.levels import Level, Verification
from rh_bench.errors import InputError
from rh_bench.submissions.judgement import (
    Judgement,
    Submission,
    decided,
    earlier,
    failures,
    limits_exceeded,
    make_draw,
    make_verdict,
    open_judgement,
    read_judgement,
)
from rh_bench.submissions.place import OF_RUNS, Place, find_place
from rh_bench.system.limits import CLOCK, DOWNLOADED, ENDED, MEMORY, RENDERED
from rh_bench.system.schema import dump_json, validate_document

PLACE = Place(OF_RUNS, "org__model", "0123456789abcdef")
BROUGHT = Submission(PLACE, "a" * 64, "mallory", 3, "c" * 40, ("org/model", "d" * 40), 600)


def record(digest: str, outcome: str | None = "refused", **changes: object) -> Judgement:
    of = replace(BROUGHT, sha256=digest * 64, **changes)  # type: ignore[arg-type]
    made = open_judgement(of)
    return made if outcome is None else decided(made, make_verdict(outcome, (), None, "rerun"))  # type: ignore[arg-type]


OTHER_ID = Place(OF_RUNS, "org__model", "f" * 16)


@pytest.mark.parametrize(
    ("known", "count"),
    [
        ([], 0),
        ([record("a")], 0),  # the same bytes
        ([record("b")], 1),
        ([record("b"), record("c"), record("d")], 3),
        ([record("b", None)], 1),  # a draw that came to nothing: the reviewer was killed
        ([record("b", "set aside")], 1),
        ([record("b", author="somebody")], 1),  # the same run id, by whomever
        ([record("b", place=OTHER_ID)], 1),  # another run id, by a change of the protocol
        ([record("b", place=OTHER_ID, model=("org/model", "e" * 40))], 1),  # or of the model's revision
        ([record("b", place=OTHER_ID, author="MALLORY")], 1),
        ([record("b", place=OTHER_ID, author="somebody")], 0),
        ([record("b", place=OTHER_ID, model=("org/other", "d" * 40))], 0),
        ([record("b", "taken in", place=OTHER_ID)], 0),
        ([record("b", "set aside", place=OTHER_ID)], 0),
    ],
)
def test_earlier_tries_are_counted(known: list[Judgement], count: int) -> None:
    assert earlier(BROUGHT, known) == count
    assert make_draw(BROUGHT, known, 8, None).samples == 8 * 2**count


def test_samples_double_up_to_all() -> None:
    known = [record(digit) for digit in "0123456789bcdef"]
    assert make_draw(BROUGHT, known, 8, None).samples == 600
    assert make_draw(replace(BROUGHT, samples=None), known * 9, 10_000, None).samples == 1_000_000
    assert make_draw(replace(BROUGHT, samples=3), [], 8, None).samples == 3


def test_a_salt_cannot_be_known_before() -> None:
    drawn = {make_draw(BROUGHT, [], 8, None).salt for _ in range(50)}
    assert len(drawn) == 50 and all(len(salt) == 32 for salt in drawn)
    assert make_draw(BROUGHT, [], 8, "mine").salt == "mine"


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    found = Verification(Path("x"), (Level("valid", True), Level("recomputed", False, ("no",)), Level("rerun", None)))
    drawn = replace(open_judgement(BROUGHT), draw=make_draw(BROUGHT, [], 8, None))
    for one in (open_judgement(BROUGHT), drawn, decided(drawn, make_verdict("refused", ("no",) * 99, found, "rerun"))):
        document = one.to_json()
        assert validate_document(document, "judgement") == []
        path = tmp_path / "record.json"
        path.write_bytes(dump_json(document))
        again = read_judgement(path, one.path)
        assert again.to_json() == document and (again.place, again.draw) == (PLACE.folder, one.draw)
    assert again.in_words()[0].startswith("these files were already judged in pull request 3, on 2")


@pytest.mark.parametrize(
    ("name", "value"),
    [("sha256", "b" * 64), ("place", "runs/org__model/" + "1" * 16), ("draw", {"salt": ""}), ("verdict", 3), ("x", 1)],
)
def test_another_record_is_refused(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(open_judgement(BROUGHT).to_json() | {name: value}))
    with pytest.raises(InputError) as error:
        read_judgement(path, BROUGHT.path)
    assert BROUGHT.path in str(error.value) and "\n" not in str(error.value)


def verified(*levels: Level) -> Verification:
    return Verification(Path("x"), levels)


VALID, RECOMPUTED = Level("valid", True), Level("recomputed", True)


@pytest.mark.parametrize(
    ("found", "refused", "aside"),
    [
        (
            verified(VALID, RECOMPUTED, Level("rerun", None, ("could not be tried here: the Hub is out of reach",))),
            0,
            0,
        ),
        (verified(VALID, RECOMPUTED, Level("rerun", False, ("3 of 8 answers equal", "sample x: differs"))), 2, 0),
        (verified(Level("valid", False, ("reading it takes more than 4 bytes of memory",), MEMORY)), 0, 1),
        (verified(VALID, Level("recomputed", False, ("recomputing it takes longer than 600 s",), CLOCK)), 0, 1),
        (verified(VALID, Level("recomputed", False, ("its chat template takes more than 9 s",), RENDERED)), 0, 1),
        (verified(VALID, Level("recomputed", None, ("could not be tried here: takes more than",), DOWNLOADED)), 0, 1),
        (verified(VALID, Level("rerun", None, ("the process that tried it was ended (SIGSEGV)",), ENDED)), 0, 1),
        # What failed for what it says is refused, whatever a limit did to a level above.
        (verified(VALID, Level("recomputed", False, ("no",)), Level("rerun", None, ("takes more",), CLOCK)), 1, 1),
        # A run that says so of itself is refused all the same.
        (
            verified(VALID, Level("recomputed", False, ("sample takes more than x: its prompt is not reproduced",))),
            1,
            0,
        ),
        (verified(VALID, Level("recomputed", False, ("sample x takes more than y: no", "sample z: no"))), 2, 0),
    ],
)
def test_what_is_refused_and_what_is_set_aside(found: Verification, refused: int, aside: int) -> None:
    assert (len(failures(found)), len(limits_exceeded(found))) == (refused, aside)


def test_places() -> None:
    assert find_place(f"{PLACE.folder}/run.json") == PLACE
    for path in (
        "runs/a/b/run.json",
        f"{PLACE.folder}/x.py",
        f"{PLACE.folder}",
        f"x{PLACE.folder}/run.json",
        "README.md",
    ):
        assert find_place(path) is None
    assert find_place("runs/../0123456789abcdef/run.json") is None
