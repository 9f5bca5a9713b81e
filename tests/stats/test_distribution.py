"""Measures of a distribution of scores: worked cases, properties, bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.stats import distribution
from rh_bench.stats.bootstrap import NANO, NanoArray, mean, rounded
from rh_bench.stats.distribution import effective_number, gini, share_above, share_zero

SCORES = st.lists(st.integers(0, NANO), min_size=1, max_size=30).filter(any)


def nano(*scores: float) -> NanoArray:
    return np.array([round(score * NANO) for score in scores], dtype=np.int64)


def test_shares_compare_rounded_numbers() -> None:
    scores = mean(np.array([[0.1, 0.1 + 1e-12, 0.1 + 1e-8, 0.0]]))
    assert share_above(scores, 0.1) == 0.25
    assert share_zero(scores) == 0.25


def test_gini_worked_cases() -> None:
    assert gini(nano(0.3, 0.3, 0.3)) == 0.0
    assert gini(nano(0, 0, 0, 1)) == 0.75
    assert gini(nano(0.1, 0.2, 0.3)) == pytest.approx(2 / 9)
    assert gini(np.stack([nano(1, 1), nano(0, 1)])).tolist() == [0.0, 0.5]


def test_effective_number_worked_cases() -> None:
    assert rounded(float(effective_number(nano(0.3, 0.3, 0.3)))) == 3.0
    assert rounded(float(effective_number(nano(0, 0, 0.7, 0)))) == 1.0
    assert float(effective_number(nano(0.5, 0.25, 0.25))) == pytest.approx(2**1.5, rel=1e-14)


@pytest.mark.parametrize("measure", [gini, effective_number])
def test_measures_of_nothing_are_refused(measure: object) -> None:
    with pytest.raises(ValueError, match="all scores are zero"):
        measure(np.stack([nano(0.1, 0.2), nano(0, 0)]))  # type: ignore[operator]


@given(SCORES)
def test_measures_stay_within_their_bounds(scores: list[int]) -> None:
    row, heads = np.array(scores), len(scores)
    assert 0.0 <= float(gini(row)) <= 1 - 1 / heads + 1e-12
    assert 1 - 1e-9 <= float(effective_number(row)) <= heads + 1e-9


@given(SCORES)
def test_more_heads_at_zero_concentrate_but_do_not_add(scores: list[int]) -> None:
    row = np.array(scores)
    padded = np.concatenate([row, np.zeros_like(row)])
    assert float(gini(padded)) == pytest.approx(0.5 + float(gini(row)) / 2)
    assert float(effective_number(padded)) == pytest.approx(float(effective_number(row)))


@given(st.floats(1.0, 2.0**62))
def test_logarithm_is_a_logarithm(x: float) -> None:
    assert float(distribution._ln(np.array(x))) == pytest.approx(math.log(x), rel=1e-14, abs=1e-15)
