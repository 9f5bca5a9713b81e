"""The static leaderboard: renders valid runs as a site that opens from a file, with no network."""

from __future__ import annotations

from rh_bench.leaderboard.build import SiteReport, build_site, render
from rh_bench.leaderboard.cards import Card, make_card
from rh_bench.leaderboard.collect import Collection, Entry, LeftOut

__all__ = ["Card", "Collection", "Entry", "LeftOut", "SiteReport", "build_site", "make_card", "render"]
