"""Verifying in a process of its own, so that a run or a model that ends the process that reads it, fills its memory or
never comes to an end costs a level, and nothing more.

The tables of a stranger are read by a large library in another language, in which a damaged file can end the process
rather than raise; the tokenizer and the model of a stranger bring a program, the chat template, and numbers by which
libraries build what they say. Each level may take so much memory, processor time and wall-clock time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from rh_bench.artifacts.fingerprint import Fingerprint, read_fingerprint
from rh_bench.artifacts.levels import LEVELS, Evidence, Level, Verification
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import DOCUMENT
from rh_bench.experiments.marks import mark_of
from rh_bench.hub.download import allowing
from rh_bench.records import Json
from rh_bench.system.faults import explain, is_host_memory
from rh_bench.system.inherited_limits import refuse_less, refuse_outside
from rh_bench.system.limits import (
    CLOCK,
    ENDED,
    MEMORY,
    PROCESSOR,
    WEIGHTS,
    Limit,
    Limits,
    limited,
    read_limits,
    weights_bytes,
)
from rh_bench.system.schema import load_json
from rh_bench.system.workshop import scratch
from rh_bench.verification.verify import verify_levels

__all__ = ["Ended", "Examined", "Limit", "Limits", "run_apart", "unfinished", "verify_apart"]

_START = 120
"""Seconds in which the process must have begun with the first level."""
_LOOK = 0.1
"""Seconds between two looks at how far it is."""
_NO_MEMORY = ("memory allocation of", "std::bad_alloc", "cannot allocate memory", "malloc of size", "out of memory")
"""What libraries say that end the process when memory is refused to them."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found about a run. `fingerprint` is None if it is not valid, or an import."""

    verification: Verification
    fingerprint: Fingerprint | None


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process told, and how it ended."""

    lines: tuple[Json, ...]
    signal: str | None = None
    """The signal that ended it, by name; None if it ended by itself."""
    late: bool = False
    """It exceeded its wall-clock time, and was ended for that."""
    said: str = ""
    """The last of what it wrote to its standard output and error."""


def verify_apart(folder: Path, evidence: Evidence | None = None, limits: Limits | None = None) -> Examined:
    """`rh_bench.verification.verify.verify_run` in a process of its own, within limits.

    A level that exceeds a limit is failed, and its `exceeded` names the limit; those above it are not tried.

    Raises:
        InputError: see `verify_run`; or this process may take less than `limits` promise, or the other was ended from
            outside: neither says anything about the run.
        RuntimeError: the process ended with a traceback, or without a word on a level: a bug.
    """
    limits, evidence = limits or Limits(), evidence or Evidence()
    refuse_less(max(limits.of(name).memory for name in LEVELS if name != "rerun" or evidence.rerun))
    order = {
        "folder": str(folder),
        "evidence": asdict(evidence),
        "limits": asdict(limits),
    }
    ended = run_apart([sys.executable, "-P", "-m", "rh_bench.verification.sandbox"], json.dumps(order), _clock)
    levels = [_read_level(line) for line in ended.lines if "level" in line]
    for line in ended.lines:
        if "input_error" in line:
            raise InputError(line["input_error"])
    if ended.signal is None and len(levels) < len(LEVELS):
        raise RuntimeError(f"verifying ended with {len(levels)} of {len(LEVELS)} levels:\n{ended.said}")
    if ended.signal is not None and len(levels) < len(LEVELS):
        refuse_outside(None if ended.late else ended.signal)
        levels = [*levels, *unfinished(len(levels), ended, _limit(ended, limits))]
    found = next((read_fingerprint(line["fingerprint"]) for line in ended.lines if "fingerprint" in line), None)
    return Examined(Verification(folder, tuple(levels)), found)


def _read_level(line: Json) -> Level:
    return Level(line["level"], line["reached"], tuple(line["reasons"]), line["exceeded"])


def _clock(lines: Sequence[Json]) -> float:
    """Seconds for what the process began with last."""
    begun = [line["begins"] for line in lines if "begins" in line]
    return float(begun[-1]["clock"]) if begun else _START


def _limit(ended: Ended, limits: Limits) -> Limit:
    """The limit that held when the process ended."""
    begun = [line["begins"] for line in ended.lines if "begins" in line]
    return Limit(**begun[-1]) if begun else limits.valid


def run_apart(command: Sequence[str], order: str, clock: Callable[[Sequence[Json]], float]) -> Ended:
    """Run a command that reads `order` and writes JSON lines to the file whose path is its last argument.

    It leads a group of processes of its own, which ends with it: at the latest when it has had its time, and when this
    process is interrupted.

    Args:
        clock: of the lines so far, the seconds of wall-clock time that it may take after the last of them.

    Raises:
        RuntimeError: it ended with another status than 0.
    """
    with scratch("apart") as made:
        answer, complaint, asked = (made / name for name in ("answer", "complaint", "order"))
        asked.write_text(order, encoding="utf-8")
        with complaint.open("wb") as words, asked.open("rb") as told:
            process = subprocess.Popen(
                [*command, str(answer)],
                stdin=told,
                stdout=words,
                stderr=words,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
                start_new_session=sys.platform != "win32",
            )
            try:
                late = not _in_time(process, answer, clock)
            except BaseException:
                _end(process)
                raise
        lines = tuple(_read_lines(answer))
        said = complaint.read_text(encoding="utf-8", errors="replace")[-4000:]
    if process.returncode > 0 and not late:
        raise RuntimeError(f"verifying ended with status {process.returncode}:\n{said}")
    name = signal.Signals(-process.returncode).name if process.returncode < 0 else "SIGKILL" if late else None
    return Ended(lines, name, late, said)


def _in_time(process: subprocess.Popen[bytes], answer: Path, clock: Callable[[Sequence[Json]], float]) -> bool:
    """Wait for the end of a process; end it where it has had its time, and say False."""
    known, last = 0, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK)
            return True
        lines = list(_read_lines(answer))
        if len(lines) > known:
            known, last = len(lines), time.monotonic()
        if time.monotonic() - last > clock(lines):
            _end(process)
            return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started."""
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_lines(answer: Path) -> Iterator[Json]:
    """The whole lines so far: the last can be cut short where the process was ended."""
    written = answer.read_bytes() if answer.is_file() else b""
    for line in written[: written.rfind(b"\n") + 1].decode().splitlines():
        yield json.loads(line)


