"""What the campaign writes down of each case, and the counts of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rh_bench.records import Json

IDENTICAL, REFUSED, WRONG = "identical", "refused", "wrong"
OUTCOMES = (IDENTICAL, REFUSED, WRONG)
KILL, TERM = "SIGKILL", "SIGTERM"
DISK, INODES, FILE_SIZE, MEMORY = "full disk", "no inodes left", "file size limit", "address space limit"
PAIR, CLOCK, PUSH, HTTP = "two processes", "clock", "a push meanwhile", "HTTP fault"


@dataclass(frozen=True, slots=True)
class Case:
    """One fault in one command."""

    name: str
    """By which it can be played again: scenario/fault/number."""
    command: str
    fault: str
    moment: str
    """When or where it struck, in words."""
    struck: bool
    """Whether it did: a command may end before its fault comes, and a disk may be large enough."""
    first: str
    """How the disturbed command ended."""
    outcome: str
    reason: str = ""
    """Of a refusal its line, of a wrong case what is wrong."""
    left: tuple[str, ...] = ()
    """Names left in the system's folder of temporary files."""
    place: float | None = None
    """Of a kill, where in the undisturbed duration it came, from 0 to 1."""

    seconds: float = 0.0
    """That playing it took."""

    def to_json(self) -> Json:
        return {name: getattr(self, name) for name in self.__slots__} | {"left": list(self.left)}


def counts(cases: Sequence[Case]) -> list[Json]:
    """Of each command and fault: cases, those that struck, and how they ended."""
    rows: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        rows.setdefault((case.command, case.fault), []).append(case)
    return [
        {
            "command": command,
            "fault": fault,
            "cases": len(found),
            "struck": sum(case.struck for case in found),
            **{outcome: sum(case.outcome == outcome for case in found) for outcome in OUTCOMES},
        }
        for (command, fault), found in rows.items()
    ]


def places(cases: Sequence[Case]) -> Json:
    """How many kills came in each tenth of the undisturbed duration, by command."""
    found: dict[str, list[int]] = {}
    for case in cases:
        if case.place is not None and case.struck:
            found.setdefault(case.command, [0] * 10)[min(int(case.place * 10), 9)] += 1
    return found
