"""Files: written completely or not at all, hashed, and named safely."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path, PurePosixPath

from rh_bench.errors import InputError
from rh_bench.system.workshop import part_of

_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)
"""Errors of file systems that cannot sync a folder (some network and FUSE mounts). The file itself is synced."""


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a crash at any moment, finds either the old file or the new one.

    Raises:
        InputError: the disk is full, or the folder is missing or read-only. The old file is untouched.
    """
    try:
        _write_and_replace(path, data)
        sync_folder(path.parent)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be written ({_reason(error)})", where=shown(path)) from None


def _write_and_replace(path: Path, data: bytes) -> None:
    with part_of(path) as (handle, temporary):
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(handle)
        os.fchmod(handle, 0o644)
        temporary.replace(path)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, if they do not exist.

    Raises:
        InputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({_reason(error)})", where=shown(folder)) from None


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, if the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({_reason(error)})", where=shown(path)) from None


def safe_relative(text: str) -> PurePosixPath:
    """A relative path that stays inside its folder, whatever the operating system.

    Raises:
        InputError: it is empty or absolute, contains "..", a backslash, a colon or an unprintable character.
    """
    path = PurePosixPath(text)
    unsafe = path.is_absolute() or ".." in path.parts or not path.parts or not text.isprintable()
    if unsafe or "\\" in text or ":" in text:
        raise InputError("this path is not allowed", where=repr(text), hint="use a path inside the folder")
    return path


def regular_file(root: Path, relative: str) -> Path:
    """The file `relative` in the folder `root`, guaranteed to be inside it.

    Raises:
        InputError: there is no such file, the name is unsafe, or it is not a plain file, or a link is on the way.
    """
    path = root
    for part in safe_relative(relative).parts:
        path = path / part
        try:
            link = path.is_symlink()
        except OSError as error:
            raise InputError(f"cannot be read ({_reason(error)})", where=shown(path)) from None
        if link:
            raise InputError("is a symbolic link", where=shown(path), hint="replace it with the file itself")
    if not path.exists():
        raise InputError("missing", where=shown(path))
    if not path.is_file():
        raise InputError("is not a plain file", where=shown(path))
    return path


def shown(name: object) -> str:
    """A name as text that is safe to print: one line, without control characters."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(name))


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
