"""Workshops: what the killed leave is cleared by the next, what the living use is left alone, and so is all else.

Every death is a real SIGKILL of a process of its own, at the moment that the test is about.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_runs import make_run

from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.leaderboard.build import _WORTH_WORKERS, build_site
from rh_bench.sets.grids import Grid
from rh_bench.submissions.collect import collect_results
from rh_bench.system import workshop as module
from rh_bench.system.files import atomic_write
from rh_bench.system.workshop import hidden, part_of, scratch, sweep, workshop

SMALL = Grid("custom", (300,), (0.0, 100.0), needles=2, haystacks=1)
HANG = """
import os, sys, time
def hang(*args, **kwargs):
    print("here", flush=True)
    time.sleep(120)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def at_work(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `script` and says "here" where it stays; killed when the block ends."""
    command = [sys.executable, "-c", HANG + textwrap.dedent(script), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n", "the process ended before the moment came"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def killed(script: str, *arguments: object) -> None:
    with at_work(script, *arguments):
        pass


# Each script dies at one moment. The command that was killed is run again here, in this process.

BUILD = """
import rh_bench.data_builders.build as build
build.{where} = hang
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from pathlib import Path
from rh_bench.sets.grids import Grid
grid = Grid("custom", (300,), (0.0, 100.0), needles=2, haystacks=1)
build_set(Recipe(source=parse_source("synthetic:3"), grid=grid), Path(sys.argv[1]))
"""


def build_here(out: Path) -> None:
    build_set(Recipe(source=parse_source("synthetic:3"), grid=SMALL), out)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["_move", "_write_file", "sync_folder"])
def test_a_killed_build_leaves_nothing_after_the_next(tmp_path: Path, where: str) -> None:
    out = tmp_path / "set"
    killed(BUILD.replace("{where}", where), out)
    assert ".set.rh_bench" in names(tmp_path)
    build_here(out)
    assert names(tmp_path) == {"set"}
    build_here(tmp_path / "other")
    assert contents(out) == contents(tmp_path / "other")


@pytest.mark.slow
def test_two_builds_of_one_folder_do_not_disturb_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rh_bench.data_builders.build.PATIENCE", 0.2)
    with at_work(BUILD.replace("{where}", "_move"), tmp_path / "set"):
        before = contents(hidden(tmp_path / "set"))
        assert len(before) > 3
        with pytest.raises(InputError, match="another rh-bench process is writing it; wait for it"):
            build_here(tmp_path / "set")
        assert contents(hidden(tmp_path / "set")) == before
        build_here(tmp_path / "beside")
    build_here(tmp_path / "set")
    assert names(tmp_path) == {"set", "beside"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    for number in range(2):
        make_run(root, model_id=f"acme/m{number}", n_samples=10)
    return root


SITE = """
import pathlib
from rh_bench.leaderboard import build
{moment}
if __name__ == "__main__":
    build.build_site(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""
SITE_MOMENTS = {
    "before a page": "build.make_files = hang",
    "while it finishes": "build._finish = hang",
    "between the old site and the new": """
real = pathlib.Path.replace
pathlib.Path.replace = lambda self, target: hang() if self.name == "new" else real(self, target)
""",
    "when the new site is there": "import shutil; from rh_bench.system import workshop; workshop.shutil.rmtree = hang",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", SITE_MOMENTS)
def test_a_killed_leaderboard_leaves_nothing_after_the_next(
    tmp_path: Path, runs: Path, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    build_site(runs, site)
    before = contents(site)
    make_run(runs, model_id="acme/new", n_samples=10)
    killed(SITE.replace("{moment}", SITE_MOMENTS[moment]), runs, site)
    assert names(tmp_path) >= {".site.rh_bench"}
    if moment in ("before a page", "while it finishes"):
        assert contents(site) == before
    assert main(["leaderboard", str(runs), "--out", str(site)]) == 0, capsys.readouterr().err
    assert names(tmp_path) == {"runs", "site"}
    build_site(runs, tmp_path / "whole")
    assert contents(site) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_site_that_was_put_away_comes_back_though_the_next_build_fails(tmp_path: Path, runs: Path) -> None:
    site = tmp_path / "site"
    build_site(runs, site)
    before = contents(site)
    killed(SITE.replace("{moment}", SITE_MOMENTS["between the old site and the new"]), runs, site)
    assert not site.exists()
    with pytest.raises(RuntimeError), workshop(site):
        raise RuntimeError
    assert contents(site) == before
    assert names(tmp_path) == {"runs", "site"}


@pytest.mark.slow
def test_two_leaderboards_of_one_folder(tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    build_site(runs, site)
    before = contents(site)
    with at_work(SITE.replace("{moment}", SITE_MOMENTS["while it finishes"]), runs, site):
        inside = contents(hidden(site))
        assert main(["leaderboard", str(runs), "--out", str(site)]) == 2
        assert "another rh-bench process is writing it; wait for it" in capsys.readouterr().err
        assert contents(hidden(site)) == inside
        assert contents(site) == before
        build_site(runs, tmp_path / "beside")
    build_site(runs, site)
    assert names(tmp_path) == {"runs", "site", "beside"}


@pytest.mark.slow
def test_workers_end_with_a_build_that_is_killed_and_hold_its_workshop_until_then(tmp_path: Path) -> None:
    root, site = tmp_path / "runs", tmp_path / "site"
    for number in range(_WORTH_WORKERS):
        make_run(root, model_id=f"acme/m{number}", n_samples=4)
    script = tmp_path / "build.py"
    script.write_text(
        HANG + "import pathlib\nfrom leaderboard import build\n"
        "def stay(task):\n    print('here', os.getpid(), flush=True)\n    time.sleep(120)\n"
        "build._make_one = stay\n"
        "if __name__ == '__main__':\n"
        "    build.build_site(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), workers=2)\n"
    )
    process = subprocess.Popen([sys.executable, str(script), str(root), str(site)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = {int(process.stdout.readline().split()[1]) for _ in range(2)}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    rest = process.stdout.read()  # comes to its end only when no worker has the pipe any more
    process.stdout.close()
    assert "here" not in rest and len(workers) == 2
    build_site(root, site)
    assert names(tmp_path) == {"build.py", "runs", "site"}


COLLECT = """
import pathlib
from rh_bench.submissions import collect
{moment}
collect.collect_results(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""
COLLECT_MOMENTS = {
    "in the middle of a run": """
real = collect.shutil.copyfile
collect.shutil.copyfile = lambda a, b: hang() if b.name == "run.json" else real(a, b)
""",
    "in the tables": "collect._write_bucket = hang",
    "before the card": "collect.atomic_write = hang",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", COLLECT_MOMENTS)
def test_a_killed_collect_leaves_nothing_after_the_next(tmp_path: Path, runs: Path, moment: str) -> None:
    out = tmp_path / "results"
    killed(COLLECT.replace("{moment}", COLLECT_MOMENTS[moment]), runs, out)
    with at_work(COLLECT.replace("{moment}", COLLECT_MOMENTS["in the tables"]), runs, out):
        with pytest.raises(InputError, match="another rh-bench process is"):
            collect_results(runs, out)
    collect_results(runs, out)
    assert not list(out.rglob(".*"))
    collect_results(runs, tmp_path / "other")
    assert contents(out) == contents(tmp_path / "other")


FILE = """
import pathlib
from rh_bench.system import files
{moment}
files.atomic_write(pathlib.Path(sys.argv[1]), b"new " * 1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["os.fsync = hang", "pathlib.Path.replace = hang"])
def test_a_file_that_was_half_written_when_its_process_was_killed(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    killed(FILE.replace("{moment}", moment), path)
    assert path.read_bytes() == b"old" and names(tmp_path) == {"x", ".x.rh_bench"}
    atomic_write(path, b"short")
    assert path.read_bytes() == b"short" and names(tmp_path) == {"x"}


@pytest.mark.slow
def test_two_processes_that_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with at_work(FILE.replace("{moment}", "pathlib.Path.replace = hang"), tmp_path / "x"):
        with pytest.raises(InputError, match="another rh-bench process is"):
            atomic_write(tmp_path / "x", b"mine")
        assert (tmp_path / ".x.rh_bench").read_bytes() == b"new " * 1000
        atomic_write(tmp_path / "y", b"mine")
    writers = [
        subprocess.Popen([sys.executable, "-c", HANG + FILE.replace("{moment}", ""), str(tmp_path / "x")])
        for _ in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert (tmp_path / "x").read_bytes() == b"new " * 1000 and names(tmp_path) == {"x", "y"}


HUB = """
import pathlib
from rh_bench.hub import sets as hub
{moment}
hub._without_links(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["hub.os.link = hang", "from rh_bench.system import workshop; workshop._remove = hang"]
)
def test_a_fetched_set_that_was_half_laid_out(tmp_path: Path, moment: str) -> None:
    from rh_bench.hub.sets import _without_links

    snapshot, folder = tmp_path / "snapshot", tmp_path / "sets" / "one"
    (snapshot / "needles").mkdir(parents=True)
    (snapshot / "needles" / "a").write_bytes(b"a")
    killed(HUB.replace("{moment}", moment), snapshot, folder)
    assert ".one.rh_bench" in names(folder.parent)
    assert _without_links(snapshot, folder) == folder
    assert names(folder.parent) == {"one"} and contents(folder) == {"needles/a": b"a"}


SCRATCH = """
from rh_bench.system.workshop import scratch
with scratch("test") as folder:
    (folder / "x").write_bytes(b"x")
    hang()
"""


@pytest.mark.slow
def test_scratch_folders_of_the_dead_go_and_those_of_the_living_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "rh_bench-other-1").mkdir()
    killed(SCRATCH)
    (dead,) = (path for path in tmp_path.iterdir() if path.name.startswith("rh_bench-test-"))
    with at_work(SCRATCH):
        with scratch("test") as mine:
            assert mine.is_dir() and not dead.exists()
            assert len(list(tmp_path.glob("rh_bench-test-*/x"))) == 1, "that of the living one"
    assert (tmp_path / "rh_bench-other-1").is_dir()
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["none", "link", "folder"])
def test_scratch_folders_without_our_mark_are_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    """A version that knows no locks, or any other program, may be at work there, whatever the folder is called."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = tmp_path / "rh_bench-test-abc"
    (other / "work").mkdir(parents=True)
    (other / "work" / "x").write_bytes(b"x")
    if mark == "link":
        (other / module.MARK).symlink_to(other / "work" / "x")
    elif mark == "folder":
        (other / module.MARK).mkdir()
    with scratch("test") as mine:
        assert mine.is_dir()
    assert contents(other)["work/x"] == b"x" and names(tmp_path) == {other.name}


@pytest.mark.slow
def test_who_is_killed_while_a_scratch_folder_goes_leaves_one_that_the_next_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = SCRATCH.replace("    hang()", '    (folder / "y").mkdir()\n    workshop.shutil.rmtree = hang')
    killed("from rh_bench.system import workshop\n" + script)
    (left,) = tmp_path.iterdir()
    assert module.MARK in names(left)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch("test"):
        assert not left.exists()
    assert not names(tmp_path)


def test_a_folder_of_a_workshops_name_without_our_mark_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".site.rh_bench"
    (other / "old").mkdir(parents=True)
    (other / "old" / "x").write_bytes(b"x")
    with pytest.raises(OSError, match=r"\.site\.rh_bench is in the way: remove it"), workshop(tmp_path / "site"):
        pass
    sweep(tmp_path / "site")
    assert contents(other) == {"old/x": b"x"} and names(tmp_path) == {other.name}


@pytest.mark.parametrize("name", [".site.rh_bench-mine", ".site.abcdefgh", ".other.rh_bench", "site.rh_bench"])
def test_what_is_not_ours_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "x").write_bytes(b"x")
    with workshop(tmp_path / "site") as made:
        made.put(made.fresh())
    sweep(tmp_path / "site")
    assert contents(tmp_path / name) == {"x": b"x"}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_of_a_workshops_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_bytes(b"x")
    other = tmp_path / ".site.rh_bench"
    if kind == "file":
        other.write_bytes(b"x")
    else:
        other.symlink_to(tmp_path / "mine")
    with pytest.raises(OSError), workshop(tmp_path / "site"):
        pass
    sweep(tmp_path / "site")
    assert (other.read_bytes() if kind == "file" else (other / "x").read_bytes()) == b"x"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_link_in_the_place_of_a_part_is_not_written_through(tmp_path: Path, link: object) -> None:
    (tmp_path / "precious").write_bytes(b"x")
    assert callable(link)
    link(tmp_path / "precious", tmp_path / ".x.rh_bench")
    with pytest.raises(InputError, match="cannot be written"):
        atomic_write(tmp_path / "x", b"new")
    assert (tmp_path / "precious").read_bytes() == b"x"


def test_long_names_have_workshops(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 250)
    atomic_write(long, b"x")
    with workshop(tmp_path / ("é" * 120)) as made:
        made.put(made.fresh())
    assert names(tmp_path) == {"x" * 250, "é" * 120}


def test_without_locks_each_has_its_own_and_nothing_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file system without locks can be had here, so the answer of one is played."""

    def refused(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    (tmp_path / ".left.rh_bench").mkdir()
    (tmp_path / ".left.rh_bench" / "x").write_bytes(b"x")
    with workshop(tmp_path / "left") as one, workshop(tmp_path / "left") as two:
        assert one.folder != two.folder
        one.put(one.fresh())
    with part_of(tmp_path / "y") as (_, one_part), part_of(tmp_path / "y") as (_, two_part):
        assert one_part != two_part
    atomic_write(tmp_path / "y", b"y")
    assert names(tmp_path) == {"left", ".left.rh_bench", "y"}
    assert contents(tmp_path / ".left.rh_bench") == {"x": b"x"}


def test_without_room_for_the_mark_no_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(OSError, match="No space left"), workshop(tmp_path / "set"):
        raise AssertionError("it cannot be entered")
    assert list(tmp_path.iterdir()) == []
