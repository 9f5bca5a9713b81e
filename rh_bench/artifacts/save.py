"""Writing something finished that lay in memory: all files or none, its document last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.system.files import atomic_write, shown


def save_files(folder: Path, files: Mapping[str, bytes], document: str, data: bytes) -> None:
    """Write files into a folder, the document last; nothing if they lie there already.

    Raises:
        InputError: the folder cannot be written, or something else lies there.
    """
    there = folder / document
    if there.is_file():
        if there.read_bytes() == data:
            return
        raise InputError("something else lies there", where=shown(folder), hint="give another folder, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=shown(folder)) from None
    for name, content in files.items():
        atomic_write(folder / name, content)
    atomic_write(there, data)
