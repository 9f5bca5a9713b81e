"""Runs over a part of a set, or a grid of their own, on the site: with a mark, below the others, without a rank."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from browser import Watched, assert_accessible, changed, chromium, renamed, watched_page
from fake_runs import make_run

from rh_bench.leaderboard import Collection, Entry, brief_of, render
from rh_bench.leaderboard.build import build_site
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.compare import key_figures
from rh_bench.leaderboard.embed import badge_view, card_view
from rh_bench.leaderboard.universality import universality

ROOT = Path(__file__).resolve().parents[2]
WHOLE = ["zeta/large", "mid/middle", "alpha/small"]
APART = ["part/best", "own/grid", "part/unknown"]
"""By share; the first two have larger shares than all whole ones."""


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = tmp_path_factory.mktemp("runs")
    make_run(root)
    return collect(root).entries[0]


def chosen(entry: Entry, name: str, share: float, said: int | None = None, **grid: Any) -> Entry:
    def change(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["protocol"]["grid"] |= grid
        if said is not None:
            run["haystack"]["samples"] = said

    return changed(renamed(entry, name, share=share), change)


@pytest.fixture(scope="module")
def entries(entry: Entry) -> tuple[Entry, ...]:
    made = {"kind": "made", "lengths": [512, 1024], "depths": [0.0, 50.0, 100.0]}
    return (
        renamed(entry, "zeta/large", share=0.09),
        renamed(entry, "mid/middle", share=0.05),
        replace(chosen(entry, "alpha/small", 0.02, limit=12), set_samples=12),
        chosen(entry, "part/best", 0.3, 60, limit=12),
        chosen(entry, "part/unknown", 0.01, needles=["a", "b"]),
        chosen(entry, "own/grid", 0.2, **made),
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, entries: tuple[Entry, ...]) -> Path:
    out = tmp_path_factory.mktemp("out") / "site"
    render(Collection(entries, ()), out, url="https://example.org/heads/")
    return out


@pytest.mark.slow
def test_every_page_and_picture_of_a_part_says_so(site: Path, entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        brief = brief_of(entry)
        stem = site / brief.page.removesuffix(".html")
        page = stem.with_suffix(".html").read_text()
        heads = (stem / "heads.html").read_text()
        numbers = json.loads((stem / "heads.json").read_text())
        assert numbers["measured_on"] == brief.coverage.words
        figures = dict(key_figures(brief))
        assert figures["Measured on"].text == brief.coverage.mark
        for text in (page, heads):
            assert ("Not ranked: measured on" in text) == (brief.model in APART)
        badge, picture = badge_view(brief).message, card_view(brief).success
        if brief.model in WHOLE:
            assert "not ranked" not in picture and brief.coverage.mark not in badge
        else:
            assert brief.coverage.mark in badge and f"{brief.coverage.mark}, not ranked" in picture
            assert brief.coverage.mark in stem.with_suffix(".badge.svg").read_text()


def test_the_feed_and_the_table_of_universality_say_so(site: Path) -> None:
    feed = (site / "feed.xml").read_text()
    assert feed.count("Not ranked: measured on") == len(APART)
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO((site / "universality.csv").read_text()))}
    assert {name for name, row in rows.items() if row["coverage"] == "whole"} == set(WHOLE)
    assert rows["part/best"]["measured_on"] == "12 of the set's 60 samples (limit 12)"


def test_charts_hold_whole_runs_and_the_others_stand_apart_below(entries: tuple[Entry, ...]) -> None:
    view = universality([brief_of(entry) for entry in entries])
    assert [group.runs for group in view.groups] == [3, 1, 1, 1], "a limit that takes nothing away is no other choice"
    assert [bool(group.note) for group in view.groups] == [False, True, True, True]


def test_what_no_level_can_check_is_said_to_be_claimed(site: Path, entries: tuple[Entry, ...]) -> None:
    page = (site / brief_of(entries[0]).page).read_text()
    checked, _, claimed = page.partition('<h3 id="claimed">')
    claimed = claimed.partition("<h3>")[0]
    environment, timings = entries[0].run["environment"], entries[0].run["timings"]
    for told in (environment["device_name"], f"torch {environment['torch']}", timings["started"], timings["finished"]):
        assert told in claimed and told not in checked
    assert f"measured {timings['started'][:10]}, as claimed" in checked
    assert "No level of verification can check these" in claimed
    assert 'id="claimed"' in (site / "method.html").read_text()
    assert "method.html#claimed" in (site / "data.html").read_text()


def test_every_badge_leads_to_what_it_is_worth(site: Path, entries: tuple[Entry, ...]) -> None:
    assert 'id="levels"' in (site / "method.html").read_text()
    overview, page = (site / "index.html").read_text(), (site / brief_of(entries[0]).page).read_text()
    assert '<span class="badge valid"' not in overview + page
    assert overview.count('href="method.html#levels">valid</a>') == len(entries) + 1
    assert 'href="../../method.html#levels">valid</a>' in page


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    with watched_page(browser) as page:
        yield page
        assert page.complaints == []


def rows(page: Any, body: str) -> list[tuple[str, str]]:
    """Model and rank of the rows of a part of the table, as they stand."""
    found = page.locator(f"table.runs tbody{body} tr:not(.apart):visible")
    names = found.locator("th a").all_inner_texts()
    return list(zip(names, (text.strip() for text in found.locator("td.rank").all_inner_texts()), strict=True))


@pytest.mark.browser
@pytest.mark.parametrize("javascript", [True, False])
def test_only_whole_runs_are_ranked(site: Path, browser: Any, javascript: bool) -> None:
    with watched_page(browser, javascript=javascript) as watched:
        page = watched.open(site / "index.html")
        assert page.locator("table.runs").count() == 1, "one table: the same set and protocol"
        assert rows(page, ":not(.unranked)") == [*zip(WHOLE, "123", strict=True)]
        assert rows(page, ".unranked") == [(name, "–") for name in APART]
        assert page.locator(".unranked .covers").all_inner_texts() == [
            "12 of 60 samples",
            "own grid",
            "part of the set",
        ]
        assert page.locator("table.runs tbody:not(.unranked) .covers").count() == 0
        assert "Whoever chooses what is measured" in page.locator("tr.apart").inner_text()


@pytest.mark.browser
def test_sorting_pinning_and_hiding_leave_them_below_and_unranked(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html", "sort=share")
    assert rows(page, ":not(.unranked)") == [("alpha/small", "1"), ("mid/middle", "2"), ("zeta/large", "3")]
    assert [name for name, _ in rows(page, ".unranked")] == APART[::-1]
    page.locator("tr", has_text="part/best").locator("input").check()
    assert [name for name, _ in rows(page, ":not(.unranked)")] == WHOLE[::-1]
    assert rows(page, ".unranked")[0] == ("part/best", "–")
    page = watched.open(site / "index.html", "hide=rank")
    assert page.locator("tr.apart").is_visible() and "Not ranked" in page.locator("tr.apart").inner_text()
    page = watched.open(site / "index.html", "q=large")
    assert page.locator("tr.apart").count() == 0, "a line above nothing"
    page = watched.open(site / "index.html", "q=own+grid")
    assert rows(page, ".unranked") == [("own/grid", "–")] and rows(page, ":not(.unranked)") == []


@pytest.mark.browser
def test_downloads_hold_no_rank_of_them(site: Path, watched: Watched, tmp_path: Path) -> None:
    page = watched.open(site / "index.html")
    found: dict[str, list[dict[str, Any]]] = {}
    for form in ("json", "csv", "parquet"):
        page.locator("summary", has_text="Download").click()
        with page.expect_download() as download:
            page.locator(f"[data-download={form}]").click()
        page.keyboard.press("Escape")
        path = tmp_path / form
        download.value.save_as(path)
        if form == "json":
            found[form] = json.loads(path.read_text())
        elif form == "csv":
            found[form] = list(csv.DictReader(io.StringIO(path.read_text())))
        else:
            found[form] = pq.read_table(path).to_pylist()
    for form, table in found.items():
        ranks = {row["model"]: row["rank"] for row in table}
        assert all(ranks[name] in (None, "") for name in APART), form
        assert [int(ranks[name]) for name in WHOLE] == [1, 2, 3], form
        kinds = {row["model"]: row["coverage"] for row in table}
        assert [kinds[name] for name in APART] == ["part", "own", "part"], form
        assert {row["measured_on"] for row in table if row["model"] in WHOLE} == {"all 12 samples of the set"}


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_and_lines_stand_in_nobodys_way(
    site: Path, browser: Any, entries: tuple[Entry, ...], width: int, theme: str
) -> None:
    with watched_page(browser, width=width) as watched:
        for name in ("index.html", brief_of(entries[3]).page, "method.html", "data.html"):
            page = watched.open(site / name, f"theme={theme}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert_accessible(page)
        page = watched.open(site / "index.html", f"theme={theme}")
        box = page.locator("tr.apart span").bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width, "read without scrolling"
        assert watched.complaints == []


@pytest.mark.browser
def test_the_committed_runs_read_well(tmp_path: Path, browser: Any) -> None:
    """All of them are over chosen needles: none has a rank, each says why, and nothing on the page is amiss."""
    models = ROOT / "benchmarks" / "results" / "models"
    report = build_site(models / "runs", tmp_path / "site", experiments=models / "experiments")
    assert report.left_out == () and {brief.coverage.kind for brief in report.briefs} == {"own"}
    with watched_page(browser) as watched:
        page = watched.open(tmp_path / "site" / "index.html")
        assert rows(page, ":not(.unranked)") == []
        assert len(rows(page, ".unranked")) == len(report.briefs) and {rank for _, rank in rows(page, ".unranked")} == {
            "–"
        }
        for path in sorted((tmp_path / "site").rglob("*.html")):
            watched.open(path)
        assert watched.complaints == []
