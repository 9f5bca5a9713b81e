"""Whether numbers can be copy rates. A foreign file rarely says what it measured; its numbers often show it.

A copy rate of one sample is k/n: k copies of an answer of n tokens. In every file of copy rates that the paper and the
projects after it released, each number above zero is such a share of at most 32 tokens, to the last bit; of the numbers
of other kinds that some of them keep in the same form, fewer than one in thirty is.

A mean of copy rates is a multiple of 1/D, where D is the number of samples times a common multiple of the answers'
lengths: the means of each of those files have one D below eight million for all heads, and the numbers of other kinds
have none.

Numbers that show neither are kept as another measure and compared with no copy score, since a wrong comparison is worse
than none. Zeros show nothing and are left out; so does how often a number occurs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from rh_bench.interchange.records import Measure
from rh_bench.stats.bootstrap import FloatArray

LONGEST_ANSWER = 100
"""Tokens of a plausible answer: twice what the protocol generates, three times the longest of a released detection."""
MOST_OTHERS = 0.05
"""Share of the different numbers that may be something else: a file is not judged by one damaged number."""
_SINGLE = 1e-7
"""What a share loses as a float32."""
_FEWEST_PLACES, _MOST_PLACES = 5, 6
"""Decimal places of numbers that were rounded and still tell shares of an answer from others."""
LARGEST_COMMON = 10**8
"""Of D above."""
_MOST_TWOS = 1 << 7
"""The power of two in D. Masses in half precision have eight and more bits, numbers of samples and tokens few."""
_FEWEST_MEANS = 8
"""Different means below which a common D shows nothing."""
_MOST_NUMBERS = 1 << 16
"""Different numbers that are checked, evenly over their order: more show nothing more, and a file can hold many."""
_DOUBLE = 4e-15
"""What a mean of some hundred shares loses as a float64."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the numbers of a file show of what they are."""

    numbers: int
    """Different numbers that were looked at, zero left out."""
    shares: int
    """How many of them are k/n of an answer of at most LONGEST_ANSWER tokens."""
    common: int | None
    """D of means, where it shows that they are means of copy rates."""
    places: int | None
    """Decimal places to which all of them are rounded, where they are; at most six."""

    @property
    def copies(self) -> bool:
        """Whether they are copy rates, as far as numbers can show."""
        return self.shares >= (1 - MOST_OTHERS) * self.numbers or self.common is not None


def evidence_of_samples(rows: Iterable[Sequence[float]]) -> Evidence:
    """Of single samples, a row per head."""
    return _evidence([np.asarray(row, dtype=np.float64) for row in rows], means=False)


def evidence_of_means(values: Sequence[float]) -> Evidence:
    """Of means over samples that the file does not give; NaN is left out."""
    return _evidence([np.asarray(values, dtype=np.float64)], means=True)


def measure_of_samples(rows: Iterable[Sequence[float]]) -> Measure:
    return "score" if evidence_of_samples(rows).copies else "unknown"


def measure_of_means(values: Sequence[float]) -> Measure:
    return "score" if evidence_of_means(values).copies else "unknown"


def _evidence(parts: list[FloatArray], *, means: bool) -> Evidence:
    numbers = np.unique(np.concatenate(parts)) if parts else np.empty(0)
    numbers = numbers[np.isfinite(numbers) & (numbers != 0)]
    numbers = numbers[:: len(numbers) // _MOST_NUMBERS + 1]
    places = _places(numbers)
    common = _common(numbers) if means and places is None and len(numbers) >= _FEWEST_MEANS else None
    return Evidence(len(numbers), _shares(numbers, places), common, places)


def _places(numbers: FloatArray) -> int | None:
    """Decimal places that hold all numbers; None if they need more than six."""
    for places in range(_MOST_PLACES + 1):
        if np.all(np.abs(numbers - np.round(numbers, places)) <= 1e-12 * np.maximum(np.abs(numbers), 1)):
            return places
    return None


def _shares(numbers: FloatArray, places: int | None) -> int:
    """How many are k/n for some n up to LONGEST_ANSWER, in size: what is negative or above 1, the audit says."""
    numbers = np.abs(numbers)
    rounded = places is not None and places >= _FEWEST_PLACES
    within = 0.5 * 10.0**-places * (1 + 1e-6) if rounded and places is not None else _SINGLE
    found = np.zeros(len(numbers), dtype=bool)
    for n in range(1, LONGEST_ANSWER + 1):
        nearest = np.round(numbers * n) / n
        found |= (np.abs(numbers - nearest) <= within * np.maximum(numbers, 1)) & (nearest > 0)
    return int(found.sum())


def _common(numbers: FloatArray) -> int | None:
    """The least D for which all numbers are multiples of 1/D, where it is small and not the work of binary rounding."""
    if numbers.min() < 0:
        return None
    common = 1
    for number in numbers.tolist():
        if _is_multiple(number, common):
            continue
        common = math.lcm(common, Fraction(number).limit_denominator(LARGEST_COMMON // 10).denominator)
        if common > LARGEST_COMMON:
            return None
    twos = common & -common
    return common if twos <= _MOST_TWOS and all(_is_multiple(number, common) for number in numbers.tolist()) else None


def _is_multiple(number: float, common: int) -> bool:
    return abs(number * common - round(number * common)) <= _DOUBLE * common * max(number, 1)
