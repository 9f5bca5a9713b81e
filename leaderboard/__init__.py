"""The static leaderboard: renders valid runs as a site that opens from a file, with no network."""

from __future__ import annotations

from .build import SiteReport, build_site, render
from .cards import Card, make_card
from .collect import Collection, Entry, LeftOut

__all__ = ["Card", "Collection", "Entry", "LeftOut", "SiteReport", "build_site", "make_card", "render"]
