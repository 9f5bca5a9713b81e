"""The static leaderboard: renders valid runs as a site that opens from a file, with no network."""

from __future__ import annotations

from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.build import SiteReport, build_site, render
from rh_bench.leaderboard.collect import Collection, Entry, LeftOut
from rh_bench.leaderboard.open_run import brief_of

__all__ = ["Collection", "Entry", "LeftOut", "RunBrief", "SiteReport", "brief_of", "build_site", "render"]
