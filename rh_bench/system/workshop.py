"""Hidden, locked folders next to a target, in which files and folders are made before they get their names.

A process that is killed leaves its workshop behind. Its lock dies with it, so the next process that makes the same
thing knows the workshop is abandoned, takes it over and clears it. The workshop of a living process is never touched.
A workshop is recognised by its name, `.NAME.rh_bench` for what will be `NAME`, and by a mark inside, a file that is
written under the lock and removed last: a folder without it is not ours, or was made by a version without locks, and is
left alone.

On a file system without locks, an abandoned workshop cannot be recognised: each process has its own, and what a killed
one leaves stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rh_bench.errors import InputError

MARK = ".rh_bench"
"""The suffix of every workshop, and the name of the file that marks it as ours."""
PATIENCE = 60.0
"""Seconds to wait for another process that makes the same thing, if that takes only moments."""
_LONGEST = 200
"""Bytes of the target's name that fit into a workshop's name; most file systems allow 255."""
_PAUSE = 0.02
_SCRATCH = "rh_bench-"
_OLD = "old"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""Errors of file systems without locks, or without locks on folders (some network and FUSE mounts)."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """An empty hidden folder that only this process uses."""

    folder: Path
    becomes: Path
    """What is made here."""
    lock: int | None
    """The descriptor that holds the lock, as do copies of it. None without locks."""

    def fresh(self, name: str = "new") -> Path:
        """A new, empty folder in the workshop."""
        made = self.folder / name
        made.mkdir()
        return made

    def put(self, fresh: Path) -> None:
        """Move a finished folder into place, replacing an existing one, which is restored if the new one cannot be
        moved.

        Raises:
            OSError: it cannot be moved.
        """
        if self.becomes.exists():
            self.becomes.replace(self.folder / _OLD)
        fresh.replace(self.becomes)


@contextmanager
def workshop(becomes: Path, *, patience: float = 0) -> Iterator[Workshop]:
    """A workshop next to `becomes`, on the same file system. It is removed when the block ends, however it ends.

    What a killed process left there is cleared first. If that process died between moving the old folder away and the
    new one into place, the old one is restored.

    Args:
        becomes: what will be made; its parent folder exists.
        patience: seconds to wait for another process that is making it.

    Raises:
        InputError: another process is making it, or something else has the workshop's name.
        OSError: the workshop cannot be made.
    """
    folder = hidden(becomes)
    handle = _hold(folder, _made_folder, patience, becomes)
    if handle is None:
        with contextlib.suppress(OSError):
            folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        if handle is not None:
            try:
                _clear(folder, becomes)
            except OSError:  # no space for the mark: a folder just made must not stay
                with contextlib.suppress(OSError):
                    folder.rmdir()
                raise
        try:
            yield Workshop(folder, becomes, handle)
        finally:
            _bring_back(folder, becomes)
            _remove(folder)
    finally:
        if handle is not None:
            os.close(handle)


def sweep(becomes: Path) -> None:
    """Clear what a killed process left while making `becomes`, when nothing is to be made now. Never raises."""
    folder = hidden(becomes)
    with contextlib.suppress(OSError):
        handle = _locked(folder, _open_folder)
        if handle is not None:
            try:
                _clear(folder, becomes)
                _remove(folder)
            finally:
                os.close(handle)


@contextmanager
def part_of(path: Path) -> Iterator[tuple[int, Path]]:
    """An empty file to write `path` in, and its name. Move it to `path` within the block, or it is removed.

    The descriptor is closed when the block ends.

    Raises:
        InputError: another process has been writing `path` for a minute.
        OSError: the file cannot be made.
    """
    part = hidden(path)
    handle = _hold(part, _made_file, PATIENCE, path)
    if handle is None:
        with contextlib.suppress(OSError):
            part.unlink()
        handle, name = tempfile.mkstemp(prefix=f"{part.name}-", dir=part.parent)
        part = Path(name)
    made = os.fstat(handle)
    try:
        os.ftruncate(handle, 0)
        yield handle, part
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(part.lstat(), made):
                part.unlink()
        os.close(handle)


@contextmanager
def scratch(label: str) -> Iterator[Path]:
    """A temporary folder, removed when the block ends; those that killed processes left are removed first."""
    root = Path(tempfile.gettempdir())
    prefix = f"{_SCRATCH}{label}-"
    for left in root.glob(f"{prefix}*"):
        _sweep_scratch(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    handle = _locked(folder, _open_folder)
    try:
        if handle is not None:
            (folder / MARK).touch()  # from here on it may be cleared by whoever gets the lock
        yield folder
    finally:
        _remove(folder)
        if handle is not None:
            os.close(handle)


def hidden(becomes: Path) -> Path:
    """The name of the workshop of `becomes`."""
    name = becomes.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return becomes.with_name(f".{name}{MARK}")


def _sweep_scratch(left: Path) -> None:
    with contextlib.suppress(OSError):
        if left.is_symlink() or left.lstat().st_uid != os.geteuid() or not _marked(left):
            return
        handle = _locked(left, _open_folder)
        if handle is not None:
            try:
                _remove(left)
            finally:
                os.close(handle)


def _bring_back(folder: Path, becomes: Path) -> None:
    """Restore a folder that was moved away and not replaced."""
    with contextlib.suppress(FileNotFoundError):
        if not becomes.exists():
            (folder / _OLD).replace(becomes)


def _marked(folder: Path) -> bool:
    mark = folder / MARK
    return mark.is_file() and not mark.is_symlink()


def _clear(folder: Path, becomes: Path) -> None:
    """Empty a workshop, except for its mark.

    Raises:
        OSError: it is not ours, or cannot be cleared.
    """
    if not _marked(folder):
        if any(folder.iterdir()):
            raise OSError(errno.EEXIST, f"{folder.name} is in the way: remove it")
        (folder / MARK).touch()
    _bring_back(folder, becomes)
    _empty(folder)


def _empty(folder: Path) -> None:
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != MARK:
            child.unlink()


def _remove(folder: Path) -> None:
    """Remove one of our folders, as far as possible. The mark goes last, so that a process killed here leaves no folder
    that cannot be recognised."""
    with contextlib.suppress(OSError):
        _empty(folder)
        (folder / MARK).unlink(missing_ok=True)
        folder.rmdir()


_MOST_GONE = 50
"""Times that a workshop may disappear while it is being opened."""


def _hold(path: Path, opened: Callable[[Path], int], patience: float, becomes: Path) -> int | None:
    """A descriptor that holds the lock of a workshop; None without locks.

    Args:
        opened: opens the workshop, and makes it if it does not exist.

    Raises:
        InputError: another process holds it longer than `patience` seconds.
        OSError: it cannot be made.
    """
    until, gone = time.monotonic() + patience, 0
    while True:
        try:
            return _locked(path, opened)
        except FileNotFoundError:  # its owner has just finished, or nothing can be made there (/proc)
            gone += 1
            if gone > _MOST_GONE or not path.parent.is_dir():
                raise
        except BlockingIOError:
            if time.monotonic() >= until:
                raise InputError(
                    "another rh-bench process is writing it", where=becomes, hint="wait for it to finish"
                ) from None
            time.sleep(_PAUSE)


def _locked(path: Path, opened: Callable[[Path], int]) -> int | None:
    """One attempt.

    Raises:
        FileNotFoundError: it disappeared before it was locked.
        BlockingIOError: another process holds the lock.
        OSError: it cannot be opened, or is not ours.
    """
    handle = opened(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(handle)
        if not os.path.samestat(found, path.lstat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except BaseException as error:
        os.close(handle)
        if isinstance(error, OSError) and error.errno in _NO_LOCKS:
            return None
        raise
    return handle


def _open_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _made_folder(path: Path) -> int:
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)
    return _open_folder(path)


def _made_file(path: Path) -> int:
    """Opened for overwriting, so it must be a file with no other name: not a link to another."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(handle)
        raise OSError(errno.EEXIST, f"{path.name} is in the way: remove it")
    return handle
