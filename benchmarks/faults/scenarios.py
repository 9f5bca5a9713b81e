"""The commands of the campaign, what each starts with, and what is compared of it.

Everything that they read is made once, in the shop: tiny random models, a set, runs measured on it, results, a site.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.hub import STRANGER, TOKEN, FaultyHub, Repo
from benchmarks.faults.process import Ended, Running, command_line, environment

RESULTS = "org/results"
MODELS = ("org/tiny-a", "org/tiny-b")
SET = "org/set"
GRID = ("--source", "synthetic", "--lengths", "300,500", "--depths", "0,50,100", "--needle-count", "3")
SAMPLES = 18
_SEEDS = (5, 1)
"""Of random models that copy a little."""


@dataclass(frozen=True)
class Shop:
    """What all cases read and none changes."""

    root: Path
    repos: Mapping[Any, Repo]
    """Repositories of the Hub with two models, the set, and an empty results repository."""
    reviewed: Mapping[Any, Repo]
    """The same with a pull request for each of two runs."""
    filled: Mapping[Any, Repo]
    """The same with both runs taken in."""

    def __truediv__(self, name: str) -> Path:
        return self.root / name


@dataclass(frozen=True)
class Scenario:
    """A command, and with what it begins."""

    name: str
    arguments: Callable[[Shop, Path], list[object]]
    """Of the shop and the case's folder."""
    prepare: Callable[[Shop, Path], None] = lambda shop, place: None
    repos: Callable[[Shop], Mapping[Any, Repo]] | None = None
    token: str = TOKEN
    status: int = 0

    @property
    def command(self) -> str:
        return self.name.partition(" ")[0]


def fill_shop(root: Path, only_hub: bool = False) -> Shop:
    """Make all that the commands read, by the commands themselves.

    Args:
        only_hub: leave out what `submit` and `review` do not need.

    Raises:
        RuntimeError: one of them failed.
    """
    from tiny import tiny_checkpoint

    for name, seed in zip(MODELS, _SEEDS, strict=True):
        tiny_checkpoint(root / "models" / name.replace("/", "__"), seed=seed)
    _do(root, ["build", *GRID, "--out", root / "set"])
    repos = {}
    with FaultyHub({}) as hub:
        for name in MODELS:
            hub.add("models", name, root / "models" / name.replace("/", "__"))
        hub.add("datasets", SET, root / "set")
        (root / "empty").mkdir()
        (root / "empty" / "README.md").write_text("# Results\n")
        hub.add("datasets", RESULTS, root / "empty")
        repos = dict(hub.repos)
    with FaultyHub(repos) as hub:
        for name in MODELS:
            options = ["--device", "cpu", "--max-new-tokens", "24"]
            _do(root, ["evaluate", name, "--haystack", SET, "--out", root / "runs", *options], hub)
        for run in sorted((root / "runs").glob("*/*")):
            _do(root, ["submit", run, "--repo", RESULTS], hub, STRANGER)
        reviewed = FaultyHub(hub.repos).repos
        _do(root, ["review", RESULTS, "--merge"], hub)
        filled = dict(hub.repos)
    if not only_hub:
        _fill_folders(root)
    return Shop(root, repos, reviewed, filled)


def _fill_folders(root: Path) -> None:
    _interrupt(root)
    from fake_runs import make_run

    for number in range(4):
        make_run(root / "made", model_id=f"acme/made-{number}", layers=8, heads=8, seed=number, n_samples=24)
    shutil.copytree(root / "made", root / "all")
    shutil.copytree(root / "runs", root / "all", dirs_exist_ok=True)
    _do(root, ["leaderboard", root / "made", "--out", root / "old-site"])
    _do(root, ["collect", root / "made", "--out", root / "old-results"])
    _do(root, ["collect", root / "all", "--out", root / "results"])


def _interrupt(root: Path) -> None:
    """Leave in `root/journal` the journal of a run of which a third is measured."""
    (root / "out").mkdir()
    place = Shop(root, {}, {}, {})
    running = Running(command_line(_evaluate(place, root)), environment(root))
    path = None
    while running.process.poll() is None:
        path = next((root / "out").glob("runs/*/*/journal.jsonl"), None)
        if path is not None and path.read_bytes().count(b"\n") > SAMPLES // 3:
            break
        time.sleep(0.001)
    running.signal(signal.SIGKILL)
    running.wait()
    if path is None or (path.parent / "run.json").exists():
        raise RuntimeError("the run of which a journal is wanted was over too early")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: 1 + SAMPLES // 3]))
    (root / "out/runs").rename(root / "journal")


