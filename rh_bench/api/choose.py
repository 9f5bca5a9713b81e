"""Choosing heads: the k strongest, those above a score, or a share of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from rh_bench.errors import InputError

Place = tuple[int, int]
"""(layer, query head)."""


def choose_top(
    ranked: Sequence[tuple[Place, float]], k: int | None, above: float | None, share: float | None, threshold: float
) -> list[Place]:
    """Heads of a list of (head, score), the strongest first.

    Args:
        ranked: every head, the strongest first.
        k: number of strongest heads.
        above: heads with a score above this.
        share: share of all heads, the strongest; rounded down, at least one.
        threshold: value of `above` if nothing else is given.

    Raises:
        InputError: more than one of them is given, or one is out of range.
    """
    if sum(one is not None for one in (k, above, share)) > 1:
        raise InputError("takes only one of these", where="top", hint="give a number, above= or share=")
    if share is not None:
        if not 0 < share <= 1:
            raise InputError(f"must be above 0 and at most 1, not {share}", where="share")
        k = max(1, math.floor(Fraction(str(share)) * len(ranked)))
    if k is not None:
        if isinstance(k, bool) or k < 0:
            raise InputError(f"must be a number of heads, not {k}", where="top")
        return [head for head, score in ranked[:k] if score > 0]
    least = threshold if above is None else above
    if math.isnan(least):
        raise InputError("is not a number", where="above")
    return [head for head, score in ranked if score > least]
