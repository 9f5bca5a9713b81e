"""`python -m rh_bench` is `rh-bench`."""

from __future__ import annotations

import sys


def main() -> int:
    """The command line; where there is too little memory even to begin, one line says so."""
    try:
        from rh_bench.cli import main as command_line
    except (MemoryError, ImportError, OSError) as error:
        # Nothing of ours can be imported here for certain, not even what words errors are put in.
        print(
            f"rh-bench: it cannot be started: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr
        )
        return 2
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
