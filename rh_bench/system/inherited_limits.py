"""Limits that somebody else set for this process. A run is judged by what it takes of the limits that are promised to
it, so that a machine which gives less may not judge it at all."""

from __future__ import annotations

import sys

from rh_bench.errors import InputError

BEGINNING = 512 << 20
"""Bytes of address space that a process of ours takes before it does anything."""
FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
"""Signals by which a system without memory, or a person, ends a process. No run's bytes send them."""


def refuse_less(memory: int) -> None:
    """Refuse to go on with less memory than `memory` bytes and what it takes to begin.

    Raises:
        InputError: a limit of this process is lower.
    """
    if sys.platform == "win32":
        return
    import resource

    for what, kind, option in (("address space", resource.RLIMIT_AS, "-v"), ("data", resource.RLIMIT_DATA, "-d")):
        allowed = resource.getrlimit(kind)[0]
        if allowed != resource.RLIM_INFINITY and allowed < memory + BEGINNING:
            words = f"this process may have {allowed >> 20} MiB of {what}, and what verifying may take is"
            hint = f"raise the limit (ulimit {option})"
            raise InputError(f"{words} {(memory + BEGINNING) >> 20} MiB", where="memory", hint=hint)


def refuse_outside(signal: str | None) -> None:
    """Refuse to take a process that was ended from outside for one that a run ended.

    Args:
        signal: that ended it, if one did.

    Raises:
        InputError: it was ended from outside.
    """
    if signal in FROM_OUTSIDE:
        words = f"the process that verifies was ended from outside ({signal}), as for want of memory"
        raise InputError(words, hint="verify it again")
