"""compare.html in a real Chromium, opened from a file: choosing models, and that script and build say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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
from fake_runs import make_families

from rh_bench.leaderboard import Collection, Entry, RunBrief, brief_of, render
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.compare import similarity_texts
from rh_bench.stats.bootstrap import NANO

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Entry, ...]:
    root = tmp_path_factory.mktemp("runs")
    make_families(root)

    def derived(run: dict[str, Any], summary: dict[str, Any]) -> None:
        if run["model"]["id"] == "beta/qwen-3b":
            run["model"]["base_model"] = ["beta/qwen-3b-coder"]

    found = tuple(changed(entry, derived) for entry in collect(root).entries)
    return (*found, renamed(found[0], HOSTILE), uncounted(renamed(found[1], "never/finds")))


@pytest.fixture(scope="module")
def briefs(entries: tuple[Entry, ...]) -> dict[str, RunBrief]:
    """By model and set."""
    return {f"{brief.model} {brief.set_name.split('-')[0]}": brief for brief in map(brief_of, entries)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, entries: tuple[Entry, ...]) -> Path:
    out = tmp_path_factory.mktemp("out") / "site"
    render(Collection(entries, ()), out)
    return out


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    with watched_page(browser) as page:
        yield page
        assert page.complaints == []


def opened(watched: Watched, site: Path, *keys: str, more: str = "") -> Any:
    page = watched.open(site / "compare.html", "&".join(filter(None, ("runs=" + ",".join(keys) if keys else "", more))))
    page.wait_for_selector("#chosen li")
    return page


def chosen(page: Any) -> list[str]:
    return [text.strip() for text in page.locator("#chosen bdi").all_inner_texts()]


def said(page: Any) -> str:
    """All that the page says in its sections, without the hints for those who use script."""
    texts = page.locator("#numbers-table, #similarity-box, #difference-box, #maps-box figcaption").all_inner_texts()
    return re.sub(r"\s+", " ", " ".join(texts))


def shapes(page: Any) -> list[tuple[str, ...]]:
    """Every cell of every map: class and place."""
    found: list[list[str]] = page.evaluate(
        """[...document.querySelectorAll('.map rect:not(.cursor)')].map(
             (rect) => ['class', 'x', 'y', 'width'].map((name) => String(Number(rect.getAttribute(name))
               || rect.getAttribute(name))))"""
    )
    return sorted(tuple(item) for item in found)


def test_script_lays_out_what_the_build_does(site: Path, browser: Any, watched: Watched) -> None:
    with watched_page(browser, javascript=False) as plain:
        page = plain.open(site / "compare.html")
        assert page.locator("noscript").count() == 1
        assert "compare.html#runs=" in page.locator(".hint").inner_text()
        without, cells = said(page), shapes(page)
        paths = page.locator("#lines path").evaluate_all("all => all.map((path) => path.getAttribute('d'))")
    page = opened(watched, site)
    assert said(page) == without
    assert shapes(page) == cells
    drawn = page.locator("#lines path").evaluate_all("all => all.map((path) => path.getAttribute('d'))")
    assert [[float(x) for x in re.findall(r"[\d.]+", path)] for path in drawn] == [
        [float(x) for x in re.findall(r"[\d.]+", path)] for path in paths
    ]


def test_address_chooses_and_numbers_are_those_of_the_data(
    site: Path, briefs: dict[str, RunBrief], watched: Watched
) -> None:
    first, second = briefs["acme/llama-8b synthetic"], briefs["acme/llama-8b-instruct synthetic"]
    page = opened(watched, site, first.key, second.key)
    assert chosen(page) == [first.model, second.model]
    shares = page.locator("#numbers-table tbody tr").first.locator(".value").all_inner_texts()
    assert shares == [f"{brief.share['value'] * 100:.1f}%" for brief in (first, second)]
    x, y = first.cross.rows(), second.cross.rows()
    assert x is not None and y is not None
    texts = similarity_texts(x, y, 0.1)
    cells = page.locator(".alike tbody td").all_inner_texts()
    assert cells[:2] == list(texts[:2])
    assert cells[2].split() == [texts[2], "by", "chance", texts[4]]
    assert cells[3].split() == [texts[3], "by", "chance", texts[5]]
    apart = np.abs(y - x)
    rows = page.locator(".changes tbody tr").all_inner_texts()
    places = np.argsort(-apart, kind="stable")[: len(rows)]
    assert [row.split("\t")[0] for row in rows] == [f"({place // 12}, {place % 12})" for place in places]
    assert rows[0].split("\t")[1:3] == [f"{x[places[0]] / NANO:.3f}", f"{y[places[0]] / NANO:.3f}"]


def test_base_and_variant_change_places_and_the_address_keeps_them(
    site: Path, briefs: dict[str, RunBrief], watched: Watched
) -> None:
    keys = [briefs[f"acme/llama-1b{name} synthetic"].key for name in ("", "-chat", "-80k")]
    page = opened(watched, site, *keys, more="pair=1,3")
    assert page.locator("#difference-box figcaption").inner_text() == "acme/llama-1b-80k minus acme/llama-1b"
    before = page.locator(".changes tbody tr td:last-child").first.inner_text()
    page.locator("#base").select_option("2")
    assert page.locator("#difference-box figcaption").inner_text() == "acme/llama-1b minus acme/llama-1b-80k"
    after = page.locator(".changes tbody tr td:last-child").first.inner_text()
    assert {before[0], after[0]} == {"+", "−"} and before[1:] == after[1:]
    assert "pair=3%2C1" in page.url or "pair=3,1" in page.url
    again = opened(watched, site, more=page.url.partition("#")[2])
    assert again.locator("#difference-box figcaption").inner_text() == "acme/llama-1b minus acme/llama-1b-80k"


def test_models_are_added_and_removed_by_keyboard_alone(site: Path, watched: Watched) -> None:
    page = opened(watched, site)
    page.locator("#find").focus()
    page.keyboard.type("mistral yarn")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.innerText").startswith("delta/mistral-7b-yarn")
    page.keyboard.press("Enter")
    page.locator("#chosen li:nth-child(3)").wait_for()
    assert chosen(page)[-1] == "delta/mistral-7b-yarn"
    assert page.evaluate("document.activeElement.id") == "find"
    assert page.url.count("delta__mistral-7b-yarn/") == 1
    page.locator("#chosen button").first.focus()
    page.keyboard.press("Enter")
    page.locator("#chosen li:nth-child(3)").wait_for(state="detached")
    assert chosen(page) == ["beta/qwen-3b", "delta/mistral-7b-yarn"]
    assert page.locator("#similarity-box").inner_text() == "No two of these models have the same heads."
    page.keyboard.press("ArrowDown")
    assert page.locator("#found").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#found").is_visible()


def test_a_base_is_offered_first_and_taken_as_such(site: Path, briefs: dict[str, RunBrief], watched: Watched) -> None:
    page = opened(watched, site, briefs["beta/qwen-3b synthetic"].key)
    assert page.locator("#difference-box").inner_text() == "Choose at least two models."
    page.locator("#find").focus()
    offers = page.locator("#found bdi").all_inner_texts()
    assert offers[0] == "beta/qwen-3b-coder"
    page.locator("#found button").first.click()
    page.wait_for_selector("#difference-box figcaption")
    assert page.locator("#difference-box figcaption").inner_text() == "beta/qwen-3b minus beta/qwen-3b-coder"


def test_a_models_page_leads_here_and_the_theme_comes_along(
    site: Path, briefs: dict[str, RunBrief], watched: Watched
) -> None:
    page = watched.open(site / briefs["acme/llama-8b synthetic"].page, "theme=dark")
    page.get_by_role("link", name="Compare with others").click()
    page.wait_for_selector("#chosen li")
    assert chosen(page) == ["acme/llama-8b"]
    assert page.locator("#status").inner_text() == "Add a second model to compare it with."
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_finger_shows_a_head_that_stays(site: Path, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto((site / "compare.html").resolve().as_uri())
    page.wait_for_selector("#maps-box .map")
    page.locator("#maps-box .map").first.tap()
    assert page.locator("#readout").inner_text().startswith("Layer ")
    assert page.locator(".map .cursor").count() >= 1
    context.close()


def test_six_is_the_most(site: Path, briefs: dict[str, RunBrief], watched: Watched) -> None:
    page = opened(watched, site, *[brief.key for brief in briefs.values()][:8])
    assert len(chosen(page)) == 6
    assert page.locator("#find").is_disabled()


def test_runs_of_other_sets_are_marked_and_not_compared_silently(
    site: Path, briefs: dict[str, RunBrief], watched: Watched
) -> None:
    keys = [briefs[f"acme/llama-1b {name}"].key for name in ("synthetic", "essays")]
    page = opened(watched, site, *keys)
    assert page.locator("#differs").is_visible()
    assert page.locator("#differs li").all_inner_texts() == [
        "acme/llama-1b · synthetic-quick: set bbbbbbbb",
        "acme/llama-1b · essays-quick: set dddddddd",
    ]
    page = opened(watched, site, keys[0], briefs["acme/llama-8b synthetic"].key)
    assert not page.locator("#differs").is_visible()
    page.locator("#find").fill("essays qwen")
    assert "different set, protocol or choice of samples" in page.locator("#found").inner_text()


def test_unknown_runs_are_named_and_never_asked_for(site: Path, briefs: dict[str, RunBrief], watched: Watched) -> None:
    page = opened(watched, site, briefs["acme/llama-1b synthetic"].key, "../../assets/site", "<b>nobody</b>/0")
    assert chosen(page) == ["acme/llama-1b"]
    assert "There is no run <b>nobody</b>/0 on this site." in page.locator("#status").inner_text()
    assert not [url for url in watched.requests if url.endswith("site.heads.js")]


def test_pointing_at_a_head_shows_it_in_every_map_with_the_same_heads(
    site: Path, briefs: dict[str, RunBrief], watched: Watched
) -> None:
    first, second = briefs["acme/llama-1b synthetic"], briefs["acme/llama-1b-chat synthetic"]
    page = opened(watched, site, first.key, second.key, briefs["beta/qwen-3b synthetic"].key)
    x, y = first.cross.rows(), second.cross.rows()
    assert x is not None and y is not None
    place = int(np.argmax(x))
    layer, head = divmod(place, 8)
    map_ = page.locator("#maps-box .map").first
    map_.scroll_into_view_if_needed()
    box = map_.bounding_box()
    scale = box["width"] / 104
    page.mouse.move(box["x"] + (24 + head * 10 + 5) * scale, box["y"] + (layer * 10 + 5) * scale)
    text = page.locator("#readout").inner_text()
    assert text.startswith(f"Layer {layer}, head {head}: acme/llama-1b {x[place] / NANO:.3f} (")
    assert f"acme/llama-1b-chat {y[place] / NANO:.3f} (" in text and "qwen" not in text
    assert page.locator(".map .cursor").count() == 3  # two maps of scores and that of the difference
    assert map_.bounding_box() == box  # what is said moves nothing
    page.mouse.move(5, 5)
    assert not page.locator("#readout").is_visible()
    map_.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.locator("#readout").inner_text().startswith(f"Layer {layer + 1}, head {head + 1}")


def test_names_and_gaps_are_text(site: Path, briefs: dict[str, RunBrief], watched: Watched) -> None:
    page = opened(watched, site, briefs[f"{HOSTILE} essays"].key, briefs["never/finds synthetic"].key)
    assert chosen(page)[0] == HOSTILE_SHOWN
    assert "No scores: no sample counted." in page.locator("#maps-box").inner_text()
    assert "–" in page.locator("#numbers-table").inner_text()
    assert page.locator("#lines path").count() == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_grave_stands_in_the_way_of_any_reader(site: Path, watched: Watched, theme: str) -> None:
    page = opened(watched, site, more=f"theme={theme}")
    page.locator("#find").focus()
    assert_accessible(page)


def test_a_phone_scrolls_down_only_and_nothing_leaves_the_site(
    site: Path, briefs: dict[str, RunBrief], browser: Any
) -> None:
    with watched_page(browser, width=390) as watched:
        page = opened(watched, site, *[brief.key for brief in briefs.values()][:6])
        page.locator("#chosen button").first.focus()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert all(url.startswith(site.resolve().as_uri() + "/") for url in watched.requests)
        assert watched.complaints == []
