"""Files: written whole or not at all, hashed, and named safely."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

from rh_bench.errors import InputError


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a crash at any moment, finds the old file or the new one, whole.

    Raises:
        InputError: the disk is full, the folder is read-only or missing.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise InputError(f"cannot be written ({error.strerror or error})", where=path) from None


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=path) from None


def safe_relative(text: str) -> PurePosixPath:
    """A relative path that stays inside its folder.

    Raises:
        InputError: it is absolute, goes up, is empty, or holds a backslash or a control character.
    """
    path = PurePosixPath(text)
    unsafe = path.is_absolute() or ".." in path.parts or not path.parts or "\\" in text
    if unsafe or any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise InputError("this path is not allowed", where=repr(text), mend="use a path inside the folder")
    return path