def unfinished(known: int, ended: Ended, limit: Limit) -> Iterator[Level]:
    """What is to be said of the levels after those that are known, of a process that was ended.

    Only what exceeds a limit, or ends the process that reads the run's own files, is the run's fault: at a higher level
    a process can also end for want of memory for the model's weights.
    """
    exceeded = _exceeded(ended)
    if known >= len(LEVELS):
        return
    name = LEVELS[known]
    if exceeded is not None:
        yield Level(name, False, (_too_much(name, limit.words(exceeded)),), exceeded)
    elif known == 0:
        yield Level(name, False, (f"it kills the process that reads it ({ended.signal})",))
    else:
        yield Level(name, None, (f"the process that tried it was killed ({ended.signal})",), ENDED)
    reason = f"it is not {name}"
    if exceeded is None and known > 0:
        reason = f"the process that tried it was killed ({ended.signal})"
    yield from (Level(later, None, (reason,)) for later in LEVELS[known + 1 :])


def _exceeded(ended: Ended) -> str | None:
    """The limit that a process exceeded when it was ended."""
    if ended.late:
        return CLOCK
    if ended.signal == "SIGXCPU":
        return PROCESSOR
    words = ended.said.lower()
    return MEMORY if ended.signal == "SIGABRT" and any(text in words for text in _NO_MEMORY) else None


def _too_much(level: str, words: str) -> str:
    doing = {"valid": "reading it", "recomputed": "recomputing it", "rerun": "measuring again"}
    return f"{doing[level]} {words}"


def main() -> None:
    """The process: reads its order from standard input, and writes what it finds as soon as it is known."""
    _end_with_parent()
    order: Json = json.loads(sys.stdin.read())
    folder, limits = Path(order["folder"]), read_limits(order["limits"])
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


def _end_with_parent() -> None:
    """End this process and its children when the one that started it was killed: nobody waits for the answer then."""
    if sys.platform == "win32":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL) if os.getpgid(0) == os.getpid() else os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _verify(folder: Path, evidence: Evidence, limits: Limits, answer: TextIO) -> None:
    levels = verify_levels(folder, evidence)
    failed: str | None = None
    reached: bool | None = None
    for name in LEVELS:
        limit, wrong = limits.of(name), None
        if name == "rerun" and reached and evidence.rerun:
            limit, wrong = _for_weights(folder, limits)
        if failed is not None:
            level = Level(name, None, (f"it is not {failed}",))
        elif wrong is not None:
            level = wrong
        else:
            _tell(answer, {"begins": asdict(limit)})
            level = _try(name, levels, limit, folder, answer)
        reached = level.reached
        failed = name if level.exceeded and reached is False else failed
        _tell(
            answer,
            {"level": level.name, "reached": level.reached, "reasons": level.reasons, "exceeded": level.exceeded},
        )


def _try(name: str, levels: Iterator[Level], limit: Limit, folder: Path, answer: TextIO) -> Level:
    """The next level, within its limit; and what the run is recognised by, once it is valid."""
    starved = False
    try:
        with limited(limit):
            try:
                level = next(levels)
                mark = mark_of(folder) if name == LEVELS[0] and level.reached else None
                if mark is not None:
                    _tell(answer, {"fingerprint": mark.to_json()})
                return level
            except Exception:  # a library to which memory is refused can fail in any way
                starved = _is_starved(limit)
                raise
    except Exception as error:
        if not starved and not is_host_memory(error):
            raise
    return Level(name, False, (_too_much(name, limit.words(MEMORY)),), MEMORY)


def _is_starved(limit: Limit) -> bool:
    """Whether little is left of the memory that this process may take."""
    try:
        return not bytes(max(1, limit.memory // 16))
    except MemoryError:
        return True


def _for_weights(folder: Path, limits: Limits) -> tuple[Limit, Level | None]:
    """The limit of measuring again, with room for the model's weights; or the level, where they are too large."""
    document = next((folder / name for name in ("run.json", DOCUMENT) if (folder / name).is_file()), None)
    model = {} if document is None else load_json(document)["model"]
    if "files" not in model:
        return limits.rerun, None
    size = weights_bytes(model)
    if size <= limits.most_weights:
        return limits.with_weights(model), None
    words = f"the model's weights take {size} bytes, more than the {limits.most_weights} that are loaded here"
    return limits.rerun, Level("rerun", False, (words,), WEIGHTS)


def _tell(answer: TextIO, line: Any) -> None:
    answer.write(json.dumps(line) + "\n")
    answer.flush()


if __name__ == "__main__":
    main()
