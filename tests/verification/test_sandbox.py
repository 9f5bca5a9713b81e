"""Verifying in a process of its own: what ends that process, or fills its memory, is a run that is not valid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import footer_changed, lost_histogram, seal, varint
from fake_runs import make_run

from rh_bench.artifacts.fingerprint import fingerprint
from rh_bench.artifacts.levels import Evidence
from rh_bench.artifacts.run import read_run
from rh_bench.artifacts.tables import EVENTS
from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.interchange.folder import import_file
from rh_bench.verification.sandbox import Ended, Limit, Limits, run_apart, unfinished, verify_apart
from rh_bench.verification.verify import verify_run

pytestmark = pytest.mark.slow


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
    limits = Limits(valid=Limit(3 << 29, 300, 600))  # pyarrow sets 1 GiB aside for itself
    level = verify_apart(run, limits=limits).verification.levels[0]
    assert level.reached is False
    (words,) = [reason for reason in level.reasons if reason.startswith("events.parquet")]
    assert "not a readable Parquet file (malloc of size" in words or "Out of memory" in words, words


def child(body: str) -> list[str]:
    """A command as `run_apart` runs it."""
    return [sys.executable, "-c", body]


def given(seconds: float) -> Callable[[Sequence[Any]], float]:
    return lambda lines: seconds


ENDLESS = """
import signal
from rh_bench.system.limits import Limit, limited
with limited(Limit(1 << 30, 0, 60)):
    while True:
        pass
"""


def test_a_run_that_takes_too_much_processor_time_is_not_valid() -> None:
    ended = run_apart(child(ENDLESS), "", given(60))
    assert (ended.lines, ended.signal, ended.late) == ((), "SIGXCPU", False)
    levels = list(unfinished(0, ended, Limit(1, 7, 9)))
    assert [(level.name, level.reached, level.exceeded) for level in levels] == [
        ("valid", False, "processor time"),
        ("recomputed", None, None),
        ("rerun", None, None),
    ]
    assert levels[0].reasons == ("reading it takes more than 7 s of processor time",)


IDLE = {
    "asleep": "import time\ntime.sleep(600)",
    "deaf": "import signal\nfor s in (signal.SIGTERM, signal.SIGXCPU, signal.SIGINT, signal.SIGHUP):\n"
    "    signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
    "in its children": "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open(sys.argv[1], 'w').write('{\"child\": %d}\\n' % child.pid)\nchild.wait()",
}


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no groups there")
@pytest.mark.parametrize("how", IDLE)
def test_what_has_had_its_time_is_ended_with_all_its_children(how: str) -> None:
    before = time.monotonic()
    ended = run_apart(child(IDLE[how]), "", given(1))
    assert ended.late and ended.signal == "SIGKILL" and time.monotonic() - before < 20
    for line in ended.lines:
        assert gone(line["child"])
    (level, *_) = unfinished(1, ended, Limit(1, 7, 1))
    assert (level.name, level.reached, level.exceeded) == ("recomputed", False, "clock")
    assert level.reasons == ("recomputing it takes longer than 1 s",)


def gone(process: int) -> bool:
    """Whether a process has ended: it may take a moment, and can be left as a zombie for init to reap."""
    for _ in range(100):
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(process, 0)
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_time_counts_from_the_last_that_was_told() -> None:
    body = "import sys, time\nwith open(sys.argv[1], 'w') as f:\n" + "".join(
        f"    time.sleep(0.6); print({n}, file=f, flush=True)\n" for n in range(4)
    )
    assert run_apart(child(body), "", given(2)).lines == (0, 1, 2, 3)


PARENT = """
import subprocess, sys
from rh_bench.verification.sandbox import run_apart
child = "import os, sys, time\\nfrom rh_bench.verification.sandbox import _end_with_parent\\n_end_with_parent()\\n"
child += "open(sys.argv[1] + '.pid', 'w'); print(os.getpid(), file=open({told!r}, 'w'), flush=True)\\ntime.sleep(600)"
run_apart([sys.executable, "-c", child], "", lambda lines: 600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process has no parent there")
def test_who_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with subprocess.Popen([sys.executable, "-c", PARENT.format(told=str(told))]) as parent:
        while not (told.is_file() and told.read_text().endswith("\n")):
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    assert gone(int(told.read_text()))


def test_memory_that_a_library_takes_no_refusal_of() -> None:
    ended = Ended((), "SIGABRT", said="memory allocation of 99 bytes failed\n")
    (level, *_) = unfinished(1, ended, Limit(5, 7, 9))
    assert (level.reached, level.exceeded) == (False, "memory")
    assert level.reasons == ("recomputing it takes more than 5 bytes of memory",)


def test_what_ends_at_a_higher_level_is_not_tried() -> None:
    """Weights that do not fit in the memory of the machine say nothing about the run."""
    ended = Ended((), "SIGKILL")
    (last,) = unfinished(2, ended, Limits().rerun)
    assert (last.name, last.reached, last.exceeded) == ("rerun", None, "process") and "SIGKILL" in last.reasons[0]
    assert list(unfinished(3, ended, Limits().rerun)) == []


def test_a_level_out_of_memory_is_failed_and_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(run), "--most-memory", "0.001", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)["levels"]
    assert [(level["reached"], level.get("exceeded")) for level in said] == [
        (False, "memory"),
        (None, None),
        (None, None),
    ]
    assert said[0]["reasons"] == ["reading it takes more than 1073741 bytes of memory"]


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
    ended = run_apart(command, str(run / "samples.parquet"), given(60))
    assert ended.lines == ({"level": "valid"},) and ended.signal == "SIGABRT", "what was known before is kept"


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
    assert "valid: no\n  it kills the process that reads it (SIGABRT)\n" in said.out
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize("told", ["", "valid"])
def test_a_process_that_ends_without_a_word_is_a_bug(run: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    """With status 0 and fewer levels than there are: nothing may be taken for what it did not say."""
    broken = run.parents[2] / "broken" / "pyarrow"
    broken.mkdir(parents=True)
    line = json.dumps({"level": told, "reached": True, "reasons": [], "exceeded": None}) + "\n" if told else ""
    say = f"import os, sys\nopen(sys.argv[-1], 'w').write({line!r})\nos._exit(0)\n"
    (broken / "__init__.py").write_text(say)
    monkeypatch.setattr(sys, "path", [str(broken.parent), *sys.path])
    with pytest.raises(RuntimeError, match=f"ended with {1 if told else 0} of 3 levels"):
        verify_apart(run)


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
    assert "valid" not in said.out and "was killed from outside (SIG" in said.err


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
    assert "memory: this process is limited to 976 MiB of address space; verifying may need" in done.stderr


def test_a_traceback_is_a_bug_and_shown(run: Path) -> None:
    with pytest.raises(RuntimeError, match=r"status 1:(.|\n)*ZeroDivisionError"):
        run_apart(child("1/0"), "", given(60))
