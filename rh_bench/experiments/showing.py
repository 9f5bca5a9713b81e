"""What the site shows of a kind of experiment: the part that its own folder declares.

`card.html` beside `card.py` draws it, in two macros: `of_run(found)` on the page of one run, with `found.views` and
`found.details`; and `of_all(shown, page)` on the page of all, with what `arrange` gave and the whole page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rh_bench.records import Json


@dataclass(frozen=True, slots=True)
class Shown:
    """A view on the page of all experiments."""

    model: str
    """As it is shown."""
    page: str
    """Of the run, below the site's root; empty for an import."""
    view: Any


MOST_CHARTS = 24
"""Of a section on the page of all; beyond, the page of a run has its own."""


def first_charts(shown: Sequence[Shown]) -> Sequence[Shown]:
    """To arrange views that are large."""
    return shown[:MOST_CHARTS]


def _as_they_are(shown: Sequence[Shown]) -> Sequence[Shown]:
    return shown


@dataclass(frozen=True, slots=True)
class Showing:
    """From whole documents to the few numbers that a site keeps of each, and from these to what templates draw."""

    place: int
    """Of its section, in ascending order."""
    thin: Callable[[Json], Json]
    """From experiment.json to the numbers that are kept: JSON."""
    view: Callable[[Json], Any]
    """From these, with `badge` (how far it is verified) added, to words and coordinates; equal for equal numbers."""
    detail: Callable[[Json], Any] | None = None
    """From experiment.json to what the page of its run shows beside the view; None for nothing more."""
    arrange: Callable[[Sequence[Shown]], Sequence[Shown]] = _as_they_are
    """Which of the views the page of all shows, and in which order; they come in the order of their models."""
