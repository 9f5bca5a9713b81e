"""Robustness over needles, lengths and depths: a case worked by hand, what must hold, and what it can tell apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import LAYERS, measured, run_robustness, runs

from rh_bench.records import SampleResult
from rh_bench.scores.heads import score
from rh_bench.scores.robustness import FACTORS, agreement, robustness
from rh_bench.scores.summary import summarise
from rh_bench.stats.bootstrap import NANO


def worked() -> list[SampleResult]:
    return [
        measured("a", [(0, 0, 0, 0), (0, 1, 0, 0)], span=1, needle="n0"),
        measured("b", [(0, 0, 0, 0)], span=1, needle="n0"),
        measured("c", [(0, 0, 0, 0), (2, 2, 0, 0)], span=1, needle="n1"),
        measured("d", [(2, 1, 0, 0)], span=1, needle="n1", success=False),
    ]


def test_worked_case() -> None:
    needle, length, depth = run_robustness(LAYERS, worked(), shuffles=0)
    # Scores 1 .5 0 0 0 and 1 0 0 0 1; ranks 5 4 2 2 2 and 4.5 2 2 2 4.5, less 3: products 2.5, squares 8 and 7.5.
    assert needle.spearman.value == pytest.approx(2.5 / np.sqrt(8 * 7.5))
    assert needle.jaccard.value == pytest.approx(1 / 3)  # {(0, 0), (0, 1)} and {(0, 0), (2, 2)}
    assert (needle.parts, needle.counted, needle.spearman.n) == (2, 3, 1)
    assert (needle.spearman_at_random, needle.p_value) == (None, None)
    for other in (length, depth):
        assert other.spearman.value is None
        assert other.spearman.reason == f"needs two {other.factor}s with counted samples, there are 1"


def test_silent_part_leaves_the_number_out_with_a_reason() -> None:
    samples = [measured("a", [(0, 0, 0, 0)], needle="n0"), measured("b", needle="n1"), measured("c", needle="n2")]
    found = run_robustness(LAYERS, samples, shuffles=3)[0]
    assert found.spearman.reason == "all heads of a model score alike in some part"
    assert found.jaccard.reason == "no head scores above 0.1 in some part"
    assert found.spearman_at_random is None


@given(runs(), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_numbers_are_in_range(samples: list[SampleResult], random: object) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = run_robustness(LAYERS, samples, shuffles=3)
    assert found == run_robustness(LAYERS, shuffled, shuffles=3)
    assert [item.factor for item in found] == list(FACTORS)
    for item in found:
        assert item.counted == sum(sample.success for sample in samples)
        for estimate, least in ((item.spearman, -1), (item.jaccard, 0)):
            assert (estimate.value is None) == (estimate.n == 0)
            assert estimate.value is None or least <= estimate.value <= 1
        if item.p_value is not None:
            assert item.p_value in (0.25, 0.5, 0.75, 1.0)


@given(runs())
def test_over_needles_it_is_the_stability_of_the_summary(samples: list[SampleResult]) -> None:
    found = run_robustness(LAYERS, samples, shuffles=0)[0].spearman
    summary = summarise("0" * 16, LAYERS, samples, score(LAYERS, samples, replicates=2))
    stability = summary["universality"]["stability"]["by_needle"]
    assert found.value == pytest.approx(stability["value"], abs=2e-9)
    assert found.n == stability["n"]


def test_heads_that_depend_on_the_factor_are_told_from_noise() -> None:
    random = np.random.RandomState(0)
    labels = [place % 3 for place in range(60)]
    strength = np.where(np.arange(100) < 10, 0.8, 0.01)
    stable = (random.random_sample((60, 100)) < strength).astype(np.float64)
    own = np.stack([np.roll(strength, 10 * label) for label in labels])
    shifting = (random.random_sample((60, 100)) < own).astype(np.float64)
    same, other = (robustness(scores, {"needle": labels}, shuffles=50)[0] for scores in (stable, shifting))
    assert same.p_value is not None and same.p_value > 0.05
    assert other.p_value == pytest.approx(1 / 51)
    assert same.jaccard.value is not None and other.jaccard.value is not None
    assert other.jaccard.value < 0.3 < same.jaccard.value
    assert same.jaccard_at_random == pytest.approx(same.jaccard.value, abs=0.1)


def test_another_factor_is_not_laid_at_this_ones_door() -> None:
    """Heads depend on the needle alone; parts by length hold each needle as often, and shuffled ones must, too."""
    random = np.random.RandomState(2)
    labels = {"needle": [place // 2 % 4 for place in range(80)], "length": [place % 2 for place in range(80)]}
    strength = np.where(np.arange(100) < 10, 0.8, 0.01)
    own = np.stack([np.roll(strength, 10 * needle) for needle in labels["needle"]])
    scores = (random.random_sample((80, 100)) < own).astype(np.float64)
    needle, length = robustness(scores, labels, shuffles=100)
    assert needle.within == ("length",) and length.within == ("needle",)
    assert needle.p_value == pytest.approx(1 / 101)
    assert length.p_value is not None and length.p_value > 0.05
    assert length.spearman.value == pytest.approx(length.spearman_at_random, abs=0.05)


def test_strata_in_which_nothing_can_move_are_given_up() -> None:
    """Each needle at one length of its own: among samples of equal length there is but one needle."""
    labels = {"needle": [0, 0, 1, 1, 2, 2], "length": [0, 0, 1, 1, 2, 2]}
    scores = np.random.RandomState(0).random_sample((6, 8))
    assert [item.within for item in robustness(scores, labels, shuffles=2)] == [(), ()]


@pytest.mark.slow
def test_shuffles_are_seeded_and_keep_the_sizes_of_parts() -> None:
    random = np.random.RandomState(1)
    scores, labels = random.random_sample((9, 20)), {"needle": [0, 0, 0, 0, 0, 0, 0, 0, 1]}
    again = [robustness(scores, labels, shuffles=20, seed=seed)[0] for seed in (0, 0, 1)]
    assert again[0] == again[1]
    assert again[0].spearman_at_random != again[2].spearman_at_random
    # Each sample is alone with the chance of one in nine, so the mean is over these nine.
    alone = [robustness(scores, {"x": [int(i == j) for j in range(9)]}, shuffles=0)[0].spearman.value for i in range(9)]
    many = robustness(scores, labels, shuffles=2000)[0].spearman_at_random
    assert many == pytest.approx(np.mean([value for value in alone if value is not None]), abs=0.02)


def test_agreement_of_several_runs() -> None:
    rows = np.array([[0, 2, 4, 8], [0, 1, 2, 3], [8, 4, 2, 0]]) * NANO // 10
    ranks, sets = agreement(rows, "sets")
    assert ranks.value == pytest.approx(-1 / 3)  # 1, -1, -1
    assert sets.value == pytest.approx((2 / 3 + 2 / 4 + 1 / 4) / 3)  # {1,2,3}, {2,3}, {0,1,2}
    assert ranks.n == 3
    assert agreement(rows[:1], "sets")[0].reason == "needs two sets with counted samples, there are 1"


def test_failed_samples_are_not_looked_at() -> None:
    samples = worked()
    changed = [*samples[:3], replace(samples[3], events=samples[3].events[:0])]
    assert run_robustness(LAYERS, samples) == run_robustness(LAYERS, changed)
