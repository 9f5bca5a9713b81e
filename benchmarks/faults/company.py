"""Commands in bad company: another process on the same folder, a wrong clock, a Hub that fails, a push meanwhile."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.faults.bench import Bench, Place, Struck, judge, plainly_wrong, verdict, watch
from benchmarks.faults.hub import BROKEN, Blob, FaultyHub
from benchmarks.faults.process import Ended
from benchmarks.faults.record import CLOCK, HTTP, IDENTICAL, PAIR, PUSH, REFUSED, WRONG, Case
from benchmarks.faults.scenarios import RESULTS, SCENARIOS, interrupted
from benchmarks.faults.snapshot import differences

YEAR = 365 * 86_400
_FAR = time.time() + 5 * YEAR


def pair_case(bench: Bench, scenario_name: str, fault: str, number: int) -> Case:
    """Two processes do the same in the same folder; the second begins a little later, or when the first has begun to
    write."""
    scenario, name = SCENARIOS[scenario_name], f"{scenario_name}/{fault}/{number}"
    usual, chance = bench.undisturbed(scenario), bench.random(name)
    with bench.place(scenario) as place:
        first = place.start()
        if number % 3 == 2:
            watch(first, place)
            moment = "the second began when the first had begun to write"
        else:
            delay = (0.0, 0.3 * usual.seconds * chance.random())[number % 3]
            time.sleep(delay)
            moment = f"the second began {delay:.3f} s later"
        second = place.start()
        ends = [running.wait() for running in (first, second)]
        wrong = next((words for words in map(plainly_wrong, ends) if words), None)
        refused = [ended for ended in ends if ended.status != scenario.status]
        if wrong is None:
            wrong = next((ended.complaint for ended in refused if ended.refusal is None), None)
        if wrong is None and len(refused) == 2:
            wrong = f"both were refused: {refused[0].refusal}"
        good = next((ended for ended in ends if ended.status == scenario.status), ends[0])
        struck = Struck(name, fault, moment, refused[0] if refused else ends[1], True)
        case = verdict(place, usual.found, struck, good, place.look(), wrong)
        if case.outcome == IDENTICAL and refused:
            return replace(case, outcome=REFUSED, reason=place.shortened(refused[0].refusal or ""))
        return case


def clock_case(bench: Bench, scenario_name: str, fault: str, number: int) -> Case:
    """The clock is years off, is set back while the command works, or everything that it finds is of the future."""
    scenario, name = SCENARIOS[scenario_name], f"{scenario_name}/{fault}/{number}"
    usual, chance = bench.undisturbed(scenario), bench.random(name)
    way = ("back", "ahead", "meanwhile", "future")[number % 4]
    with bench.place(scenario) as place:
        if way == "future":
            if scenario.command == "evaluate":
                _begin_in_the_future(place)
            of_the_future(place.root)
            moment = "files, and a journal that was begun, five years in the future"
            first = place.run()
        else:
            seconds = -10 * YEAR if way == "back" else 10 * YEAR if way == "ahead" else -int(1 + 7200 * chance.random())
            after = 1 + int(chance.random() * usual.operations) if way == "meanwhile" else 0
            moment = f"{seconds} s off" + (f" from operation {after} on its files on" if after else "")
            first = place.run({"root": str(place.root), "clock": [seconds, after]})
        struck = Struck(name, fault, moment, first, True)
        wrong = plainly_wrong(first) or _wrong_times(place)
        if first.status != scenario.status and first.refusal is None:
            wrong = wrong or first.complaint
        return judge(place, usual.found, struck, wrong)


def _begin_in_the_future(place: Place) -> None:
    if not any((place.root / "out").rglob("journal.jsonl")):
        interrupted(place.shop, place.root, "2031-11-26T00:00:00Z")
        return
    (path,) = (place.root / "out").rglob("journal.jsonl")
    head, _, rest = path.read_bytes().partition(b"\n")
    before, _, after = head.partition(b'"started":"')
    path.write_bytes(before + b'"started":"2031' + after[4:] + b"\n" + rest)


def of_the_future(root: Path) -> None:
    """Give every file and folder a time five years from now."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, (_FAR, _FAR))


def _wrong_times(place: Place) -> str | None:
    """A run that ended before it began."""
    import json

    for path in (place.root / "out").rglob("run.json"):
        times = json.loads(path.read_bytes())["timings"]
        if times["finished"] < times["started"]:
            return f"a run that finished at {times['finished']} and was started at {times['started']}"
        if times["seconds"] < 0:
            return f"a run that took {times['seconds']} s"
    return None


