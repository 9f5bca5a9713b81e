"""The site in a real Chromium, opened from files: what a reader sees, clicks, types and is spared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import (
    HOSTILE,
    HOSTILE_SHOWN,
    Watched,
    assert_accessible,
    changed,
    chromium,
    renamed,
    uncounted,
    watched_page,
)
from fake_runs import make_run

from rh_bench.leaderboard import Collection, Entry, LeftOut
from rh_bench.leaderboard.briefs import page_path
from rh_bench.leaderboard.build import render
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.screenshots import main as take_screenshots

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = tmp_path_factory.mktemp("runs")
    make_run(root)
    return collect(root).entries[0]


@pytest.fixture(scope="module")
def wide_entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """A run with more heads than fit a phone."""
    root = tmp_path_factory.mktemp("wide")
    make_run(root, model_id="wide/model", layers=6, heads=48, kv_heads=8)
    return collect(root).entries[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, entry: Entry, wide_entry: Entry) -> Path:
    """Three comparable models, one without a counted sample, one with a hostile name, one of another protocol."""

    def other(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["protocol"]["dtype"] = "bfloat16"

    entries = (
        renamed(entry, "zeta/large-share", share=0.09),
        renamed(entry, "alpha/small-share", share=0.02),
        renamed(entry, "mid/middle-share", share=0.05),
        uncounted(renamed(entry, "never/finds")),
        renamed(entry, HOSTILE, share=0.01),
        changed(wide_entry, other),
    )
    out = tmp_path_factory.mktemp("out") / "site"
    render(Collection(entries, (LeftOut("acme__half/" + "0" * 60, ("unfinished",)),)), out)
    return out


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    with watched_page(browser) as page:
        yield page
        assert page.complaints == []


def all_pages(site: Path) -> list[Path]:
    return [site / "index.html", *sorted(site.glob("models/*/*.html"))]


def test_pages_ask_for_nothing_but_their_own_files(site: Path, watched: Watched) -> None:
    root = site.resolve().as_uri() + "/"
    for path in all_pages(site):
        watched.open(path)
        assert watched.requests
        assert all(request.startswith(root) for request in watched.requests), watched.requests


def test_style_sheet_and_script_are_allowed_by_the_policy(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    assert page.locator("#theme").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.overview td.num')).textAlign") == "right"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_grave_stands_in_the_way_of_any_reader(site: Path, watched: Watched, theme: str) -> None:
    for path in all_pages(site):
        assert_accessible(watched.open(path, f"theme={theme}"))


def test_policy_stops_injected_script(site: Path, browser: Any) -> None:
    with watched_page(browser) as watched:
        page = watched.open(site / "index.html")
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
        assert page.evaluate("window.ran") is None
        assert any("Content Security Policy" in complaint for complaint in watched.complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_until_toggled_and_goes_along(site: Path, browser: Any, scheme: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with watched_page(browser, scheme=scheme) as watched:
        page = watched.open(site / "index.html")
        before = page.evaluate(background)
        page.locator("#theme").click()
        after = page.evaluate(background)
        assert before != after
        page.locator("table.overview tbody a").first.click()
        page.wait_for_url("**/models/**")
        assert page.evaluate(background) == after
        page.locator("#theme").click()
        assert page.evaluate(background) == before
        assert "theme" not in page.url
        assert watched.complaints == []


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no-script"])
def test_no_page_scrolls_sideways_on_a_phone(site: Path, browser: Any, javascript: bool) -> None:
    with watched_page(browser, width=390, javascript=javascript) as watched:
        for path in all_pages(site):
            page = watched.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_wide_heat_map_scrolls_in_its_own_box(site: Path, browser: Any, wide_entry: Entry) -> None:
    with watched_page(browser, width=390) as watched:
        page = watched.open(site / page_path(wide_entry))
        assert page.locator(".scroll:has(table.heat)").evaluate("box => box.scrollWidth > box.clientWidth")


def test_hostile_names_are_shown_as_text(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    assert HOSTILE_SHOWN in page.locator("table.overview tbody th a").all_inner_texts()
    page.locator("table.overview a", has_text="<script>").click()
    page.wait_for_url("**/models/**")
    assert page.locator("h1").inner_text() == HOSTILE_SHOWN
    assert HOSTILE_SHOWN in page.title()
    assert page.locator("script:not([src])").count() == 0


def test_everything_is_there_without_javascript(site: Path, browser: Any) -> None:
    with watched_page(browser, javascript=False) as watched:
        page = watched.open(site / "index.html")
        assert page.locator("table.overview tbody tr:visible").count() == 6
        assert page.locator("#tools").is_hidden() and page.locator("#theme").is_hidden()


def test_screenshots_of_every_kind_of_page(tmp_path: Path, entry: Entry, browser: Any) -> None:
    import subprocess
    import sys

    site = tmp_path / "site"
    render(Collection((entry, renamed(entry, "acme/second")), ()), site)
    # A process of its own: Playwright's synchronous driver runs once in a process, and the fixture has it.
    command = [sys.executable, "-m", "rh_bench.leaderboard.screenshots", str(site), str(tmp_path / "shots")]
    subprocess.run(command, check=True, capture_output=True)
    names = {path.name for path in (tmp_path / "shots").iterdir()}
    across = {"overview", *(path.stem for path in site.glob("*.html"))} - {"index"}
    assert {"overview", "model"} < {name.partition("-")[0] for name in names}
    assert names >= {
        f"{page}-{screen}-{theme}.png"
        for page in (*across, "model")
        for screen in ("desktop", "phone")
        for theme in ("light", "dark")
    }


def test_screenshots_refuse_a_folder_without_a_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert take_screenshots([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "holds no index.html" in capsys.readouterr().err
