"""Python imports this first where the campaign put its folder on PYTHONPATH: faults from within a command's process.

RH_BENCH_FAULT is JSON. `root`: operations on files below it are counted, by Python's audit events. `kill_at`, `signal`:
that signal is sent before the operation with that number. `note`: at the end, the number of operations and the most
address space are written to this file. `clock`, [seconds, after]: what the clock is shifted by, from operation number
`after` on; for processes that this one starts, from their beginning.
"""

import json
import os
import sys
import time
from pathlib import Path

_FAULT = json.loads(os.environ.pop("RH_BENCH_FAULT", "{}"))
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.chmod")
_OURS = ("rh_bench",)
_done = [0]


def _counts(event, arguments):
    if event == "open":
        path, _, flags = arguments
        return isinstance(flags, int) and flags & _WRITES and _below(path)
    if event in _CHANGES:
        return _below(arguments[0]) or any(one not in (-1, None) for one in arguments[-1:] if isinstance(one, int))
    return False


def _below(path):
    try:
        return os.fspath(path).startswith(_FAULT["root"])
    except (TypeError, AttributeError):
        return False


def _audit(event, arguments):
    if (event == "open" or event in _CHANGES) and _counts(event, arguments):
        _done[0] += 1
        if _done[0] == _FAULT.get("kill_at"):
            os.kill(os.getpid(), _FAULT["signal"])


def _note(path):
    with Path("/proc/self/status").open() as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmPeak"))
    with Path(path).open("w") as file:
        json.dump({"operations": _done[0], "peak": peak}, file)


def _shift(seconds, after):
    """time.time and its like are those of a clock that is wrong by so many seconds; so is datetime.now in our modules.
    Elsewhere the class is left alone: libraries in C know it by its address."""
    import builtins
    import datetime

    now, now_ns, gmtime, localtime = time.time, time.time_ns, time.gmtime, time.localtime
    real, imported = datetime.datetime, builtins.__import__

    def off():
        return seconds if _done[0] >= after else 0

    time.time = lambda: now() + off()
    time.time_ns = lambda: now_ns() + off() * 10**9
    time.gmtime = lambda *given: gmtime(*given) if given and given[0] is not None else gmtime(time.time())
    time.localtime = lambda *given: localtime(*given) if given and given[0] is not None else localtime(time.time())

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return real.fromtimestamp(time.time(), tz)

    def importing(name, *more, **named):
        found = imported(name, *more, **named)
        if name.startswith(_OURS):
            for module in [module for known, module in list(sys.modules.items()) if known.startswith(_OURS)]:
                if getattr(module, "__dict__", {}).get("datetime") is real:
                    module.datetime = Shifted
        return found

    builtins.__import__ = importing


if "clock" in _FAULT:
    _seconds, _after = _FAULT["clock"]
    os.environ["RH_BENCH_FAULT"] = json.dumps({"clock": [_seconds, 0]})
    _shift(_seconds, _after)
if "root" in _FAULT:
    sys.addaudithook(_audit)
if "note" in _FAULT:
    import atexit

    atexit.register(_note, _FAULT["note"])
