"""Verifying in a process of its own: what ends that process, or fills its memory, is a run that is not valid."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_runs import make_run
from test_hostile import footer_changed, lost_histogram, seal, varint

from rh_bench.apart import Limits, run_apart, unfinished, verify_apart
from rh_bench.cli import main
from rh_bench.errors import InputError
from rh_bench.fingerprint import fingerprint
from rh_bench.interchange.folder import import_file
from rh_bench.runs import read_run
from rh_bench.tables import EVENTS
from rh_bench.verify import Evidence, verify_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs", layers=2, heads=2, kv_heads=1, n_samples=3)


def test_it_finds_what_is_found_here(run: Path) -> None:
    found = verify_apart(run)
    assert found.verification == verify_run(run)
    read = read_run(run)
    assert found.fingerprint == fingerprint(read.document, read.results)
    (run / "events.parquet").write_bytes(b"PAR1")
    found = verify_apart(run)
    assert found.verification == verify_run(run) and found.fingerprint is None


def test_an_import_has_no_fingerprint(tmp_path: Path) -> None:
    foreign = tmp_path / "seed.json"
    foreign.write_text(json.dumps({"0-0": [1.0, 0.5], "0-1": [0.0, 0.25]}))
    folder = import_file(foreign, tmp_path / "imports")
    found = verify_apart(folder)
    assert found.verification == verify_run(folder) and found.fingerprint is None


def test_what_cannot_be_had_is_told_as_here(run: Path, tmp_path: Path) -> None:
    for folder, evidence in (
        (tmp_path / "none", Evidence()),
        (run, Evidence(haystack=str(tmp_path / "none"), model="x")),
    ):
        with pytest.raises(InputError) as here:
            verify_run(folder, evidence)
        with pytest.raises(InputError) as apart:
            verify_apart(folder, evidence)
        assert str(apart.value) == str(here.value)


def claim_a_page_of_two_gibibytes(run: Path) -> None:
    """The header of the one page of the sample ids, of which the file holds a few kilobytes."""
    size = 140_000_000
    ids = pa.array(["x" * size])
    rest = [pa.array(np.zeros(1, np.int16))] * 4
    table = pa.Table.from_arrays([ids, *rest], schema=EVENTS)
    pq.write_table(table, run / "events.parquet", compression="zstd", use_dictionary=False, write_statistics=False)
    data = (run / "events.parquet").read_bytes()
    claimed = varint(size + 4)  # the length of the text stands before it
    assert data.count(b"\x15" + claimed) >= 1
    (run / "events.parquet").write_bytes(data.replace(b"\x15" + claimed, b"\x15" + varint((1 << 31) - 1), 1))
    seal(run)


def test_a_page_that_asks_for_too_much_memory_is_refused(run: Path) -> None:
    claim_a_page_of_two_gibibytes(run)
    level = verify_apart(run, limits=Limits(memory=1 << 30)).verification.levels[0]
    assert level.reached is False
    (words,) = [reason for reason in level.reasons if reason.startswith("events.parquet")]
    assert "not a readable Parquet file (malloc of size" in words or "Out of memory" in words, words


ENDLESS = """
from rh_bench.apart import Limits, limited
with limited(Limits(seconds=0)):
    while True:
        pass
"""


def test_a_run_that_takes_too_long_is_not_valid() -> None:
    found, end = run_apart([sys.executable, "-c", ENDLESS], "")
    assert (found, end) == ([], "SIGXCPU")
    levels = list(unfinished(0, "SIGXCPU"))
    assert [(level.name, level.reached) for level in levels] == [
        ("valid", False),
        ("recomputed", None),
        ("rerun", None),
    ]
    assert levels[0].reasons == ("the run takes too long to read",)


def test_what_ends_at_a_higher_level_is_not_tried() -> None:
    """Weights that do not fit in memory say nothing about the run."""
    (last,) = unfinished(2, "SIGKILL")
    assert (last.name, last.reached) == ("rerun", None) and "SIGKILL" in last.reasons[0]
    assert list(unfinished(3, "SIGKILL")) == []


ENDED = """
import sys, pyarrow.parquet as pq
answer = open(sys.argv[1], "w")
for line in {lines!r}:
    print(line, file=answer, flush=True)
answer.write('{{"level": "cut sh')
answer.flush()
group = pq.ParquetFile(sys.stdin.read()).metadata.row_group(0)
[group.column(place) for place in range(group.num_columns)]
"""


def test_a_table_that_ends_pyarrow_ends_nothing_else(run: Path) -> None:
    footer_changed(run / "samples.parquet", lost_histogram)
    lines = ['{"level": "valid"}']
    command = [sys.executable, "-c", ENDED.format(lines=lines)]
    found, end = run_apart(command, str(run / "samples.parquet"))
    assert found == [{"level": "valid"}] and end == "SIGABRT", "what was known before is kept"


def test_a_process_that_ends_is_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library that aborts: whatever imports pyarrow in the other process meets one that does."""
    broken = run.parents[2] / "broken" / "pyarrow"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("import os\nos.abort()\n")
    monkeypatch.setattr(sys, "path", [str(broken.parent), *sys.path])
    assert main(["verify", str(run)]) == 1
    said = capsys.readouterr()
    assert "valid: no\n  the run ends the process that reads it (SIGABRT)\n" in said.out
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_was_ended_from_outside_says_nothing_about_the_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """As a system without memory ends one: an honest run would be refused for it."""
    killed = run.parents[2] / "killed" / "pyarrow"
    killed.mkdir(parents=True)
    (killed / "__init__.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    monkeypatch.setattr(sys, "path", [str(killed.parent), *sys.path])
    assert main(["verify", str(run)]) == 2
    said = capsys.readouterr()
    assert "valid" not in said.out and "was ended from outside (SIG" in said.err


def test_who_has_less_memory_than_is_promised_judges_nobody(run: Path) -> None:
    """With too little of it a sound run would be called one that takes too much."""
    words = 'ulimit -v 1000000; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", words, "sh", sys.executable, "-m", "rh_bench", "verify", str(run)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "valid" not in done.stdout
    assert "memory: this process may have 976 MiB of address space, and what verifying may take is" in done.stderr


def test_a_traceback_is_a_bug_and_shown(run: Path) -> None:
    with pytest.raises(RuntimeError, match=r"status 1:(.|\n)*ZeroDivisionError"):
        run_apart([sys.executable, "-c", "1/0"], "")
