"""Head scores: a case worked by hand, and what must hold for any run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import GRID, LAYERS, measured, runs

from rh_bench.errors import InputError
from rh_bench.records import Layer, SampleResult
from rh_bench.scores.heads import HeadScores, heads_columns, needle_means, score

COLUMNS = [
    "layer",
    "head",
    "score",
    "score_low",
    "score_high",
    "events_score",
    "events_low",
    "events_high",
    "rank",
    "rank_low",
    "rank_high",
    "activation_frequency",
    "n",
]


def plain(scores: HeadScores) -> dict[str, list[Any]]:
    """The columns as Python lists, so that two results can be compared with ==."""
    return {name: np.asarray(column).tolist() for name, column in heads_columns(scores).items()}


def worked() -> list[SampleResult]:
    return [
        # Head (0, 0) copies both positions, one of them twice; (2, 1) copies one.
        measured("a", [(0, 0, 0, 0), (0, 0, 1, 1), (0, 0, 2, 1), (2, 1, 0, 0)], span=2),
        measured("b", [(0, 0, 0, 3), (2, 0, 1, 2)], span=4),
        measured("c", [(2, 2, 0, 0)], span=1, success=False),
    ]


def test_worked_case() -> None:
    found = plain(score(LAYERS, worked()))
    assert list(found) == COLUMNS
    assert list(zip(found["layer"], found["head"], strict=True)) == GRID
    assert found["score"] == [0.625, 0.0, 0.125, 0.25, 0.0]  # (2/2 + 1/4)/2, 0, 1/8, 1/4, 0
    assert found["events_score"] == [0.875, 0.0, 0.125, 0.25, 0.0]  # (3/2 + 1/4)/2
    assert found["rank"] == [1, 4, 3, 2, 4]
    assert found["activation_frequency"] == [1.0, 0.0, 0.5, 0.5, 0.0]
    assert found["n"] == [2] * 5
    # Two samples: each replicate is one of them.
    assert found["score_low"] == [0.25, 0.0, 0.0, 0.0, 0.0]
    assert found["score_high"] == [1.0, 0.0, 0.25, 0.5, 0.0]
    assert (found["rank_low"][0], found["rank_high"][0]) == (1, 1)


def test_columns_have_the_types_of_the_file() -> None:
    kinds = {name: np.asarray(column).dtype for name, column in heads_columns(score(LAYERS, worked())).items()}
    assert {name for name, kind in kinds.items() if kind == np.int16} == {"layer", "head"}
    assert {name for name, kind in kinds.items() if kind == np.int32} == {"rank", "rank_low", "rank_high", "n"}
    assert all(kinds[name] == np.float64 for name in kinds if "score" in name or "events" in name)


def test_no_counted_sample_gives_nulls_and_no_zeros() -> None:
    for samples in ([], [measured("c", [(2, 2, 0, 0)], success=False)]):
        found = plain(score(LAYERS, samples))
        assert found["n"] == [0] * 5
        assert all(found[name] == [None] * 5 for name in COLUMNS[2:-1])


def test_one_counted_sample_has_scores_and_no_intervals() -> None:
    found = plain(score(LAYERS, worked()[:1]))
    assert found["score"] == [1.0, 0.0, 0.0, 0.5, 0.0]
    assert found["rank"] == [1, 3, 3, 2, 3]
    for name in ("score_low", "score_high", "events_low", "events_high", "rank_low", "rank_high"):
        assert found[name] == [None] * 5


def test_model_without_attention_has_no_rows() -> None:
    found = plain(score([Layer(0, "linear_attention")], [measured("a")]))
    assert all(column == [] for column in found.values())


def test_strata_are_recorded() -> None:
    samples = [measured(f"s{i}", needle=f"n{i % 2}", depth=float(i)) for i in range(8)]
    assert score(LAYERS, samples).strata == ("needle", "length")


def test_scores_of_needles_are_kept_apart() -> None:
    samples = [
        measured("a", [(0, 0, 0, 0)], span=2, needle="x"),
        measured("b", [], span=2, needle="x"),
        measured("c", [(0, 1, 0, 0)], span=1, needle="y"),
        measured("d", [(0, 1, 0, 0)], span=1, needle="z", success=False),
    ]
    found = {needle: means.tolist() for needle, means in needle_means(LAYERS, samples).items()}
    assert found == {"x": [250_000_000, 0, 0, 0, 0], "y": [0, 1_000_000_000, 0, 0, 0]}


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([measured("a"), measured("a")], "sample a: occurs twice"),
        ([measured("a", span=0)], "sample a: has no answer tokens"),
        ([measured("a", [(1, 0, 0, 0)])], "sample a: has an impossible event: .*layer 1 head 0"),
        ([measured("a", [(0, 0, 0, 9)])], "sample a: .*span_offset"),
    ],
)
def test_samples_that_cannot_be_are_refused(samples: list[SampleResult], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(LAYERS, samples)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="replicates"):
        score(LAYERS, worked(), replicates=0)


@given(runs())
def test_scores_are_within_bounds_and_intervals_hold_them(samples: list[SampleResult]) -> None:
    found = score(LAYERS, samples, replicates=30)
    if found.paper is None:
        assert found.n == 0
        return
    assert ((found.paper.score >= 0) & (found.paper.score <= 1)).all()
    if found.paper.low is not None and found.paper.high is not None:
        assert (found.paper.low <= found.paper.score).all()
        assert (found.paper.score <= found.paper.high).all()
        assert (found.paper.high <= 1).all()
    assert found.events is not None
    assert (found.events.score >= found.paper.score).all()


@given(runs(), st.randoms(use_true_random=False))
def test_order_of_samples_changes_nothing(samples: list[SampleResult], random: Any) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)
    assert plain(score(LAYERS, shuffled, replicates=30)) == plain(score(LAYERS, samples, replicates=30))


@given(runs(), runs(most=3))
def test_failed_samples_change_nothing(samples: list[SampleResult], others: list[SampleResult]) -> None:
    failed = [
        replace(other, success=False, sample=replace(other.sample, sample_id=f"failed {place}"))
        for place, other in enumerate(others)
    ]
    assert plain(score(LAYERS, failed + samples, replicates=30)) == plain(score(LAYERS, samples, replicates=30))
