"""The static leaderboard: collects valid runs and renders a site that opens from a file, with no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .collect import Collection, Entry, LeftOut
from .collect import collect as _collect
from .render import render as _render

__all__ = ["Collection", "Entry", "LeftOut", "SiteReport", "build_site"]


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What a build did: the runs shown, the run folders left out with their reasons, and the pages written."""

    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...]
    pages: tuple[Path, ...]
    imported: int = 0
    """Head lists of other projects, which are shown apart."""


def build_site(runs_root: Path, out: Path) -> SiteReport:
    """Collect the runs below `runs_root` and render them to `out`, replacing a site that is there.

    Raises:
        InputError: `runs_root` is no folder, or `out` exists and is something other than a site.
    """
    collection = _collect(runs_root)
    pages = _render(collection, out)
    return SiteReport(collection.entries, collection.left_out, tuple(pages), len(collection.imported))
