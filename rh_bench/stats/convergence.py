"""How the numbers of a run settle as its counted samples accumulate, in many random orders. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rh_bench.errors import InputError
from rh_bench.records import IntArray
from rh_bench.stats.bootstrap import NANO, FloatArray, subset_means
from rh_bench.stats.distribution import share_above
from rh_bench.stats.ranks import strongest_first

ORDERS = 40
"""Random orders of the samples."""
OUTSIDE = 2
"""The band leaves out this many of the lowest and of the highest orders at each size: 90% of 40 remain."""
SETTLED_WITHIN = 0.01
"""A share has settled when its band stays within this of its final value."""
_STEPS = (12, 20, 30, 50, 80)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """One number as a function of the number of samples: float64 [C] each, in the order of `Convergence.sizes`."""

    one: FloatArray
    """In the first order: what one would have seen while measuring the samples one by one."""
    low: FloatArray
    high: FloatArray
    """The band, from the third lowest to the third highest of 40 orders. At the last size all orders agree."""


@dataclass(frozen=True, slots=True, eq=False)
class Convergence:
    """Numbers of a run over its first k counted samples, for growing k."""

    sizes: IntArray
    """int32 [C]: k, increasing to the number of counted samples."""
    share: Course
    """Share of heads above the threshold."""
    top: tuple[int, ...]
    """Places of the strongest heads over all samples."""
    scores: tuple[Course, ...] = field(repr=False)
    """Score of each of `top`."""

    def settled(self, within: float = SETTLED_WITHIN) -> int | None:
        """The smallest size from which the band of the share stays within `within` of the final share; None if only all
        samples together do."""
        final = self.share.one[-1]
        apart = np.maximum(self.share.high - final, final - self.share.low) > within + 0.5 / NANO
        first = int(np.flatnonzero(apart)[-1]) + 1 if apart.any() else 0
        return int(self.sizes[first]) if first < len(self.sizes) - 1 else None


def converge(
    scores: FloatArray, threshold: float, *, top: int = 5, orders: int = ORDERS, seed: int = 0
) -> Convergence | None:
    """How the share of retrieval heads and the scores of the strongest heads settle.

    The samples are put in `orders` random orders. The head scores over the first k samples of each are those of a run
    of just these k samples.

    Args:
        scores: float64 [n, H] in [0, 1]: rule `paper`, one row per counted sample, as `scores.heads.in_order` gives
            them.
        threshold: a head whose score is above it is a retrieval head.
        top: most heads to follow; heads that score zero are not followed.
        orders: at least 1.
        seed: seed of the orders.

    Returns:
        None if fewer than two samples counted or there is no head: nothing accumulates.

    Raises:
        InputError: `orders` is below 1.
    """
    if orders < 1:
        raise InputError("must be at least 1", where=f"orders {orders}")
    n, heads = scores.shape
    if n < 2 or heads == 0:
        return None
    # Heads that never copied are zero for every k; only their number matters to the share.
    alive = np.flatnonzero(scores.any(axis=0))
    sizes = _sizes(n)
    random = np.random.RandomState(seed)
    place = np.stack([np.argsort(random.permutation(n), kind="stable") for _ in range(orders)])
    chosen = place[:, None, :] < sizes[None, :, None]
    means = subset_means(scores[:, alive], chosen.reshape(-1, n)).reshape(orders, len(sizes), len(alive))
    share = share_above(means, threshold) * len(alive) / heads if len(alive) else np.zeros(means.shape[:2])
    followed = strongest_first(means[0, -1], top) if len(alive) else np.empty(0, dtype=np.intp)
    return Convergence(
        sizes=sizes,
        share=_course(np.round(share, 9)),
        top=tuple(int(alive[column]) for column in followed),
        scores=tuple(_course(means[:, :, column] / NANO) for column in followed),
    )


def _sizes(n: int) -> IntArray:
    """1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120 and so on below n, then n."""
    steps = (step * 10**power for power in range(len(str(n))) for step in _STEPS)
    return np.array([1, *(step for step in (2, 3, 5, 8, *steps) if step < n), n], dtype=np.int32)


def _course(values: FloatArray) -> Course:
    """A line and its band from float64 [orders, C]."""
    ordered = np.sort(values, axis=0)
    ends = min(OUTSIDE, (len(values) - 1) // 2)
    return Course(values[0], ordered[ends], ordered[len(values) - 1 - ends])
