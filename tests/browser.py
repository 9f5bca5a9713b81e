"""Helpers of the leaderboard's tests: entries that no run on disk would give, and a Chromium that watches itself."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rh_bench.leaderboard import Entry
from rh_bench.leaderboard.screenshots import LAUNCH_ARGUMENTS, find_chromium

HOSTILE = "<script>alert(1)</script>/\"x' onmouseover=alert(1)\u202egnp\u200b"
HOSTILE_SHOWN = "<script>alert(1)</script>/\"x' onmouseover=alert(1)⟨U+202E⟩gnp⟨U+200B⟩"


def changed(entry: Entry, change: Callable[[dict[str, Any], dict[str, Any]], None], *, run_id: str = "") -> Entry:
    """A copy of `entry` whose run and summary documents `change` has edited in place."""
    run, summary = copy.deepcopy(entry.run), copy.deepcopy(entry.summary)
    change(run, summary)
    return replace(entry, run=run, summary=summary, run_id=run_id or entry.run_id)


def renamed(entry: Entry, model_id: str, share: float | None = None) -> Entry:
    """A copy of `entry` under another model's name, and with another share above 0.1 where one is given."""

    def change(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["model"]["id"] = model_id
        if share is not None:
            estimate = {"value": share, "low": share / 2, "high": min(share * 2, 1.0), "n": 12, "reason": None}
            summary["sparsity"]["share_above_0.1"] = estimate

    return replace(changed(entry, change), slug=model_id.replace("/", "__"))


def uncounted(entry: Entry) -> Entry:
    """A copy of `entry` as if no sample had counted: every score null, with its reason."""
    missing = {"value": None, "low": None, "high": None, "n": 0, "reason": "no sample counted"}

    def change(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["counts"]["counted"] = summary["n_counted"] = 0
        summary["sparsity"] = {name: dict(missing) for name in summary["sparsity"]}
        summary["always_on"] |= {"heads": None, "reason": "no sample counted"}
        summary["top_heads"] = []
        for layer in summary["universality"]["layers"]:
            layer["mean_score"] = None

    empty = dict.fromkeys(
        ("score", "score_low", "score_high", "rank", "rank_low", "rank_high", "activation_frequency"), None
    )
    heads = tuple(replace(head, **empty) for head in entry.heads)
    return replace(changed(entry, change), heads=heads, folder=None)


@dataclass
class Watched:
    """A browser page together with everything it complained about or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: Path, state: str = "") -> Any:
        # A blank page in between, since a changed fragment alone does not load the page again.
        self.page.goto("about:blank")
        self.requests.clear()
        self.page.goto(path.resolve().as_uri() + (f"#{state}" if state else ""))
        return self.page


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium; skips the test where there is none, unless RH_BENCH_REQUIRE_BROWSER=1 asks to fail."""
    path = find_chromium()
    if path is None:
        reason = "no Chromium: install Debian's chromium or set RH_BENCH_CHROMIUM"
        if os.environ.get("RH_BENCH_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(LAUNCH_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_page(
    browser: Any, *, width: int = 1280, javascript: bool = True, scheme: str = "light"
) -> Iterator[Watched]:
    context = browser.new_context(
        viewport={"width": width, "height": 844}, java_script_enabled=javascript, color_scheme=scheme
    )
    page = context.new_page()
    watched = Watched(page)
    page.on("console", lambda message: watched.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: watched.complaints.append(f"error: {error}"))
    page.on("request", lambda request: watched.requests.append(request.url))
    page.on("dialog", lambda dialog: (watched.complaints.append("dialog"), dialog.dismiss()))
    try:
        yield watched
    finally:
        context.close()


def assert_accessible(page: Any) -> None:
    """axe-core finds nothing serious or critical in the page as it stands."""
    from axe_playwright_python.sync_playwright import Axe

    # Without `preload`, which would ask for style sheets again in a way that the pages' policy forbids.
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    grave = [
        f"{finding['id']} ({finding['impact']}): {node['target']} {node['html'][:120]} {node['failureSummary']}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"][:5]
    ]
    assert grave == [], "\n".join(grave)
