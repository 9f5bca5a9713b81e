"""The feed of new runs and the sitemap: whole addresses, the newest first, and nothing without an address."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from browser import HOSTILE, HOSTILE_SHOWN, changed, renamed, uncounted
from fake_runs import make_run

from rh_bench.errors import InputError
from rh_bench.leaderboard import Collection, Entry, brief_of, build_site, render
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.feed import MOST, feed
from rh_bench.leaderboard.render import Frame

ATOM = "{http://www.w3.org/2005/Atom}"
MAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
URL = "https://example.org/heads"


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = tmp_path_factory.mktemp("runs")
    make_run(root)
    return collect(root).entries[0]


def begun(entry: Entry, name: str, started: str) -> Entry:
    def change(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["timings"]["started"] = started

    return changed(renamed(entry, name), change)


def test_the_newest_run_comes_first_and_gives_the_feed_its_date(tmp_path: Path, entry: Entry) -> None:
    entries = (begun(entry, "a/old", "2026-01-02T00:00:00Z"), begun(entry, "b/new", "2026-03-04T05:06:07Z"))
    render(Collection(entries, ()), tmp_path / "site", url=URL)
    root = ElementTree.parse(tmp_path / "site" / "feed.xml").getroot()
    assert root.findtext(f"{ATOM}updated") == "2026-03-04T05:06:07Z"
    found = root.findall(f"{ATOM}entry")
    assert [one.findtext(f"{ATOM}title") for one in found] == ["b/new on synthetic-quick", "a/old on synthetic-quick"]
    for one, of in zip(found, reversed(entries), strict=True):
        link = one.find(f"{ATOM}link")
        assert link is not None and link.get("href") == f"{URL}/{brief_of(of).page}" == one.findtext(f"{ATOM}id")


def test_the_sitemap_lists_every_page(tmp_path: Path, entry: Entry) -> None:
    pages = render(Collection((entry, renamed(entry, HOSTILE)), ()), tmp_path / "site", url=URL + "/")
    root = ElementTree.parse(tmp_path / "site" / "sitemap.xml").getroot()
    found = {one.text for one in root.iter(f"{MAP}loc")}
    names = {page.relative_to(tmp_path / "site").as_posix() for page in pages}
    assert found == {f"{URL}/" if name == "index.html" else f"{URL}/{name}" for name in names}


def test_there_is_neither_without_an_address(tmp_path: Path, entry: Entry) -> None:
    render(Collection((entry,), ()), tmp_path / "site")
    assert not list((tmp_path / "site").glob("*.xml"))
    assert "feed.xml" not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_hostile_names_and_missing_numbers_make_a_sound_feed(entry: Entry) -> None:
    briefs = [brief_of(uncounted(renamed(entry, HOSTILE)))]
    root = ElementTree.fromstring(feed(briefs, Frame(URL + "/")))
    (one,) = root.findall(f"{ATOM}entry")
    assert one.findtext(f"{ATOM}title") == f"{HOSTILE_SHOWN} on synthetic-quick"
    assert "no sample counted" in str(one.findtext(f"{ATOM}summary"))


@pytest.mark.slow
def test_the_feed_is_short(entry: Entry) -> None:
    briefs = [brief_of(renamed(entry, f"acme/m{number}")) for number in range(MOST + 5)]
    assert feed(briefs, Frame(URL + "/")).count(b"<entry>") == MOST


@pytest.mark.parametrize(
    "url", ["ftp://example.org", "example.org", "https://", 'https://e.org/"x', "https://e.org/?q"]
)
def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="no address of a site"):
        build_site(tmp_path / "runs", tmp_path / "site", url=url)
