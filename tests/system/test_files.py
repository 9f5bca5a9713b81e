"""Files: whole or not at all, and names that stay inside their folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.errors import InputError
from rh_bench.system.files import atomic_write, regular_file, safe_relative, sha256_file, shown


def test_a_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    for data in (b"one", b"two", b""):
        atomic_write(tmp_path / "x", data)
        assert (tmp_path / "x").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write(tmp_path / "x", b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        atomic_write(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write(tmp_path / "x", b"old")

    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        atomic_write(tmp_path / "no" / "x", b"")


@given(st.binary(max_size=300))
def test_hashes(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(data)
        assert sha256_file(path) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["", ".", "/etc/passwd", "../x", "a/../../x", "a\\b", "c:x", "a\nb", "a\x1bb"])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        safe_relative(name)


@given(st.text())
def test_a_name_is_refused_or_inside(name: str) -> None:
    try:
        path = safe_relative(name)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert ".." not in path.parts
    assert not path.is_absolute()


def test_links_and_folders_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "way").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "x").write_bytes(b"x")
    assert regular_file(tmp_path, "folder/x") == tmp_path / "folder" / "x"
    for name, why in (("link", "symbolic"), ("way/x", "symbolic"), ("folder", "plain"), ("none", "missing")):
        with pytest.raises(InputError, match=why):
            regular_file(tmp_path, name)


@given(st.text())
def test_what_is_shown_drives_no_terminal(text: str) -> None:
    assert shown(text).isprintable()
