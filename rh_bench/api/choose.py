"""Which heads a user means: the strongest so many, those above a score, or a share of all."""

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
        k: so many of the strongest.
        above: those with a score above it.
        share: the strongest share of all heads, rounded down, at least one.
        threshold: taken for `above` where nothing is asked for.

    Raises:
        InputError: more than one is asked for, or one is out of range.
    """
    if sum(one is not None for one in (k, above, share)) > 1:
        raise InputError("asks for several things at once", where="top", hint="give a number, above= or share=")
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
        raise InputError("is no number", where="above")
    return [head for head, score in ranked if score > least]
