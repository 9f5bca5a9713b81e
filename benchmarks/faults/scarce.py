"""Commands without room: a small disk, no more names on it, a limit of a file's size, little address space."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from benchmarks.faults.bench import Bench, Place, Struck, Undisturbed, judge, verdict
from benchmarks.faults.process import ROOT, Ended, command_line
from benchmarks.faults.record import DISK, FILE_SIZE, INODES, MEMORY, Case
from benchmarks.faults.scenarios import SCENARIOS
from benchmarks.faults.snapshot import half_done, snapshot
from rh_bench.__main__ import LEAST

PAGE = 4096
_SHARES = (0.0, 0.3, 0.6, 0.8, 0.95, 0.12, 0.45)
"""Of what the command writes: so much room there is."""
_MEMORY = (0.04, 0.0, 0.1, 0.2, 0.5, 0.02, 0.9)
"""Of the way from what a command takes to begin to what it usually takes."""
_TOO_LITTLE = 100 << 20


@cache
def can_mount() -> bool:
    """Whether a small disk can be made here, in a name space of mounts of its own."""
    words = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def disk_case(bench: Bench, scenario_name: str, fault: str, number: int) -> Case:
    """A disk that is full after a while, or without names left; then there is room, and the command is run again."""
    scenario, name = SCENARIOS[scenario_name], f"{scenario_name}/{fault}/{number}"
    usual = bench.undisturbed(scenario)
    share = _SHARES[number % len(_SHARES)] + 0.04 * bench.random(name).random()
    with bench.place(scenario) as place:
        there = [place.root, *place.root.rglob("*")]
        used = sum(-(-path.lstat().st_size // PAGE) for path in there)
        pages = used + 1 + int(share * (usual.size // PAGE - used))
        inodes = len(there) + 1 + int(share * max(len(usual.found) - len(usual.before), 4))
        size = {"size": PAGE * pages} if fault == DISK else {"size": 1 << 30, "nr_inodes": inodes}
        said = f"{pages} pages of {PAGE} bytes" if fault == DISK else f"{inodes} names"
        (place.words / "plan").write_text(
            json.dumps(
                {
                    "root": str(place.root),
                    "size": ",".join(f"{key}={value}" for key, value in size.items()),
                    "command": command_line(scenario.arguments(bench.shop, place.root)),
                    "variables": place.variables(),
                    "words": str(place.words),
                }
            )
        )
        words = ["unshare", "-rm", sys.executable, "-m", "benchmarks.faults.on_small_disk", str(place.words / "plan")]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        first, last = (_ended(place.words, step) for step in ("first", "last"))
        struck = Struck(name, fault, said, first, first.status != scenario.status)
        # What the commands left lies beside: the disk itself is gone.
        shutil.rmtree(place.root)
        (place.words / "first").rename(place.root)
        wrong = wrong_start(place, usual, first)
        shutil.rmtree(place.root)
        (place.words / "last").rename(place.root)
        return verdict(place, usual.found, struck, last, place.look(), wrong)


def _ended(words: Path, step: str) -> Ended:
    status = int((words / f"{step}.status").read_text())
    out, err = ((words / f"{step}.{kind}").read_text(encoding="utf-8", errors="replace") for kind in ("out", "err"))
    return Ended(status, out, err, 0.0)


def limit_case(bench: Bench, scenario_name: str, fault: str, number: int) -> Case:
    """A limit of a file's size or of address space; then none, and the command is run again."""
    scenario, name = SCENARIOS[scenario_name], f"{scenario_name}/{fault}/{number}"
    usual, chance = bench.undisturbed(scenario), bench.random(name).random()
    if fault == MEMORY:
        share = _MEMORY[(number - 1) % len(_MEMORY)] + 0.02 * chance
        most = int(LEAST + share * max(usual.peak - LEAST, 0)) if number else _TOO_LITTLE
        limit, said = f"ulimit -v {most // 1024}", f"{most >> 20} MiB of {usual.peak >> 20} MiB"
    else:
        blocks = (0, 1, 2, 4, 8, 16, 32, 64)[number % 8]
        limit, said = f"ulimit -f {blocks}", f"files of at most {512 * blocks} bytes"
    with bench.place(scenario) as place:
        first = place.run(prefix=["sh", "-c", f'{limit}; exec "$@"', "sh"])
        struck = Struck(name, fault, said, first, first.status != scenario.status)
        return judge(place, usual.found, struck, wrong_start(place, usual, first))


def wrong_start(place: Place, usual: Undisturbed, ended: Ended) -> str | None:
    """What is wrong after a command had too little room: it must have said so on one line, and left what was there."""
    hub = {name: value for name, value in usual.found.items() if name.startswith("hub:")}
    found = snapshot(place.root)
    if ended.status == place.scenario.status:
        lines = [name for name, value in usual.found.items() if name not in hub and found.get(name) != value]
        return f"it said nothing, and {lines[0]} is wrong" if lines else None
    if ended.refusal is None and ended.status >= 0:
        return f"not one line: {ended.complaint}"
    before = {name: value for name, value in usual.before.items() if not name.startswith("hub:")}
    lines = half_done(found, before, usual.found)
    return f"after {ended.words}: {lines[0]}" if lines else None


FAULTS = (DISK, INODES, FILE_SIZE, MEMORY)
