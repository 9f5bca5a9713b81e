"""Faults at scale, by one command.

    python -m benchmarks.faults --out benchmarks/results/faults.json --page docs/faults.md
    python -m benchmarks.faults --size 0.2 --only build,evaluate
    python -m benchmarks.faults --case build/SIGKILL/7

Commands are killed at random moments, run on disks that are full and with too little memory, by two processes at once,
with wrong clocks and with a Hub that fails. After each fault the same command runs again, and what is there then must
be byte for byte what an undisturbed command makes; or it is refused in one line. Exit status 1 if a case is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.faults.record import (
    CLOCK,
    DISK,
    FILE_SIZE,
    HTTP,
    INODES,
    KILL,
    MEMORY,
    OUTCOMES,
    PAIR,
    PUSH,
    TERM,
    WRONG,
    Case,
    counts,
    places,
)
from rh_bench.records import Json
from rh_bench.system.environment import describe_environment, usable_cores
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json

if TYPE_CHECKING:
    from benchmarks.faults.bench import Bench

Task = tuple[str, str, int]
"""A case: scenario, fault, number."""
_KILLS = {
    "build": 10,
    "evaluate": 4,
    "evaluate interrupted before": 3,
    "leaderboard": 5,
    "leaderboard over an old site": 6,
    "collect": 5,
    "collect into old results": 6,
    "publish": 6,
    "publish results": 3,
    "submit": 8,
    "review --merge": 8,
}
NUMBERS: dict[str, dict[str, int]] = {
    KILL: _KILLS,
    TERM: _KILLS,
    DISK: {
        "build": 4,
        "evaluate": 2,
        "evaluate interrupted before": 1,
        "leaderboard": 1,
        "leaderboard over an old site": 4,
        "collect": 1,
        "collect into old results": 4,
        "collect from the Hub": 1,
        "review --merge": 2,
    },
    INODES: {"build": 1, "evaluate": 1, "leaderboard over an old site": 1, "collect into old results": 1},
    FILE_SIZE: {"build": 2, "evaluate": 1, "leaderboard over an old site": 2, "collect into old results": 2},
    MEMORY: {
        "build": 3,
        "evaluate": 3,
        "leaderboard over an old site": 3,
        "collect into old results": 3,
        "publish": 2,
        "submit": 2,
        "review --merge": 3,
    },
    PAIR: {
        "build": 3,
        "evaluate": 3,
        "leaderboard": 1,
        "leaderboard over an old site": 3,
        "collect": 1,
        "collect into old results": 3,
    },
    CLOCK: {
        "build": 2,
        "evaluate": 3,
        "evaluate interrupted before": 2,
        "leaderboard over an old site": 4,
        "collect into old results": 4,
        "publish": 1,
        "submit": 1,
        "review --merge": 2,
    },
    HTTP: {
        "publish": 6,
        "submit": 6,
        "review --merge": 6,
        "collect from the Hub": 6,
        "leaderboard from the Hub": 2,
        "evaluate from the Hub": 2,
    },
    PUSH: {"review --merge": 6},
}
"""How many cases of each fault in each scenario, at full size."""


def tasks(size: float, only: Sequence[str] = (), faults: Sequence[str] = ()) -> list[Task]:
    """The cases of a campaign.

    Args:
        size: share of the full numbers; at least one case of each kind.
        only: commands, the first word of a scenario; all without it.
        faults: all without it.
    """
    return [
        (scenario, fault, number)
        for fault, scenarios in NUMBERS.items()
        if not faults or fault in faults
        for scenario, most in scenarios.items()
        if not only or scenario.partition(" ")[0] in only
        for number in range(max(1, round(most * size)))
    ]


def campaign(
    chosen: Sequence[Task], seed: int, jobs: int, say: Callable[[Case], None] = lambda case: None
) -> list[Case]:
    """Play cases, in a folder that is gone afterwards, and give them in their order."""
    from benchmarks.faults.bench import Bench
    from benchmarks.faults.scenarios import fill_shop

    with tempfile.TemporaryDirectory(prefix="rh_bench-faults-") as made:
        return play(chosen, Bench(fill_shop(Path(made) / "shop"), Path(made), seed), jobs, say)


def play(
    chosen: Sequence[Task], bench: Bench, jobs: int = 1, say: Callable[[Case], None] = lambda case: None
) -> list[Case]:
    """Play cases on a bench, and give them in their order; without those that this machine cannot play."""
    from benchmarks.faults import company, kills, scarce

    players = {
        **dict.fromkeys((KILL, TERM), kills.kill_case),
        **dict.fromkeys((DISK, INODES), scarce.disk_case),
        **dict.fromkeys((FILE_SIZE, MEMORY), scarce.limit_case),
        **company.FAULTS,
    }
    if not scarce.can_mount():  # where no small disk can be made, limits of a file's size stand in for it
        chosen = [task for task in chosen if task[1] not in (DISK, INODES)]

    def one(task: Task) -> Case:
        started = time.monotonic()
        try:
            case = players[task[1]](bench, *task)
        except RuntimeError as error:  # undisturbed, it fails, or gives now this and now that
            command = task[0].partition(" ")[0]
            case = Case(_name(task), command, task[1], "undisturbed", False, "", WRONG, str(error))
        case = replace(case, seconds=round(time.monotonic() - started, 1))
        say(case)
        return case

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, chosen))


def show(rows: Sequence[Json], console: Console) -> None:
    table = Table(title="Faults, and what came of them")
    for name in ("command", "fault"):
        table.add_column(name)
    for name in ("cases", "struck", *OUTCOMES):
        table.add_column(name, justify="right", style="red" if name == WRONG else None)
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("command", "fault", "cases", "struck", *OUTCOMES)))
    console.print(table)


def report_of(cases: Sequence[Case], seed: int, seconds: float, kept: int = 0) -> Json:
    """The document that --out writes.

    Args:
        kept: how many of the cases are of an earlier session.
    """
    return {
        "benchmark": "faults",
        "seed": seed,
        "seconds": round(seconds),
        "cases": len(cases),
        "kept": kept,
        "kills": sum(case.struck for case in cases if case.fault in (KILL, TERM)),
        "wrong": [case.to_json() for case in cases if case.outcome == WRONG],
        "counts": counts(cases),
        "kills_by_tenth_of_the_duration": places(cases),
        "refusals": sorted({f"{case.command}: {case.reason}" for case in cases if case.outcome == "refused"}),
        "left_in_the_temporary_folder": sum(bool(case.left) for case in cases),
        "cores": usable_cores(),
        "environment": describe_environment("cpu", "CPU"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=1.0, help="Share of the full numbers of cases.")
    parser.add_argument("--only", default="", help="Commands, as in build,evaluate.")
    parser.add_argument("--faults", default="", help="Faults, as in SIGKILL,full disk.")
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="Play this case alone.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    parser.add_argument("--jobs", type=int, default=2, help="Cases at a time.")
    parser.add_argument("--out", type=Path, help="Write counts to this file, JSON.")
    parser.add_argument("--cases", type=Path, help="Write every case to this file, JSON lines, and go on from it.")
    parser.add_argument("--page", type=Path, help="Write the table to this file, Markdown.")
    parser.add_argument("--from", dest="source", type=Path, help="Make the page of this JSON; play nothing.")
    arguments = parser.parse_args()
    report: Json = json.loads(arguments.source.read_bytes()) if arguments.source else _campaign(arguments)
    if arguments.page:
        from benchmarks.faults.page import write_page

        atomic_write(arguments.page, write_page(report).encode())
    if report["wrong"]:
        sys.exit(1)


def _campaign(arguments: argparse.Namespace) -> Json:
    split = [[part.strip() for part in text.split(",") if part.strip()] for text in (arguments.only, arguments.faults)]
    chosen = tasks(arguments.size, *split)
    if arguments.case:
        parts = [name.rsplit("/", 2) for name in arguments.case]
        chosen = [(scenario, fault, int(number)) for scenario, fault, number in parts]
    console, done, started = Console(width=110, soft_wrap=True), [0], time.monotonic()
    kept = _kept(arguments.cases)
    log = arguments.cases.open("a", encoding="utf-8") if arguments.cases else contextlib.nullcontext()

    def say(case: Case) -> None:
        done[0] += 1
        if arguments.cases:
            log.write(json.dumps(case.to_json(), ensure_ascii=False) + "\n")
            log.flush()
        colour = "red" if case.outcome == WRONG else "green"
        console.print(f"{done[0]}/{len(chosen)} {case.name} ({case.moment}): {case.first}, ", end="", markup=False)
        console.print(f"[{colour}]{case.outcome}[/]", end=" ")
        console.print(case.reason, markup=False, highlight=False)
        sys.stdout.flush()

    with log:
        played = campaign([task for task in chosen if _name(task) not in kept], arguments.seed, arguments.jobs, say)
    found = kept | {case.name: case for case in played}
    cases = [found[_name(task)] for task in chosen if _name(task) in found]
    seconds = sum(case.seconds for case in cases) / arguments.jobs if kept else time.monotonic() - started
    report = report_of(cases, arguments.seed, seconds, len(cases) - len(played))
    show(report["counts"], console)
    if arguments.out:
        atomic_write(arguments.out, dump_json(report))
    return report


def _name(task: Task) -> str:
    return "/".join(map(str, task))


def _kept(path: Path | None) -> dict[str, Case]:
    """Cases of an earlier session that were not wrong."""
    lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
    cases = [Case(**{**one, "left": tuple(one["left"])}) for one in map(json.loads, lines)]
    return {case.name: case for case in cases if case.outcome != WRONG}


if __name__ == "__main__":
    main()
