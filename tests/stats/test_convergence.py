"""Convergence: what the first k samples say, checked against scoring exactly these samples."""

from __future__ import annotations

import numpy as np
import pytest
from fake_runs import make_layers, make_results

from rh_bench.errors import InputError
from rh_bench.scores.heads import in_order, sample_scores, score
from rh_bench.stats.bootstrap import NANO, mean, subset_means
from rh_bench.stats.convergence import ORDERS, converge

LAYERS = make_layers(3, 6, 2)
COUNTED = [result for result in in_order(make_results(3, 6, 60)) if result.success]
SCORES = sample_scores(LAYERS, COUNTED)[0]


def test_the_last_size_is_the_run_itself_in_every_order() -> None:
    found = converge(SCORES, 0.1)
    assert found is not None
    whole = score(LAYERS, COUNTED, replicates=10)
    assert whole.paper is not None
    final = float((whole.paper.score > 0.1).mean())
    assert found.sizes[-1] == len(COUNTED)
    assert found.share.one[-1] == found.share.low[-1] == found.share.high[-1] == pytest.approx(final, abs=1e-9)
    for place, course in zip(found.top, found.scores, strict=True):
        assert course.low[-1] == course.high[-1] == whole.paper.score[place]
    strongest = np.argsort(-whole.paper.score, kind="stable")
    assert list(found.top) == [place for place in strongest if whole.paper.score[place] > 0][:5]


def test_each_size_is_what_scoring_the_first_samples_of_the_order_gives() -> None:
    found = converge(SCORES, 0.1, orders=1, seed=7)
    assert found is not None
    order = np.random.RandomState(7).permutation(len(COUNTED))
    for column, size in enumerate(found.sizes):
        first = score(LAYERS, [COUNTED[place] for place in order[:size]], replicates=2)
        assert first.paper is not None
        assert found.share.one[column] == pytest.approx(float((first.paper.score > 0.1).mean()), abs=1e-9)
        for place, course in zip(found.top, found.scores, strict=True):
            assert course.one[column] == first.paper.score[place]


def test_band_leaves_out_two_of_forty_orders_at_either_end_and_closes() -> None:
    found = converge(SCORES, 0.1, seed=3)
    assert found is not None
    random = np.random.RandomState(3)
    orders = [random.permutation(len(COUNTED)) for _ in range(ORDERS)]
    strongest = SCORES[:, found.top[0]]
    for column, size in enumerate(found.sizes):
        each = sorted(float(mean(strongest[order[:size], None])[0]) / NANO for order in orders)
        assert (found.scores[0].low[column], found.scores[0].high[column]) == (each[2], each[-3])
    width = found.scores[0].high - found.scores[0].low
    assert width[0] > width[len(width) // 2] > width[-1] == 0


def test_sizes_rise_to_the_number_of_samples() -> None:
    sizes = {n: converge(np.ones((n, 1)), 0.1).sizes.tolist() for n in (2, 3, 12, 13, 200)}  # type: ignore[union-attr]
    assert sizes[2] == [1, 2] and sizes[3] == [1, 2, 3] and sizes[12] == [1, 2, 3, 5, 8, 12]
    assert sizes[13] == [1, 2, 3, 5, 8, 12, 13]
    assert sizes[200] == [1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200]


def test_a_share_that_never_moves_has_settled_at_once_and_one_that_does_has_not() -> None:
    steady = np.tile([1.0, 0.0, 0.0], (30, 1))
    found = converge(steady, 0.1)
    assert found is not None and found.settled() == 1
    coin = (np.arange(30)[:, None] < 3) * np.ones((1, 4))  # at 0.1 exactly with all 30, above it with fewer
    moving = converge(coin, 0.1)
    assert moving is not None and moving.share.one[-1] == 0.0
    assert moving.settled() is None


def test_neither_one_sample_nor_no_head_converges_and_no_copy_at_all_does() -> None:
    assert converge(np.ones((1, 4)), 0.1) is None
    assert converge(np.ones((5, 0)), 0.1) is None
    silent = converge(np.zeros((5, 4)), 0.1)
    assert silent is not None
    assert silent.top == () and not silent.share.high.any()
    with pytest.raises(InputError, match="at least 1"):
        converge(np.ones((5, 4)), 0.1, orders=0)


def test_subset_means_are_exact_means_of_the_rows() -> None:
    chosen = np.random.RandomState(1).random_sample((50, len(SCORES))) < 0.4
    chosen[:, 0] = True
    found = subset_means(SCORES, chosen)
    for row, means in zip(chosen, found, strict=True):
        assert means.tolist() == mean(SCORES[row]).tolist()
    assert found.max() <= NANO
