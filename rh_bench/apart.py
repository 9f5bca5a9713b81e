"""Verifying in a process of its own, so that a run that ends the process that reads it, or fills its memory, is a run
that is not valid, and nothing more.

The tables of a stranger are read by a large library in another language, in which a damaged file can end the process
rather than raise. While a run's files are checked, which comes first, it may take only so much memory and time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from rh_bench.errors import InputError
from rh_bench.faults import explain
from rh_bench.fingerprint import Fingerprint, fingerprint, read_fingerprint
from rh_bench.hub import allowing
from rh_bench.interchange.folder import is_import
from rh_bench.own_limits import refuse_less, refuse_outside
from rh_bench.records import Json
from rh_bench.runs import read_run
from rh_bench.verify import LEVELS, Evidence, Level, Verification, verify_levels
from rh_bench.workshop import scratch

MOST_MEMORY = 4 << 30
"""Bytes of address space that checking a run's files may add to the process. The largest run that may be submitted
takes less, and a forged page of a table can ask for 2 GiB."""
MOST_SECONDS = 300
"""Of processor time, for the same."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What checking a run's files may take."""

    memory: int = MOST_MEMORY
    seconds: int = MOST_SECONDS


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found about a run. `fingerprint` is None where it is not valid, or an import."""

    verification: Verification
    fingerprint: Fingerprint | None


def verify_apart(folder: Path, evidence: Evidence | None = None, limits: Limits | None = None) -> Examined:
    """`rh_bench.verify.verify_run` in a process of its own.

    Raises:
        InputError: as of `verify_run`; or this process may take less than `limits` promise, or the other was ended from
            outside: neither says anything about the run.
        RuntimeError: the process ended with a traceback, which is a bug.
    """
    limits = limits or Limits()
    refuse_less(limits.memory)
    order = {
        "folder": str(folder),
        "evidence": asdict(evidence or Evidence()),
        "limits": asdict(limits),
    }
    lines, end = run_apart([sys.executable, "-P", "-m", "rh_bench.apart"], json.dumps(order))
    levels = [Level(line["level"], line["reached"], tuple(line["reasons"])) for line in lines if "level" in line]
    for line in lines:
        if "input_error" in line:
            raise InputError(line["input_error"])
    refuse_outside(end)
    if end is not None:
        levels = [*levels, *unfinished(len(levels), end)]
    found = next((read_fingerprint(line["fingerprint"]) for line in lines if "fingerprint" in line), None)
    return Examined(Verification(folder, tuple(levels)), found)


def run_apart(command: Sequence[str], order: str) -> tuple[list[Json], str | None]:
    """Run a command that reads `order` and writes JSON lines to the file whose path is its last argument.

    Returns:
        The lines, and the name of the signal that ended it, if one did.

    Raises:
        RuntimeError: it ended with another status than 0.
    """
    with scratch("apart") as made:
        answer, complaint = made / "answer", made / "complaint"
        with complaint.open("wb") as words:
            done = subprocess.run(
                [*command, str(answer)],
                input=order.encode(),
                stdout=words,
                stderr=words,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
                check=False,
            )
        written = answer.read_bytes() if answer.is_file() else b""
        if done.returncode > 0:
            last = complaint.read_text(encoding="utf-8", errors="replace")[-4000:]
            raise RuntimeError(f"verifying ended with status {done.returncode}:\n{last}")
    # The last line may be cut short where the process was ended.
    whole = written[: written.rfind(b"\n") + 1].decode().splitlines()
    end = signal.Signals(-done.returncode).name if done.returncode < 0 else None
    return [json.loads(line) for line in whole], end


def unfinished(known: int, end: str) -> Iterator[Level]:
    """What is to be said of the levels after those that are known, of a process that was ended."""
    if known == 0:
        words = "takes too long to read" if end == "SIGXCPU" else f"ends the process that reads it ({end})"
        yield Level(LEVELS[0], False, (f"the run {words}",))
        known = 1
        reason = f"the run is not {LEVELS[0]}"
    else:
        reason = f"the process that tried it was ended ({end})"
    yield from (Level(name, None, (reason,)) for name in LEVELS[known:])


def main() -> None:
    """The process: reads its order from standard input, and writes what it finds as soon as it is known."""
    order: Json = json.loads(sys.stdin.read())
    folder, limits = Path(order["folder"]), Limits(**order["limits"])
    with Path(sys.argv[1]).open("w", encoding="utf-8") as answer:
        evidence = Evidence(**order["evidence"])
        try:
            with allowing(evidence.most_download):
                _verify(folder, evidence, limits, answer)
        except Exception as error:
            plain = error if isinstance(error, InputError) else explain(error)
            if plain is None:
                raise
            _tell(answer, {"input_error": str(plain)})


def _verify(folder: Path, evidence: Evidence, limits: Limits, answer: TextIO) -> None:
    levels = verify_levels(folder, evidence)
    with limited(limits):
        try:
            first = next(levels)
        except MemoryError:
            levels = iter(Level(name, None, (f"the run is not {LEVELS[0]}",)) for name in LEVELS[1:])
            first = Level(LEVELS[0], False, (f"the run takes more than {limits.memory} bytes of memory to read",))
    _tell_level(answer, first)
    if first.reached and not is_import(folder):
        run = read_run(folder)
        _tell(answer, {"fingerprint": fingerprint(run.document, run.results).to_json()})
    for level in levels:
        _tell_level(answer, level)


def _tell_level(answer: TextIO, level: Level) -> None:
    _tell(answer, {"level": level.name, "reached": level.reached, "reasons": level.reasons})


def _tell(answer: TextIO, line: Any) -> None:
    answer.write(json.dumps(line) + "\n")
    answer.flush()


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Limits of this process, where the system has them, taken back afterwards."""
    if sys.platform == "win32":
        yield
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a process that is ended leaves no gigabytes behind
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 1
    wanted = {resource.RLIMIT_AS: _address_space() + limits.memory, resource.RLIMIT_CPU: used + limits.seconds}
    before = {kind: resource.getrlimit(kind) for kind in wanted}
    for kind, most in wanted.items():
        hard = before[kind][1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (allowed, hard))
    try:
        yield
    finally:
        for kind, limit in before.items():
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, limit)


def _address_space() -> int:
    """Bytes of address space that this process has now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
