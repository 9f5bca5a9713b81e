"""For readers that are no people: a feed of new runs (Atom, RFC 4287) and a sitemap. Both need whole addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from xml.etree import ElementTree

from rh_bench.display import formatting as words
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.render import Document, Frame, Site

FEED, SITEMAP = "feed.xml", "sitemap.xml"
MOST = 50
"""Runs in the feed."""


def documents(site: Site, pages: Iterable[str]) -> Iterator[Document]:
    """Both files, or none for a site whose address nobody gave.

    Args:
        pages: paths of all pages of the site.
    """
    if site.frame.url:
        yield FEED, feed(site.briefs, site.frame)
        yield SITEMAP, sitemap(pages, site.frame)


def feed(briefs: Sequence[RunBrief], frame: Frame) -> bytes:
    """The newest runs, by the time at which their measurement began."""
    newest = sorted(briefs, key=lambda brief: (brief.started, brief.key), reverse=True)[:MOST]
    root = ElementTree.Element("feed", xmlns="http://www.w3.org/2005/Atom")
    _add(root, "id", frame.url)
    _add(root, "title", "Retrieval heads: new runs")
    _add(root, "updated", newest[0].started if newest else "1970-01-01T00:00:00Z")
    ElementTree.SubElement(ElementTree.SubElement(root, "author"), "name").text = "rh_bench"
    ElementTree.SubElement(root, "link", rel="self", href=frame.url + FEED, type="application/atom+xml")
    ElementTree.SubElement(root, "link", rel="alternate", href=frame.url, type="text/html")
    for brief in newest:
        entry = ElementTree.SubElement(root, "entry")
        _add(entry, "id", frame.url + brief.page)
        _add(entry, "title", f"{words.visible(brief.model)} on {words.visible(brief.set_name)}")
        _add(entry, "updated", brief.started)
        ElementTree.SubElement(entry, "link", rel="alternate", href=frame.url + brief.page, type="text/html")
        _add(entry, "summary", _summary(brief))
    return _bytes(root)


def sitemap(pages: Iterable[str], frame: Frame) -> bytes:
    """All pages, sorted; the first page under the address of the site itself."""
    root = ElementTree.Element("urlset", xmlns="http://www.sitemaps.org/schemas/sitemap/0.9")
    for page in sorted(pages):
        _add(ElementTree.SubElement(root, "url"), "loc", frame.url + ("" if page == "index.html" else page))
    return _bytes(root)


def _summary(brief: RunBrief) -> str:
    share = words.figure(brief.share, words.percent)
    heads = (
        f"No share of retrieval heads: {share.reason}."
        if share.reason
        else f"{share.text} of {brief.heads:,} heads score above 0.1"
        f"{f' (interval {share.interval})' if share.interval else ''}."
    )
    return words.visible(
        f"{heads} {brief.counted:,} of {brief.samples:,} samples count. Level of verification: {brief.badge}."
        f"{' ' + brief.coverage.note if brief.coverage.note else ''}"
    )


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text


def _bytes(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root, " ")
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()
