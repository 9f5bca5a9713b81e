"""Measures of a distribution of scores. Arguments are int64 [..., H] in nano units, results float64 [...].

The same bytes on every machine; see `bootstrap`. `docs/statistics.md` describes each measure.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np

from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.stats.bootstrap import NANO, BoolArray, FloatArray, NanoArray

_LN_2 = 0.6931471805599453


def above(scores: NanoArray, threshold: float = HEAD_THRESHOLD) -> BoolArray:
    """Whether each score is above a threshold, both rounded to 9 decimals."""
    mask: BoolArray = scores > round(threshold * NANO)
    return mask


def share_above(scores: NanoArray, threshold: float) -> FloatArray:
    """Share of scores above a threshold, both rounded to 9 decimals. H must not be 0."""
    share: FloatArray = above(scores, threshold).mean(axis=-1)
    return share


def share_zero(scores: NanoArray) -> FloatArray:
    """Share of scores that are 0. H must not be 0."""
    zero: FloatArray = (scores == 0).mean(axis=-1)
    return zero


def gini(scores: NanoArray) -> FloatArray:
    """Gini coefficient: 0 when all scores are equal, (H - 1) / H when one score has everything.

    sum over i of (2 i - H - 1) x_i / (H sum x), with x ascending and i from 1. The numerator is an exact int64 for up
    to 32768 scores of up to 1.

    Raises:
        ValueError: scores of one distribution are all zero.
    """
    totals = _positive_totals(scores)
    heads = scores.shape[-1]
    ranks = 2 * np.arange(1, heads + 1, dtype=np.int64) - heads - 1
    coefficient: FloatArray = (np.sort(scores, axis=-1) * ranks).sum(axis=-1) / (heads * totals)
    return coefficient


def effective_number(scores: NanoArray) -> FloatArray:
    """Effective number of heads: exp of the Shannon entropy of p = x / sum x. H when all scores are equal, 1 when one
    score has everything (Hill 1973, "Diversity and Evenness", Ecology 54).

    Raises:
        ValueError: scores of one distribution are all zero.
    """
    totals = _positive_totals(scores)
    # cumsum adds from left to right; sum may add in another order on another machine.
    weighted = np.cumsum(scores * _ln(np.maximum(scores, 1).astype(np.float64)), axis=-1)[..., -1]
    entropies = _ln(totals.astype(np.float64)) - weighted / totals
    with localcontext(prec=28):
        numbers = [float(Decimal(entropy).exp()) for entropy in entropies.ravel().tolist()]
    return np.array(numbers, dtype=np.float64).reshape(entropies.shape)


def _positive_totals(scores: NanoArray) -> NanoArray:
    totals: NanoArray = scores.sum(axis=-1)
    if not (totals > 0).all():
        raise ValueError("all scores are zero")
    return totals


def _ln(x: FloatArray) -> FloatArray:
    """Natural logarithm of positive numbers to some 1e-16, by operations that IEEE 754 rounds identically everywhere.

    np.log is no alternative: its vectorised forms differ in the last bit between processors. x = m 2**e with m within a
    factor of sqrt(2) of 1, then ln m = 2 artanh z with z = (m - 1) / (m + 1), |z| < 0.172, as a power series.
    """
    m, e = np.frexp(x)
    low = m < math.sqrt(0.5)
    m, e = np.where(low, 2 * m, m), np.where(low, e - 1, e)
    z = (m - 1) / (m + 1)
    squared, series = z * z, np.zeros_like(z)
    for power in range(23, 0, -2):
        series = series * squared + 1 / power
    logarithm: FloatArray = e * _LN_2 + 2 * z * series
    return logarithm
