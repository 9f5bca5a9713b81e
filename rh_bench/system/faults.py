"""Who is at fault for an error, and one line to say so.

A model's own code, a machine that is too small and a full disk are not bugs of this package: their errors become
:class:`InputError`. Everything else is a bug of ours, and the command line says so and where to report it.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from rh_bench.errors import InputError, RhBenchError
from rh_bench.system.files import shown

OUR_FAULT = 70
"""Exit status of a bug in this package: EX_SOFTWARE of sysexits.h."""
TRACE = "--debug shows the whole trace"
_LONGEST = 200
_MACHINE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
)
_MODEL_CODE = ("transformers.models.", "transformers_modules.")
"""Modules of architectures: those of transformers, and those that come with a model."""
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "failed to map segment",  # a library that is loaded for the first time
    "bad_alloc",
    "can't start new thread",
    "failed to launch worker thread",
)


def in_words(error: BaseException) -> str:
    """The message of an error on one line, cut if it is long; its type if it has no message."""
    words = shown(" ".join(str(error).split()))
    return (words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…") or type(error).__name__


@contextmanager
def model_code(doing: str, where: str, architecture: str) -> Iterator[None]:
    """Turn whatever a model's code raises inside the block into one line.

    Args:
        doing: when it was raised, like "while it was loaded".
        where: the model's name.
        architecture: its class or type.

    Raises:
        InputError: names the architecture and what it raised.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a model's code may also try to end this process
        if is_out_of_memory(error):
            raise out_of_memory(error) from error
        raise InputError(
            f"the code of {shown(architecture)} raised {type(error).__name__} {doing} ({in_words(error)})",
            where=where,
            hint=f"this model cannot be measured; {TRACE}",
        ) from error


def explain(error: Exception) -> InputError | None:
    """An unexpected error as an error of the input, or None if the bug is ours."""
    if is_out_of_memory(error):
        return out_of_memory(error)
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return InputError(error.strerror or type(error).__name__, where=shown(error.filename or "this machine"))
    if isinstance(error, FileNotFoundError) and "usable temporary directory" in str(error):  # of the module tempfile
        hint = "free space on its disk, or set TMPDIR to another folder"
        return InputError("no folder for temporary files is writable", where="this machine", hint=hint)
    culprit = _innermost(error)
    if culprit is None or not culprit.startswith(_MODEL_CODE):
        return None
    said = f"{type(error).__name__} ({in_words(error)})"
    return InputError(f"the model's own code raised {said}", where=culprit, hint=f"it cannot be measured; {TRACE}")


def our_fault(error: Exception) -> str:
    """The line for a bug of this package."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(place[0].filename).name}:{place[0].lineno}" if place else ""
    words = f" ({in_words(error)})" if str(error).strip() else ""
    said = f"{type(error).__name__}{where}{words}"
    return f"this is a bug in rh-bench, not in your input: {said}; {_report()}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or this machine is out of memory."""
    of_torch = getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)  # it may be half loaded
    if isinstance(error, (MemoryError, of_torch)):
        return True
    said = isinstance(error, Exception) and not isinstance(error, RhBenchError)
    return said and any(words in str(error).lower() for words in _NO_MEMORY)


def is_host_memory(error: BaseException) -> bool:
    """Whether this machine refused memory (as a limit of the process does) to what raised `error`, or
    to what that was raised for."""
    of_device, seen = getattr(sys.modules.get("torch"), "OutOfMemoryError", ()), error
    while True:
        refused = isinstance(seen, OSError) and seen.errno == errno.ENOMEM
        if refused or (is_out_of_memory(seen) and not isinstance(seen, of_device)):
            return True
        cause = seen.__cause__ or seen.__context__
        if cause is None:
            return False
        seen = cause


def out_of_memory(error: BaseException) -> InputError:
    """The line for a lack of memory."""
    model = "torch" in sys.modules
    hint = (
        "give shorter --lengths, a smaller --dtype or another --device"
        if model
        else "free some memory, or raise the limit"
    )
    return InputError(f"there is not enough ({in_words(_innermost_cause(error))})", where="memory", hint=hint)


def _innermost_cause(error: BaseException) -> BaseException:
    """Of an error and its causes, the one that says most plainly that memory ran out."""
    found = error
    while (cause := error.__cause__ or error.__context__) is not None and is_out_of_memory(cause):
        found = error = cause
    return found


def _innermost(error: BaseException) -> str | None:
    """The last module in the traceback that is a model's or ours: the caller of the library that raised."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = (*_MODEL_CODE, "rh_bench")
    return next((name for name in reversed(names) if name.startswith(ours)), None)


def _report() -> str:
    """Where to report a bug: the issue tracker in the package's metadata, if there is one."""
    try:
        urls = dict(line.split(", ", 1) for line in metadata("rh-bench").get_all("Project-URL") or ())
    except (PackageNotFoundError, ValueError):
        urls = {}
    tracker = next((url for label, url in urls.items() if label.lower() in ("issues", "bug tracker", "tracker")), None)
    return f"please report it{f' at {tracker}' if tracker else ''} with the output of --debug"
