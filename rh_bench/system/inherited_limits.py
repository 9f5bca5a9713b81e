"""Limits that this process inherited. A run is judged by the limits it was promised, so a machine that grants less must
not judge it at all."""

from __future__ import annotations

import sys

from rh_bench.errors import InputError

BEGINNING = 512 << 20
"""Bytes of address space that one of our processes takes before it does anything."""
FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
"""Signals by which a system out of memory, or a person, ends a process. Nothing in a run can send them."""


def refuse_less(memory: int) -> None:
    """Refuse to continue with less memory than `memory` bytes plus what startup takes.

    Raises:
        InputError: a limit of this process is lower.
    """
    if sys.platform == "win32":
        return
    import resource

    for what, kind, option in (("address space", resource.RLIMIT_AS, "-v"), ("data", resource.RLIMIT_DATA, "-d")):
        allowed = resource.getrlimit(kind)[0]
        if allowed != resource.RLIM_INFINITY and allowed < memory + BEGINNING:
            words = f"this process is limited to {allowed >> 20} MiB of {what}; verifying may need"
            hint = f"raise the limit (ulimit {option})"
            raise InputError(f"{words} {(memory + BEGINNING) >> 20} MiB", where="memory", hint=hint)


def refuse_outside(signal: str | None) -> None:
    """Refuse to blame a run for a process that was killed from outside.

    Args:
        signal: the one that ended it, if any.

    Raises:
        InputError: it was killed from outside.
    """
    if signal in FROM_OUTSIDE:
        words = f"the verifying process was killed from outside ({signal}), perhaps for lack of memory"
        raise InputError(words, hint="verify it again")
