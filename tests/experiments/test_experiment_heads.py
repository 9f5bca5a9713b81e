"""Which heads are removed: order, disjointness, layers, seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.errors import InputError
from rh_bench.experiments.heads import draw_random_heads, draws, rank_heads
from rh_bench.records import Layer, head_grid

LAYERS = (Layer(0, "full", 4, 2), Layer(1, "linear_attention"), Layer(2, "sliding", 6, 2, 16), Layer(3, "full", 4, 4))
GRID = head_grid(LAYERS)


def test_heads_are_ranked_by_score_then_place() -> None:
    scores = np.zeros(len(GRID))
    scores[[3, 5, 9]] = 0.4, 0.7, 0.4
    scores[0] = 0.1
    ranking = rank_heads(LAYERS, scores)
    assert ranking.heads[:4] == ((2, 1), (0, 3), (2, 5), (0, 0)) and ranking.scores[:4] == (0.7, 0.4, 0.4, 0.1)
    assert ranking.retrieval == ((2, 1), (0, 3), (2, 5)), "0.1 itself is not above 0.1"
    assert ranking.heads[4:] == tuple(head for head in GRID if head not in ranking.heads[:4])
    assert ranking.top(2) == ranking.heads[:2] and ranking.top(0) == ()
    with pytest.raises(InputError, match="15 heads cannot be chosen of 14"):
        ranking.top(15)


def test_a_run_without_scores_ranks_nothing() -> None:
    with pytest.raises(InputError, match="no sample of this run counted"):
        rank_heads(LAYERS, None)
    with pytest.raises(InputError, match="3 scores for 14 heads"):
        rank_heads(LAYERS, np.zeros(3))


heads = st.sets(st.sampled_from(GRID), max_size=7)


@given(heads, heads, st.integers(0, 2**32 - 1), st.booleans())
def test_random_heads_avoid_what_they_control_for(
    retrieval: set[tuple[int, int]], top: set[tuple[int, int]], seed: int, matched: bool
) -> None:
    free = len(GRID) - len(retrieval | top)
    if len(top) > free:
        with pytest.raises(InputError, match=f"from the {free} neither"):
            draw_random_heads(GRID, retrieval, top, seed, matched=matched)
        return
    draw = draw_random_heads(GRID, retrieval, top, seed, matched=matched)
    assert len(set(draw.heads)) == len(draw.heads) == len(top)
    assert not set(draw.heads) & (retrieval | top) and set(draw.heads) <= set(GRID)
    assert draw == draw_random_heads(GRID, sorted(retrieval), sorted(top), seed, matched=matched)
    if matched:
        wanted, got = Counter(layer for layer, _ in top), Counter(layer for layer, _ in draw.heads)
        assert (wanted - got).total() == (got - wanted).total() <= draw.moved
        assert draw.moved or wanted == got


def test_a_layer_without_others_takes_from_the_nearest() -> None:
    top = [(0, 0), (0, 1), (0, 2)]
    draw = draw_random_heads(GRID, [], top, 0, matched=True)
    assert draw.moved == 2 and Counter(layer for layer, _ in draw.heads) == {0: 1, 2: 2}
    full = [(layer, head) for layer, head in GRID if layer == 3]
    assert Counter(layer for layer, _ in draw_random_heads(GRID, [], full, 0, matched=True).heads) == {2: 4}


def test_uniform_draws_are_nested_and_uniform() -> None:
    small = draw_random_heads(GRID, GRID[:4], GRID[:2], 7, matched=False)
    large = draw_random_heads(GRID, GRID[:4], GRID[:4], 7, matched=False)
    assert set(small.heads) < set(large.heads)
    seen = Counter(h for draw in draws(GRID, GRID[:4], GRID[:2], range(500), matched=False) for h in draw.heads)
    assert set(seen) == set(GRID[4:])
    # 1000 heads over 10: a count is within 5 standard deviations (8.9 each) of 100.
    assert all(abs(count - 100) < 45 for count in seen.values())


def test_the_stream_is_frozen() -> None:
    assert draw_random_heads(GRID, [(0, 0)], GRID[:3], 1, matched=False).heads == ((2, 1), (2, 2), (2, 3))
