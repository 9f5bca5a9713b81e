"""How similar two models' heads are: correlations and overlaps of head scores, with intervals and chance levels.

A measure prepares each row of scores separately (as it is, as ranks, as a set) and compares two prepared rows through
their sums. Prepared rows are integers and their sums are exact in any order, so the same scores give the same bytes on
every machine. A measure that is undefined (a constant row, an empty set) is NaN inside this module and a reason
outside. `docs/statistics.md` describes each measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rh_bench.errors import InputError
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import IntArray
from rh_bench.stats.bootstrap import NANO, Bootstrap, Estimate, FloatArray, Means, NanoArray, estimate, rounded
from rh_bench.stats.distribution import above
from rh_bench.stats.ranks import centred_ranks, strongest

PERMUTATIONS = 10_000

_EXACT = 2**53
_PEARSON_UNIT = NANO // 10**6
"""Nano units in a unit of `pearson`: products of six decimals add up exactly."""
_CHUNK = 2**22
"""Numbers of permuted rows in memory at a time: 32 MiB of float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums over heads of two prepared rows x and y, float64 arrays of one shape or of shapes that broadcast."""

    x: FloatArray
    y: FloatArray
    xx: FloatArray
    yy: FloatArray
    xy: FloatArray
    heads: int


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """A similarity of two rows of head scores. `undefined` says when it cannot be computed."""

    name: str
    prepare: Callable[[NanoArray], NanoArray]
    """From int64 [R, H] in nano units to integers [R, H]."""
    compare: Callable[[Sums], FloatArray]
    undefined: str


@dataclass(frozen=True, slots=True)
class Null:
    """A similarity compared with what it would be if heads had nothing to do with each other."""

    value: float | None
    """The similarity; None if it is undefined."""
    mean: float | None
    """Its mean over the permutations."""
    p_value: float | None
    """(1 + permutations that are at least as similar) / (1 + permutations)."""
    permutations: int
    seed: int
    reason: str | None = None


# Measures


def pearson() -> Measure:
    """Pearson correlation of the scores, rounded to 6 decimals first."""
    return Measure("pearson", _micro, _correlation, "all heads of a model score alike")


def spearman() -> Measure:
    """Spearman's rank correlation, ties at their average rank."""
    return Measure("spearman", centred_ranks, _correlation, "all heads of a model score alike")


def jaccard(threshold: float = HEAD_THRESHOLD) -> Measure:
    """|A ∩ B| / |A ∪ B| of the sets of heads above a threshold."""

    def compare(sums: Sums) -> FloatArray:
        return _ratio(sums.xy, sums.x + sums.y - sums.xy)

    return Measure(
        "jaccard", lambda rows: above(rows, threshold).astype(np.int64), compare, f"no head scores above {threshold:g}"
    )


def top_overlap(k: int) -> Measure:
    """|A ∩ B| / K of the K strongest heads of each. Undefined where fewer than K heads score above zero."""
    if k < 1:
        raise InputError("is below 1", where=f"top {k}")

    def compare(sums: Sums) -> FloatArray:
        return np.where((sums.x == k) & (sums.y == k), sums.xy / k, np.nan)

    return Measure(f"top_{k}", lambda rows: top(rows, k), compare, f"fewer than {k} heads score above zero")


def top(rows: NanoArray, k: int) -> NanoArray:
    """1 for each of the K strongest heads of a row that score above zero, else 0: int64 [R, H]."""
    chosen: NanoArray = (strongest(rows, k) & (rows > 0)).astype(np.int64)
    return chosen


def _micro(rows: NanoArray) -> NanoArray:
    micro: NanoArray = np.rint(rows / _PEARSON_UNIT).astype(np.int64)
    return micro


def _correlation(sums: Sums) -> FloatArray:
    covariance = sums.heads * sums.xy - sums.x * sums.y
    spread = np.sqrt(sums.heads * sums.xx - sums.x * sums.x) * np.sqrt(sums.heads * sums.yy - sums.y * sums.y)
    return np.clip(_ratio(covariance, spread), -1.0, 1.0)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    whole = np.broadcast_to(whole, np.broadcast_shapes(part.shape, whole.shape))
    found: FloatArray = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
    return found


# Comparing


def matrix(measure: Measure, rows: NanoArray) -> FloatArray:
    """The similarity of every two rows.

    Args:
        rows: int64 [N, H] in nano units, one row per model, H at least 1.

    Returns:
        float64 [N, N], NaN where it is undefined.

    Raises:
        InputError: scores are so many or so large that their products do not add up exactly.
    """
    x = _exact(measure.prepare(rows))
    total, squares = x.sum(axis=1), (x * x).sum(axis=1)
    sums = Sums(total[:, None], total[None, :], squares[:, None], squares[None, :], x @ x.T, rows.shape[1])
    return measure.compare(sums)


def pairs(measure: Measure, first: NanoArray, second: NanoArray) -> FloatArray:
    """The similarity of row r of `first` with row r of `second`.

    Args:
        first, second: int64 [R, H] in nano units; a single row is compared with every row of the other.

    Returns:
        float64 [R], NaN where it is undefined. Errors as in `matrix`.
    """
    return _paired(measure, _exact(measure.prepare(first)), _exact(measure.prepare(second)))


