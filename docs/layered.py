"""Places for the boxes of a layered graph: few crossings, short ways. Same input, same places.

The usual four steps: an arrow that passes floors gets a narrow place on each; the items of a floor are ordered by the
mean place of their neighbours, up and down in turns, and then swapped while that saves crossings; at last every floor
is laid out as near to its neighbours as its order and the widths allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

Arrow = tuple[str, str]
Joined = Mapping[str, Sequence[str]]

_SWEEPS = 24


@dataclass(frozen=True)
class Layout:
    """Where everything is, in the unit of the widths; x is the middle of a box."""

    x: Mapping[str, float]
    ways: Mapping[Arrow, tuple[str, ...]]
    """Of each arrow the items that it goes through, its ends included."""
    width: float


def lay_out(floors: Mapping[str, int], arrows: Sequence[Arrow], *, box: float, lane: float, gap: float) -> Layout:
    """
    Args:
        floors: of each box; arrows lead from a higher floor to a lower one.
        box: width of a box.
        lane: width that an arrow has where it passes a floor.
        gap: between any two.
    """
    ways = {arrow: tuple(_way(arrow, floors)) for arrow in sorted(arrows)}
    level = dict(floors)
    for (_, end), way in ways.items():
        level |= {item: floors[end] + up for up, item in enumerate(reversed(way)) if item not in floors}
    rows = [sorted(item for item in level if level[item] == floor) for floor in range(1, max(level.values()) + 1)]
    steps = sorted({step for way in ways.values() for step in pairwise(way)})
    above = {item: [start for start, end in steps if end == item] for item in level}
    below = {item: [end for start, end in steps if start == item] for item in level}
    ordered = _ordered(rows, above, below)
    widths = {item: box if item in floors else lane for item in level}
    x = _spread(ordered, above, below, widths, gap)
    left = min(x[item] - widths[item] / 2 for item in x)
    right = max(x[item] + widths[item] / 2 for item in x)
    return Layout({item: place - left for item, place in x.items()}, ways, right - left)


def _way(arrow: Arrow, floors: Mapping[str, int]) -> Iterator[str]:
    start, end = arrow
    yield start
    yield from (f"{start} → {end} at {floor}" for floor in range(floors[start] - 1, floors[end], -1))
    yield end


def _ordered(rows: list[list[str]], above: Joined, below: Joined) -> list[list[str]]:
    best, rows = rows, [list(row) for row in rows]
    for sweep in range(_SWEEPS):
        upward = sweep % 2 == 0
        for floor in range(len(rows))[:: 1 if upward else -1]:
            joined = below if upward else above
            places = {item: place for row in rows for place, item in enumerate(row)}
            middle = {item: _mean([places[one] for one in joined[item]], places[item]) for item in rows[floor]}
            rows[floor].sort(key=lambda item: (middle[item], item))
        _swap(rows, below)
        if _crossings(rows, below) < _crossings(best, below):
            best = [list(row) for row in rows]
    return best


def _swap(rows: list[list[str]], below: Joined) -> None:
    """Neighbours change places while there are fewer crossings for it."""
    for row in rows:
        for place in range(len(row) - 1):
            before = _crossings(rows, below)
            row[place], row[place + 1] = row[place + 1], row[place]
            if _crossings(rows, below) >= before:
                row[place], row[place + 1] = row[place + 1], row[place]


def _crossings(rows: Sequence[Sequence[str]], below: Joined) -> int:
    count = 0
    for lower, upper in pairwise(rows):
        places = {item: place for place, item in enumerate(lower)}
        ends = [(top, places[end]) for top, item in enumerate(upper) for end in below[item]]
        count += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(ends, 2))
    return count


def _spread(
    rows: list[list[str]], above: Joined, below: Joined, widths: Mapping[str, float], gap: float
) -> dict[str, float]:
    x = {item: place * (max(widths.values()) + gap) for row in rows for place, item in enumerate(row)}
    for sweep in range(4 * _SWEEPS):
        for row in rows if sweep % 2 else rows[::-1]:
            wished = [_mean([x[one] for one in (*above[item], *below[item])], x[item]) for item in row]
            x |= zip(row, _apart(wished, [widths[item] for item in row], gap), strict=True)
    return x


def _apart(wished: Sequence[float], widths: Sequence[float], gap: float) -> list[float]:
    """The places nearest to those wished, by the sum of squares, at which nothing overlaps and the order stays."""
    offsets = [0.0]
    for one, other in pairwise(widths):
        offsets.append(offsets[-1] + one / 2 + gap + other / 2)
    # Less its offset, a place is at least that of the item before: pools of equal ones, merged while out of order.
    pools: list[list[float]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        pools.append([wish - offset])
        while len(pools) > 1 and _mean(pools[-2], 0) > _mean(pools[-1], 0):
            pools[-2:] = [pools[-2] + pools[-1]]
    flat = [_mean(pool, 0) for pool in pools for _ in pool]
    return [place + offset for place, offset in zip(flat, offsets, strict=True)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
