"""The campaign of faults at a reduced size, and that it sees what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_runs import make_run

from benchmarks.faults.__main__ import NUMBERS, play, report_of, tasks
from benchmarks.faults.bench import Bench, Struck, judge
from benchmarks.faults.page import write_page
from benchmarks.faults.process import Ended
from benchmarks.faults.record import (
    CLOCK,
    DISK,
    FILE_SIZE,
    IDENTICAL,
    KILL,
    MEMORY,
    PAIR,
    PUSH,
    REFUSED,
    TERM,
    WRONG,
    Case,
)
from benchmarks.faults.scenarios import SCENARIOS, Shop, fill_shop
from benchmarks.faults.snapshot import differences, half_done, snapshot, without_seconds
from rh_bench.artifacts.tables import table_bytes


def test_a_campaign_has_enough_kills() -> None:
    chosen = tasks(1.0)
    kills = [scenario for scenario, fault, _ in chosen if fault in (KILL, TERM)]
    assert len(kills) >= 110, "of which some come too late to strike"
    commands = {"build", "evaluate", "leaderboard", "publish", "submit", "review", "collect"}
    assert {scenario.partition(" ")[0] for scenario in kills} == commands
    assert {scenario for scenarios in NUMBERS.values() for scenario in scenarios} == set(SCENARIOS)
    assert {fault for _, fault, _ in tasks(0.01)} == set(NUMBERS), "a small campaign has a case of each kind"
    assert {scenario for scenario, *_ in tasks(1.0, only=["build"])} == {"build"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench for `build` and `leaderboard`, which need no model."""
    room = tmp_path_factory.mktemp("faults")
    for number in range(2):
        make_run(room / "shop/all", model_id=f"acme/made-{number}", n_samples=6)
    yield Bench(Shop(room / "shop", {}, {}, {}), room, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "fault", "number"),
    [
        ("build", KILL, 1),
        ("build", KILL, 2),
        ("build", TERM, 5),
        ("leaderboard", KILL, 2),
        ("collect", KILL, 5),
        ("build", DISK, 2),
        ("collect", FILE_SIZE, 1),
        ("build", MEMORY, 0),
        ("build", PAIR, 0),
        ("collect", PAIR, 2),
        ("build", CLOCK, 2),
    ],
)
def test_a_fault_leaves_no_trace(bench: Bench, scenario: str, fault: str, number: int) -> None:
    (case,) = play([(scenario, fault, number)], bench) or [None]
    if case is None:
        pytest.skip("no small disk can be made here")
    assert case.outcome in (IDENTICAL, REFUSED), case.reason
    assert case.outcome == IDENTICAL or fault == PAIR, "after the fault nothing is in the way"


@pytest.mark.slow
def test_faults_in_commands_that_talk_to_a_hub(tmp_path: Path) -> None:
    chosen = [("submit", TERM, 3), ("review --merge", KILL, 3), ("review --merge", PUSH, 0)]
    cases = play(chosen, Bench(fill_shop(tmp_path / "shop", only_hub=True), tmp_path, seed=0), jobs=2)
    assert [(case.name, case.reason) for case in cases if case.outcome == WRONG] == []
    assert all(case.struck for case in cases)


@pytest.mark.slow
def test_what_is_wrong_is_seen(bench: Bench) -> None:
    scenario = SCENARIOS["collect"]
    usual = bench.undisturbed(scenario)
    with bench.place(scenario) as place:
        (place.root / "out/results").mkdir()
        (place.root / "out/results/.left").write_text("half")
        case = judge(place, usual.found, Struck("x", KILL, "then", Ended(-9, "", "", 1.0), True))
        assert (case.outcome, case.reason) == (WRONG, "out/results/.left is left")
        traced = Ended(1, "", "Traceback (most recent call last):\nKeyError: 1", 1.0)
        assert judge(place, usual.found, Struck("x", KILL, "then", traced, True)).outcome == WRONG
        heads = next((place.root / "out").glob("**/heads.parquet"))
        heads.write_bytes(heads.read_bytes() + b"x")
        name = heads.relative_to(place.root).as_posix()
        lines = differences(snapshot(place.root), usual.found)
        assert f"{name} differs" in lines and f"{name.rpartition('/')[0]}/run.json differs" in lines
        assert f"{name} is neither the old one nor the new one" in half_done(place.look(), {}, usual.found)
        assert half_done({}, {"a": "1"}, {}) == ["a is lost"]


def test_only_the_times_of_a_measurement_are_left_out(tmp_path: Path) -> None:
    first = make_run(tmp_path / "1/out")
    second = make_run(
        tmp_path / "2/out",
        timings={"started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:09Z", "seconds": 9.0},
    )
    assert (first / "run.json").read_bytes() != (second / "run.json").read_bytes()
    assert snapshot(tmp_path / "1") == snapshot(tmp_path / "2")
    make_run(tmp_path / "3/out", seed=1)
    names = {line.rpartition("/")[2] for line in differences(snapshot(tmp_path / "3"), snapshot(tmp_path / "1"))}
    assert names >= {"events.parquet differs", "heads.parquet differs", "run.json differs"}
    table = pq.read_table(first / "samples.parquet")
    other = table.set_column(table.column_names.index("text"), "text", pa.array(["other"] * len(table)))
    assert without_seconds(table_bytes(other)) != without_seconds(table_bytes(table))
    assert without_seconds(b"no table") == b"no table"


def test_the_page_is_that_of_the_counts() -> None:
    case = Case("build/SIGKILL/0", "build", KILL, "then", True, "SIGKILL", IDENTICAL, place=0.25)
    bad = Case("build/clock/0", "build", CLOCK, "then", True, "status 0", WRONG, "a is left")
    report = json.loads(json.dumps(report_of([case, bad], 7, 61.0)))
    page = write_page(report)
    assert "| `build` | SIGKILL | 1 | 1 | 1 | 0 | 0 |" in page and "| `build` | clock | 1 | 1 | 0 | 0 | 1 |" in page
    assert "2 cases, 1 of them kills that struck; 1 wrong." in page and "Seed 7" in page
    assert "| `build` | 0 | 0 | 1 | 0 |" in page


def test_the_committed_campaign() -> None:
    """What docs/faults.md says is what the committed results say, and nothing is wrong there."""
    root = Path(__file__).resolve().parents[1]
    report = json.loads((root / "benchmarks/results/faults.json").read_bytes())
    assert report["wrong"] == [] and report["kills"] >= 100
    assert (root / "docs/faults.md").read_text(encoding="utf-8") == write_page(report)
