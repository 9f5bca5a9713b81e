"""Grids: the paper's numbers, what the user writes, ids, and an even spread."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.errors import InputError
from rh_bench.records import Needle
from rh_bench.sets.grids import GRIDS, PAPER, QUICK, choose_grid, make_samples, parse_depths, parse_lengths, spread


def needles(count: int) -> list[Needle]:
    return [Needle(f"n{i}", "test", "a needle", "which?", 2, 8, f"h{i % 2}") for i in range(count)]


def test_the_papers_grid() -> None:
    assert len(PAPER.lengths) == 20 and len(PAPER.depths) == 10
    assert (PAPER.lengths[0], PAPER.lengths[-1], PAPER.longest) == (1_000, 50_000, 50_000)
    assert (PAPER.depths[0], PAPER.depths[-1]) == (0.0, 100.0)
    steps = {b - a for a, b in pairwise(PAPER.lengths)}
    assert steps <= {2578, 2579, 2580}
    assert len(make_samples(needles(PAPER.needles), PAPER.lengths, PAPER.depths)) == 600
    assert GRIDS == {"quick": QUICK, "paper": PAPER}


def test_own_lengths_and_depths_make_a_custom_grid() -> None:
    grid = choose_grid("quick", "700, 300", None)
    assert (grid.name, grid.lengths, grid.depths) == ("custom", (300, 700), QUICK.depths)
    assert choose_grid("paper", None, "0,33.3").depths == (0.0, 33.3)
    assert choose_grid("quick", None, None) is QUICK
    with pytest.raises(InputError, match="unknown grid 'large'; use quick or paper"):
        choose_grid("large", None, None)


@pytest.mark.parametrize("text", ["", "a", "512,", "0", "-5", "1.5", "512,512", "99999999999", "٣", "1e3"])
def test_wrong_lengths_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--lengths"):
        parse_lengths(text)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-1", "100.1", "0,-0", "50,50.0"])
def test_wrong_depths_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--depths"):
        parse_depths(text)


@given(st.sets(st.integers(1, 10**6), min_size=1, max_size=8), st.sets(st.floats(0, 100), min_size=1, max_size=8))
def test_every_cell_has_an_id_of_its_own(lengths: set[int], depths: set[float]) -> None:
    samples = make_samples(needles(3), sorted(lengths), sorted(depths))
    assert len({sample.sample_id for sample in samples}) == len(samples) == 3 * len(lengths) * len(depths)
    assert all(sample.haystack_id == f"h{int(sample.needle_id[1:]) % 2}" for sample in samples)


def test_ids_are_readable() -> None:
    ids = [sample.sample_id for sample in make_samples(needles(1), [512], [0.0, 33.33, 100.0])]
    assert ids == ["n0-L512-D0", "n0-L512-D33.33", "n0-L512-D100"]


def test_a_grid_can_be_too_large() -> None:
    with pytest.raises(InputError, match="more than"):
        make_samples(needles(2), range(1, 1001), [i / 10 for i in range(101)])


@pytest.mark.slow
@given(st.integers(1, 700))
def test_spread_takes_as_many_as_asked_in_order(limit: int) -> None:
    samples = make_samples(needles(3), PAPER.lengths, PAPER.depths)
    chosen = spread(samples, limit)
    assert len(chosen) == min(limit, 600)
    assert list(chosen) == sorted(chosen, key=samples.index)
    assert len(set(chosen)) == len(chosen)


@given(st.integers(20, 300))
def test_spread_is_even_over_lengths_depths_and_needles(limit: int) -> None:
    chosen = spread(make_samples(needles(3), PAPER.lengths, PAPER.depths), limit)
    for field, values in (("length", 20), ("depth", 10), ("needle_id", 3)):
        counts = Counter(getattr(sample, field) for sample in chosen)
        fair = limit / values
        assert len(counts) == values or fair < 2, (field, counts)
        assert max(counts.values()) <= fair + max(3, 0.5 * fair), (field, counts)


def test_spread_of_everything_and_of_nothing() -> None:
    samples = make_samples(needles(1), [512], [0.0, 50.0])
    assert spread(samples, None) == samples == spread(samples, 2) == spread(samples, 9)
    with pytest.raises(InputError, match="--limit"):
        spread(samples, 0)
