"""The strongest scores, ranks with ties, rank correlation: worked cases and what they mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.stats.bootstrap import NANO, NanoArray
from rh_bench.stats.ranks import centred_ranks, competition_ranks, spearman, strongest, strongest_first

ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=20)


def nano(*scores: float) -> NanoArray:
    return np.array([round(score * NANO) for score in scores], dtype=np.int64)


def test_equal_scores_share_the_smallest_rank() -> None:
    rows = np.stack([nano(0.2, 0.5, 0.2, 0.1), nano(0, 0, 0, 0)])
    assert competition_ranks(rows).tolist() == [[2, 1, 2, 4], [1, 1, 1, 1]]


@given(ROWS)
def test_rank_is_one_more_than_the_stronger_heads(scores: list[int]) -> None:
    expected = [1 + sum(other > own for other in scores) for own in scores]
    assert competition_ranks(np.array([scores]))[0].tolist() == expected


def test_spearman_worked_cases() -> None:
    rows = np.array([[1, 2, 3, 4], [10, 20, 30, 40], [4, 3, 2, 1], [1, 2, 2, 3]])
    found = spearman(rows)
    assert found[0, 1] == 1.0
    assert found[0, 2] == -1.0
    assert found[0, 3] == pytest.approx(0.9486832980505138)  # 4.5 / sqrt(5 * 4.5), ranks 1 2.5 2.5 4


def test_spearman_of_a_constant_row_is_refused() -> None:
    with pytest.raises(ValueError, match="constant"):
        spearman(np.array([[1, 2], [3, 3]]))


def test_average_ranks_are_doubled_and_centred() -> None:
    # Ranks 1.5 1.5 3 4, doubled, less their mean of 5.
    assert centred_ranks(nano(0.2, 0.2, 0.5, 0.9)).tolist() == [-2, -2, 1, 3]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_average_rank_counts_weaker_heads_and_half_the_equal_ones(rows: list[list[int]]) -> None:
    rows = [(row * 20)[:20] for row in rows]
    # Twice (weaker + (equal + 1) / 2), less (heads + 1).
    expected = [[2 * sum(x < own for x in row) + row.count(own) + 1 - 21 for own in row] for row in rows]
    assert centred_ranks(np.array(rows)).tolist() == expected


@given(ROWS, st.integers(0, 20))
def test_the_strongest_are_taken_in_order_and_of_equal_scores_the_first(scores: list[int], k: int) -> None:
    places = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    assert strongest_first(scores).tolist() == places
    assert strongest_first(scores, k).tolist() == places[:k]
    assert np.flatnonzero(strongest(np.array(scores), k)).tolist() == sorted(places[:k])
