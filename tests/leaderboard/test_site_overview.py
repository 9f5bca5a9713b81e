"""The overview in a real Chromium: sorting, finding, columns, pins, downloads, all of it from the address and back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
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

from rh_bench.leaderboard import Collection, Entry, LeftOut, RunBrief, brief_of, render
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.columns import COLUMNS, data, fields
from rh_bench.leaderboard.overview import _ranks, overview
from rh_bench.leaderboard.render import Frame, Site

pytestmark = pytest.mark.browser

FIRST = ["zeta/large-share", "mid/middle-share", "alpha/small-share", HOSTILE_SHOWN, "never/finds"]
"""The larger group as it stands at first."""
FORMULA = '=cmd/x"y,z'


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
def entries(entry: Entry) -> tuple[Entry, ...]:
    """Five comparable models, one of them without a counted sample and one with a hostile name; one of another
    protocol, family, size and kind of attention."""

    def other(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["protocol"]["dtype"] = "bfloat16"
        run["model"] |= {"model_type": "qwen2", "parameters": 7_000_000_000}
        run["model"]["layers"][0] |= {"kind": "sliding", "window": 128}

    return (
        renamed(entry, "zeta/large-share", share=0.09),
        renamed(entry, "alpha/small-share", share=0.02),
        renamed(entry, "mid/middle-share", share=0.05),
        uncounted(renamed(entry, "never/finds")),
        renamed(entry, HOSTILE, share=0.01),
        changed(renamed(entry, FORMULA), other),
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, entries: tuple[Entry, ...]) -> Path:
    out = tmp_path_factory.mktemp("out") / "site"
    render(Collection(entries, (LeftOut("acme__half/" + "0" * 60, ("unfinished",)),)), out)
    return out


@pytest.fixture(scope="module")
def long_site(tmp_path_factory: pytest.TempPathFactory, entry: Entry) -> Path:
    """More runs than a table keeps in the document at first."""
    out = tmp_path_factory.mktemp("long") / "site"
    many = tuple(renamed(entry, f"acme/m{number:03d}", share=number / 1000) for number in range(150))
    render(Collection(many, ()), out)
    return out


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    with watched_page(browser) as page:
        yield page
        assert page.complaints == []


def larger(page: Any) -> Any:
    return page.locator("table.runs").filter(has=page.locator("tbody tr:nth-child(2)"))


def models(page: Any) -> list[str]:
    return list(larger(page).locator("tbody th a").all_inner_texts())


def ranks(page: Any) -> list[str]:
    return [text.strip() for text in larger(page).locator("tbody td.rank").all_inner_texts()]


def find(page: Any, words: str) -> None:
    page.locator("#tools [name=q]").fill(words)


def head(page: Any, key: str) -> Any:
    return larger(page).locator(f"[data-key={key}]")


# What the page is made from


def test_the_first_order_is_by_share_and_equal_shares_share_a_rank(entry: Entry) -> None:
    shares = {"a/low": 0.01, "b/same": 0.04, "c/same": 0.04, "d/high": 0.09}
    briefs = [brief_of(renamed(entry, name, share=share)) for name, share in shares.items()]
    briefs.append(brief_of(uncounted(renamed(entry, "e/none"))))
    (group,) = overview(Site(briefs, [], [], Frame())).groups
    found = [(row.model, row.rank) for row in group.rows]
    assert found == [("d/high", "1"), ("b/same", "2"), ("c/same", "2"), ("a/low", "4"), ("e/none", "–")]
    assert _ranks([0.5, 0.5, 0.2, None, None]) == ["1", "1", "3", "–", "–"]


def test_texts_are_numbered_as_they_sort_and_badges_by_what_they_say(entries: tuple[Entry, ...]) -> None:
    briefs = [brief_of(entry) for entry in entries]
    found = data(briefs)["fields"]
    assert set(found) == {field.name for field in fields()}
    models = found["model"]
    assert models["values"] == sorted(models["values"], key=str.casefold)
    assert [models["values"][place] for place in models["data"]] == [brief.model for brief in briefs]
    assert found["verified"]["values"].index("failed") < found["verified"]["values"].index("rerun")


def test_every_field_names_a_value_of_the_card(entry: Entry) -> None:
    brief = brief_of(entry)
    for field in fields():
        value = field.of(brief)
        assert value is None or isinstance(value, {"string": str, "int": int, "double": float}[field.kind]), field.name
    assert len({column.key for column in COLUMNS}) == len(COLUMNS)


# Sorting and ranks


def test_it_opens_by_share_and_says_that_this_is_no_verdict(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    assert models(page) == FIRST
    assert ranks(page) == ["1", "2", "3", "4", "–"]
    assert head(page, "share").get_attribute("aria-sort") == "descending"
    assert "not a verdict" in page.locator("#by").locator("xpath=..").inner_text()


def test_a_head_sorts_by_number_and_back_and_ranks_follow(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    button = head(page, "share").get_by_role("button")
    button.click()
    assert head(page, "share").get_attribute("aria-sort") == "ascending"
    assert models(page) == [*reversed(FIRST[:4]), "never/finds"]
    assert ranks(page) == ["1", "2", "3", "4", "–"]
    assert "sort=share" in page.url
    button.click()
    assert models(page) == FIRST
    assert "sort" not in page.url
    head(page, "gini").get_by_role("button").click()
    assert page.locator("#by").inner_text() == "gini"
    assert set(ranks(page)) == {"1", "–"}, "equal values share the first place"


def test_a_name_is_no_rank(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    head(page, "model").locator("button").focus()
    page.keyboard.press("Enter")
    assert models(page) == sorted(FIRST, key=str.casefold)
    assert larger(page).locator("[aria-sort]").count() == 1
    assert page.locator("#by").inner_text() == "share above 0.1"
    assert dict(zip(models(page), ranks(page), strict=True)) == dict(zip(FIRST, "1234–", strict=True))


def test_runs_of_another_protocol_are_ranked_for_themselves(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html", "sort=-gini")
    assert page.locator("table.runs").count() == 2
    assert page.locator("table.runs").filter(has_text="=cmd").locator("td.rank").inner_text().strip() == "1"


def test_a_long_table_gives_out_its_rows_on_the_way_down(long_site: Path, watched: Watched) -> None:
    page = watched.open(long_site / "index.html")
    rows = page.locator("table.runs tbody tr")
    assert rows.count() < 150
    assert rows.first.locator("th a").inner_text() == "acme/m149"
    page.locator("button.more").scroll_into_view_if_needed()
    page.locator("table.runs tbody tr:nth-child(31)").wait_for()
    head(page, "share").get_by_role("button").click()
    assert rows.first.locator("th a").inner_text() == "acme/m000"
    find(page, "m14")
    assert rows.count() == 10
    assert page.locator("button.more").is_hidden()


# Finding


def test_words_find_runs_and_hide_groups_and_it_says_how_many(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    assert page.locator("#shown").inner_text() == "6 runs"
    find(page, "SHARE mid")
    assert page.locator("table.runs tbody tr:visible th a").all_inner_texts() == ["mid/middle-share"]
    assert page.locator("section.group:visible").count() == 1
    assert page.locator("#shown").inner_text() == "1 of 6 runs"
    find(page, "no such model")
    assert page.locator("#shown").inner_text() == "0 of 6 runs"
    page.get_by_role("button", name="Show all again").click()
    assert page.locator("#shown").inner_text() == "6 runs"
    assert "q=" not in page.url


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [("family", "qwen2", 1), ("size", "under 1B", 5), ("attention", "full", 5), ("size", "4B to 10B", 1)],
)
def test_choices_narrow_the_tables_down(site: Path, watched: Watched, name: str, value: str, count: int) -> None:
    page = watched.open(site / "index.html")
    page.locator(f"#tools [name={name}]").select_option(value)
    assert page.locator("table.runs tbody tr:visible").count() == count
    assert f"{name}=" in page.url


def test_one_set_and_protocol_can_be_chosen(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    page.locator("#tools [name=group]").select_option(label="synthetic-quick, bfloat16")
    assert page.locator("section.group:visible").count() == 1
    assert page.locator("table.runs:visible tbody th a").all_inner_texts() == [FORMULA]


def test_what_cannot_be_narrowed_down_offers_no_choice(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    assert page.locator("#tools [name=badge]").count() == 0, "all runs are valid and no more"


# The address


def test_a_view_comes_back_from_its_address(site: Path, browser: Any) -> None:
    with watched_page(browser) as first, watched_page(browser) as second:
        page = first.open(site / "index.html")
        find(page, "share")
        head(page, "share").get_by_role("button").click()
        page.locator("summary", has_text="Columns").click()
        page.locator("[name=column][value=gini]").uncheck()
        page.locator("[name=column][value=set]").check()
        larger(page).locator(".rank input").nth(1).check()
        page.locator("#theme").click()
        other = second.open(site / "index.html", page.url.partition("#")[2])
        for view in (page, other):
            assert models(view) == ["mid/middle-share", "alpha/small-share", "zeta/large-share"]
            assert view.locator("#tools [name=q]").input_value() == "share"
            assert head(view, "gini").is_hidden() and head(view, "set").is_visible()
            assert larger(view).locator("tr.pin").count() == 1
            assert view.evaluate("document.documentElement.dataset.theme") == "dark"
        assert first.complaints == second.complaints == []


def test_an_address_that_makes_no_sense_is_passed_over(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html", "sort=-nothing&hide=x.model&pin=a,b&size=&family=nobody&group=9")
    assert head(page, "model").is_visible()
    assert page.locator("#shown").inner_text() == "6 runs"
    page = watched.open(site / "index.html", "sort=rank&hide=none&pin=,,")
    assert models(page) == FIRST
    assert head(page, "set").is_visible()
    assert page.locator("#pinned").is_hidden()


def test_going_back_follows_the_address(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    page.evaluate("location.hash = 'q=mid'")
    page.locator("#shown", has_text="1 of 6 runs").wait_for()
    page.go_back()
    page.locator("#shown", has_text="6 runs").and_(page.locator("#shown", has_not_text="of")).wait_for()
    assert page.locator("#tools [name=q]").input_value() == ""


# Pins


def test_pinned_runs_come_first_stay_when_narrowed_and_lead_to_compare(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    for name in ("alpha/small-share", "never/finds"):
        larger(page).locator("tbody tr", has_text=name).locator("input").check()
    assert models(page)[:2] == ["alpha/small-share", "never/finds"]
    find(page, "zeta")
    assert models(page) == ["alpha/small-share", "never/finds", "zeta/large-share"]
    assert page.locator("#pinned li bdi").all_inner_texts() == ["alpha/small-share", "never/finds"]
    keys = page.evaluate("new URLSearchParams(location.hash.slice(1)).get('pin').split(',')")
    assert [key.split("/")[0] for key in keys] == ["alpha__small-share", "never__finds"]
    link = page.locator("#pinned a.compare")
    assert link.evaluate("a => new URLSearchParams(new URL(a.href).hash.slice(1)).get('runs')") == ",".join(keys)
    page.get_by_role("button", name="Unpin alpha/small-share").click()
    assert models(page) == ["never/finds", "zeta/large-share"]


def test_no_more_than_six_are_pinned(long_site: Path, watched: Watched) -> None:
    page = watched.open(long_site / "index.html")
    for place in range(7):
        page.locator("table.runs tbody tr input").nth(place).click()
    assert page.locator("table.runs tbody tr.pin").count() == 6
    assert page.locator("table.runs tbody input:checked").count() == 6


# Downloads


def downloaded(page: Any, form: str, folder: Path) -> Path:
    page.locator("summary", has_text="Download").click()
    with page.expect_download() as found:
        page.locator(f"[data-download={form}]").click()
    page.keyboard.press("Escape")
    path = folder / str(found.value.suggested_filename)
    found.value.save_as(path)
    return path


def expected(briefs: list[RunBrief], keys: set[str], numbers: list[int | None]) -> list[dict[str, Any]]:
    """Rows with every field of the columns `keys`."""
    columns = [column for column in COLUMNS if column.key in keys]
    rows = []
    for brief, number in zip(briefs, numbers, strict=True):
        row: dict[str, Any] = {"rank": number} if "rank" in keys else {}
        rows.append(row | {field.name: field.of(brief) for column in columns for field in column.fields})
    return rows


def test_downloads_hold_exactly_what_is_shown(
    site: Path, watched: Watched, entries: tuple[Entry, ...], tmp_path: Path
) -> None:
    page = watched.open(site / "index.html", "sort=share&hide=gini.date.zero&q=share")
    by_name = {entry.run["model"]["id"]: brief_of(entry) for entry in entries}
    briefs = [by_name[name] for name in models(page)]
    keys = {column.key for column in COLUMNS} - {"gini", "date", "zero"}
    wanted = expected(briefs, keys, [2, 3, 4])
    found = json.loads(downloaded(page, "json", tmp_path).read_text(encoding="utf-8"))
    assert found == wanted
    assert list(found[0]) == list(wanted[0])
    table = pq.read_table(downloaded(page, "parquet", tmp_path))
    assert table.to_pylist() == wanted
    assert str(table.schema.field("share_above_0.1").type) == "double"
    assert str(table.schema.field("parameters").type) == "int64"
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "csv", tmp_path).read_text(encoding="utf-8"))))
    for row, want in zip(rows, wanted, strict=True):
        for name, value in want.items():
            assert (
                row[name] == ("" if value is None else value)
                if not isinstance(value, float | int)
                else (float(row[name]) == value)
            ), name


def test_downloads_of_all_runs_keep_reasons_and_hostile_names(
    site: Path, watched: Watched, entries: tuple[Entry, ...], tmp_path: Path
) -> None:
    page = watched.open(site / "index.html")
    table = pq.read_table(downloaded(page, "parquet", tmp_path)).to_pylist()
    assert {row["model"] for row in table} == {entry.run["model"]["id"] for entry in entries}
    lost = next(row for row in table if row["model"] == "never/finds")
    assert (lost["share_above_0.1"], lost["share_above_0.1_reason"], lost["rank"]) == (None, "no sample counted", None)
    text = downloaded(page, "csv", tmp_path).read_text(encoding="utf-8")
    names = [row["model"] for row in csv.DictReader(io.StringIO(text))]
    assert HOSTILE in names
    assert "'" + FORMULA in names, "a spreadsheet must not take a name for a formula"


def test_nothing_is_asked_for_off_the_site_when_downloading(site: Path, watched: Watched, tmp_path: Path) -> None:
    page = watched.open(site / "index.html")
    downloaded(page, "parquet", tmp_path)
    root = site.resolve().as_uri() + "/"
    assert all(request.startswith((root, "blob:")) for request in watched.requests), watched.requests
    assert any("vendor" in request for request in watched.requests)


# Everybody


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_grave_with_menus_open_and_runs_pinned(site: Path, watched: Watched, theme: str) -> None:
    page = watched.open(site / "index.html", f"theme={theme}")
    for box in (0, 1):
        larger(page).locator(".rank input").nth(box).check()
    page.locator("summary", has_text="Columns").click()
    assert_accessible(page)


def test_menus_close_by_escape_and_by_a_click_elsewhere(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    menu = page.locator("details", has=page.locator("summary", has_text="Columns"))
    menu.locator("summary").click()
    page.keyboard.press("Escape")
    assert menu.get_attribute("open") is None
    menu.locator("summary").click()
    page.locator("h1").click()
    assert menu.get_attribute("open") is None


def test_without_script_every_run_is_in_a_plain_table(long_site: Path, site: Path, browser: Any) -> None:
    with watched_page(browser, javascript=False) as watched:
        page = watched.open(long_site / "index.html")
        assert page.locator("table.runs tbody tr:visible").count() == 150
        page = watched.open(site / "index.html")
        assert page.locator("#tools").is_hidden() and page.locator("#pinned").is_hidden()
        assert models(page) == FIRST
        assert ranks(page) == ["1", "2", "3", "4", "–"]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(site: Path, browser: Any, width: int) -> None:
    with watched_page(browser, width=width) as watched:
        page = watched.open(site / "index.html")
        for box in (0, 1, 2):
            larger(page).locator(".rank input").nth(box).check()
        for menu in page.locator("summary").all():
            menu.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert watched.complaints == []


def test_hostile_names_are_text_in_every_part_of_the_page(site: Path, watched: Watched) -> None:
    page = watched.open(site / "index.html")
    larger(page).locator("tbody tr", has_text="<script>").locator("input").check()
    assert page.locator("#pinned li bdi").inner_text() == HOSTILE_SHOWN
    assert page.evaluate("[...document.scripts].every((script) => script.src || script.type === 'application/json')")


def test_empty_site_opens(tmp_path: Path, watched: Watched) -> None:
    render(Collection((), ()), tmp_path / "site")
    page = watched.open(tmp_path / "site" / "index.html", "sort=-share&q=x")
    assert page.get_by_role("heading", name="No runs yet").is_visible()


def test_site_of_one_run_sorts_and_finds(tmp_path: Path, watched: Watched, entry: Entry) -> None:
    render(Collection((entry,), ()), tmp_path / "site")
    page = watched.open(tmp_path / "site" / "index.html", "sort=gini")
    assert page.locator("#shown").inner_text() == "1 run"
    find(page, "no such model")
    assert page.locator("table.runs tbody tr:visible").count() == 0
    assert page.locator("#shown").inner_text() == "0 of 1 runs"
