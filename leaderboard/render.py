"""Writes the site: every page from its template, the assets beside them, the whole swapped in at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from rh_bench.errors import InputError

from .charts import WHISKER_WIDTH
from .collect import Collection
from .model_page import model_page
from .overview import overview
from .palette import LEVELS, scale_css, score_level
from .words import visible

GENERATOR = '<meta name="generator" content="rh_bench leaderboard">'
"""In the head of every page; the mark by which a later build knows that it may replace a folder."""

LEGEND = tuple((score, score_level(score)) for score in (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0))
"""Scores shown in the key of the heat map, with their levels."""


def render(collection: Collection, out: Path) -> list[Path]:
    """Write the site to `out` and return its pages, sorted, `index.html` among them.

    The site is made in a folder beside `out` and then takes its place, so a build that fails leaves the old site as it
    was. The same collection gives the same bytes.

    Raises:
        InputError: `out` exists and is neither an empty folder nor a site that this function made.
    """
    _refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        fresh = workshop / "new"
        pages = []
        for name, text in _documents(collection):
            _write(fresh / name, text)
            if name.endswith(".html"):
                pages.append(out / name)
        _swap(fresh, out, workshop / "old")
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return sorted(pages)


def _documents(collection: Collection) -> Iterator[tuple[str, str]]:
    """Every file of the site: its path below the root, and its text."""
    assets = files("leaderboard") / "assets"
    yield "assets/site.css", (assets / "site.css").read_text(encoding="utf-8") + scale_css()
    yield "assets/site.js", (assets / "site.js").read_text(encoding="utf-8")
    yield "assets/icon.svg", (assets / "icon.svg").read_text(encoding="utf-8")
    environment = _environment()
    yield "index.html", environment.get_template("index.html").render(view=overview(collection), root="")
    for entry in collection.entries:
        view = model_page(entry)
        yield view.page, environment.get_template("model.html").render(view=view, root=view.root)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.globals.update(legend=LEGEND, levels=LEVELS, whisker_width=WHISKER_WIDTH)
    return environment


def _refuse_foreign(out: Path) -> None:
    """Replacing deletes, so only what is surely a site, or empty, is ever replaced."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError("is not a folder", where=out, mend="name a new folder for the site")
    if not out.exists() or not any(out.iterdir()):
        return
    index = out / "index.html"
    if not index.is_file() or GENERATOR not in index.read_text(encoding="utf-8", errors="replace"):
        raise InputError("holds something other than a site", where=out, mend="name a new or an empty folder")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _swap(fresh: Path, out: Path, old: Path) -> None:
    """Put `fresh` where `out` is. If that fails half way, what was there comes back."""
    existed = out.exists()
    if existed:
        out.replace(old)
    try:
        fresh.replace(out)
    except OSError:
        if existed:
            old.replace(out)
        raise
