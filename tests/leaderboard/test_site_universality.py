"""universality.html in a real Chromium, opened from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import HOSTILE, HOSTILE_SHOWN, Watched, assert_accessible, changed, chromium, renamed, watched_page
from fake_runs import make_families

from rh_bench.leaderboard import Collection, render
from rh_bench.leaderboard.collect import collect

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_families(root)
    entries = collect(root).entries

    def hostile(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["model"]["model_type"] = HOSTILE

    out = tmp_path_factory.mktemp("out") / "site"
    render(Collection((*entries, changed(renamed(entries[1], HOSTILE), hostile)), ()), out)
    return out


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    with watched_page(browser) as page:
        yield page
        assert page.complaints == []


def opened(watched: Watched, site: Path, state: str = "") -> Any:
    return watched.open(site / "universality.html", state)


def test_page_is_whole_without_script(site: Path, browser: Any) -> None:
    with watched_page(browser, javascript=False) as watched:
        page = opened(watched, site)
        assert not page.locator("#filters").is_visible()
        assert page.locator(".group:visible").count() == 2
        assert page.locator(".curve").count() == 16
        assert page.locator(".matrix td.v0, .matrix td[class^=v]").count() >= 20
        assert watched.complaints == []


def test_group_and_family_are_chosen_and_come_back_from_the_address(site: Path, watched: Watched) -> None:
    page = opened(watched, site)
    page.locator("#group").select_option(index=2)
    assert page.locator(".group:visible").count() == 1
    page.locator("#family").select_option("qwen2")
    assert page.locator("#shown").inner_text() == "3 runs of qwen2, in front"
    visible = ".group:visible .curve:not(.faded)"
    assert page.locator(visible).count() == page.locator(".group:visible .curve[data-family=qwen2]").count() == 1
    again = opened(watched, site, page.url.partition("#")[2])
    assert again.locator(".group:visible").count() == 1
    assert again.locator("#family").input_value() == "qwen2"
    again.locator("#group").select_option("")
    again.locator("#family").select_option("")
    assert again.locator(".faded").count() == 0 and again.locator(".group:visible").count() == 2
    assert "family" not in again.url


def test_an_unknown_choice_in_the_address_chooses_nothing(site: Path, watched: Watched) -> None:
    page = opened(watched, site, "group=nothing&family=%3Cb%3E&measure=toString")
    assert page.locator(".group:visible").count() == 2
    assert page.locator(".faded").count() == 0


def test_another_measure_fills_the_matrices_from_their_data(site: Path, watched: Watched) -> None:
    page = opened(watched, site)
    table = page.locator(".matrix").first
    data = json.loads(table.get_attribute("data-measures"))
    cell = table.locator("tbody tr").nth(1).locator("td").nth(0)
    assert cell.inner_text() == f"{data['jaccard'][1][0]:.2f}"
    before = cell.get_attribute("class")
    page.locator(".pick-measure").first.select_option("pearson")
    assert cell.inner_text() == f"{data['pearson'][1][0]:.2f}"
    assert "measure=pearson" in page.url
    page.locator(".pick-measure").first.select_option("")
    assert (cell.inner_text(), cell.get_attribute("class")) == (f"{data['jaccard'][1][0]:.2f}", before)


def test_a_row_lights_its_curve(site: Path, watched: Watched) -> None:
    page = opened(watched, site)
    page.locator(".forest a", has_text="qwen-3b-coder").first.focus()
    lit = page.locator(".curve.lit title")
    assert lit.all_text_contents() == ["beta/qwen-3b-coder"]
    page.locator("h1").hover()
    assert page.locator(".lit").count() == 0


def test_definition_links_lead_to_definitions(site: Path, watched: Watched) -> None:
    page = opened(watched, site)
    for link in page.locator("a[href^='#def-']").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_hostile_names_are_text(site: Path, watched: Watched) -> None:
    page = opened(watched, site)
    assert HOSTILE_SHOWN in page.locator(".legend").first.inner_text()
    page.locator("#family").select_option(HOSTILE_SHOWN)
    assert page.locator("#shown").inner_text() == f"1 run of {HOSTILE_SHOWN}, in front"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_grave_stands_in_the_way_of_any_reader(site: Path, watched: Watched, theme: str) -> None:
    assert_accessible(opened(watched, site, f"theme={theme}"))


def test_a_phone_scrolls_down_only_and_nothing_leaves_the_site(site: Path, browser: Any) -> None:
    with watched_page(browser, width=390) as watched:
        page = opened(watched, site)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert all(url.startswith(site.resolve().as_uri() + "/") for url in watched.requests)
        assert watched.complaints == []


def test_among_many_models_a_family_without_a_line_is_in_front_with_the_others(
    browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("many")
    make_families(root / "runs", n_samples=12, sets=1)
    entry = collect(root / "runs").entries[0]

    def family(number: int) -> Any:
        def change(run: dict[str, Any], summary: dict[str, Any]) -> None:
            run["model"]["model_type"] = f"kin{number % 10}"

        return change

    entries = tuple(changed(renamed(entry, f"acme/m{number}"), family(number)) for number in range(30))
    render(Collection(entries, ()), root / "site")
    with watched_page(browser) as watched:
        page = opened(watched, root / "site", "family=kin9")
        shown = page.locator(".curve:not(.faded) title").all_text_contents()
        assert shown == ["other families, 6 runs"]
        page = opened(watched, root / "site", "family=kin3")
        assert page.locator(".curve:not(.faded) title").all_text_contents() == ["kin3, 3 runs"]
        assert page.locator("#shown").inner_text() == "3 runs of kin3, in front"
        assert watched.complaints == []
