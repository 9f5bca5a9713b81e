"""Two treatments of the same units: how much they differ, and whether by chance.

As in `rh_bench.stats.bootstrap`, the same input gives the same bytes on every machine: sums are of integers and exact,
random numbers come from a stream that NumPy has frozen, and numbers are rounded to 9 decimals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rh_bench.errors import InputError
from rh_bench.stats.bootstrap import (
    FIXED_POINT,
    NANO,
    Bootstrap,
    Estimate,
    FloatArray,
    Strata,
    bootstrap_means,
    estimate,
    rounded,
    wilson,
)

BoolArray = npt.NDArray[np.bool_]

MOST_PAIRS = 100_000
_EXACT = 2.0**53
_CHUNK = 2**22
_ENUMERATED = 12
"""Up to this many non-zero differences, every assignment of signs is tried."""


def difference_of_means(a: FloatArray, b: FloatArray, strata: Strata, bootstrap: Bootstrap) -> Estimate:
    """Mean of a - b over pairs, pairs resampled within strata.

    Where both are 0 or 1 and all differences are the same, resampling would give an interval without width, as if the
    difference were known exactly: :func:`difference_of_shares` gives the interval then.

    Args:
        a, b: float64 [n], one number per unit; finite.
        strata: of the n units.
    """
    n = _paired(a, b)
    if n == 0:
        return Estimate.missing(0, "no pairs")
    differences = a - b
    if n > 1 and np.ptp(differences) == 0:
        if np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all():
            return difference_of_shares(a == 1, b == 1, bootstrap.confidence)
        reason = "no interval: all pairs differ by the same amount"
        return Estimate(rounded(float(differences[0])), None, None, n, reason)
    means = bootstrap_means(differences[:, None].astype(np.float64), strata, bootstrap)
    replicates = None if means.replicates is None else means.replicates[:, 0] / NANO
    return estimate(float(means.value[0] / NANO), replicates, n, bootstrap)


def difference_of_shares(a: BoolArray, b: BoolArray, confidence: float) -> Estimate:
    """Share of a less share of b over pairs, with the interval of squared and added Wilson intervals (Newcombe 1998,
    "Improved confidence intervals for the difference between binomial proportions based on paired data", Statistics in
    Medicine 17, method 10), which is sound even if all pairs are alike.

    Args:
        a, b: bool [n].
    """
    n = _paired(a, b)
    if n == 0:
        return Estimate.missing(0, "no pairs")
    both, first, second = int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
    neither = n - both - first - second
    one, two = (wilson(total, n, confidence) for total in (both + first, both + second))
    below = (_of(one.value) - _of(one.low), _of(two.high) - _of(two.value))
    above = (_of(one.high) - _of(one.value), _of(two.value) - _of(two.low))
    phi = _phi(both, first, second, neither, n)
    value = (first - second) / n
    low = value - math.sqrt(max(0.0, below[0] ** 2 - 2 * phi * below[0] * below[1] + below[1] ** 2))
    high = value + math.sqrt(max(0.0, above[0] ** 2 - 2 * phi * above[0] * above[1] + above[1] ** 2))
    return Estimate(rounded(value), rounded(max(-1.0, low)), rounded(min(1.0, high)), n)


def _of(value: float | None) -> float:
    assert value is not None, "a share of at least one trial has an interval"
    return value


def _phi(both: int, first: int, second: int, neither: int, n: int) -> float:
    """Correlation of the pairs, with Newcombe's continuity correction where it is positive."""
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    if margins == 0:
        return 0.0
    product = both * neither - first * second
    if product > 0:
        product = max(2 * product - n, 0)
        return product / (2 * math.sqrt(margins))
    return product / math.sqrt(margins)


def mcnemar(a: BoolArray, b: BoolArray) -> float:
    """Exact two-sided p-value of McNemar's test: whether a and b succeed equally often on the same units.

    Under the null hypothesis each pair that differs favours either with equal probability, like a fair coin. 1 if no
    pair differs.

    Args:
        a, b: bool [n], success of each unit under each treatment.
    """
    _paired(a, b)
    first, second = int((a & ~b).sum()), int((b & ~a).sum())
    n, fewer = first + second, min(first, second)
    term, total = 1, 0
    for k in range(fewer + 1):  # term is n choose k, exactly
        total += term
        term = term * (n - k) // (k + 1)
    # A ratio of integers, so that it is rounded once; 2 ** n itself would not fit in a float.
    return rounded(min(1.0, 2 * total / 2**n))


def sign_flip_test(differences: FloatArray, *, permutations: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of the paired permutation test: whether the mean difference is further from 0 than if the two
    values of each pair were interchangeable.

    With up to 12 non-zero differences, every assignment of signs is tried and the p-value is exact; otherwise
    `permutations` are drawn and it is (1 + as extreme) / (1 + drawn), never 0 (Phipson and Smyth 2010, "Permutation
    p-values should never be zero", SAGMB 9).

    Args:
        differences: float64 [n], a - b of each pair, finite; rounded to multiples of 2**-32.

    Raises:
        InputError: they are too many or too large for exact sums.
    """
    if not 1 <= permutations <= 1_000_000:
        raise InputError("is not between 1 and 1000000", where=f"permutations {permutations}")
    fixed = np.rint(np.asarray(differences, dtype=np.float64) * FIXED_POINT)
    if not len(fixed) * float(np.abs(fixed).max(initial=0.0)) <= _EXACT:  # also for NaN
        raise InputError(f"{len(fixed)} differences cannot be added exactly", where="differences")
    fixed = fixed[fixed != 0]
    observed, n = abs(float(fixed.sum())), len(fixed)
    if n == 0:
        return 1.0
    if n <= _ENUMERATED:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return rounded(int((np.abs(signs @ fixed) >= observed).sum()) / 2**n)
    random, extreme = np.random.RandomState(seed), 0
    rows = max(1, _CHUNK // n)
    for done in range(0, permutations, rows):
        # The stream is read row by row, so the chunk size makes no difference.
        drawn = random.random_sample((min(rows, permutations - done), n)) < 0.5
        extreme += int((np.abs((1.0 - 2.0 * drawn) @ fixed) >= observed).sum())
    return rounded((1 + extreme) / (1 + permutations))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: calling those at most q discoveries keeps the expected share of false ones
    at most q (Benjamini and Hochberg 1995, JRSS B 57), for tests that are independent or positively dependent.

    Returns:
        One per p-value, in their order: the smallest q at which it is a discovery.
    """
    count = len(p_values)
    order = sorted(range(count), key=lambda place: p_values[place])
    corrected, smallest = [0.0] * count, 1.0
    for rank in range(count, 0, -1):
        place = order[rank - 1]
        smallest = min(smallest, p_values[place] * count / rank)
        corrected[place] = rounded(smallest)
    return corrected


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of even one false discovery among them is at most the level (Holm 1979,
    Scandinavian Journal of Statistics 6), whatever their dependence. One per p-value, in their order."""
    count = len(p_values)
    order = sorted(range(count), key=lambda place: p_values[place])
    corrected, largest = [0.0] * count, 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, p_values[place] * (count - rank)))
        corrected[place] = rounded(largest)
    return corrected


def _paired(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> int:
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs have shapes {a.shape} and {b.shape}")
    if len(a) > MOST_PAIRS:
        raise InputError(f"{len(a)} pairs, at most {MOST_PAIRS} are compared", where="pairs")
    return len(a)
