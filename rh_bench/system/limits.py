"""Limits of work on untrusted files: memory, processor time, wall-clock time.

The system enforces memory and processor time on the process that does the work. Another process
(`rh_bench.verification.sandbox`) watches the clock, since work can also sleep or ignore a signal.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rh_bench.records import Json
from rh_bench.system.environment import usable_cores

GIB = 1 << 30
PROCESSOR, MEMORY, CLOCK, WEIGHTS = "processor time", "memory", "clock", "weights"
"""What can be exceeded."""
RENDERED, DOWNLOADED = "rendering", "download"
"""Limits that are enforced elsewhere (`rh_bench.prompting.rendering`, `rh_bench.hub.download`)."""
ENDED = "process"
"""Not one of our limits: the process was ended from outside or by a library, which says nothing about the run."""

_ROOM = {".safetensors": 6, ".gguf": 16}
"""Bytes of memory allowed per byte of weights: mapped, converted to float32 and merged with an adapter. A GGUF file
packs a number into as little as two bits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Limits of one piece of work."""

    memory: int
    """Bytes that it may add to the process."""
    processor: int
    """Seconds of processor time, of all threads together."""
    clock: int
    """Seconds of wall-clock time."""

    def words(self, exceeded: str) -> str:
        """The message for each limit that is exceeded."""
        return {
            MEMORY: f"takes more than {self.memory} bytes of memory",
            PROCESSOR: f"takes more than {self.processor} s of processor time",
            CLOCK: f"takes longer than {self.clock} s",
        }[exceeded]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of each level of a verification. The upper two levels download what they need, which counts towards their
    wall-clock time."""

    valid: Limit = Limit(4 * GIB, 300, 900)
    recomputed: Limit = Limit(8 * GIB, 1800, 3600)
    rerun: Limit = Limit(16 * GIB, 4 * 3600 * usable_cores(), 4 * 3600)
    """Its memory comes on top of what the model's weights need."""
    most_weights: int = 256 * GIB
    """Largest weights, in bytes, of a model that is measured again."""

    def of(self, level: str) -> Limit:
        """The limit of a level, by its name."""
        found: Limit = getattr(self, level)
        return found

    def with_weights(self, model: Json) -> Limit:
        """The limit of *rerun* for the `model` of a run whose files were checked."""
        room = min(weights_bytes(model, _ROOM), _ROOM[".safetensors"] * self.most_weights)
        return replace(self.rerun, memory=self.rerun.memory + room)


def make_limits(seconds: int | None = None, memory: int | None = None, weights: int | None = None) -> Limits:
    """The limits, with the user's values in place of the defaults.

    Args:
        seconds: wall-clock limit of every level, and of processor time (times the cores where a model runs).
        memory: bytes, for every level.
        weights: bytes of the weights' files.
    """
    usual = Limits()
    found = {}
    for name, cores in (("valid", 1), ("recomputed", 1), ("rerun", usable_cores())):
        limit = usual.of(name)
        if seconds is not None:
            limit = replace(limit, processor=seconds * cores, clock=seconds)
        found[name] = limit if memory is None else replace(limit, memory=memory)
    return Limits(**found, most_weights=usual.most_weights if weights is None else weights)


def read_limits(document: Json) -> Limits:
    """Limits as `dataclasses.asdict` gives them."""
    levels = {name: Limit(**document[name]) for name in ("valid", "recomputed", "rerun")}
    return Limits(**levels, most_weights=document["most_weights"])


def weights_bytes(model: Json, factors: dict[str, int] | None = None) -> int:
    """Bytes of the weights that the `model` of a run names; an adapter's include its base's.

    Args:
        factors: factor for the bytes of a file, by its suffix.
    """
    base = (model.get("adapter") or {}).get("base") or {}
    return sum(
        file["bytes"] * (factor if factors else 1)
        for file in [*model["files"], *base.get("files", [])]
        for ending, factor in (factors or _ROOM).items()
        if file["path"].endswith(ending)
    )


@contextmanager
def limited(limit: Limit) -> Iterator[None]:
    """Limit the memory and processor time of this process inside the block, where the system can
    (not on Windows; on macOS without that of memory).

    Memory that is refused raises MemoryError, or ends the process if a library cannot handle it. A process that
    takes too much processor time is ended by SIGXCPU.
    """
    if sys.platform == "win32":
        yield
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a killed process must not leave gigabytes behind
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 1
    wanted = {kind: most + limit.memory for kind, most in _memory().items()}
    wanted[resource.RLIMIT_CPU] = used + limit.processor
    before = {kind: resource.getrlimit(kind) for kind in wanted}
    for kind, most in wanted.items():
        hard = before[kind][1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (allowed, hard))
    try:
        yield
    finally:
        for kind, old in before.items():
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, old)


def _memory() -> dict[int, int]:
    """The system's memory limit, and how much this process uses of it now.

    On Linux it is the data limit: private memory that a process can write to. A limit on address space does not work
    for a process with a GPU: CUDA reserves 14 GiB of it and more, and writes to almost none.
    """
    import resource

    statm = _statm()
    if sys.platform == "linux" and len(statm) > 5:
        return {resource.RLIMIT_DATA: statm[5]}
    return {resource.RLIMIT_AS: statm[0] if statm else 0}


def _statm() -> Sequence[int]:
    """Bytes of this process as Linux counts them: all address space, resident, shared, code, 0, data."""
    try:
        return [int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in Path("/proc/self/statm").read_text().split()]
    except (OSError, ValueError):
        return ()
