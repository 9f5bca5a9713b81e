"""Order among scores: the strongest, ranks with ties, rank correlation. Independent of heads and models.

Scores lie along the last axis. Integers (nano units) are ordered exactly; equal scores keep their order,
which for the heads of a model is by layer, then head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rh_bench.records import IntArray
from rh_bench.stats.bootstrap import BoolArray, FloatArray, NanoArray, Number


def strongest_first(scores: NanoArray | FloatArray | Sequence[float], k: int | None = None) -> npt.NDArray[np.intp]:
    """Places of the k highest scores of each row (all by default), the highest first; of equal ones the first."""
    return np.argsort(-np.asarray(scores), axis=-1, kind="stable")[..., :k]


def strongest(scores: NanoArray, k: int) -> BoolArray:
    """Whether each score is one of the k highest of its row; of equal ones the first are."""
    chosen = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(chosen, strongest_first(scores, k), True, axis=-1)
    return chosen


def competition_ranks(scores: NanoArray | FloatArray) -> IntArray:
    """Rank of each score in its row, 1 for the largest; equal scores share the smallest rank (1, 2, 2, 4).

    Args:
        scores: [..., H].

    Returns:
        int32 [..., H].
    """
    order = strongest_first(scores).astype(np.int32)
    descending = np.take_along_axis(scores, order, axis=-1)
    return _put(order, _first_equal(descending) + 1)


def centred_ranks(scores: NanoArray) -> NanoArray:
    """Twice the average rank of each score in its row, 1 for the smallest, minus its mean: int64 [..., H]. Rows sum
    to 0."""
    order = np.argsort(scores, axis=-1, kind="stable").astype(np.int32)
    ascending = np.take_along_axis(scores, order, axis=-1)
    heads = scores.shape[-1]
    first, last = _first_equal(ascending), heads - 1 - _first_equal(ascending[..., ::-1])[..., ::-1]
    return _put(order, first.astype(np.int64) + last + 1 - heads)


def _first_equal(ordered: npt.NDArray[Any]) -> IntArray:
    """For each of a row of scores in order, the place of the first that equals it: int32 [..., H]."""
    place = np.broadcast_to(np.arange(ordered.shape[-1], dtype=np.int32), ordered.shape)
    starts_new = np.ones(ordered.shape, dtype=np.bool_)
    starts_new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    first: IntArray = np.maximum.accumulate(np.where(starts_new, place, 0), axis=-1)
    return first


def _put(order: IntArray, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    placed = np.empty_like(values)
    np.put_along_axis(placed, order, values, axis=-1)
    return placed


def spearman(rows: NanoArray) -> FloatArray:
    """Spearman's rank correlation of every pair of rows, ties at their average rank.

    Args:
        rows: int64 [N, H]; no row may be constant.

    Returns:
        float64 [N, N] in [-1, 1].

    Raises:
        ValueError: a row is constant, which leaves its correlations undefined.
    """
    ranks = np.stack([centred_ranks(row) for row in rows]).astype(np.float64)
    # Integers below 2**53 for up to 2**17 columns, so exact in whatever order BLAS adds them.
    products = ranks @ ranks.T
    squares = np.diagonal(products)
    if not squares.all():
        raise ValueError("a row is constant")
    correlations: FloatArray = np.clip(products / np.sqrt(np.outer(squares, squares)), -1.0, 1.0)
    return correlations
