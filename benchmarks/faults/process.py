"""Commands as processes of their own: started, watched, ended, and what they said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOOKS = Path(__file__).resolve().parent / "hooks"
LONGEST = 240.0
"""Seconds that a command may take before it counts as hanging."""
HUNG = 999


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its status, negative for a signal, and what it said."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def words(self) -> str:
        if self.status == HUNG:
            return f"did not end in {LONGEST:.0f} s"
        return signal.Signals(-self.status).name if self.status < 0 else f"status {self.status}"

    @property
    def lines(self) -> list[str]:
        """The lines that say why the command ended."""
        return [line for line in self.err.splitlines() if line.startswith("rh-bench: ")]

    @property
    def refusal(self) -> str | None:
        """The one line of a refusal; None if it is none, or more than that."""
        fine = self.status in (1, 2) and len(self.lines) == 1 and "Traceback" not in self.err
        return self.lines[0].removeprefix("rh-bench: ") if fine else None

    @property
    def complaint(self) -> str:
        """What it said last, for a case that is wrong."""
        last = [line for line in self.err.splitlines() if line.strip()][-1:]
        return f"{self.words}: {last[0][:300] if last else 'no word'}"


def environment(place: Path, hub: dict[str, str] | None = None, fault: dict[str, Any] | None = None) -> dict[str, str]:
    """Variables for a command whose every file lies below `place`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "RH_BENCH"))}
    own = {
        "HF_HOME": str(place / "home"),
        "TMPDIR": str(place / "tmp"),
        "PYTHONPATH": os.pathsep.join([*([str(HOOKS)] if fault else []), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "COLUMNS": "200",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **(hub or {"HF_HUB_OFFLINE": "1"}),
        **({"RH_BENCH_FAULT": json.dumps(fault)} if fault else {}),
    }
    return kept | own


def command_line(arguments: Sequence[object]) -> list[str]:
    return [sys.executable, "-m", "rh_bench", *map(str, arguments)]


class Running:
    """A command that was started. Its words come through pipes, to which no limit of a file's size applies."""

    def __init__(self, command: Sequence[str], variables: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=variables)
        self.started = time.monotonic()

    def wait(self, seconds: float = LONGEST) -> Ended:
        try:
            said = self.process.communicate(timeout=seconds)
            status = self.process.returncode
        except subprocess.TimeoutExpired:
            self.process.kill()
            said, status = self.process.communicate(), HUNG
        out, err = (text.decode("utf-8", errors="replace") for text in said)
        return Ended(status, out, err, self.age())

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


def names(root: Path) -> set[str]:
    """Every path below a folder that changes meanwhile."""
    found: set[str] = set()
    waiting = [str(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found.add(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return found
