"""From views to files: the templates, the assets beside the pages, and a folder that is swapped in whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FunctionLoader, PackageLoader, StrictUndefined

from rh_bench.artifacts.results_repo import SITE_MARK
from rh_bench.display.axes import WHISKER_WIDTH
from rh_bench.display.formatting import visible
from rh_bench.display.palette import LEVELS, difference_css, rate_level, scale_css, score_level
from rh_bench.errors import InputError
from rh_bench.leaderboard.badges import ATTESTED
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.collect import Imported, LeftOut
from rh_bench.leaderboard.kind_templates import read_card
from rh_bench.system.workshop import Workshop, workshop

Document = tuple[str, str | bytes]
"""A file of the site: its path below the root with forward slashes, and what is in it."""

GENERATOR = SITE_MARK
"""In the head of every page; the mark by which a later build knows that it may replace a folder."""

LEGEND = tuple((score, score_level(score)) for score in (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0))
"""Scores shown in the key of the heat map, with their levels."""

RATES = tuple((share / 4, rate_level(share / 4)) for share in range(5))
"""Shares shown in the key of the heads' grids, with their levels."""


_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~-]+)*/")


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page of a site has in common."""

    url: str = ""
    """Address where the site will lie, ending in a slash; empty if not given."""
    nav: tuple[tuple[str, str], ...] = ()
    """Name and path of every page that the head of each page leads to."""

    def render(self, template: str, path: str, **values: object) -> str:
        """The page at `path` below the site's root. Templates know `root`, the way from the page back to it."""
        found = environment().get_template(template)
        return found.render(root="../" * path.count("/"), path=path, url=self.url, nav=self.nav, **values)


def checked_url(text: str) -> str:
    """The address of a folder on the web, ending in a slash; empty if `text` is.

    Raises:
        InputError: it is something else.
    """
    if not text:
        return ""
    whole = text if text.endswith("/") else text + "/"
    if not _URL.fullmatch(whole):
        raise InputError("is no address of a site", where=repr(text), hint="write it as https://example.org/heads")
    return whole


@dataclass(frozen=True, slots=True)
class Site:
    """All that a page across runs can be made from."""

    briefs: Sequence[RunBrief]
    """In the order of their models."""
    imported: Sequence[Imported]
    left_out: Sequence[LeftOut]
    frame: Frame


@cache
def environment() -> Environment:
    made = Environment(
        loader=ChoiceLoader([PackageLoader("rh_bench.leaderboard"), FunctionLoader(read_card)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["visible"] = visible
    made.globals.update(attested=ATTESTED, legend=LEGEND, rates=RATES, levels=LEVELS, whisker_width=WHISKER_WIDTH)
    return made


def assets() -> Iterator[Document]:
    """The files below `leaderboard/assets`, with colour scales appended to the sheets."""
    generated = {"assets/site.css": scale_css(), "assets/cross.css": difference_css()}
    for path, content in _below(files("rh_bench.leaderboard") / "assets", "assets"):
        yield path, content + generated.get(path, "").encode()


def _below(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for child in sorted(folder.iterdir(), key=lambda child: child.name):
        if child.is_dir():
            yield from _below(child, f"{path}/{child.name}")
        elif not child.name.startswith("."):
            yield f"{path}/{child.name}", child.read_bytes()


def write(root: Path, document: Document) -> bytes:
    """Write one file of a site below `root`; text as UTF-8 with the line ends that it has. Returns its bytes."""
    name, content = document
    data = content.encode("utf-8") if isinstance(content, str) else content
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


@contextmanager
def replacing(out: Path) -> Iterator[tuple[Workshop, Path]]:
    """A new folder in a workshop beside `out`, which takes its place when the block ends.

    A block that fails leaves the old site as it was.

    Raises:
        InputError: `out` exists and is neither an empty folder nor a site that this package made, or another process
            is rendering it.
    """
    _refuse_foreign(out)
    place = out.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    with workshop(place) as made:
        _refuse_foreign(out)  # an old site may have come back
        fresh = made.fresh()
        yield made, fresh
        made.put(fresh)


def _refuse_foreign(out: Path) -> None:
    """Replacing deletes, so only what is surely a site, or empty, is ever replaced."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError("is not a folder", where=out, hint="name a new folder for the site")
    if not out.exists() or not any(out.iterdir()):
        return
    index = out / "index.html"
    if not index.is_file() or GENERATOR not in index.read_text(encoding="utf-8", errors="replace"):
        raise InputError("holds something other than a site", where=out, hint="name a new or an empty folder")
