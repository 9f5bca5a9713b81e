"""Evaluate: from a set and a model to a run, through interruptions of every kind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import tiny_checkpoint

import rh_bench.measure.session
import rh_bench.system.files
from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.run import read_run
from rh_bench.artifacts.validate import validate_path
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.measure.copies import CopyMeasurement, Entry, parse_entry
from rh_bench.measure.evaluate import Outcome, Request, Step, evaluate
from rh_bench.measure.prepare import prepare
from rh_bench.measure.session import Watch
from rh_bench.records import Json
from rh_bench.sets.choose import choose_samples
from rh_bench.sets.dataset import read_set
from rh_bench.sets.grids import Grid

GRID = Grid("custom", (500, 700), (0.0, 50.0, 100.0), needles=2, haystacks=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and a small set."""
    folder = tmp_path_factory.mktemp("evaluate")
    tiny_checkpoint(folder / "model", window=1000)
    build_set(Recipe(parse_source("synthetic"), GRID), folder / "set")
    return folder


def request(place: Path, out: Path, **changes: Any) -> Request:
    return Request(str(place / "model"), str(place / "set"), out, **changes)


@pytest.fixture(scope="module")
def whole(place: Path) -> Outcome:
    """A run that nothing interrupted."""
    return evaluate(request(place, place / "whole"))


def without_times(folder: Path) -> dict[str, object]:
    """All of a run but its timings: bytes of files, and what is left of the two that hold times."""
    document = json.loads((folder / "run.json").read_text())
    del document["timings"], document["files"]["samples.parquet"]
    names = sorted(path.name for path in folder.iterdir())
    samples = pq.read_table(folder / "samples.parquet").drop_columns(["seconds"]).to_pylist()
    rest = {name: (folder / name).read_bytes() for name in names if name not in ("run.json", "samples.parquet")}
    return {"names": names, "run.json": document, "samples.parquet": samples, **rest}


@pytest.mark.slow
def test_a_run_is_valid_and_says_what_was_measured(whole: Outcome, place: Path) -> None:
    assert validate_path(whole.folder) == []
    document = whole.document
    assert whole.folder == place / "whole" / "model" / document["run_id"]
    assert (whole.measured, whole.resumed) == (12, 0)
    assert document["counts"]["samples"] == 12 and document["counts"]["heads"] == 12
    assert document["haystack"]["location"] == "set" and document["haystack"]["revision"] is None
    assert document["protocol"]["template"] == "plain" and document["protocol"]["stop"] == ["eos", "newline"]
    assert document["environment"]["device"] == "cpu" and document["environment"]["threads"] >= 1
    assert sorted(path.name for path in whole.folder.iterdir()) == [
        "events.parquet", "heads.parquet", "run.json", "samples.parquet", "summary.json"
    ]  # fmt: skip
    assert str(place) not in (whole.folder / "run.json").read_text()
    for row in pq.read_table(whole.folder / "samples.parquet").to_pylist():
        assert row["answer"] in row["span_text"] and len(row["span_ends"]) == len(row["span_ids"])
        assert len(row["generated_ends"]) == len(row["generated_ids"])


@pytest.mark.slow
def test_a_model_that_never_answers_gets_reasons_instead_of_zeros(whole: Outcome) -> None:
    assert whole.document["counts"]["counted"] == 0
    summary = json.loads((whole.folder / "summary.json").read_text())
    share = summary["sparsity"]["share_above_0.1"]
    assert share["value"] is None and share["reason"]
    assert summary["success"]["rate"]["value"] == 0.0
    assert set(pq.read_table(whole.folder / "heads.parquet")["score"].to_pylist()) == {None}


def test_measuring_again_changes_nothing(whole: Outcome, place: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in whole.folder.iterdir()}
    again = evaluate(request(place, place / "whole"))
    assert (again.folder, again.measured, again.resumed) == (whole.folder, 0, 0)
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in whole.folder.iterdir()}


