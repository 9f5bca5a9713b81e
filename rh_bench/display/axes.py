"""Places along an axis: ticks, and an estimate with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from rh_bench.records import Json


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled position along an axis, in the chart's units."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Whisker:
    """A point and its interval on a line of `WHISKER_WIDTH` units. Ends are None if there is no interval."""

    at: float
    low: float | None
    high: float | None
    mark: float | None
    """Where a reference value lies, if it is in view."""


WHISKER_WIDTH = 96.0


def whisker(estimate: Json, top: float, mark: float | None = None) -> Whisker | None:
    """Geometry of one estimate on an axis from 0 to `top`; None if the estimate has no value."""
    if estimate["value"] is None:
        return None

    def place(value: float) -> float:
        return to_tenth(2 + min(max(value / top, 0.0), 1.0) * (WHISKER_WIDTH - 4))

    low, high = estimate["low"], estimate["high"]
    return Whisker(
        at=place(estimate["value"]),
        low=None if low is None else place(low),
        high=None if high is None else place(high),
        mark=None if mark is None or mark > top else place(mark),
    )


def axis_top(values: Iterable[float | None], *, least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that no value exceeds, at least `least`."""
    largest = max((value for value in values if value is not None), default=0.0)
    largest = max(largest, least)
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= largest * (1 - 1e-9))


def to_tenth(value: float) -> float:
    """A tenth of a unit is finer than a pixel, and keeps the same bytes on every machine."""
    return round(value, 1)
