"""Method, data and about; badges, cards and previews: that they say what holds, and hold what they say."""

from __future__ import annotations

import html
import itertools
import re
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from browser import (
    HOSTILE,
    HOSTILE_SHOWN,
    assert_accessible,
    changed,
    chromium,
    renamed,
    uncounted,
    watched_page,
)
from fake_runs import make_families
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rh_bench.data_builders import dataset_card as set_card
from rh_bench.display.palette import _rgb, contrast, preview_colours
from rh_bench.leaderboard import Collection, Entry, RunBrief, brief_of, render
from rh_bench.leaderboard.about import repository, set_views, worth
from rh_bench.leaderboard.badges import ABOUT
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.embed import BADGE_COLOURS, PREVIEW, preview
from rh_bench.leaderboard.png import indexed_png
from rh_bench.stats.bootstrap import NANO
from rh_bench.submissions import results_card

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("method.html", "data.html", "about.html")


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Entry, ...]:
    root = tmp_path_factory.mktemp("runs")
    make_families(root)
    return collect(root).entries


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, entries: tuple[Entry, ...]) -> Path:
    def hostile(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["haystack"] |= {"name": HOSTILE, "location": HOSTILE, "revision": HOSTILE, "manifest_sha256": "e" * 64}

    out = tmp_path_factory.mktemp("out") / "site"
    shown = (*entries, changed(renamed(entries[0], HOSTILE), hostile), uncounted(renamed(entries[1], "never/finds")))
    render(Collection(shown, ()), out, url="https://leader.example/")
    return out


def decoded(data: bytes) -> tuple[npt.NDArray[np.uint8], list[tuple[int, ...]]]:
    """Pixels and colours of an indexed PNG, read by the rules of its specification; checks every sum."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, depth, colour_type, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour_type) == (8, 3)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:], [tuple(chunks[b"PLTE"][i : i + 3]) for i in range(0, len(chunks[b"PLTE"]), 3)]


# Pictures


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)))
def test_a_png_holds_its_pixels(pixels: npt.NDArray[np.uint8]) -> None:
    colours = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (1, 2, 3)]
    found, kept = decoded(indexed_png(pixels, colours))
    assert found.tolist() == pixels.tolist()
    assert kept == colours


def test_a_png_of_colours_that_are_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 1 colours"):
        indexed_png(np.ones((1, 1), dtype=np.uint8), [(0, 0, 0)])


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (16, 8), (80, 64), (126, 128), (3, 1000)])
def test_a_preview_has_a_cell_for_every_head(entries: tuple[Entry, ...], layers: int, heads: int) -> None:
    """Of a model in which every head has the largest score, the cells and the strip below have its colour alone."""
    template = entries[0].heads[0]
    full = tuple(
        replace(template, layer=layer, head=head, score=1.0) for layer in range(layers) for head in range(heads)
    )

    def shape(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["model"]["layers"] = [{**run["model"]["layers"][0], "index": i} for i in range(layers)]

    pixels, colours = decoded(preview(brief_of(replace(changed(entries[0], shape), heads=full, folder=None))))
    assert pixels.shape == PREVIEW
    assert colours == preview_colours()
    brightest = len(colours) - 1
    assert set(np.unique(pixels).tolist()) == {0, brightest}
    assert (pixels[PREVIEW[0] - 80, 60 : PREVIEW[1] - 60] == brightest).all()
    assert (pixels[: PREVIEW[0] - 100] == brightest).any()


@pytest.mark.slow
def test_a_preview_without_scores_is_paper(entries: tuple[Entry, ...]) -> None:
    pixels, _ = decoded(preview(brief_of(uncounted(entries[0]))))
    assert not pixels.any()


@pytest.mark.slow
def test_the_picture_of_the_whole_site_has_the_size_that_pages_claim(site: Path) -> None:
    data = (site / "assets" / "preview.png").read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1200, 630)
    text = (site / "index.html").read_text(encoding="utf-8")
    assert '<meta property="og:image" content="https://leader.example/assets/preview.png">' in text


@pytest.mark.slow
def test_pages_of_runs_are_previewed_with_their_own_picture(site: Path, entries: tuple[Entry, ...]) -> None:
    brief = brief_of(entries[0])
    text = (site / brief.page).read_text(encoding="utf-8")
    stem = brief.page.removesuffix(".html")
    assert re.findall(r'og:image" content="([^"]*)"', text) == [f"https://leader.example/{stem}.preview.png"]
    assert (site / f"{stem}.preview.png").read_bytes() == preview(brief)


def test_without_an_address_there_are_no_previews(entries: tuple[Entry, ...], tmp_path: Path) -> None:
    render(Collection(entries[:1], ()), tmp_path)
    assert not list(tmp_path.rglob("*.preview.png"))
    assert "og:image" not in (tmp_path / "index.html").read_text(encoding="utf-8")


# Badges and cards


def texts(path: Path) -> list[str]:
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    return [text for node in root.iter() if (text := (node.text or "").strip())]


def test_badges_and_cards_say_what_the_run_says(site: Path, entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        brief: RunBrief = brief_of(entry)
        stem = site / brief.page.removesuffix(".html")
        share = f"{brief.share['value'] * 100:.1f}%"
        assert texts(stem.with_suffix(".badge.svg"))[-2:] == ["retrieval heads", f"{share} · valid"]
        found = texts(stem.with_suffix(".card.svg"))
        assert brief.model in found and share in found and "valid" in found
        assert f"of {brief.heads} heads are retrieval heads" in found
        assert f"95% interval {brief.share['low'] * 100:.1f}–{brief.share['high'] * 100:.1f}%" in found


def test_names_are_text_in_pictures_and_long_ones_are_cut(
    site: Path, entries: tuple[Entry, ...], tmp_path: Path
) -> None:
    paths = [path for path in site.rglob("*.card.svg") if "script" in path.as_posix()]
    assert len(paths) == 1
    assert HOSTILE_SHOWN[:41] + "…" in texts(paths[0])
    assert "<script" not in paths[0].read_text(encoding="utf-8")
    render(Collection((uncounted(renamed(entries[0], "n" * 200)),), ()), tmp_path)
    found = texts(next(tmp_path.rglob("*.card.svg")))
    assert "n" * 41 + "…" in found and "no sample counted" in found
    assert texts(next(tmp_path.rglob("*.badge.svg")))[-1] == "not scored · valid"


def test_badges_have_a_colour_each_that_white_can_be_read_on() -> None:
    assert set(BADGE_COLOURS) == set(ABOUT)
    for colour in BADGE_COLOURS.values():
        assert contrast(_rgb(colour), _rgb("#ffffff")) >= 4.5


def test_a_run_says_how_to_show_it_elsewhere(site: Path, entries: tuple[Entry, ...]) -> None:
    brief = brief_of(entries[0])
    text = (site / brief.page).read_text(encoding="utf-8")
    stem = "https://leader.example/" + brief.page.removesuffix(".html")
    assert f"[![Retrieval heads]({stem}.badge.svg)]({stem}.html)" in text
    assert f'<img src="{stem}.card.svg" width="560"' in html.unescape(text)


# Pages


@pytest.mark.slow
def test_sets_are_named_once_and_the_hub_before_a_folder(entries: tuple[Entry, ...]) -> None:
    def on_hub(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["haystack"] |= {"location": "org/set", "revision": "a" * 40}

    briefs = [brief_of(entry) for entry in (*entries, changed(entries[-1], on_hub))]
    views = set_views(briefs)
    assert [(view.name, view.runs) for view in views] == [("synthetic-quick", 11), ("essays-quick", 5)]
    assert (views[0].repo, views[0].revision) == ("org/set", "a" * 40)
    assert (views[1].repo, views[1].licence) == ("", "CC0-1.0")


def test_snippets_name_splits_and_configurations_that_are_published(site: Path) -> None:
    text = (site / "data.html").read_text(encoding="utf-8").replace("&#34;", '"')
    for config in ("models", "heads", "samples", "events"):
        assert f'load_dataset("org/results", "{config}", split="{results_card.SPLIT}"' in text
    assert f'load_dataset("sets/quick", "samples", split="{set_card.SPLIT}")' in text


def test_files_that_the_pages_name_are_in_the_repository(site: Path) -> None:
    for page in PAGES:
        text = (site / page).read_text(encoding="utf-8")
        for name in re.findall(r"<code>(docs/[^<]*)</code>", text):
            assert (ROOT / name).is_file(), (page, name)
        for link in re.findall(r'(?:href|src)="([^"]*)"', text):
            name, _, anchor = link.partition("#")
            if name.startswith("https:") or not link:
                continue
            target = site / (name or page)
            assert target.is_file(), (page, link)
            if anchor:
                assert f'id="{anchor}"' in target.read_text(encoding="utf-8"), (page, link)


def test_every_level_of_verification_is_explained(site: Path) -> None:
    text = (site / "method.html").read_text(encoding="utf-8")
    for name, about in ABOUT.items():
        assert f'<span class="badge {name}">{name}</span></dt><dd>{about}</dd>' in text


def test_the_address_of_the_code_is_https_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Metadata:
        def __init__(self, *urls: str) -> None:
            self.urls = urls

        def get_all(self, name: str) -> list[str]:
            return list(self.urls)

    def of(*urls: str) -> str:
        monkeypatch.setattr("rh_bench.leaderboard.about.metadata", lambda name: Metadata(*urls))
        return repository()

    assert of() == ""
    assert of("Repository, https://code.example/rh") == "https://code.example/rh"
    assert of("Repository, javascript:alert(1)") == ""


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_grave_stands_in_the_way_of_any_reader(site: Path, browser: Any, theme: str) -> None:
    with watched_page(browser) as watched:
        for page in PAGES:
            assert_accessible(watched.open(site / page, f"theme={theme}"))
        assert watched.complaints == []


@pytest.mark.browser
def test_a_phone_scrolls_down_only_and_nothing_leaves_the_site(site: Path, browser: Any) -> None:
    with watched_page(browser, width=390) as watched:
        for path in PAGES:
            page = watched.open(site / path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert all(url.startswith(site.resolve().as_uri() + "/") for url in watched.requests)
        assert watched.complaints == []


@pytest.mark.browser
def test_badges_and_cards_are_pictures_that_a_browser_can_draw(
    site: Path, browser: Any, entries: tuple[Entry, ...]
) -> None:
    with watched_page(browser) as watched:
        page = watched.open(site / brief_of(entries[0]).page)
        sizes = page.locator("#embed ~ p img").evaluate_all(
            "all => all.map((one) => [one.naturalWidth, one.naturalHeight])"
        )
        assert len(sizes) == 2 and sizes[1] == [560, 220] and sizes[0][1] == 20
        assert watched.complaints == []


def test_scores_of_previews_are_those_of_the_run(entries: tuple[Entry, ...]) -> None:
    brief = brief_of(entries[0])
    rows = brief.cross.rows()
    assert rows is not None
    pixels, _ = decoded(preview(brief))
    strip = pixels[PREVIEW[0] - 70, 60 : PREVIEW[1] - 60]
    assert (np.diff(strip.astype(int)) <= 0).all()
    assert (strip > 1).sum() / len(strip) == pytest.approx(np.count_nonzero(rows) / len(rows), abs=0.01)
    assert rows.max() <= NANO


def test_what_rerun_is_worth_is_how_often_a_draw_meets_a_forged_sample() -> None:
    """The first column is six of sixty forged: against drawing itself, and more samples never say less."""
    table = worth()
    assert [row[0] for row in table.rows] == ["4", "8", "16", "32"]
    assert all(len(row) == len(table.heads) + 1 for row in table.rows)
    shown = [[float(cell.removesuffix("%")) for cell in row[1:]] for row in table.rows]
    assert all(low <= high for rows in itertools.pairwise(shown) for low, high in zip(*rows, strict=True))
    rng = np.random.default_rng(0)
    drawn = np.array([rng.permutation(60)[:16].min() < 6 for _ in range(20_000)])
    assert table.heads[0] == "10% of 60 forged" and abs(100 * drawn.mean() - shown[2][0]) < 1