def _do(root: Path, arguments: list[object], hub: FaultyHub | None = None, token: str = TOKEN) -> Ended:
    for part in ("home", "tmp"):
        (root / part).mkdir(exist_ok=True)
    variables = environment(root, hub_variables(hub, root, token) if hub else None)
    ended = Running(command_line(arguments), variables).wait()
    if ended.status:
        raise RuntimeError(f"rh-bench {arguments[0]} of the shop: {ended.complaint}")
    return ended


def hub_variables(hub: FaultyHub, place: Path, token: str) -> dict[str, str]:
    """What points a command to that Hub."""
    names = ("HF_ENDPOINT", "HF_HUB_DISABLE_XET", "NO_PROXY", "no_proxy")
    found = hub.environment(place / "home")
    return {name: found[name] for name in names} | {"HF_TOKEN": token}


def _first_run(shop: Shop) -> Path:
    return min((shop / "runs").glob("*/*"))


def _evaluate(shop: Shop, place: Path) -> list[object]:
    model = shop / "models" / MODELS[0].replace("/", "__")
    return ["evaluate", model, "--haystack", shop / "set", "--out", place / "out/runs", *_CPU]


_CPU = ("--device", "cpu", "--max-new-tokens", "24")


def interrupted(shop: Shop, place: Path, started: str | None = None) -> None:
    """The journal of a run of which a third is measured, as the undisturbed run of the shop left it.

    Args:
        started: what it says of when it was begun.
    """
    source = shop / "journal"
    shutil.copytree(source, place / "out/runs")
    if started is not None:
        (path,) = (place / "out/runs").glob("*/*/journal.jsonl")
        head, _, rest = path.read_bytes().partition(b"\n")
        document = json.loads(head) | {"started": started}
        path.write_bytes(json.dumps(document, separators=(",", ":")).encode() + b"\n" + rest)


def _old(name: str, out: str) -> Callable[[Shop, Path], None]:
    def prepare(shop: Shop, place: Path) -> None:
        shutil.copytree(shop / name, place / out)

    return prepare


def _hub_evaluate(shop: Shop, place: Path) -> list[object]:
    return ["evaluate", MODELS[0], "--haystack", SET, "--out", place / "out/runs", *_CPU]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("build", lambda shop, place: ["build", *GRID, "--out", place / "out/set"]),
        Scenario("evaluate", _evaluate),
        Scenario("evaluate interrupted before", _evaluate, prepare=interrupted),
        Scenario("evaluate from the Hub", _hub_evaluate, repos=lambda shop: shop.repos),
        Scenario("leaderboard", lambda shop, place: ["leaderboard", shop / "all", "--out", place / "out/site"]),
        Scenario(
            "leaderboard over an old site",
            lambda shop, place: ["leaderboard", shop / "all", "--out", place / "out/site"],
            prepare=_old("old-site", "out/site"),
        ),
        Scenario(
            "leaderboard from the Hub",
            lambda shop, place: ["leaderboard", RESULTS, "--out", place / "out/site"],
            repos=lambda shop: shop.filled,
        ),
        Scenario("collect", lambda shop, place: ["collect", shop / "all", "--out", place / "out/results"]),
        Scenario(
            "collect into old results",
            lambda shop, place: ["collect", shop / "all", "--out", place / "out/results"],
            prepare=_old("old-results", "out/results"),
        ),
        Scenario(
            "collect from the Hub",
            lambda shop, place: ["collect", RESULTS, "--out", place / "out/results"],
            repos=lambda shop: shop.filled,
        ),
        Scenario(
            "publish",
            lambda shop, place: ["publish", shop / "set", "--repo", "org/fresh", "--tag", "v1"],
            repos=lambda shop: shop.repos,
        ),
        Scenario(
            "publish results",
            lambda shop, place: ["publish", shop / "results", "--repo", RESULTS],
            repos=lambda shop: shop.repos,
        ),
        Scenario(
            "submit",
            lambda shop, place: ["submit", _first_run(shop), "--repo", RESULTS],
            repos=lambda shop: shop.repos,
            token=STRANGER,
        ),
        Scenario(
            "review --merge", lambda shop, place: ["review", RESULTS, "--merge"], repos=lambda shop: shop.reviewed
        ),
    )
}
