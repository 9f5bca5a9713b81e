"""Bootstrap intervals, and the exact numbers they are made of. Independent of heads and models.

Everything here gives the same bytes on every machine, whatever the BLAS, its threads or the processor's vector units:

* random numbers come from `numpy.random.RandomState`, whose stream NumPy has frozen;
* observations are fixed-point integers held in float64, so that sums are exact in any order;
* means are rounded to 9 decimals and kept as int64 counts of 1e-9 (*nano* units), in which sorting, ranking,
  thresholds and sums are exact; the rest uses single IEEE operations, which every machine rounds alike.

`docs/statistics.md` describes each measure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rh_bench.errors import InputError
from rh_bench.records import IntArray, Json

FloatArray = npt.NDArray[np.float64]
NanoArray = npt.NDArray[np.int64]
"""int64 counts of 1e-9: a number rounded to 9 decimals, exactly."""

BoolArray = npt.NDArray[np.bool_]

DECIMALS = 9
NANO = 10**DECIMALS
FIXED_POINT = 2.0**32
"""Units in which observations are added; a score is off by 1.2e-10 at most."""

Number = TypeVar("Number", np.int32, np.int64, np.float64)

_EXACT = 2.0**53
_CHUNK = 2**22
"""Weights in memory at a time, replicates × observations: 32 MiB of float64."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval. Without `value` it could not be computed, without `low` and `high` it has no
    interval; `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """What the number was computed from, mostly samples."""
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            if not self.reason:
                raise ValueError(f"{self} lacks a value or an interval and gives no reason")
        elif self.value is None or self.low is None or self.high is None:
            raise ValueError(f"{self} has half an interval, or one without a value")
        elif not self.low <= self.value <= self.high:
            raise ValueError(f"{self} lies outside its interval")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self} is not finite")

    @classmethod
    def missing(cls, n: int, reason: str) -> Estimate:
        return cls(None, None, None, n, reason)

    def to_json(self) -> Json:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made."""

    replicates: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 1 <= self.replicates <= 1_000_000:
            raise InputError("is not between 1 and 1000000", where=f"bootstrap replicates {self.replicates}")
        if not 0 <= self.seed < 2**32:
            raise InputError("is not between 0 and 4294967295", where=f"bootstrap seed {self.seed}")
        if not 0.0 < self.confidence < 1.0:
            raise InputError(
                "is not between 0 and 1", where=f"bootstrap confidence {self.confidence}", hint="use 0.95 for 95%"
            )

    def bounds(self) -> tuple[int, int]:
        """0-based places of the interval's ends among the sorted replicates: nearest rank, the smallest value that a
        share alpha/2 (1 - alpha/2) of the replicates does not exceed."""
        # From the decimal as written: in binary, (1 - 0.95) / 2 exceeds 0.025 and its rank of 1000 would be 26.
        tail = (1 - Fraction(str(self.confidence))) / 2
        return math.ceil(tail * self.replicates) - 1, math.ceil((1 - tail) * self.replicates) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """Groups that resampling keeps apart. None has a single observation, unless there is only one in total."""

    columns: tuple[str, ...]
    """The columns whose values make the groups; empty when all observations are one group."""
    labels: IntArray = field(repr=False)
    """int32 [n]: group of each observation, 0-based."""


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Means of K columns over n observations, and of the bootstrap's replicates."""

    value: NanoArray
    """int64 [K]."""
    replicates: NanoArray | None
    """int64 [R, K]; None for a single observation, which cannot be resampled."""


# Strata


def stratify(columns: Mapping[str, Sequence[Hashable]], n: int) -> Strata:
    """The finest strata that can be resampled.

    Takes columns from first to last, as long as more than half of the strata have two observations or more;
    see `strata_by` for what happens to the others.

    Args:
        columns: by name, one value for each of the n observations; the coarsest grouping first.
    """
    names = tuple(columns)
    for used in range(len(names), 0, -1):
        sizes = Counter(zip(*(columns[name] for name in names[:used]), strict=True)).values()
        if 2 * sum(size >= 2 for size in sizes) > len(sizes):
            return strata_by({name: columns[name] for name in names[:used]}, n)
    return strata_by({}, n)


def strata_by(columns: Mapping[str, Sequence[Hashable]], n: int) -> Strata:
    """Strata of equal values in all `columns`.

    A stratum of one observation would be the same in every replicate and hide its share of the uncertainty. Such
    observations therefore form one stratum together; a lone one joins the smallest other stratum (of equals, the
    first). Both make intervals wider rather than narrower."""
    keys = list(zip(*columns.values(), strict=True)) if columns else [()] * n
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    labels = np.array([number[key] for key in keys], dtype=np.int32)
    sizes = np.bincount(labels, minlength=1)
    alone = sizes[labels] == 1
    if alone.sum() > 1:
        labels[alone] = len(sizes)
    elif alone.sum() == 1 and n > 1:
        labels[alone] = int(np.argmin(np.where(sizes == 1, n, sizes)))
    return Strata(tuple(columns), np.unique(labels, return_inverse=True)[1].astype(np.int32))


# Bootstrap


def bootstrap_means(values: FloatArray, strata: Strata, bootstrap: Bootstrap) -> Means:
    """Means of columns with their bootstrap replicates.

    Each replicate draws, with replacement, m - 1 of the m observations of a stratum and weights them m / (m - 1).
    Drawing m would make variances too small by (m - 1) / m, which matters in small strata (Rao and Wu 1988,
    "Resampling Inference With Complex Survey Data", JASA 83).

    Args:
        values: float64 [n, K], n at least 1, finite.
        strata: of the n observations.

    Raises:
        InputError: there are too many observations, or too large ones, for exact sums.
    """
    n = len(values)
    fixed = _fixed_point(values)
    point = _nano(fixed.sum(axis=0), n)
    if n < 2:
        return Means(point, None)
    replicates = np.empty((bootstrap.replicates, values.shape[1]), dtype=np.int64)
    size_of = np.bincount(strata.labels)[strata.labels]
    # Strata of one size share a weight, so their sum is of integers and exact; the sizes are then added in order.
    groups = [(int(size), np.flatnonzero(size_of == size)) for size in np.unique(size_of)]
    first = 0
    for counts in _draws(strata.labels, bootstrap):
        total = np.zeros((len(counts), values.shape[1]))
        for size, members in groups:
            total += (counts[:, members] @ fixed[members]) * size / (size - 1)
        replicates[first : first + len(counts)] = _nano(total, n)
        first += len(counts)
    return Means(point, replicates)


def mean(values: FloatArray) -> NanoArray:
    """Exact means of columns: float64 [n, K] to nano units, int64 [K]. Errors as in `bootstrap_means`."""
    return _nano(_fixed_point(values).sum(axis=0), len(values))


def subset_means(values: FloatArray, chosen: npt.NDArray[np.bool_]) -> NanoArray:
    """Exact means of columns over some of the rows, for many choices at once.

    Args:
        values: float64 [n, K].
        chosen: bool [R, n], the rows of each choice, at least one in each.

    Returns:
        int64 [R, K] in nano units. Errors as in `bootstrap_means`.
    """
    fixed, sizes = _fixed_point(values), chosen.sum(axis=1)
    means = np.empty((len(chosen), values.shape[1]), dtype=np.int64)
    rows = max(1, _CHUNK // len(values))
    for first in range(0, len(chosen), rows):
        part = slice(first, first + rows)
        sums = chosen[part].astype(np.float64) @ fixed
        means[part] = np.rint(sums / (sizes[part, None] * FIXED_POINT) * NANO)
    return means


def _fixed_point(values: FloatArray) -> FloatArray:
    fixed: FloatArray = np.rint(values * FIXED_POINT)
    if not len(values) * float(np.abs(fixed).max(initial=0.0)) <= _EXACT:  # also for NaN
        text = f"{len(values)} values of up to {np.abs(values).max():g} cannot be added exactly"
        raise InputError(text, where="scores", hint="measure fewer samples in one run")
    return fixed


def _draws(labels: IntArray, bootstrap: Bootstrap) -> Iterator[FloatArray]:
    """How often each replicate draws each observation: float64 [r, n] at a time, R rows in total."""
    n = len(labels)
    by_stratum = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    size, start = np.repeat(sizes, sizes - 1), np.repeat(starts, sizes - 1)
    random = np.random.RandomState(bootstrap.seed)
    rows = max(1, _CHUNK // n)
    for done in range(0, bootstrap.replicates, rows):
        r = min(rows, bootstrap.replicates - done)
        # The stream is read row by row, so the chunk size makes no difference.
        drawn = by_stratum[start + np.floor(random.random_sample((r, len(size))) * size).astype(np.int64)]
        flat = (drawn + np.arange(r)[:, None] * n).ravel()
        yield np.bincount(flat, minlength=r * n).reshape(r, n).astype(np.float64)


def _nano(fixed_sums: FloatArray, n: int) -> NanoArray:
    means: NanoArray = np.rint(fixed_sums / (n * FIXED_POINT) * NANO).astype(np.int64)
    return means


def interval(
    value: npt.NDArray[Number], replicates: npt.NDArray[Number], bootstrap: Bootstrap
) -> tuple[npt.NDArray[Number], npt.NDArray[Number]]:
    """Percentile interval along axis 0, as exact order statistics, that always includes the value.

    Resampling moves some measures one way only: it can make a score zero but not the reverse, and it adds noise, which
    looks like concentration. If that leaves the value outside, the interval is widened to include it.

    Args:
        value: [...].
        replicates: [R, ...].

    Returns:
        Two arrays [...], low and high.
    """
    low, high = bootstrap.bounds()
    ordered = np.partition(replicates, sorted({low, high}), axis=0)
    return np.minimum(ordered[low], value), np.maximum(ordered[high], value)


def estimate(value: float, replicates: FloatArray | None, n: int, bootstrap: Bootstrap) -> Estimate:
    """A number with the interval of its replicates, [R], or None if nothing could be resampled."""
    if replicates is None:
        return Estimate(rounded(value), None, None, n, "no interval: one sample cannot be resampled")
    low, high = interval(np.array(value), replicates, bootstrap)
    return Estimate(rounded(value), rounded(float(low)), rounded(float(high)), n)


def wilson(successes: int, n: int, confidence: float) -> Estimate:
    """A share of n independent trials with its Wilson score interval (Wilson 1927, JASA 22), which is sound for few
    trials and for shares of 0 and 1, where a bootstrap interval has no width."""
    if n == 0:
        return Estimate.missing(0, "no samples")
    # Rounded, since the last bits of the quantile differ between mathematical libraries.
    z = round(NormalDist().inv_cdf(1 - (1 - confidence) / 2), DECIMALS)
    share, spread = successes / n, z * z / n
    centre, half = share + spread / 2, z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return Estimate(rounded(share), rounded(max(0.0, low)), rounded(min(1.0, high)), n)


def rounded(value: float) -> float:
    """To 9 decimals, and never negative zero."""
    return round(value, DECIMALS) + 0.0