def http_case(bench: Bench, scenario_name: str, fault: str, number: int) -> Case:
    """One answer of the Hub is broken."""
    scenario, name = SCENARIOS[scenario_name], f"{scenario_name}/{fault}/{number}"
    usual, chance = bench.undisturbed(scenario), bench.random(name)
    way, request = BROKEN[number % len(BROKEN)], 1 + int(chance.random() * usual.requests)
    with bench.place(scenario, {request: way}) as place:
        first = place.run()
        assert place.hub is not None
        struck = Struck(name, fault, f"{way}: {place.hub.struck}", first, place.hub.struck is not None)
        wrong = plainly_wrong(first)
        if wrong is None and first.status not in (scenario.status, 1) and first.refusal is None:
            wrong = f"not one line: {first.complaint}"
        return judge(place, usual.found, struck, wrong)


def push_case(bench: Bench, scenario_name: str, fault: str, number: int) -> Case:
    """Someone pushes while `review --merge` is at work: other bytes to a pull request, or another file to the main
    branch. What was verified gets in, or nothing does; what was pushed never does by itself."""
    scenario, name = SCENARIOS[scenario_name], f"{scenario_name}/{fault}/{number}"
    usual, chance = bench.undisturbed(scenario), bench.random(name)
    request, way = 1 + int(chance.random() * usual.requests), ("pull request", "main")[number % 2]
    forged = Blob(b"PAR1 not what was verified PAR1", lfs=True)

    def push(hub: FaultyHub) -> None:
        repo = hub.repos["datasets", RESULTS]
        branch = "refs/pr/1" if way == "pull request" else "main"
        tree = dict(repo.commits[repo.branches[branch]])
        if way == "main":
            repo.commit(tree | {"NOTES.md": Blob(b"# Notes\n", lfs=False)}, branch)
        else:
            path = next(path for path in tree if path.endswith("/heads.parquet") and path not in _main(hub))
            repo.commit(tree | {path: forged}, branch)

    with bench.place(scenario, {request: push}) as place:
        hub = place.hub
        assert hub is not None
        first = place.run()
        moment = f"to the {way} before {hub.struck}"
        got_in = [path for path, blob in _main(hub).items() if blob.content == forged.content]
        wrong = plainly_wrong(first) or (f"{got_in[0]} got in, which nobody verified" if got_in else None)
        wrong = wrong or _foreign(place, usual.found, way)
        last = place.run()
        got_in = [path for path, blob in _main(hub).items() if blob.content == forged.content]
        wrong = wrong or plainly_wrong(last) or (f"{got_in[0]} got in at the second review" if got_in else None)
        return _push_verdict(
            place, Struck(name, fault, moment, first, hub.struck is not None), last, wrong, usual.found
        )


def _main(hub: FaultyHub) -> dict[str, Blob]:
    repo = hub.repos["datasets", RESULTS]
    return dict(repo.commits[repo.branches["main"]])


def _in_main(found: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if f"{RESULTS}@main/" in name and "NOTES.md" not in name}


def _foreign(place: Place, wanted: object, way: str) -> str | None:
    """What is in the main branch that an undisturbed review would not have put there."""
    assert place.hub is not None
    usual = _in_main(dict(wanted))  # type: ignore[call-overload]
    strange = [name for name, value in _in_main(place.hub.state()).items() if usual.get(name) != value]
    return f"{strange[0]} is not what was verified" if strange else None


def _push_verdict(place: Place, struck: Struck, last: Ended, wrong: str | None, wanted: object) -> Case:
    assert place.hub is not None
    found, usual = _in_main(place.hub.state()), _in_main(dict(wanted))  # type: ignore[call-overload]
    missing = [line for line in differences(found, usual) if line.endswith("is missing")]
    outcome, reason = IDENTICAL, ""
    if wrong is None and missing:
        outcome, reason = REFUSED, last.refusal or struck.ended.refusal or ""
        if not reason:
            wrong = f"{missing[0]}, and no line says why"
    if wrong is not None:
        outcome, reason = WRONG, wrong
    scenario = place.scenario
    words = struck.ended.words
    return Case(
        struck.name, scenario.command, struck.fault, struck.moment, struck.really, words, outcome, reason, place.left()
    )


FAULTS = {PAIR: pair_case, CLOCK: clock_case, HTTP: http_case, PUSH: push_case}
