"""The journal of an unfinished run or experiment: every finished sample is on disk before the next one begins.

A journal is JSON lines: a header that says what is being measured and with what, then one line per sample. A process
that dies while it writes leaves a torn last line, which is dropped and measured again. Whoever has the journal open is
alone in its folder: it is locked.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.system.schema import parse_json

NAME = "journal.jsonl"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Entries(Protocol[T_co]):
    """What a measurement needs of a journal."""

    @property
    def entries(self) -> tuple[T_co, ...]:
        """Those of earlier sessions."""
        ...

    def write(self, line: Json) -> None:
        """Keep one entry, as a line of JSON."""
        ...


class Journal(Generic[T]):
    """An open journal. `entries` are those of earlier sessions; :meth:`write` adds one and makes it durable."""

    def __init__(self, path: Path, file: FileIO, started: str, entries: tuple[T, ...]) -> None:
        self.path, self.file = path, file
        self.started = started
        self.entries = entries

    def write(self, line: Json) -> None:
        """Add one line.

        Raises:
            InputError: the disk is full or gone. The lines before it are kept.
        """
        _append(self.path, self.file, line)

    def timings(self, seconds: float) -> Json:
        """When the measuring began and ended, and how long it took. A clock that was set back between the sessions, or
        runs behind that of the machine of the first, makes nothing end before it began."""
        return {"started": self.started, "finished": max(self.started, now()), "seconds": round(seconds, 3)}


class Unwritten(Generic[T]):
    """The journal of what is measured in memory alone: nothing is on disk, and nothing can be resumed."""

    @property
    def entries(self) -> tuple[T, ...]:
        """None."""
        return ()

    def write(self, line: Json) -> None:
        """Keep nothing."""


@contextmanager
def open_journal(folder: Path, identity: Json, started: str, parse: Callable[[Json], T | None]) -> Iterator[Journal[T]]:
    """Begin a journal in `folder`, or go on with the one that is there.

    Args:
        folder: the run's folder; it exists.
        identity: what decides the events. A journal of anything else is not resumed.
        started: when this session began (UTC, ISO 8601); an older journal keeps its own.
        parse: makes an entry of a line; None if it is none. From the first such line on, all is measured again.

    Raises:
        InputError: the journal is in use, belongs to another measurement, or cannot be written.
    """
    path = folder / NAME
    with _open_locked(path) as file:
        file.seek(0)
        lines, good = _whole_lines(file.readall())
        if not lines:
            _truncate(path, file, 0)
            _append(path, file, {"identity": identity, "started": started})
            yield Journal(path, file, started, ())
            return
        header = lines[0]
        _refuse_other(path, header, identity)
        entries: list[T] = []
        size = good[0]
        for line, end in zip(lines[1:], good[1:], strict=True):
            entry = parse(line)
            if entry is None:
                break
            entries.append(entry)
            size = end
        _truncate(path, file, size)
        yield Journal(path, file, str(header["started"]), tuple(entries))


def now() -> str:
    """The present, as documents say it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _open_locked(path: Path) -> FileIO:
    """The journal, open and locked. One that another process has just removed, since it is done, is not it any more."""
    while True:
        try:
            file = path.open("a+b", buffering=0)  # a buffer would try to write again when it is closed
        except OSError as error:
            raise InputError(f"cannot be written ({error.strerror or error})", where=path) from None
        try:
            _lock(path, file)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(path: Path, file: FileIO) -> None:
    """Two processes that measure the same run would write into one another's lines."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            "another rh-bench process is measuring this run", where=path, hint="wait for it to finish"
        ) from None
    except OSError:
        pass  # a file system without locks


def _whole_lines(data: bytes) -> tuple[list[Json], list[int]]:
    """The JSON objects of all whole lines up to the first that is none, and where each line ends."""
    lines: list[Json] = []
    ends: list[int] = []
    position = 0
    while (newline := data.find(b"\n", position)) >= 0:
        try:
            line = parse_json(data[position:newline].decode())
        except (ValueError, RecursionError):
            break
        if not isinstance(line, dict):
            break
        position = newline + 1
        lines.append(line)
        ends.append(position)
    return lines, ends


def _refuse_other(path: Path, header: Json, identity: Json) -> None:
    found = header.get("identity")
    if found == identity and isinstance(header.get("started"), str):
        return
    before = found if isinstance(found, dict) else {}
    differing = [key for key in identity if before.get(key) != identity[key]]
    what = ", ".join(f"{key} {before.get(key)!r} (now {identity[key]!r})" for key in differing) or "something else"
    raise InputError(
        f"this unfinished run was started with {what}, and its samples cannot be mixed with new ones",
        where=path,
        hint="resume with the original settings, or remove this file to start over",
    )


def _append(path: Path, file: FileIO, line: Json) -> None:
    data = json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    try:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=path) from None


def _truncate(path: Path, file: FileIO, size: int) -> None:
    try:
        file.truncate(size)
        file.seek(0, os.SEEK_END)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=path) from None
