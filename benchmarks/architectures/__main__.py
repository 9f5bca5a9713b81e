"""The table of docs/architectures.md, made again: `python -m benchmarks.architectures [TYPE …]`."""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import sys
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.architectures.check import NOT_BUILT, TRACEBACK, Row, check_default_memory, check_type


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", help="Model types (default: every causal-LM type of transformers).")
    parser.add_argument("--jobs", type=int, default=2, help="Processes at a time.")
    parser.add_argument("--limit", type=float, default=300.0, help="Seconds that one type may take.")
    parser.add_argument("--plain", action="store_true", help="Only the rotary embedding that a type has by default.")
    parser.add_argument("--rows", type=Path, help="Write the rows to this file, JSON.")
    parser.add_argument("--page", type=Path, help="Write the table to this file, Markdown.")
    arguments = parser.parse_args()
    ropes: tuple[str, ...] | None = () if arguments.plain else None
    rows = sweep(arguments.types or causal_types(), arguments.jobs, arguments.limit, ropes)
    if arguments.rows:
        arguments.rows.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if arguments.page:
        from benchmarks.architectures.page import write_page

        arguments.page.write_text(write_page(rows))


def causal_types() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def sweep(types: list[str], jobs: int, limit: float, ropes: tuple[str, ...] | None = None) -> list[Row]:
    """The rows of all types, each from a process of its own that ends after `limit` seconds."""
    import torch
    import transformers  # noqa: F401  (before the processes are forked, so that none has to load it)

    torch.set_num_threads(1)
    context = mp.get_context("fork")
    waiting, running, rows = list(types), [], {name: [] for name in types}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(name, theirs, ropes))
            process.start()
            theirs.close()
            running.append((name, process, ours, time.monotonic()))
        for one in list(running):
            name, process, ours, started = one
            over = _take(ours, rows[name])
            late = time.monotonic() - started > limit
            if not (over or late):
                continue
            running.remove(one)
            if late and not over:
                process.kill()
                rows[name].append(Row(name, "", NOT_BUILT, f"took longer than {limit:.0f} s"))
            process.join()
            if not rows[name]:
                rows[name].append(Row(name, "", TRACEBACK, f"the process ended with {process.exitcode}"))
            _say(rows[name], time.monotonic() - started)
        time.sleep(0.02)
    return [row for name in types for row in rows[name]]


def _take(ours: Connection, rows: list[Row]) -> bool:
    """Rows that have come; whether the process has said all."""
    try:
        while ours.poll():
            got: Any = ours.recv()
            if got is None:
                return True
            rows.append(got)
    except EOFError:
        return True
    return False


def _child(name: str, theirs: Connection, ropes: tuple[str, ...] | None) -> None:
    import torch
    from transformers.utils import logging

    with Path(os.devnull).open("w") as nowhere:  # what model code prints is nobody's business
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    wrong = check_default_memory(name)
    if wrong:
        theirs.send(Row(name, "memory of the default", TRACEBACK, wrong))
    for row in check_type(name, ropes):
        theirs.send(row)
    theirs.send(None)


def _say(rows: list[Row], seconds: float) -> None:
    for row in rows:
        words = f"{row.model_type:28} {row.rope or '-':10} {row.state:10} {row.events or '':>6} {row.reason}"
        print(words.rstrip()[:240], f"[{seconds:.0f} s]" if row is rows[-1] else "", file=sys.stdout, flush=True)


if __name__ == "__main__":
    main()
