"""The command line: exit statuses, one-line errors, JSON, help."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run
from tiny import tiny_checkpoint

import rh_bench
from rh_bench.cli.main import app, main

VERBS = (
    "ablate",
    "attest",
    "audit",
    "build",
    "collect",
    "compare",
    "demo",
    "detect",
    "dynamic",
    "evaluate",
    "export",
    "extract-qa",
    "import",
    "leaderboard",
    "publish",
    "reason",
    "review",
    "run-attested",
    "score",
    "scorecard",
    "show",
    "submit",
    "validate",
    "verify",
)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line; gives its exit status and what it printed on both channels."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs", n_samples=12)


def one_line(text: str) -> str:
    (line,) = text.strip().splitlines()
    assert line.startswith("rh-bench: ")
    return line


def test_the_verbs() -> None:
    assert tuple(sorted(app.commands)) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples_that_parse(verb: str, say: Any) -> None:
    status, printed, _ = say(verb, "--help")
    assert status == 0
    examples = [line.split() for line in printed.split("Examples:")[1].splitlines() if line.strip()]
    assert examples
    for words in examples:
        assert words[:2] == ["rh-bench", verb]
        command = app.commands[verb]
        # Globs are the shell's; options and arguments must be those of the command.
        command.make_context(verb, words[2:], resilient_parsing=False).close()


def test_help_and_version(say: Any) -> None:
    status, printed, _ = say("--help")
    assert status == 0 and all(verb in printed for verb in VERBS)
    assert say("--version")[1] == f"rh-bench {rh_bench.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fly",), "No such command 'fly'"),
        (("evaluate", "model"), "Missing option '--haystack'"),
        (("show",), "Missing argument 'RUN'"),
        (("show", "x", "--top", "0"), "'--top'"),
        (("build", "--out", "x", "--grid", "huge"), "--grid: unknown grid 'huge'; use quick or paper"),
        (("build", "--out", "x", "--source", "moon"), "--source: 'moon' is not a source"),
        (("build", "--out", "x", "--needle-count", "0"), "--needle-count"),
        (("build", "--out", "x", "--needles", "/nowhere.json"), "/nowhere.json"),
        (("validate", "/nowhere"), "/nowhere: no such folder"),
        (("verify", "/nowhere"), "/nowhere: no such folder"),
        (("score", "/nowhere"), "there is no run.json"),
        (("show", "/nowhere"), "run.json: cannot be read"),
        (("leaderboard", "/nowhere", "--out", "site"), "/nowhere: no such folder"),
        (("evaluate", "org/model", "--haystack", "/nowhere", "--out", "x"), "/nowhere: no such folder"),
        (("evaluate", "m", "--haystack", "s", "--out", "x", "--lengths", "many"), "--lengths: 'many' is not a length"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    arguments: tuple[str, ...], said: str, say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, complaint = say(*arguments)
    assert (status, printed) == (2, "")
    assert said in one_line(complaint)
    assert list(tmp_path.iterdir()) == []


def test_square_brackets_in_errors_are_no_markup(say: Any) -> None:
    assert "[bold]x[/bold]" in one_line(say("validate", "[bold]x[/bold]")[2])


def test_validate(say: Any, run_folder: Path) -> None:
    status, printed, complaint = say("validate", run_folder)
    assert (status, complaint) == (0, "") and printed.strip().endswith("valid")
    (run_folder / "events.parquet").unlink()
    status, printed, complaint = say("validate", run_folder)
    assert status == 1 and "events.parquet" in printed
    assert "1 of 1 not valid" in one_line(complaint)
    status, printed, _ = say("validate", run_folder, "--json")
    (found,) = json.loads(printed)
    assert status == 1 and not found["valid"] and {"file", "pointer", "message"} == set(found["problems"][0])


def test_score_is_idempotent_and_mends(say: Any, run_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in run_folder.iterdir()}
    assert say("score", run_folder)[:2] == (0, "unchanged: the numbers match the raw observations\n")
    assert before == {path.name: path.read_bytes() for path in run_folder.iterdir()}
    (run_folder / "heads.parquet").unlink()
    (run_folder / "summary.json").write_text("{}")
    assert json.loads(say("score", run_folder, "--json")[1])["changed"] == ["heads.parquet", "summary.json"]
    assert before == {path.name: path.read_bytes() for path in run_folder.iterdir()}


@pytest.mark.slow
def test_verify(say: Any, run_folder: Path) -> None:
    status, printed, _ = say("verify", run_folder)
    lines = [line for line in printed.splitlines() if not line.startswith(" ")]
    assert status == 0 and lines == ["valid: yes", "recomputed: not tried", "rerun: not tried"]
    (run_folder / "heads.parquet").write_bytes(b"x")
    status, printed, complaint = say("verify", run_folder)
    assert status == 1 and "valid: no" in printed and "recomputed: not tried" in printed
    assert "not verified" in one_line(complaint)


def test_show(say: Any, run_folder: Path) -> None:
    status, printed, _ = say("show", run_folder, "--top", 3)
    assert status == 0 and "acme/tiny-1" in printed and "Top heads" in printed
    assert json.loads(say("show", run_folder, "--json")[1])["schema"] == "rh_bench/summary"


@pytest.mark.slow
def test_leaderboard_names_what_it_leaves_out(say: Any, run_folder: Path, tmp_path: Path) -> None:
    broken = make_run(tmp_path / "runs", model_id="acme/broken")
    (broken / "heads.parquet").write_bytes(b"")
    status, printed, _ = say("leaderboard", tmp_path / "runs", "--out", tmp_path / "site")
    assert status == 0 and "left out: acme__broken" in printed and "1 runs" in printed
    assert (tmp_path / "site" / "index.html").is_file()
    found = json.loads(say("leaderboard", tmp_path / "runs", "--out", tmp_path / "site", "--json")[1])
    assert found["runs"] == 1 and found["left_out"][0]["folder"].startswith("acme__broken/")


@pytest.mark.slow
def test_build_and_evaluate(say: Any, tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model", window=900)
    build = ("build", "--lengths", "500", "--depths", "0,100", "--needle-count", 2, "--out", tmp_path / "set")
    status, printed, _ = say(*build)
    assert status == 0 and "4 = 2 needles × 1 lengths × 2 depths" in printed
    evaluate = ("evaluate", model, "--haystack", tmp_path / "set", "--out", tmp_path / "runs", "--limit", 3)
    status, printed, complaint = say(*evaluate)
    assert status == 0, complaint
    assert "heads above 0.1" in printed and "3 samples measured" in printed
    found = json.loads(say(*evaluate, "--json")[1])
    assert found["measured"] == 0 and found["counts"]["samples"] == 3
    assert say("validate", found["folder"], tmp_path / "set")[0] == 0


def test_no_verb_shows_the_help(say: Any) -> None:
    status, printed, complaint = say()
    assert "Usage" in printed + complaint and status in (0, 2)


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
@pytest.mark.parametrize("first", [True, False], ids=["before the verb", "after it"])
def test_a_fault_of_ours_says_so(
    debug: tuple[str, ...], first: bool, say: Any, monkeypatch: pytest.MonkeyPatch, run_folder: Path
) -> None:
    def broken(folder: Path) -> list[str]:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr("rh_bench.artifacts.run.rescore", broken)
    arguments = (*debug, "score", run_folder) if first else ("score", run_folder, *debug)
    status, printed, complaint = say(*arguments)
    *trace, line = complaint.strip().splitlines()
    assert (status, printed) == (70, "")
    assert line.startswith("rh-bench: this is a bug in rh-bench") and "ZeroDivisionError at test_cli.py:" in line
    assert "nothing to divide by" in line and "report it" in line
    assert ("Traceback (most recent call last):" in trace) == bool(debug)
    assert len(trace) == 0 or debug


def test_every_verb_knows_debug(say: Any) -> None:
    for verb in VERBS:
        assert "--debug" in say(verb, "--help")[1], verb
    assert "--debug" in say("--help")[1] and "70" in say("--help")[1]


def test_a_wrong_input_is_one_line_and_its_trace_is_there_on_request(say: Any) -> None:
    assert one_line(say("score", "/nowhere")[2])
    complaint = say("score", "/nowhere", "--debug")[2]
    assert "Traceback" in complaint and complaint.strip().splitlines()[-1].startswith("rh-bench: /nowhere")


def test_a_full_disk_is_the_machine(say: Any, monkeypatch: pytest.MonkeyPatch, run_folder: Path) -> None:
    def full(folder: Path) -> list[str]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/run.json")

    monkeypatch.setattr("rh_bench.artifacts.run.rescore", full)
    status, _, complaint = say("score", run_folder)
    assert status == 2 and "/data/run.json: No space left on device" in one_line(complaint)


def test_sigterm_ends_a_command_as_ctrl_c_does(say: Any, monkeypatch: pytest.MonkeyPatch, run_folder: Path) -> None:
    """What is half done is cleared away, and who sent the signal learns that it was heeded."""
    cleared = []

    def told(folder: Path) -> list[str]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            cleared.append(folder)
        return []

    monkeypatch.setattr("rh_bench.artifacts.run.rescore", told)
    status, _, complaint = say("score", run_folder)
    assert (status, cleared) == (143, [run_folder])
    assert "terminated; run the same command again" in one_line(complaint)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_a_library_makes_of_sigterm_is_no_fault_of_ours(
    say: Any, monkeypatch: pytest.MonkeyPatch, run_folder: Path
) -> None:
    """pandas, interrupted while it is imported, raises an AttributeError at the next try."""

    def told(folder: Path) -> list[str]:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except BaseException:
            raise AttributeError("partially initialized module") from None
        return []

    monkeypatch.setattr("rh_bench.artifacts.run.rescore", told)
    status, _, complaint = say("score", run_folder)
    assert status == 143 and "terminated" in one_line(complaint)


def test_what_cannot_even_be_started_is_one_line() -> None:
    """As with so little memory that a library cannot be loaded."""
    words = (
        "import runpy, sys; sys.modules['rh_bench.cli.main'] = None; runpy.run_module('rh_bench', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert one_line(done.stderr).startswith("rh-bench: it cannot be started: ModuleNotFoundError ")
    words = (
        "import runpy, sys, types; made = sys.modules['rh_bench.cli.main'] = types.ModuleType('rh_bench.cli.main')\n"
        "def main(): raise MemoryError\nmade.main = main; runpy.run_module('rh_bench', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "memory: there is not enough" in one_line(done.stderr)
    limited = ["sh", "-c", 'ulimit -v 100000; exec "$@"', "sh", sys.executable, "-m", "rh_bench", "show", "nowhere"]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "memory: this process may have 97 MiB" in one_line(done.stderr)
