"""`python -m rh_bench` is `rh-bench`."""

from __future__ import annotations

import sys

LEAST = 512 << 20
"""Bytes of address space. With less, a library that is loaded first may end the process without a word of ours."""


def main() -> int:
    """The command line; where there is too little memory even to begin, one line says so."""
    try:
        allowed = _address_space()
        if allowed is not None and allowed < LEAST:
            print(
                f"rh-bench: memory: this process may have {allowed >> 20} MiB of address space, and to begin takes "
                f"{LEAST >> 20}; raise the limit (ulimit -v)",
                file=sys.stderr,
            )
            return 2
        from rh_bench.cli.main import main as command_line
    except (MemoryError, ImportError, OSError) as error:
        # Nothing of ours can be imported here for certain, not even what words errors are put in.
        words = " ".join(f"{type(error).__name__} {error}".split())
        print(f"rh-bench: it cannot be started: {words}", file=sys.stderr)
        return 2
    try:
        return command_line()
    except MemoryError:  # there was not even enough to say what was wrong
        sys.stderr.write("rh-bench: memory: there is not enough; free some, or raise the limit\n")
        return 2


def _address_space() -> int | None:
    """Bytes that this process may have; None without a limit, and where there are none."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else most


if __name__ == "__main__":
    sys.exit(main())
