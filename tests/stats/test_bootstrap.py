"""Bootstrap: worked cases, properties, coverage, and the same bytes whatever the BLAS does."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.errors import InputError
from rh_bench.stats import bootstrap as statistics
from rh_bench.stats.bootstrap import (
    NANO,
    Bootstrap,
    Estimate,
    NanoArray,
    bootstrap_means,
    estimate,
    interval,
    mean,
    rounded,
    strata_by,
    stratify,
    wilson,
)

SCORES = st.lists(st.integers(0, NANO), min_size=1, max_size=30).filter(any)


def nano(*scores: float) -> NanoArray:
    return np.array([round(score * NANO) for score in scores], dtype=np.int64)


# Estimates


@pytest.mark.parametrize(
    "parts",
    [
        (0.5, 0.4, None, 3, "half"),
        (None, 0.4, 0.6, 3, "no value"),
        (None, None, None, 0, None),
        (0.5, None, None, 1, None),
        (0.5, 0.6, 0.7, 3, None),
        (math.nan, None, None, 3, "not a number"),
        (math.inf, 0.0, math.inf, 3, None),
        (0.5, math.nan, 0.6, 3, None),
    ],
)
def test_half_finished_estimates_cannot_be_made(parts: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=r"Estimate\("):
        Estimate(*parts)  # type: ignore[arg-type]


def test_estimate_as_json() -> None:
    assert Estimate.missing(0, "none").to_json() == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
        "reason": "none",
    }


def test_rounding_leaves_no_negative_zero() -> None:
    assert math.copysign(1, rounded(-1e-12)) == 1.0
    assert rounded(1 / 3) == 0.333333333


# Settings and intervals


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"replicates": 0}, "replicates"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], field: str) -> None:
    with pytest.raises(InputError, match=field):
        Bootstrap(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("replicates", "confidence", "bounds"),
    [(1000, 0.95, (24, 974)), (100, 0.9, (4, 94)), (10, 0.95, (0, 9)), (1, 0.95, (0, 0)), (999, 0.95, (24, 974))],
)
def test_bounds_are_nearest_ranks(replicates: int, confidence: float, bounds: tuple[int, int]) -> None:
    assert Bootstrap(replicates, confidence=confidence).bounds() == bounds


def test_interval_is_made_of_order_statistics() -> None:
    replicates = np.random.RandomState(1).permutation(1000)[:, None] + np.array([[0, 5000]])
    low, high = interval(np.array([500, 5500]), replicates, Bootstrap())
    assert (low.tolist(), high.tolist()) == ([24, 5024], [974, 5974])


def test_interval_reaches_a_value_that_resampling_left() -> None:
    found = estimate(0.1, np.linspace(0.2, 0.3, 1000), 12, Bootstrap())
    assert (found.low, found.value, found.reason) == (0.1, 0.1, None)


# Strata

CROSSED: dict[str, Sequence[Hashable]] = {"needle": list("aaaabbbb"), "length": [1, 1, 2, 2, 1, 1, 2, 2]}


def sizes(columns: Mapping[str, Sequence[Hashable]], n: int) -> tuple[tuple[str, ...], list[int]]:
    found = stratify(columns, n)
    return found.columns, sorted(np.bincount(found.labels).tolist())


def test_finest_strata_that_hold_two_samples_are_taken() -> None:
    columns: dict[str, Sequence[Hashable]] = {
        "needle": list("aaaabbbb"),
        "length": [1, 1, 2, 2, 1, 1, 2, 2],
        "depth": [0] * 8,
    }
    assert sizes(columns, 8) == (("needle", "length", "depth"), [2, 2, 2, 2])


def test_one_sample_a_cell_falls_back_to_needle_and_length() -> None:
    columns: dict[str, Sequence[Hashable]] = {
        "needle": list("aaaabbbb"),
        "length": [1, 1, 2, 2, 1, 1, 2, 2],
        "depth": [0, 50] * 4,
    }
    assert sizes(columns, 8) == (("needle", "length"), [2, 2, 2, 2])


def test_all_different_is_no_strata() -> None:
    assert sizes({"needle": list("abc"), "length": [1, 2, 3]}, 3) == ((), [3])


def test_half_the_strata_being_single_is_too_many() -> None:
    assert sizes({"needle": list("aabc")}, 4)[0] == ()
    assert sizes({"needle": list("aabbc")}, 5)[0] == ("needle",)


def test_single_samples_are_pooled() -> None:
    assert sizes({"needle": list("aabbccde")}, 8) == (("needle",), [2, 2, 2, 2])


def test_lone_single_sample_joins_the_smallest_stratum() -> None:
    assert strata_by({"needle": list("aaabbc")}, 6).labels.tolist() == [0, 0, 0, 1, 1, 1]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), min_size=1, max_size=20))
def test_strata_partition_the_samples_and_none_is_single(keys: list[tuple[str, int]]) -> None:
    columns: dict[str, Sequence[Hashable]] = {"needle": [a for a, _ in keys], "length": [b for _, b in keys]}
    counts = np.bincount(strata_by(columns, len(keys)).labels)
    assert counts.sum() == len(keys)
    assert counts.min() >= min(2, len(keys))


# Bootstrap


def test_means_are_exact() -> None:
    values = np.array([[1 / 3, 0.1], [1 / 3, 0.1], [1 / 3, 0.1]])
    found = bootstrap_means(values, strata_by({}, 3), Bootstrap(20))
    assert found.value.tolist() == [333333333, 100000000]
    assert found.replicates is not None
    assert (found.replicates == found.value).all()
    assert mean(values).tolist() == found.value.tolist()


def test_one_observation_is_not_resampled() -> None:
    found = bootstrap_means(np.array([[0.5]]), strata_by({}, 1), Bootstrap())
    assert found.replicates is None
    assert estimate(0.5, None, 1, Bootstrap()).reason


def test_strata_are_kept_apart() -> None:
    values = np.array([[0.0], [0.0], [1.0], [1.0]])
    kept = bootstrap_means(values, strata_by({"needle": list("aabb")}, 4), Bootstrap()).replicates
    mixed = bootstrap_means(values, strata_by({}, 4), Bootstrap()).replicates
    assert kept is not None
    assert mixed is not None
    assert set(kept.ravel().tolist()) == {NANO // 2}
    assert len(set(mixed.ravel().tolist())) > 1


@pytest.mark.parametrize("size", [2, 3, 10])
def test_variance_is_right_in_small_strata(size: int) -> None:
    values = np.random.RandomState(3).random_sample((size * 10, 1))
    strata = strata_by({"needle": np.repeat(np.arange(10), size).tolist()}, len(values))
    found = bootstrap_means(values, strata, Bootstrap(20000)).replicates
    assert found is not None
    textbook = values.reshape(10, size).var(axis=1, ddof=1).sum() / size / 100
    assert (found / NANO).var() == pytest.approx(textbook, rel=0.05)


def test_chunks_of_replicates_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, strata = np.random.RandomState(5).random_sample((7, 3)), strata_by({"x": list("aabbbcc")}, 7)
    whole = bootstrap_means(values, strata, Bootstrap(50)).replicates
    monkeypatch.setattr(statistics, "_CHUNK", 7 * 3)
    chunked = bootstrap_means(values, strata, Bootstrap(50)).replicates
    assert whole is not None
    assert chunked is not None
    assert whole.tolist() == chunked.tolist()


def test_seeds_differ() -> None:
    values, strata = np.random.RandomState(5).random_sample((9, 2)), strata_by({}, 9)
    first, second = (bootstrap_means(values, strata, Bootstrap(50, seed)).replicates for seed in (0, 1))
    assert first is not None
    assert second is not None
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("value", [2.0**20, math.nan, math.inf])
def test_sums_that_would_not_be_exact_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="cannot be added exactly"):
        mean(np.full((3, 1), value))


@pytest.mark.parametrize("strata", [(), ("needle",)])
def test_intervals_cover_the_truth(strata: tuple[str, ...]) -> None:
    """Means of a skewed distribution, as scores are: 95% intervals of 40 samples must cover it nearly that often."""
    random, trials, bootstrap = np.random.RandomState(7), 400, Bootstrap(400)
    needles = np.repeat(np.arange(8), 5)
    shift = np.linspace(0, 0.3, 8)[needles]
    values = random.beta(1, 4, size=(40, trials)) * 0.7 + shift[:, None]
    columns = {"needle": needles.tolist()} if strata else {}
    found = bootstrap_means(values, strata_by(columns, 40), bootstrap)
    assert found.replicates is not None
    low, high = interval(found.value, found.replicates, bootstrap)
    truth = 0.2 * 0.7 + shift.mean()
    covered = float(((low / NANO <= truth) & (truth <= high / NANO)).mean())
    assert covered >= 0.9
    if strata:
        assert covered <= 0.99


# Success rates


def test_wilson_worked_case() -> None:
    found = wilson(8, 10, 0.95)
    assert (found.value, found.n) == (0.8, 10)
    assert found.low == pytest.approx(0.490162, abs=1e-6)
    assert found.high == pytest.approx(0.943318, abs=1e-6)


@pytest.mark.parametrize(("successes", "inner"), [(0, "high"), (5, "low")])
def test_wilson_has_width_where_all_agree(successes: int, inner: str) -> None:
    found = wilson(successes, 5, 0.95)
    assert 0.3 < getattr(found, inner) < 0.7
    assert found.value in (found.low, found.high)


def test_wilson_of_nothing_is_missing() -> None:
    assert wilson(0, 0, 0.95) == Estimate.missing(0, "no samples")


# The same bytes everywhere


PROGRAM = """
import sys, numpy as np
from rh_bench.stats.bootstrap import Bootstrap, bootstrap_means, strata_by
from rh_bench.stats.distribution import effective_number, gini
from rh_bench.stats.ranks import spearman
values = np.random.RandomState(11).random_sample((300, 257))
strata = strata_by({"x": [i % 30 for i in range(300)]}, 300)
found = bootstrap_means(values, strata, Bootstrap(300)).replicates
for part in (found, gini(found), effective_number(found), spearman(found[:20])):
    sys.stdout.buffer.write(part.tobytes())
"""


@pytest.mark.slow
def test_neither_threads_nor_kernels_of_blas_change_a_byte() -> None:
    root = Path(__file__).parents[2]
    digests = set()
    # A core type that OpenBLAS does not have on this machine is ignored.
    for threads, core in (("1", ""), ("2", ""), ("1", "Nehalem")):
        variables = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(root)}
        if core:
            variables["OPENBLAS_CORETYPE"] = core
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, **variables}, capture_output=True, check=True
        )
        assert len(done.stdout) > 300 * 257 * 8
        digests.add(hashlib.sha256(done.stdout).hexdigest())
    assert len(digests) == 1


def test_random_stream_is_the_one_that_was_published() -> None:
    """Fails if the draws change: every interval that was ever published would change with them."""
    values = np.arange(12, dtype=np.float64)[:, None] / 12
    found = bootstrap_means(values, strata_by({"x": list("aaaabbbbcccc")}, 12), Bootstrap(4, seed=1)).replicates
    assert found is not None
    assert found.ravel().tolist() == [388888889, 453703704, 472222222, 444444444]
