"""Grids: which context lengths and depths are measured, and the samples that they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from rh_bench.errors import InputError
from rh_bench.records import Needle, Sample

Number = TypeVar("Number", int, float)

MAX_LENGTH = 10_000_000
MAX_CELLS = 100_000
"""Lengths × depths that a grid may have."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Context lengths × depths, and how many needles and haystacks a set made with it has by default."""

    name: str
    lengths: tuple[int, ...]
    """Tokens of the whole prompt, ascending."""
    depths: tuple[float, ...]
    """Percent of the haystack tokens that fit, ascending: 0 is the start, 100 the end."""
    needles: int
    haystacks: int

    @property
    def longest(self) -> int:
        return self.lengths[-1]


def _uniform(first: float, last: float, count: int) -> tuple[float, ...]:
    return tuple(first + (last - first) * i / (count - 1) for i in range(count))


PAPER = Grid(
    name="paper",
    lengths=tuple(round(x) for x in _uniform(1_000, 50_000, 20)),
    depths=tuple(round(x, 2) for x in _uniform(0, 100, 10)),
    needles=3,
    haystacks=3,
)
"""The paper's: 3 needles, each in a haystack of its own, 20 lengths uniform in 1K–50K, 10 depths (its section 2)."""

QUICK = Grid(name="quick", lengths=(512, 1024, 1536), depths=(0.0, 25.0, 50.0, 75.0, 100.0), needles=4, haystacks=2)
"""60 samples: a first answer about a small model within minutes on two cores."""

GRIDS = {grid.name: grid for grid in (QUICK, PAPER)}


def choose_grid(name: str, lengths: str | None, depths: str | None) -> Grid:
    """The grid called `name`, with the user's lengths and depths in place of its own where given.

    Raises:
        InputError: there is no such grid, or a list is not one of numbers.
    """
    if name not in GRIDS:
        raise InputError(f"unknown grid {name!r}", where="--grid", hint=f"use {' or '.join(GRIDS)}")
    grid = GRIDS[name]
    if lengths is None and depths is None:
        return grid
    return replace(
        grid,
        name="custom",
        lengths=parse_lengths(lengths) if lengths is not None else grid.lengths,
        depths=parse_depths(depths) if depths is not None else grid.depths,
    )


def parse_lengths(text: str, where: str = "--lengths") -> tuple[int, ...]:
    """``512,1024`` as ascending context lengths in tokens.

    Raises:
        InputError: something else than whole numbers from 1 on, or one of them twice.
    """
    numbers = []
    for part in text.split(","):
        digits = part.strip().replace("_", "")
        if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:20]) <= MAX_LENGTH):
            raise InputError(
                f"{part.strip()!r} is not a length in tokens", where=where, hint="write whole numbers, like 512,1024"
            )
        numbers.append(int(digits))
    return _distinct(numbers, where)


def parse_depths(text: str, where: str = "--depths") -> tuple[float, ...]:
    """``0,50,100`` as ascending depths in percent.

    Raises:
        InputError: something else than numbers from 0 to 100, or one of them twice.
    """
    numbers = []
    for part in text.split(","):
        try:
            number = float(part.strip())
        except ValueError:
            number = math.nan
        if not 0 <= number <= 100:
            raise InputError(
                f"{part.strip()!r} is not a depth in percent",
                where=where,
                hint="write numbers from 0 to 100, like 0,50",
            )
        numbers.append(number + 0.0)  # -0.0 becomes 0.0
    return _distinct(numbers, where)


def _distinct(numbers: list[Number], where: str) -> tuple[Number, ...]:
    if len(set(numbers)) != len(numbers):
        raise InputError("duplicate number", where=where, hint="give each once")
    return tuple(sorted(numbers))


def make_samples(needles: Sequence[Needle], lengths: Sequence[int], depths: Sequence[float]) -> tuple[Sample, ...]:
    """Every needle at every length and depth, in that order of nesting.

    Raises:
        InputError: the grid is too large.
    """
    if len(lengths) * len(depths) * max(len(needles), 1) > MAX_CELLS:
        raise InputError(f"a grid of more than {MAX_CELLS} samples", hint="give fewer lengths, depths or needles")
    return tuple(
        Sample(sample_id(needle, length, depth), needle.needle_id, needle.haystack_id, length, depth)
        for needle in needles
        for length in lengths
        for depth in depths
    )


def sample_id(needle: Needle, length: int, depth: float) -> str:
    """``harbour-key-L1024-D33.33``: different cells have different ids."""
    return f"{needle.needle_id}-L{length}-D{repr(float(depth)).removesuffix('.0')}"


def spread(samples: Sequence[Sample], limit: int | None) -> tuple[Sample, ...]:
    """`limit` of the samples, spread evenly over needles, lengths and depths, in their own order.

    The next sample taken is always one whose needle, length and depth have been taken least. Where several are equal,
    the first along a golden-ratio walk through the list is taken, so that a few samples lie far apart, too.

    Raises:
        InputError: `limit` is not positive.
    """
    if limit is None or limit >= len(samples):
        return tuple(samples)
    if limit < 1:
        raise InputError("must be at least 1", where="--limit")
    total = len(samples)
    stride = _coprime_near(total * (math.sqrt(5) - 1) / 2, total)
    walk = [place * stride % total for place in range(total)]
    traits = []  # for each trait: which value every sample of the walk has, and how often each value was taken
    for name in ("needle_id", "length", "depth"):
        values, which = np.unique([str(getattr(samples[place], name)) for place in walk], return_inverse=True)
        traits.append((which, np.zeros(len(values)), len(values)))
    free = np.zeros(total)
    chosen = []
    for _ in range(limit):
        # Counts as shares of what is fair: one more of 3 needles weighs less than one more of 20 lengths.
        taken = free + sum(counts[which] * size for which, counts, size in traits)
        place = int(np.argmin(taken))
        free[place] = np.inf
        chosen.append(walk[place])
        for which, counts, _size in traits:
            counts[which[place]] += 1
    return tuple(samples[place] for place in sorted(chosen))


def _coprime_near(value: float, total: int) -> int:
    """The whole number nearest to `value` that shares no factor with `total`: its multiples visit every place."""
    start = max(1, round(value))
    for distance in range(total):
        for candidate in (start - distance, start + distance):
            if candidate > 0 and math.gcd(candidate, total) == 1:
                return candidate
    return 1
