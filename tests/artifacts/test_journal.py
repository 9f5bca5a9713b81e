"""The journal: what was measured survives any death of the process, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rh_bench.artifacts.journal import NAME, open_journal
from rh_bench.errors import InputError
from rh_bench.measure.copies import Entry, parse_entry

IDENTITY = {"run_id": "a" * 16, "torch": "2.13.0", "device": "cpu"}


def entry(number: int) -> Entry:
    events = np.arange(4 * number, dtype=np.int32).reshape(-1, 4)
    return Entry(f"sample-{number}", tuple(range(number)), events, 0.5)


def write(folder: Path, *numbers: int, started: str = "2026-01-01T00:00:00Z") -> None:
    with open_journal(folder, IDENTITY, started, parse_entry) as journal:
        for number in numbers:
            journal.write(entry(number).line())


def read(folder: Path) -> list[str]:
    with open_journal(folder, IDENTITY, "later", parse_entry) as journal:
        return [found.sample_id for found in journal.entries]


def test_entries_come_back(tmp_path: Path) -> None:
    write(tmp_path, 0, 1, 2)
    with open_journal(tmp_path, IDENTITY, "later", parse_entry) as journal:
        assert journal.started == "2026-01-01T00:00:00Z"
        found = journal.entries
        journal.write(entry(3).line())
    assert [(e.sample_id, e.generated, e.seconds) for e in found] == [
        ("sample-0", (), 0.5),
        ("sample-1", (0,), 0.5),
        ("sample-2", (0, 1), 0.5),
    ]
    assert [e.events.shape for e in found] == [(0, 4), (1, 4), (2, 4)]
    assert [e.thought for e in found] == [(), (), ()]
    with open_journal(tmp_path, IDENTITY, "later", parse_entry) as journal:
        journal.write(Entry("sample-4", (1,), entry(0).events, 0.5, thought=(7, 8)).line())
    with open_journal(tmp_path, IDENTITY, "later", parse_entry) as journal:
        assert journal.entries[-1].thought == (7, 8)
    assert found[2].events.dtype == np.int32 and found[2].events.tolist() == entry(2).events.tolist()
    assert read(tmp_path) == [f"sample-{i}" for i in range(5)]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400))
def test_a_torn_end_costs_one_sample(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Wherever a death cuts the file, the whole lines before the cut are kept, and writing goes on after them."""
    folder = tmp_path_factory.mktemp("torn")
    write(folder, 1, 2, 3)
    path = folder / NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    kept = max(0, path.read_bytes().count(b"\n") - 1)
    write(folder, 9)
    assert read(folder) == [f"sample-{i}" for i in (1, 2, 3)][:kept] + ["sample-9"]


@pytest.mark.parametrize("line", [b"{}", b"[]", b"\xff", b'{"sample_id": "x", "generated": [1], "events": [[1, 2]]}'])
def test_what_is_no_entry_ends_the_journal(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, 1)
    with (tmp_path / NAME).open("ab") as file:
        file.write(line + b"\n")
    assert read(tmp_path) == ["sample-1"]
    write(tmp_path, 2)
    assert read(tmp_path) == ["sample-1", "sample-2"]


def test_samples_of_another_environment_are_not_mixed_in(tmp_path: Path) -> None:
    write(tmp_path, 1)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(InputError, match=r"torch '2.13.0' \(now '3.0'\)"):
        with open_journal(tmp_path, IDENTITY | {"torch": "3.0"}, "later", parse_entry):
            pass
    assert (tmp_path / NAME).read_bytes() == before


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    with open_journal(tmp_path, IDENTITY, "now", parse_entry):
        with pytest.raises(InputError, match="another rh-bench process is"):
            with open_journal(tmp_path, IDENTITY, "now", parse_entry):
                pass


def test_a_journal_that_was_removed_meanwhile_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking it, the process that had it may finish the run and remove it."""
    locks = []

    def lock(file: object, how: int) -> None:
        if not locks:
            (tmp_path / NAME).unlink()
        locks.append(how)

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", lock)
        write(tmp_path, 1)
    assert len(locks) == 2 and read(tmp_path) == ["sample-1"], "what was written is not lost with the removed file"


def test_nothing_ends_before_it_began(tmp_path: Path) -> None:
    with open_journal(tmp_path, IDENTITY, "2999-01-01T00:00:00Z", parse_entry) as journal:
        assert journal.timings(1.23456) == {
            "started": "2999-01-01T00:00:00Z",
            "finished": "2999-01-01T00:00:00Z",
            "seconds": 1.235,
        }
    (tmp_path / NAME).unlink()
    with open_journal(tmp_path, IDENTITY, "2001-01-01T00:00:00Z", parse_entry) as journal:
        assert journal.timings(1.0)["finished"] > "2026"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        with open_journal(tmp_path / "file", IDENTITY, "now", parse_entry):
            pass


def test_a_full_disk_while_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with open_journal(tmp_path, IDENTITY, "now", parse_entry) as journal:
        journal.write(entry(1).line())
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(InputError, match="No space left on device"):
                journal.write(entry(2).line())
    assert read(tmp_path)[0] == "sample-1"
