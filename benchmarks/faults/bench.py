"""Plays one case: a place of its own, the undisturbed run to compare with, and the verdict."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.hub import FaultyHub
from benchmarks.faults.process import HUNG, Ended, Running, command_line, environment, names
from benchmarks.faults.record import IDENTICAL, REFUSED, WRONG, Case
from benchmarks.faults.scenarios import SCENARIOS, Scenario, Shop, hub_variables
from benchmarks.faults.snapshot import Snapshot, differences, snapshot


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What a command does when nothing happens."""

    found: Snapshot
    before: Snapshot
    seconds: float
    working: float
    """Seconds until its first file, folder or request."""
    operations: int
    """On files below its folder, as of the hooks."""
    requests: int
    peak: int
    """Bytes of address space."""
    size: int
    """Bytes of the files and folders that it leaves, in whole pages."""


@dataclass
class Place:
    """The folder of one case, and its Hub."""

    root: Path
    scenario: Scenario
    shop: Shop
    hub: FaultyHub | None

    @property
    def words(self) -> Path:
        return self.root.with_name(f"{self.root.name}.words")

    def start(self, fault: dict[str, Any] | None = None, prefix: list[str] | None = None) -> Running:
        """Start the command here."""
        command = [*(prefix or []), *command_line(self.scenario.arguments(self.shop, self.root))]
        return Running(command, self.variables(fault))

    def variables(self, fault: dict[str, Any] | None = None) -> dict[str, str]:
        hub = hub_variables(self.hub, self.root, self.scenario.token) if self.hub else None
        return environment(self.root, hub, fault)

    def run(self, fault: dict[str, Any] | None = None, prefix: list[str] | None = None) -> Ended:
        return self.start(fault, prefix).wait()

    def look(self) -> dict[str, str]:
        """What is there now, on the disk and on the Hub."""
        return snapshot(self.root) | (self.hub.state() if self.hub else {})

    def shortened(self, text: str) -> str:
        """A line without the names of folders that are gone with the case."""
        return text.replace(str(self.root), "CASE").replace(str(self.shop.root), "SHOP")[:600]

    def left(self) -> tuple[str, ...]:
        """What is left in the folder of temporary files."""
        return tuple(sorted(path.name for path in (self.root / "tmp").iterdir()))


@dataclass
class Bench:
    """The shop, what the commands do undisturbed, and room for cases."""

    shop: Shop
    room: Path
    seed: int
    _known: dict[str, Undisturbed] = field(default_factory=dict)
    _locks: dict[str, threading.Lock] = field(default_factory=lambda: {name: threading.Lock() for name in SCENARIOS})
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def random(self, name: str) -> random.Random:
        """Chance of one case, the same each time."""
        return random.Random(f"{self.seed}/{name}")

    @contextmanager
    def place(self, scenario: Scenario, plan: Mapping[int, Any] | None = None) -> Iterator[Place]:
        """A new place with what the command starts with. It is gone afterwards."""
        with self._lock:
            self._count += 1
            root = self.room / f"case-{self._count}"
        for part in ("out", "home", "tmp"):
            (root / part).mkdir(parents=True)
        place = Place(root, scenario, self.shop, None)
        place.words.mkdir()
        scenario.prepare(self.shop, root)
        try:
            if scenario.repos is None:
                yield place
            else:
                with FaultyHub(scenario.repos(self.shop), plan) as hub:
                    place.hub = hub
                    yield place
        finally:
            shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(place.words, ignore_errors=True)

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        """What the command does when nothing happens, found out once by doing it twice.

        Raises:
            RuntimeError: it fails, or twice gives two outcomes.
        """
        with self._locks[scenario.name]:
            if scenario.name not in self._known:
                first, second = self._undisturbed(scenario), self._undisturbed(scenario)
                differing = differences(second.found, first.found)
                if differing:
                    raise RuntimeError(f"{scenario.name}: twice the same gives two outcomes: {differing[0]}")
                self._known[scenario.name] = second
            return self._known[scenario.name]

    def _undisturbed(self, scenario: Scenario) -> Undisturbed:
        with self.place(scenario) as place:
            before = place.look()
            note = place.words / "note"
            running = place.start({"root": str(place.root), "note": str(note)})
            working = watch(running, place)
            ended = running.wait()
            if ended.status != scenario.status or not note.exists():
                raise RuntimeError(f"{scenario.name}: {ended.complaint}")
            noted = json.loads(note.read_text())
            pages = sum(-(-Path(name).lstat().st_size // 4096) for name in names(place.root))
            return Undisturbed(
                found=place.look(),
                before=before,
                seconds=ended.seconds,
                working=working,
                operations=noted["operations"],
                requests=len(place.hub.seen) if place.hub else 0,
                peak=noted["peak"],
                size=4096 * pages,
            )


def watch(running: Running, place: Place) -> float:
    """Seconds until the work of a command is seen."""
    before = names(place.root)
    while running.process.poll() is None and names(place.root) == before and not (place.hub and place.hub.seen):
        time.sleep(0.001)
    return running.age()


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was played: which, when, and how the command took it."""

    name: str
    fault: str
    moment: str
    ended: Ended
    really: bool
    """Whether it came before the command was over."""
    at: float | None = None


def judge(place: Place, wanted: Snapshot, struck: Struck, wrong: str | None = None) -> Case:
    """Run the disturbed command again, undisturbed, and say what has come of it all."""
    wrong = wrong or plainly_wrong(struck.ended)
    last = place.run()
    return verdict(place, wanted, struck, last, place.look(), wrong)


def plainly_wrong(ended: Ended) -> str | None:
    """What no command may do, whatever happens to it."""
    if "Traceback" in ended.err:
        return f"a traceback: {ended.complaint}"
    if ended.status == HUNG or (ended.status not in (0, 1, 2, 130, 143) and ended.status > 0):
        return ended.complaint
    return None


def verdict(
    place: Place, wanted: Snapshot, struck: Struck, last: Ended, found: Snapshot, wrong: str | None = None
) -> Case:
    """The case, of what is there after the last command.

    Args:
        found: the same as `place.look()`, where it is not there any more.
        wrong: what is known to be wrong before.
    """
    scenario = place.scenario
    reason, outcome = wrong or "", WRONG
    if wrong is None and last.status == scenario.status:
        lines = differences(found, wanted)
        outcome = WRONG if lines else IDENTICAL
        reason = "; ".join(lines[:4])
    elif wrong is None and last.refusal is not None and last.status == 2:
        outcome, reason = REFUSED, last.refusal
        if any(name.split("/")[-1].startswith(".") for name in set(found) - set(wanted)):
            outcome, reason = WRONG, f"refused, and {differences(found, wanted)[0]}"
    elif wrong is None:
        reason = f"run again: {last.complaint}"
    return Case(
        name=struck.name,
        command=scenario.command,
        fault=struck.fault,
        moment=f"{scenario.name}: {struck.moment}" if scenario.name != scenario.command else struck.moment,
        struck=struck.really,
        first=struck.ended.words,
        outcome=outcome,
        reason=place.shortened(reason),
        left=place.left() if (place.root / "tmp").is_dir() else (),
        place=struck.at,
    )
