"""The pages of one run in a real Chromium: the map, the threshold, the list, the files, and the heads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import (
    HOSTILE,
    HOSTILE_SHOWN,
    Watched,
    assert_accessible,
    chromium,
    renamed,
    uncounted,
    watched_page,
)
from fake_runs import make_run

from rh_bench.artifacts.tables import HEADS, read_table
from rh_bench.interchange.folder import import_file
from rh_bench.leaderboard import Collection, Entry, build_site
from rh_bench.leaderboard.activity import activity_of
from rh_bench.leaderboard.briefs import page_path
from rh_bench.leaderboard.build import render
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.head_page import chosen_heads
from rh_bench.leaderboard.model_page import LISTED

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = tmp_path_factory.mktemp("runs")
    make_run(root, layers=6, heads=48, kv_heads=8, n_samples=30)
    return collect(root).entries[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, entry: Entry) -> Path:
    out = tmp_path_factory.mktemp("out") / "site"
    render(Collection((entry, renamed(entry, HOSTILE), uncounted(renamed(entry, "never/finds"))), ()), out)
    return out


@pytest.fixture(scope="module")
def run_page(site: Path, entry: Entry) -> Path:
    return site / page_path(entry)


@pytest.fixture(scope="module")
def heads_page(run_page: Path) -> Path:
    return run_page.with_suffix("") / "heads.html"


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    with watched_page(browser) as page:
        yield page
        assert page.complaints == []


def all_pages(site: Path) -> list[Path]:
    return sorted(site.glob("models/**/*.html"))


def cell(page: Any, layer: int, head: int) -> Any:
    return page.locator("table.heat tbody tr").nth(layer).locator("td").nth(head)


# The map


def test_cell_says_on_hover_what_the_run_says_of_its_head(run_page: Path, watched: Watched, entry: Entry) -> None:
    page = watched.open(run_page)
    strongest = chosen_heads(entry.heads, 0.1)[0]
    for head in (strongest, entry.heads[5]):
        cell(page, head.layer, head.head).hover()
        assert head.activation_frequency is not None
        active = f"{head.activation_frequency * 100:.1f}".removesuffix(
            ".0" if head.activation_frequency in (0, 1) else ""
        )
        assert page.locator("#tip").inner_text().splitlines() == [
            f"Layer {head.layer}, head {head.head}",
            f"Score {head.score:.3f} ({head.score_low:.3f}–{head.score_high:.3f})",
            f"Rank {head.rank} ({head.rank_low}–{head.rank_high})",
            f"Copies in {active}% of counted samples",
        ]
    page.mouse.move(2, 2)
    assert page.locator("#tip").is_hidden()


def test_map_is_one_tab_stop_in_which_keys_move(run_page: Path, watched: Watched) -> None:
    page = watched.open(run_page)
    assert page.locator("table.heat [tabindex='0']").count() == 1
    assert page.locator("table.heat a:not([tabindex='-1'])").count() == 0
    page.locator("table.heat td[tabindex='0']").focus()
    for key in ("Home", *["ArrowUp"] * 6, "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert tip.inner_text().startswith("Layer 1, head 1\n")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Layer 1, head 1, Score")
    page.keyboard.press("End")
    assert tip.inner_text().startswith("Layer 1, head 47\n")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    assert page.locator("table.heat [tabindex='0']").count() == 1


def test_enter_and_click_lead_from_a_cell_to_its_head(run_page: Path, watched: Watched, entry: Entry) -> None:
    strongest = chosen_heads(entry.heads, 0.1)[0]
    page = watched.open(run_page, "theme=dark")
    cell(page, strongest.layer, strongest.head).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/heads.html*")
    assert page.url.endswith(f"#h{strongest.layer}-{strongest.head}&theme=dark")
    panel = page.locator(f"#h{strongest.layer}-{strongest.head}")
    assert "here" in panel.get_attribute("class")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    last = chosen_heads(entry.heads, 0.1)[-1]
    page = watched.open(run_page)
    cell(page, last.layer, last.head).click()
    page.wait_for_url("**/heads.html*")
    assert page.locator(f"#h{last.layer}-{last.head}").evaluate("panel => panel.getBoundingClientRect().top") < 844


def test_threshold_changes_marks_count_line_and_address(run_page: Path, watched: Watched, entry: Entry) -> None:
    page = watched.open(run_page)
    scores = [head.score or 0 for head in entry.heads]

    def state() -> tuple[int, str]:
        return page.locator("table.heat td.above").count(), page.locator("#above strong").inner_text()

    above = sum(score > 0.1 for score in scores)
    assert state() == (above, str(above))
    before = page.locator("#by-rank .threshold").get_attribute("y1")
    page.locator("#threshold").focus()
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    above = sum(score > 0.7 for score in scores)
    assert 0 < above < sum(score > 0.1 for score in scores)
    assert state() == (above, str(above))
    assert (
        f"of {len(scores)} heads ({above / len(scores) * 100:.1f}%) score above 0.7"
        in page.locator("#above").inner_text()
    )
    assert float(page.locator("#by-rank .threshold").get_attribute("y1")) < float(before)
    page.wait_for_url("**#t=0.7")
    page.locator("#threshold").press("Home")
    page.wait_for_url("**#t=0")
    assert state() == (sum(score > 0 for score in scores), str(sum(score > 0 for score in scores)))


def test_threshold_comes_back_from_the_address_beside_other_state(
    run_page: Path, watched: Watched, entry: Entry
) -> None:
    page = watched.open(run_page, "theme=dark&t=0.3&sort=-active")
    above = sum((head.score or 0) > 0.3 for head in entry.heads)
    assert page.locator("table.heat td.above").count() == above
    assert page.locator("#cut").inner_text() == "0.3"
    page.evaluate("location.hash = 't=oops'")
    page.wait_for_function("document.getElementById('cut').textContent === '0.1'")


# The list and the files


def test_all_heads_can_be_listed_and_sorted_and_equal_the_files(run_page: Path, watched: Watched, entry: Entry) -> None:
    page = watched.open(run_page)
    rows = page.locator("table.heads tbody tr")
    before = rows.count()
    assert before == min(LISTED, sum(bool(head.score) for head in entry.heads)) < len(entry.heads)
    page.locator("#all-heads").click()
    assert rows.count() == len(entry.heads) and page.locator("#all-heads").count() == 0
    listed = [
        [text.strip() for text in row.split("\t")]
        for row in page.locator("table.heads tbody").inner_text().splitlines()
    ]
    link = page.get_by_role("link", name="heads.json").first.get_attribute("href")
    columns = json.loads((run_page.parent / link).read_text())["columns"]
    assert entry.folder is not None
    assert columns == read_table(entry.folder / "heads.parquet", HEADS).to_pydict()
    wanted = sorted(
        zip(*(columns[name] for name in ("score", "layer", "head", "rank")), strict=True),
        key=lambda row: (-row[0], row[1:]),
    )
    assert [row[1] for row in listed] == [f"{layer}.{head}" for _, layer, head, _ in wanted]
    assert [row[0].split()[0] for row in listed] == [str(rank) for _, _, _, rank in wanted]
    assert [row[2].split()[0] for row in listed] == [f"{score:.3f}" for score, _, _, _ in wanted]
    page.locator("table.heads [data-key=score] button").click()
    page.locator("table.heads [data-key=score] button").click()
    texts = rows.all_inner_texts()
    values = [float(text.split("\t")[2].split()[0]) for text in texts]
    assert values == sorted(values)


# The heads


def test_panel_shows_the_samples_that_the_run_has(heads_page: Path, watched: Watched, entry: Entry) -> None:
    activity = activity_of(entry)
    assert activity is not None
    head = chosen_heads(entry.heads, 0.1)[1]
    column = activity.heads.index((head.layer, head.head))
    page = watched.open(heads_page, f"h{head.layer}-{head.head}")
    grid = page.locator(f"#h{head.layer}-{head.head} .grid svg")
    box = grid.bounding_box()
    # The left upper square: the shortest samples with the needle at the start.
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 6)
    said = page.locator("#tip").inner_text().splitlines()
    inside = [
        f"{sample.needle_id}: " + (f"{copied} of {sample.span} tokens" if sample.success else "does not count")
        for sample, copied in zip(activity.samples, activity.copied[:, column], strict=True)
        if (sample.length, sample.depth) == (512, 0.0)
    ]
    assert said == ["512 tokens, depth 0%", *inside]
    page.mouse.move(2, 2)
    assert page.locator("#tip").is_hidden()


def test_a_link_to_a_head_opens_at_its_panel(heads_page: Path, watched: Watched, entry: Entry) -> None:
    last = chosen_heads(entry.heads, 0.1)[-3]
    page = watched.open(heads_page, f"h{last.layer}-{last.head}&theme=dark")
    top = page.locator(f"#h{last.layer}-{last.head}").evaluate("panel => panel.getBoundingClientRect().top")
    assert 0 <= top < 800
    assert page.locator(".panel.here").count() == 1


# All of them


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no-script"])
def test_no_page_scrolls_sideways_on_a_phone_or_leaves_the_site(site: Path, browser: Any, javascript: bool) -> None:
    with watched_page(browser, width=390, javascript=javascript) as watched:
        for path in all_pages(site):
            page = watched.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
            assert all(request.startswith(site.resolve().as_uri()) for request in watched.requests)
        assert watched.complaints == []


def test_note_stays_inside_a_phone(run_page: Path, browser: Any) -> None:
    with watched_page(browser, width=390) as watched:
        page = watched.open(run_page)
        for target in (page.locator("table.heat td[data-tip]").first, page.locator("table.heat td[data-tip]").last):
            target.scroll_into_view_if_needed()
            target.focus()
            page.locator("#tip").wait_for(state="visible")
            box = page.locator("#tip").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_pages_are_complete_without_javascript(run_page: Path, heads_page: Path, browser: Any, entry: Entry) -> None:
    with watched_page(browser, javascript=False) as watched:
        page = watched.open(run_page)
        assert page.locator("table.heat tbody td").count() == len(entry.heads)
        assert page.locator("#threshold").is_hidden() and page.locator("#all-heads").is_hidden()
        assert page.locator("#above").is_visible()
        page.locator("table.heads tbody a").first.click()
        page.wait_for_url("**/heads.html#h*")
        assert page.locator(".panel").count() == len(chosen_heads(entry.heads, 0.1))
        assert page.locator(".panel .example").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(
    site: Path, run_page: Path, heads_page: Path, browser: Any, entry: Entry, scheme: str
) -> None:
    empty = site / page_path(replace(uncounted(renamed(entry, "never/finds"))))
    with watched_page(browser, scheme=scheme) as watched:
        for path in (run_page, heads_page, empty):
            assert_accessible(watched.open(path))


def test_hostile_name_is_text_on_the_page_of_heads(site: Path, watched: Watched, entry: Entry) -> None:
    page = watched.open((site / page_path(renamed(entry, HOSTILE))).with_suffix("") / "heads.html")
    assert HOSTILE_SHOWN in page.title()
    assert page.locator(".back a").inner_text() == HOSTILE_SHOWN
    assert page.locator("script:not([src])").count() == 0


# Imports


def test_import_has_its_map_its_threshold_and_its_mark(tmp_path: Path, watched: Watched) -> None:
    scores = {f"{layer}-{head}": [0.3 * head, 0.1 * layer, 0.0] for layer in range(4) for head in range(5)}
    (tmp_path / "foreign.json").write_text(json.dumps(scores))
    import_file(tmp_path / "foreign.json", tmp_path / "runs")
    build_site(tmp_path / "runs", tmp_path / "site")
    page = watched.open(tmp_path / "site" / "index.html")
    page.locator("section.imported tbody a").click()
    page.wait_for_url("**/imports/**")
    assert page.locator(".facts .badge.imported").is_visible()
    cell(page, 3, 4).hover()
    assert page.locator("#tip").inner_text().splitlines() == ["Layer 3, head 4", "Score 0.5"]
    page.locator("#threshold").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    above = sum((0.3 * head + 0.1 * layer) / 3 > 0.3 + 1e-9 for layer in range(4) for head in range(5))
    assert page.locator("table.heat td.above").count() == above > 0
    page.wait_for_url("**#t=0.3")
    assert_accessible(page)
