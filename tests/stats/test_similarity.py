"""Similarity of head scores: worked cases, independent computations, and what chance gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rh_bench.errors import InputError
from rh_bench.stats.bootstrap import NANO, Bootstrap, Means, NanoArray
from rh_bench.stats.ranks import spearman as run_spearman
from rh_bench.stats.similarity import (
    Measure,
    expected_jaccard,
    expected_overlap,
    jaccard,
    matrix,
    pairs,
    pearson,
    permutation_null,
    similarity,
    spearman,
    top,
    top_overlap,
)

MEASURES: list[Callable[[], Measure]] = [pearson, spearman, jaccard, lambda: top_overlap(3)]


def nano(*scores: float) -> NanoArray:
    return np.rint(np.array(scores) * NANO).astype(np.int64)


SCORES = arrays.arrays(
    np.int64, (4, 9), elements=st.sampled_from([0, 0, 10**8, 10**8 + 1000, 3 * 10**8, 7 * 10**8, NANO])
)


# Worked cases


def test_pearson_worked_case() -> None:
    rows = np.stack([nano(0, 0, 0.5, 1.0), nano(0, 0.5, 0.5, 1.0)])
    # Deviations -.375 -.375 .125 .625 and -.5 0 0 .5: .5 / sqrt(.6875 * .5)
    assert matrix(pearson(), rows)[0, 1] == pytest.approx(0.5 / math.sqrt(0.6875 * 0.5))


def test_jaccard_counts_heads_above_the_threshold_and_not_at_it() -> None:
    rows = np.stack([nano(0.1, 0.2, 0.3, 0.4), nano(0.11, 0.2, 0.1, 0.4)])
    assert matrix(jaccard(), rows)[0, 1] == pytest.approx(2 / 4)
    assert matrix(jaccard(0.35), rows)[0, 1] == 1.0


def test_top_heads_score_above_zero_and_ties_go_to_the_first() -> None:
    assert top(nano(0.2, 0.5, 0.2, 0.0)[None], 2)[0].tolist() == [1, 1, 0, 0]
    assert top(nano(0.2, 0.5, 0.0, 0.0)[None], 3)[0].tolist() == [1, 1, 0, 0]
    rows = np.stack([nano(0.2, 0.5, 0.3, 0.0), nano(0.9, 0.5, 0.0, 0.0)])
    assert matrix(top_overlap(2), rows)[0, 1] == 0.5
    assert math.isnan(matrix(top_overlap(3), rows)[0, 1])


@pytest.mark.parametrize("make", MEASURES[:3])
def test_undefined_is_not_a_number_and_says_why(make: Callable[[], Measure]) -> None:
    measure = make()
    flat, steep = nano(0, 0, 0), nano(0, 0.05, 0.05)
    assert np.isnan(pairs(measure, flat[None], flat[None])).all()
    found = permutation_null(measure, flat, steep if measure.name != "jaccard" else flat, permutations=5)
    assert (found.value, found.mean, found.p_value) == (None, None, None)
    assert found.reason == measure.undefined
    missing = similarity(Means(flat, None), Means(flat, None), measure, Bootstrap(), 7)
    assert (missing.value, missing.n, missing.reason) == (None, 7, measure.undefined)


def test_scores_too_large_to_compare_exactly_are_refused() -> None:
    with pytest.raises(InputError, match="compared exactly"):
        matrix(pearson(), np.array([[10**15, 0], [0, 1]]))
    with pytest.raises(InputError, match="top 0"):
        top_overlap(0)


# Against other computations


@given(SCORES)
def test_correlations_are_those_of_numpy(rows: NanoArray) -> None:
    rows = rows[np.ptp(rows, axis=1) > 0]
    if len(rows) >= 2:
        expected = np.corrcoef(np.rint(rows / 1000))
        assert matrix(pearson(), rows) == pytest.approx(expected, abs=1e-9)
        assert matrix(spearman(), rows) == pytest.approx(run_spearman(rows), abs=1e-12)


@given(SCORES)
def test_overlaps_are_those_of_sets(rows: NanoArray) -> None:
    found = matrix(jaccard(), rows)
    for i, j in itertools.product(range(len(rows)), repeat=2):
        first, second = (set(np.flatnonzero(rows[k] > 10**8).tolist()) for k in (i, j))
        if first | second:
            assert found[i, j] == len(first & second) / len(first | second)
        else:
            assert math.isnan(found[i, j])


@pytest.mark.parametrize("make", MEASURES)
@given(rows=SCORES)
def test_every_measure_is_symmetric_bounded_and_one_with_itself(make: Callable[[], Measure], rows: NanoArray) -> None:
    found = matrix(make(), rows)
    assert np.array_equal(found, found.T, equal_nan=True)
    defined = found[~np.isnan(found)]
    assert ((defined >= -1) & (defined <= 1)).all()
    own = np.diagonal(found)
    assert own[~np.isnan(own)] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("make", MEASURES)
@given(rows=SCORES)
def test_pairs_are_the_entries_of_the_matrix(make: Callable[[], Measure], rows: NanoArray) -> None:
    found = matrix(make(), rows)
    assert np.array_equal(pairs(make(), rows[:1], rows), found[0], equal_nan=True)
    assert np.array_equal(pairs(make(), rows, rows[::-1]), found[[0, 1, 2, 3], [3, 2, 1, 0]], equal_nan=True)


@pytest.mark.parametrize("make", MEASURES[:3])
@given(rows=SCORES, seed=st.integers(0, 99))
def test_the_names_of_heads_do_not_matter(make: Callable[[], Measure], rows: NanoArray, seed: int) -> None:
    order = np.random.RandomState(seed).permutation(rows.shape[1])
    assert np.array_equal(matrix(make(), rows), matrix(make(), rows[:, order]), equal_nan=True)


# Intervals


def test_interval_is_that_of_the_replicates_and_holds_the_value() -> None:
    random = np.random.RandomState(3)
    truth = random.random_sample(40) * NANO
    first, second = (
        Means(row.mean(axis=0).astype(np.int64), row.astype(np.int64))
        for row in (np.clip(truth + random.randn(200, 40) * NANO / 10, 0, NANO) for _ in range(2))
    )
    bootstrap = Bootstrap(200)
    found = similarity(first, second, pearson(), bootstrap, 12)
    assert first.replicates is not None and second.replicates is not None
    each = sorted(np.corrcoef(a, b)[0, 1] for a, b in zip(first.replicates, second.replicates, strict=True))
    assert found.low == pytest.approx(each[4], abs=1e-5)
    assert found.value is not None and found.high is not None
    assert found.low is not None and found.low < found.value <= found.high
    assert found.n == 12


def test_no_interval_without_replicates_or_where_some_are_undefined() -> None:
    row = nano(0.0, 0.2, 0.3)
    single = similarity(Means(row, None), Means(row, None), jaccard(), Bootstrap(), 1)
    assert (single.value, single.low) == (1.0, None)
    replicates = np.stack([row, nano(0, 0, 0)])
    some = similarity(Means(row, replicates), Means(row, replicates), jaccard(), Bootstrap(2), 1)
    assert some.reason == "no interval: in 1 of 2 replicates, no head scores above 0.1"


# Chance


def test_permutations_of_three_heads_give_the_exact_share() -> None:
    """Of the 6 orders one is the identity, so the p-value of a perfect correlation nears 1/6."""
    row = nano(0.1, 0.2, 0.4)
    found = permutation_null(pearson(), row, row, permutations=6000, seed=1)
    assert found.value == 1.0
    assert found.p_value == pytest.approx(1 / 6, abs=0.02)
    assert found.mean == pytest.approx(0.0, abs=0.02)
    assert (found.permutations, found.seed) == (6000, 1)


def test_permutations_are_seeded() -> None:
    first, second = np.random.RandomState(0).randint(0, NANO, (2, 50))
    again = [permutation_null(spearman(), first, second, permutations=300, seed=seed) for seed in (4, 4, 5)]
    assert again[0] == again[1]
    assert again[0] != again[2]


def test_within_groups_heads_keep_their_layer() -> None:
    """Two models whose layers differ in strength and whose heads within a layer do not: alike by layer alone."""
    random = np.random.RandomState(5)
    layers = np.repeat(np.arange(4, dtype=np.int32), 10)
    first, second = ((layers * 0.2 + random.random_sample(40) * 0.1) * NANO for _ in range(2))
    first, second = first.astype(np.int64), second.astype(np.int64)
    free = permutation_null(spearman(), first, second, permutations=999)
    within = permutation_null(spearman(), first, second, groups=layers, permutations=999)
    assert free.p_value == 0.001
    assert within.p_value is not None and within.p_value > 0.05
    assert within.mean is not None and within.mean > 0.8


def test_groups_of_one_leave_everything_in_place() -> None:
    first, second = np.random.RandomState(0).randint(0, NANO, (2, 20))
    found = permutation_null(pearson(), first, second, groups=np.arange(20, dtype=np.int32), permutations=10)
    assert found.mean == pytest.approx(found.value)
    assert found.p_value == 1.0


@given(st.integers(1, 7), st.data())
def test_chance_is_what_all_sets_give(heads: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, heads)), data.draw(st.integers(0, heads))
    first = set(range(a))
    commons = [len(first & set(other)) for other in itertools.combinations(range(heads), b)]
    assert expected_overlap(a, b, heads) == pytest.approx(sum(commons) / len(commons))
    if a + b:
        shares = [Fraction(common, a + b - common) for common in commons]
        assert expected_jaccard(a, b, heads) == pytest.approx(float(sum(shares) / len(shares)))
    else:
        assert expected_jaccard(a, b, heads) is None


def test_more_heads_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="of 4 heads"):
        expected_jaccard(5, 2, 4)
