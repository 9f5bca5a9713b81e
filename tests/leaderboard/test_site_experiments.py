"""experiments.html in a real Chromium, opened from a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import assert_accessible, chromium, watched_page
from experiment_pages import ANSWERS, CAUSAL, DETECTORS, with_charts
from fake_experiments import make_dynamic, make_intrinsic, make_relatives

from rh_bench.leaderboard import build_site
from rh_bench.leaderboard.collect import Entry, read_source, sources
from rh_bench.leaderboard.experiments_page import documents
from rh_bench.leaderboard.open_run import brief_of
from rh_bench.leaderboard.render import Frame, Site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with experiments of the kinds that need no model, and a page with charts of every kind."""
    root = tmp_path_factory.mktemp("results")
    base, chat, _ = make_relatives(root / "runs", n_samples=40)
    make_dynamic(root / "experiments", base)
    make_intrinsic(root / "experiments", chat, base)
    out = tmp_path_factory.mktemp("out") / "site"
    build_site(root, out)
    entry = read_source(sources(root)[0])
    assert isinstance(entry, Entry)
    brief = brief_of(entry)
    made = with_charts(brief, causal=CAUSAL, chain_of_thought=ANSWERS, detectors=DETECTORS)
    every = replace(brief, experiments=(*brief.experiments, *made.experiments))
    ((_, text),) = documents(Site([every], (), (), Frame()))
    assert isinstance(text, str)
    (out / "every.html").write_text(text)
    return out


def pages(site: Path) -> list[Path]:
    return [site / "experiments.html", site / "every.html", *sorted((site / "models").glob("acme__base/*.html"))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_quiet(site: Path, browser: Any, scheme: str) -> None:
    with watched_page(browser, scheme=scheme) as watched:
        for path in pages(site):
            page = watched.open(path)
            assert_accessible(page)
            assert all(request.startswith("file:") for request in watched.requests)
        assert watched.complaints == []


def test_nothing_is_wider_than_a_phone(site: Path, browser: Any) -> None:
    with watched_page(browser, width=390) as watched:
        for path in pages(site):
            page = watched.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path.name


def test_numbers_of_a_chart_can_be_opened_without_script(site: Path, browser: Any) -> None:
    with watched_page(browser, javascript=False) as watched:
        page = watched.open(site / "every.html")
        assert page.locator(".causal .line").count() == 3
        table = page.locator(".experiment table.numbers").first
        assert not table.is_visible()
        page.locator(".experiment summary").first.click()
        assert table.is_visible()
        assert page.locator(".strip rect").count() >= 6
        assert watched.complaints == []


def test_the_page_is_in_the_navigation_and_leads_to_runs(site: Path, browser: Any) -> None:
    with watched_page(browser) as watched:
        page = watched.open(site / "index.html")
        page.get_by_role("link", name="Experiments").click()
        assert page.url.endswith("experiments.html")
        page.locator(".cards tbody a").first.click()
        page.locator(".scorecard tbody tr").nth(5).wait_for()
        assert "/models/acme__base/" in page.url
        assert watched.complaints == []
