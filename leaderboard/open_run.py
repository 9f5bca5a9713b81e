"""A run whose pages are being made: what several of them need is worked out once, and dropped with the run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rh_bench.leaderboard.activity import Activity, activity_of
from rh_bench.leaderboard.briefs import RunBrief, make_brief
from rh_bench.leaderboard.collect import Entry


@dataclass(frozen=True, eq=False)
class OpenRun:
    """A valid run, read."""

    entry: Entry

    @cached_property
    def activity(self) -> Activity | None:
        """What each head copied; None if the tables are not available, or too large."""
        return activity_of(self.entry)

    @cached_property
    def brief(self) -> RunBrief:
        """What the pages across runs need of it."""
        return make_brief(self.entry, self.activity)


def brief_of(entry: Entry) -> RunBrief:
    """The brief of a valid run. The same run gives the same brief."""
    return OpenRun(entry).brief
