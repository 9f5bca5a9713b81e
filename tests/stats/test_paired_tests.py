"""Paired differences and tests: known values, what must hold of any data, and the error rates that they promise."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rh_bench.errors import InputError
from rh_bench.stats.bootstrap import Bootstrap, strata_by
from rh_bench.stats.paired_tests import (
    benjamini_hochberg,
    difference_of_means,
    difference_of_shares,
    holm,
    mcnemar,
    sign_flip_test,
)

BOOTSTRAP = Bootstrap(replicates=400, seed=1)


def pairs_of(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = [True] * (both + first) + [False] * (second + neither)
    b = [True] * both + [False] * first + [True] * second + [False] * neither
    return np.array(a, dtype=bool), np.array(b, dtype=bool)


def one_stratum(n: int):
    return strata_by({}, n)


# McNemar


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 1024), (1, 9, 22 / 1024), (8, 2, 2 * 56 / 1024)],
)
def test_mcnemar_is_a_fair_coin_among_pairs_that_differ(first: int, second: int, expected: float) -> None:
    a, b = pairs_of(7, first, second, 3)
    assert mcnemar(a, b) == pytest.approx(expected, abs=1e-9)
    assert mcnemar(b, a) == mcnemar(a, b)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_against_the_binomial_distribution(first: int, second: int) -> None:
    n, fewer = first + second, min(first, second)
    tail = Fraction(sum(math.comb(n, k) for k in range(fewer + 1)), 2**n)
    assert mcnemar(*pairs_of(0, first, second, 1)) == round(float(min(Fraction(1), 2 * tail)), 9)


def test_mcnemar_of_many_pairs() -> None:
    assert mcnemar(*pairs_of(0, 3000, 3000, 0)) == 1.0
    assert mcnemar(*pairs_of(0, 4000, 2000, 0)) == 0.0


# Sign flips


def test_sign_flips_are_enumerated_where_they_are_few() -> None:
    assert sign_flip_test(np.ones(4)) == 2 / 16
    assert sign_flip_test(np.array([1.0, -1.0])) == 1.0
    assert sign_flip_test(np.array([0.0, 0.0])) == 1.0
    assert sign_flip_test(np.zeros(0)) == 1.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_enumerated_sign_flips_against_all_assignments(differences: list[float]) -> None:
    fixed = [round(x * 2**32) for x in differences]
    sums = [abs(sum(s * x for s, x in zip(signs, fixed, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(fixed))]  # fmt: skip
    expected = sum(s >= abs(sum(fixed)) for s in sums) / len(sums)
    assert sign_flip_test(np.array(differences)) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=13, max_size=30), st.integers(0, 5))
@settings(max_examples=min(25, settings.default.max_examples))
def test_drawn_sign_flips_are_symmetric_seeded_and_never_zero(differences: list[float], seed: int) -> None:
    values = np.array(differences)
    p = sign_flip_test(values, permutations=200, seed=seed)
    assert p + 1e-9 >= 1 / 201 and p <= 1
    assert p == sign_flip_test(values, permutations=200, seed=seed)
    assert p == sign_flip_test(-values, permutations=200, seed=seed)


def test_drawn_and_enumerated_sign_flips_agree() -> None:
    random = np.random.RandomState(3)
    values = random.randn(12) + 0.4
    drawn = sign_flip_test(np.concatenate([values, [1e-9]]), permutations=20_000)
    assert drawn == pytest.approx(sign_flip_test(values), abs=0.01)


def test_sign_flips_reject_as_rarely_as_they_promise() -> None:
    random = np.random.RandomState(0)
    p = np.array([sign_flip_test(random.randn(20), permutations=200, seed=i) for i in range(400)])
    assert 0.02 < (p <= 0.05).mean() < 0.09


def test_differences_that_do_not_add_up_exactly_are_refused() -> None:
    for values in (np.full(20, 1e7), np.array([float("nan")])):
        with pytest.raises(InputError, match="added exactly"):
            sign_flip_test(values)
    with pytest.raises(InputError, match="permutations"):
        sign_flip_test(np.ones(3), permutations=0)


# Differences


def test_a_difference_with_its_interval() -> None:
    random = np.random.RandomState(5)
    base = random.rand(60)
    found = difference_of_means(base + 0.2 + 0.1 * random.randn(60), base, one_stratum(60), BOOTSTRAP)
    assert found.n == 60 and found.low is not None and found.high is not None
    assert 0.15 < found.low < found.value < found.high < 0.25


def test_pairing_removes_what_units_have_in_common() -> None:
    base = np.arange(40.0)
    found = difference_of_means(base + np.tile([0.9, 1.1], 20), base, one_stratum(40), BOOTSTRAP)
    assert found.high - found.low < 0.1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=min(50, settings.default.max_examples))
def test_a_difference_is_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    one, two = (difference_of_means(x, y, one_stratum(len(a)), BOOTSTRAP) for x, y in ((a, b), (b, a)))
    assert one.value == -two.value
    assert -1 <= one.low <= one.value <= one.high <= 1
    assert difference_of_means(a, a, one_stratum(len(a)), BOOTSTRAP).value == 0


def test_pairs_that_all_differ_alike_still_have_an_interval_where_they_are_outcomes() -> None:
    found = difference_of_means(np.ones(20), np.zeros(20), one_stratum(20), BOOTSTRAP)
    assert found.value == found.high == 1 and 0.7 < found.low < 0.85
    other = difference_of_means(np.full(5, 0.7), np.full(5, 0.5), one_stratum(5), BOOTSTRAP)
    assert other.low is None and "same amount" in other.reason
    assert difference_of_means(np.ones(1), np.zeros(1), one_stratum(1), BOOTSTRAP).low is None
    assert difference_of_means(np.zeros(0), np.zeros(0), one_stratum(0), BOOTSTRAP).value is None


def test_a_difference_of_shares_worked_by_hand() -> None:
    """48 and 38 of 50 succeed, 36 times both; Wilson limits .8654–.9890 and .6259–.8570, correlation −.1147."""
    found = difference_of_shares(*pairs_of(36, 12, 2, 0), 0.95)
    below, above = (0.96 - 0.865395, 0.857003 - 0.76), (0.988952 - 0.96, 0.76 - 0.625945)
    phi = -24 / math.sqrt(48 * 2 * 38 * 12)
    low, high = (math.sqrt(x * x - 2 * phi * x * y + y * y) for x, y in (below, above))
    assert (found.value, found.n) == (0.2, 50)
    assert found.low == pytest.approx(0.2 - low, abs=1e-4)
    assert found.high == pytest.approx(0.2 + high, abs=1e-4)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_a_difference_of_shares_lies_in_its_interval(both: int, first: int, second: int, neither: int) -> None:
    a, b = pairs_of(both, first, second, neither)
    found, mirrored = difference_of_shares(a, b, 0.95), difference_of_shares(b, a, 0.95)
    if len(a) == 0:
        assert found.value is None
        return
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(-mirrored.high, abs=1e-8)


def test_intervals_of_differences_cover_as_often_as_they_promise() -> None:
    random, hits = np.random.RandomState(11), 0
    for seed in range(200):
        a, b = random.rand(80) < 0.7, random.rand(80) < 0.5
        found = difference_of_means(a.astype(float), b.astype(float), one_stratum(80), Bootstrap(300, seed))
        hits += found.low <= 0.2 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


# Corrections


def test_corrections_of_a_known_family() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([]) == holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrected_values_keep_the_order_and_never_shrink(p: list[float]) -> None:
    weak, strong = benjamini_hochberg(p), holm(p)
    for corrected in (weak, strong):
        assert all(c >= x - 1e-9 and c <= 1 for c, x in zip(corrected, p, strict=True))
        order = np.argsort(p, kind="stable")
        assert np.diff(np.array(corrected)[order]).min(initial=0.0) >= 0
    assert all(b <= h + 1e-9 for b, h in zip(weak, strong, strict=True))
