"""Commands killed: by the clock, after their own work has begun, at an operation on a file, at a request."""

from __future__ import annotations

import signal
import time

from benchmarks.faults.bench import Bench, Place, Struck, Undisturbed, judge, watch
from benchmarks.faults.process import Ended
from benchmarks.faults.record import Case
from benchmarks.faults.scenarios import SCENARIOS

CLOCK, WORK, FILE, REQUEST = "clock", "work", "file", "request"
_TRIES = 4
_FEW = 4
"""Operations on files, with which a command does nothing of its own to them."""


def kill_case(bench: Bench, scenario_name: str, fault: str, number: int) -> Case:
    """Kill the command once, then run it to the end."""
    name = f"{scenario_name}/{fault}/{number}"
    chance, scenario = bench.random(name), SCENARIOS[scenario_name]
    usual = bench.undisturbed(scenario)
    ways = [CLOCK, WORK, *([FILE] if usual.operations > _FEW else []), *([REQUEST] if usual.requests else [])]
    way, share, when = ways[number % len(ways)], chance.random(), chance.choice(("before", "after"))
    signal_number = signal.Signals[fault]
    for attempt in range(_TRIES):
        plan = {}
        if way == REQUEST:
            plan = {1 + int(share * usual.requests): f"kill {when}"}
        with bench.place(scenario, plan) as place:
            ended, moment, at = _strike(place, usual, way, share, signal_number, plan)
            really = ended.status in (-signal_number, 128 + signal_number)
            if really or attempt == _TRIES - 1:
                return judge(place, usual.found, Struck(name, fault, moment, ended, really, at))
        share *= 0.6  # it was over before: earlier
    raise AssertionError("the last try returns")


def _strike(
    place: Place, usual: Undisturbed, way: str, share: float, number: signal.Signals, plan: dict[int, str]
) -> tuple[Ended, str, float]:
    """How the command ended, when it was struck in words, and as a share of the usual duration."""
    if way == FILE:
        operation = 1 + int(share * usual.operations)
        ended = place.run({"root": str(place.root), "kill_at": operation, "signal": int(number)})
        moment = f"at operation {operation} of {usual.operations} on its files"
        return ended, moment, ended.seconds / usual.seconds
    running = place.start()
    if way == REQUEST:
        assert place.hub is not None
        place.hub.victim, place.hub.signal = running.process, int(number)
        ended = running.wait()
        moment = f"{next(iter(plan.values()), '')} {place.hub.struck or 'no request'}".removeprefix("kill ")
        return ended, moment, ended.seconds / usual.seconds
    if way == WORK:
        watch(running, place)
        time.sleep(share * max(usual.seconds - usual.working, 0.005))
    else:
        time.sleep(share * usual.seconds)
    at = running.age()
    running.signal(number)
    return running.wait(), f"{at:.3f} s after its start, of {usual.seconds:.3f} s", at / usual.seconds