@pytest.mark.slow
def test_the_engines_agree(whole: Outcome, place: Path) -> None:
    slow = evaluate(request(place, place / "reference", engine="reference"))
    assert (slow.folder / "events.parquet").read_bytes() == (whole.folder / "events.parquet").read_bytes()
    assert slow.document["run_id"] != whole.document["run_id"]


@pytest.mark.slow
def test_progress_goes_from_nothing_to_everything(place: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    stages: list[str] = []
    evaluate(request(place, tmp_path, limit=3), steps.append, stages.append)
    assert [step.samples_done for step in steps] == [0, 1, 2, 3] and {step.samples for step in steps} == {3}
    assert steps[0].done == 0 and steps[-1].done == pytest.approx(steps[-1].total)
    assert all(a.done < b.done for a, b in pairwise(steps))
    assert stages[0] == "Reading the haystack set" and stages[-1] == "Scoring"


# --- what is measured ---


def test_samples_are_the_sets_own_or_made(place: Path, tmp_path: Path) -> None:
    found = read_set(place / "set")
    samples, grid = choose_samples(found, request(place, tmp_path))
    assert samples == found.samples
    assert grid == {"kind": "set", "lengths": None, "depths": None, "needles": None, "limit": None}
    samples, grid = choose_samples(found, request(place, tmp_path, lengths=(550,), limit=4))
    assert {sample.length for sample in samples} == {550} and len(samples) == 4
    assert grid == {"kind": "made", "lengths": [550], "depths": [0.0, 50.0, 100.0], "needles": None, "limit": 4}
    name = found.needles[1].needle_id
    samples, grid = choose_samples(found, request(place, tmp_path, needles=(name,)))
    assert {sample.needle_id for sample in samples} == {name} and len(samples) == 6
    assert grid["kind"] == "set" and grid["needles"] == [name]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"needles": ("no-such-needle",)}, "the set has no needle 'no-such-needle'"),
        ({"lengths": (951, 2000)}, "model: its window of 1000 tokens is too small for the lengths 951, 2000"),
        ({"lengths": (200,)}, "leaves no room for template and needle"),
        ({"limit": 0}, "--limit"),
        ({"engine": "warp"}, "--engine: unknown engine 'warp'"),
        ({"dtype": "int8"}, "--dtype: unknown dtype 'int8'"),
        ({"device": "abacus"}, "--device"),
        ({"template": "chat"}, "no chat template"),
        ({"template": "poem"}, "--template: unknown template 'poem'"),
        ({"haystack": "/nowhere/set"}, "no such folder"),
        ({"model": "/nowhere/model"}, "no such folder"),
        ({"model": "gguf:/nowhere/model.gguf"}, "no such file"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    place: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    wanted = {"model": str(place / "model"), "haystack": str(place / "set"), "out": tmp_path / "runs", **changes}
    with pytest.raises(InputError, match="(?s)" + said.replace("(", r"\(")) as caught:
        evaluate(Request(**wanted))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_haystack_that_is_too_short_for_the_tokenizer(place: Path, tmp_path: Path) -> None:
    """Byte tokens: 4200 characters are no more than 4200 tokens."""
    model = tiny_checkpoint(tmp_path / "wide", window=10_000)
    with pytest.raises(InputError, match="the haystack has .* tokens with this tokenizer"):
        evaluate(Request(str(model), str(place / "set"), tmp_path / "runs", lengths=(9000,)))


def test_an_output_folder_that_cannot_be_written(place: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        evaluate(request(place, Path("/proc/self/runs"), limit=1))


def test_a_light_installation_says_what_to_install(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rh_bench.system.environment.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'rh-bench\[evaluate\]'"):
        evaluate(request(place, tmp_path))


@pytest.mark.slow
def test_a_damaged_run_is_not_taken_for_a_finished_one(place: Path, tmp_path: Path) -> None:
    folder = evaluate(request(place, tmp_path, limit=2)).folder
    (folder / "events.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="finished but damaged"):
        evaluate(request(place, tmp_path, limit=2))


@pytest.mark.slow
def test_what_is_measured_into_memory_is_what_a_run_holds(whole: Outcome, place: Path, tmp_path: Path) -> None:
    class Memory:
        """A journal that keeps nothing."""

        entries: tuple[Entry, ...] = ()

        def write(self, line: Json) -> None:
            assert parse_entry(line) is not None

    wanted = request(place, tmp_path)
    found = CopyMeasurement(wanted, prepare(wanted, lambda words: None)).measure(Memory(), Watch.of())
    assert (found.resumed, found.measured) == (0, 12) and list(tmp_path.iterdir()) == []
    for one, other in zip(found.results, read_run(whole.folder).results, strict=True):
        assert np.array_equal(one.events, other.events)
        assert replace(one, events=other.events, seconds=other.seconds) == other


# --- interruptions ---


class Death(BaseException):
    """What no code catches by mistake."""


@pytest.mark.slow
def test_interrupted_again_and_again(whole: Outcome, place: Path, tmp_path: Path) -> None:
    """Ctrl-C again and again: every session goes on where the last one stopped."""
    for session in (1, 2, 5, 11):

        def stop(step: Step, session: int = session) -> None:
            if step.samples_done == session:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            evaluate(request(place, tmp_path), stop)
    outcome = evaluate(request(place, tmp_path))
    assert (outcome.resumed, outcome.measured) == (11, 1)
    assert without_times(outcome.folder) == without_times(whole.folder)


@pytest.mark.slow
def test_dying_at_every_write_of_the_end(
    whole: Outcome, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The five files of a run are written one after the other; a death before any of them costs nothing."""
    real = rh_bench.system.files._write_and_replace
    for deadly in range(5):
        written: list[Path] = []

        def dying(path: Path, data: bytes, deadly: int = deadly, written: list[Path] = written) -> None:
            if len(written) == deadly:
                raise Death
            written.append(path)
            real(path, data)

        with monkeypatch.context() as patch, pytest.raises(Death):
            patch.setattr(rh_bench.system.files, "_write_and_replace", dying)
            evaluate(request(place, tmp_path))
        (folder,) = (tmp_path / "model").iterdir()
        assert not (folder / "run.json").exists()
        assert len(validate_path(folder)) > 0
    outcome = evaluate(request(place, tmp_path))
    assert (outcome.resumed, outcome.measured) == (12, 0)
    assert without_times(outcome.folder) == without_times(whole.folder)


def command(place: Path, out: Path) -> list[str]:
    options = ["--haystack", str(place / "set"), "--out", str(out)]
    return [sys.executable, "-m", "rh_bench", "evaluate", str(place / "model"), *options]


@contextmanager
def running(place: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(place, out),
        env={**os.environ, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a script, Ctrl-C is ignored, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_lines(out: Path, process: subprocess.Popen[str], lines: int) -> None:
    """Until the journal has so many lines: a moment in the middle of the measuring."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        journals = list(out.rglob(JOURNAL))
        if journals and journals[0].read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_many_moments_ends_as_if_never_interrupted(whole: Outcome, place: Path, tmp_path: Path) -> None:
    """SIGKILL while the model loads, between samples and while the run is written."""
    for lines in (0, 2, 7, 13):
        with running(place, tmp_path) as process:
            wait_for_lines(tmp_path, process, lines)
            process.send_signal(signal.SIGKILL)
    done = subprocess.run(command(place, tmp_path), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "model").iterdir()
    assert validate_path(folder) == []
    assert without_times(folder) == without_times(whole.folder)


HANGING = """
import sys, time
from rh_bench.artifacts import run
from rh_bench.cli.main import main
real = run.atomic_write
def hang(path, data):
    if path.name == "run.json":
        print("here", flush=True)
        time.sleep(120)
    real(path, data)
run.atomic_write = hang
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_two_processes_on_one_run(whole: Outcome, place: Path, tmp_path: Path) -> None:
    """The second leaves alone what the first has not finished, and goes on from it when the first is dead."""
    arguments = command(place, tmp_path)[3:]
    process = subprocess.Popen([sys.executable, "-c", HANGING, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        while (line := process.stdout.readline()) != "here\n":
            assert line, "the process ended before the moment came"
        (folder,) = (tmp_path / "model").iterdir()
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert "samples.parquet" in before and "run.json" not in before
        with pytest.raises(InputError, match="another rh-bench process is measuring this run"):
            evaluate(request(place, tmp_path))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    outcome = evaluate(request(place, tmp_path))
    assert (outcome.resumed, outcome.measured) == (12, 0)
    assert without_times(outcome.folder) == without_times(whole.folder)


def test_a_run_that_another_process_finished_in_between_is_left_as_it_is(
    whole: Outcome, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rh_bench.measure.session.open_journal
    other: list[dict[str, object]] = []

    def late(folder: Path, *rest: Any) -> Any:
        if not other:
            shutil.copytree(whole.folder, folder, dirs_exist_ok=True)
            other.append(without_times(folder))
        return real(folder, *rest)

    monkeypatch.setattr("rh_bench.measure.session.open_journal", late)
    outcome = evaluate(request(place, tmp_path))
    assert (outcome.resumed, outcome.measured) == (0, 0)
    assert without_times(outcome.folder) == other[0]


@pytest.mark.slow
def test_ctrl_c_says_that_nothing_is_lost(place: Path, tmp_path: Path) -> None:
    with running(place, tmp_path) as process:
        wait_for_lines(tmp_path, process, 3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said and "run the same command again to resume" in said
    (journal,) = tmp_path.rglob(JOURNAL)
    assert journal.read_bytes().count(b"\n") >= 3


@pytest.mark.slow
def test_a_second_process_leaves_what_the_first_is_about_to_name(place: Path, tmp_path: Path, whole: Outcome) -> None:
    """Tables are written before run.json names them: they are no leftovers while somebody is at work."""
    kept = []

    def second(words: str) -> None:
        if words == "Scoring":
            (folder,) = (tmp_path / "runs").glob("*/*")
            (folder / "samples.parquet").write_bytes(b"just written")
            with pytest.raises(InputError, match="another rh-bench process is measuring this run"):
                evaluate(request(place, tmp_path / "runs"))
            kept.append((folder / "samples.parquet").read_bytes())

    first = evaluate(request(place, tmp_path / "runs"), on_stage=second)
    assert kept == [b"just written"]
    assert validate_path(first.folder) == [] and without_times(first.folder) == without_times(whole.folder)


@pytest.mark.slow
def test_a_run_that_another_process_finishes_meanwhile_is_not_measured_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder, others = rh_bench.measure.session.make_folder, []

    def slowly(folder: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("rh_bench.measure.session.make_folder", make_folder)
            others.append(evaluate(request(place, tmp_path / "runs")))
        make_folder(folder)

    with monkeypatch.context() as patch:
        patch.setattr("rh_bench.measure.session.make_folder", slowly)
        found = evaluate(request(place, tmp_path / "runs"))
    assert (others[0].measured, found.measured) == (12, 0)
    assert found.document == others[0].document and validate_path(found.folder) == []


@pytest.mark.slow
def test_a_clock_that_is_set_back_ends_no_run_before_it_began(place: Path, tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        if step.samples_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(request(place, tmp_path / "runs"), on_step=stop)
    (path,) = (tmp_path / "runs").glob("*/*/journal.jsonl")
    head, _, rest = path.read_text().partition("\n")
    path.write_text(json.dumps(json.loads(head) | {"started": "2999-01-01T00:00:00Z"}) + "\n" + rest)
    found = evaluate(request(place, tmp_path / "runs"))
    assert found.resumed == 3 and found.document["timings"]["finished"] == "2999-01-01T00:00:00Z"