def _paired(measure: Measure, x: FloatArray, y: FloatArray) -> FloatArray:
    sums = Sums(x.sum(axis=1), y.sum(axis=1), (x * x).sum(axis=1), (y * y).sum(axis=1), (x * y).sum(axis=1), x.shape[1])
    return measure.compare(sums)


def _exact(prepared: NanoArray) -> FloatArray:
    """As float64, after a look at whether sums of products stay exact: none exceeds the larger sum of squares."""
    values = prepared.astype(np.float64)
    if values.size and float((values * values).sum(axis=1).max()) > _EXACT:
        text = f"{values.shape[1]} heads of such scores cannot be compared exactly"
        raise InputError(text, where="scores", hint="give scores of rule paper, which lie in [0, 1]")
    return values


def similarity(first: Means, second: Means, measure: Measure, bootstrap: Bootstrap, n: int) -> Estimate:
    """The similarity of two models with its percentile interval.

    Replicate r of the one is compared with replicate r of the other. Draw them with different seeds, unless a replicate
    draws the same samples for both on purpose. Noise makes replicates less alike than the values are; an interval that
    would miss its value is widened to reach it.

    Args:
        first, second: scores of the same head grid, as `scores.heads.score` gives them.
        n: what the estimate is to say that it was computed from.
    """
    value = float(pairs(measure, first.value[None], second.value[None])[0])
    if math.isnan(value):
        return Estimate.missing(n, measure.undefined)
    if first.replicates is None or second.replicates is None:
        return estimate(value, None, n, bootstrap)
    replicates = pairs(measure, first.replicates, second.replicates)
    lost = int(np.isnan(replicates).sum())
    if lost:
        reason = f"no interval: in {lost} of {len(replicates)} replicates, {measure.undefined}"
        return Estimate(rounded(value), None, None, n, reason)
    return estimate(value, replicates, n, bootstrap)


# What chance would give


def permutation_null(
    measure: Measure,
    first: NanoArray,
    second: NanoArray,
    *,
    groups: IntArray | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Null:
    """How similar two rows are, against the same rows with the heads of the second in random order.

    Args:
        first, second: int64 [H] in nano units.
        groups: int32 [H]; heads change places within their group only. With each head's layer, what is left to explain
            is similarity beyond that of the layers.
        permutations, seed: of `numpy.random.RandomState`, whose stream NumPy has frozen.
    """
    x, y = _exact(measure.prepare(first[None])), _exact(measure.prepare(second[None]))
    value = float(_paired(measure, x, y)[0])
    if math.isnan(value):
        return Null(None, None, None, permutations, seed, measure.undefined)
    found = np.concatenate(
        [_paired(measure, x, y[0][order]) for order in random_orders(groups, x.shape[1], permutations, seed)]
    )
    # Permuting changes no sum but that of the products, so a permutation that changes nothing gives exactly `value`.
    exceed = int((found >= value).sum())
    mean = float(np.cumsum(found)[-1]) / permutations
    return Null(rounded(value), rounded(mean), rounded((1 + exceed) / (1 + permutations)), permutations, seed)


def random_orders(groups: IntArray | None, items: int, permutations: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Seeded random orders in which items change places within their group only, int64 [r, items] at a time."""
    group = np.zeros(items, dtype=np.int64) if groups is None else groups.astype(np.int64)
    # Sorted by group and then at random; the items of a group take the places of that group.
    places = np.argsort(group, kind="stable")
    random = np.random.RandomState(seed)
    rows = max(1, _CHUNK // items)
    for done in range(0, permutations, rows):
        keys = random.random_sample((min(rows, permutations - done), items))
        drawn = np.lexsort((keys, np.broadcast_to(group, keys.shape)), axis=1)
        orders = np.empty_like(drawn)
        orders[:, places] = drawn
        yield orders


def expected_jaccard(a: int, b: int, heads: int) -> float | None:
    """Expected |A ∩ B| / |A ∪ B| of sets of `a` and `b` heads drawn at random from `heads`; None for two empty sets."""
    if a + b == 0:
        return None
    # Whole numbers are divided, which Python rounds correctly, so nothing is lost to large binomials.
    ways = math.comb(heads, b)
    return math.fsum(count * k / (ways * (a + b - k)) for k, count in _hypergeometric(a, b, heads))


def expected_overlap(a: int, b: int, heads: int) -> float:
    """Expected |A ∩ B| of sets of `a` and `b` heads drawn at random from `heads`: a b / H."""
    return a * b / heads


def _hypergeometric(a: int, b: int, heads: int) -> Iterator[tuple[int, int]]:
    """Of all sets of `b` heads, how many have k in common with one of `a`: k and that number."""
    if not (0 <= a <= heads and 0 <= b <= heads):
        raise ValueError(f"sets of {a} and {b} of {heads} heads")
    for k in range(max(0, a + b - heads), min(a, b) + 1):
        yield k, math.comb(a, k) * math.comb(heads - a, b - k)
