"""How a run's numbers settle with its samples, as coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rh_bench.display import formatting as words
from rh_bench.display.axes import Tick, axis_top
from rh_bench.stats.bootstrap import FloatArray
from rh_bench.stats.convergence import Convergence, Course

WIDTH, HEIGHT = 520.0, 220.0
_LABEL_GAP = 17.0


@dataclass(frozen=True, slots=True)
class Line:
    """One number's course: paths, and where its name stands at the right end."""

    line: str
    band: str
    label: str
    label_y: float


@dataclass(frozen=True, slots=True)
class ConvergenceChart:
    """A plane of `width` × `height`, y downwards, samples on a logarithmic axis."""

    width: float
    height: float
    lines: tuple[Line, ...]
    mark_y: float | None
    """Where the threshold lies, if it is a score that the chart shows."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def share_chart(found: Convergence) -> ConvergenceChart:
    """The share of heads above the threshold."""
    return _chart(found, [("", found.share)], least=0.02, form=_short_percent, mark=None)


def score_chart(found: Convergence, names: Sequence[str], threshold: float) -> ConvergenceChart | None:
    """The scores of the strongest heads; None if no head scores.

    Args:
        names: of `found.top`.
    """
    if not found.top:
        return None
    lines = list(zip(names, found.scores, strict=True))
    return _chart(found, lines, least=2 * threshold, form=lambda value: f"{value:.3g}", mark=threshold)


def _chart(
    found: Convergence,
    lines: Sequence[tuple[str, Course]],
    *,
    least: float,
    form: Callable[[float], str],
    mark: float | None,
) -> ConvergenceChart:
    top = axis_top((float(course.high.max()) for _, course in lines), least=least)
    decades = max(math.log10(int(found.sizes[-1])), 0.3)
    xs = [round(math.log10(int(size)) / decades * WIDTH, 1) for size in found.sizes]

    def y(value: float) -> float:
        return round(HEIGHT - min(value / top, 1.0) * HEIGHT, 1)

    def path(values: FloatArray) -> list[str]:
        return [f"{x:g} {y(value):g}" for x, value in zip(xs, values.tolist(), strict=True)]

    ends = [y(float(course.one[-1])) for _, course in lines]
    drawn = tuple(
        Line(
            line="M" + "L".join(path(course.one)),
            band="M" + "L".join(path(course.high) + path(course.low)[::-1]) + "Z",
            label=name,
            label_y=label_y,
        )
        for (name, course), label_y in zip(lines, _apart(ends), strict=True)
    )
    steps = 4 if f"{top:e}".startswith("2") else 5
    return ConvergenceChart(
        width=WIDTH,
        height=HEIGHT,
        lines=drawn,
        mark_y=None if mark is None else y(mark),
        x_ticks=_x_ticks(int(found.sizes[-1]), decades),
        y_ticks=tuple(
            Tick(round(HEIGHT * (1 - step / steps), 1), form(top * step / steps)) for step in range(steps + 1)
        ),
    )


def _apart(places: Sequence[float]) -> list[float]:
    """Heights for labels, as near to `places` as leaves each room of its own, and none below the plane."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = [0.0] * len(places)
    free = -_LABEL_GAP
    for i in order:
        found[i] = max(places[i], free)
        free = found[i] + _LABEL_GAP
    limit = HEIGHT
    for i in reversed(order):
        found[i] = min(found[i], limit)
        limit = found[i] - _LABEL_GAP
    return [round(place, 1) for place in found]


def _x_ticks(last: int, decades: float) -> tuple[Tick, ...]:
    """Powers of ten, and the number of samples itself where that leaves room."""
    powers = [10**power for power in range(math.floor(math.log10(last)) + 1)]
    shown = [value for value in powers if math.log10(last / value) / decades * WIDTH > 40] + [last]
    return tuple(Tick(round(math.log10(value) / decades * WIDTH, 1), words.thousands(value)) for value in shown)


def _short_percent(share: float) -> str:
    return f"{share * 100:.3g}%"
