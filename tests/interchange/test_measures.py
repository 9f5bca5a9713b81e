"""Which numbers can be copy rates: shares of an answer, means of such shares, and what is neither."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.interchange.measures import (
    LONGEST_ANSWER,
    evidence_of_means,
    evidence_of_samples,
    measure_of_means,
    measure_of_samples,
)

SPANS = (17, 19, 23)


def copied(heads: int = 40, samples: int = 30, seed: int = 0) -> list[list[float]]:
    """Scores as the paper's code gives them: copies of an answer of one of three lengths, over that length."""
    random = np.random.RandomState(seed)
    strength = random.rand(heads) ** 3
    return [[random.binomial(n, share) / n for n in random.choice(SPANS, samples)] for share in strength]


def masses(heads: int = 40, samples: int = 30, seed: int = 0) -> list[list[float]]:
    return (np.random.RandomState(seed).rand(heads, samples) ** 3).tolist()


def means(rows: list[list[float]]) -> list[float]:
    return [math.fsum(row) / len(row) for row in rows]


def test_shares_of_an_answer_are_scores_and_masses_are_not() -> None:
    assert measure_of_samples(copied()) == measure_of_means(means(copied())) == "score"
    assert measure_of_samples(masses()) == measure_of_means(means(masses())) == "unknown"


@given(st.integers(1, LONGEST_ANSWER), st.integers(0, 2**32 - 1))
def test_every_length_of_an_answer_is_known(n: int, seed: int) -> None:
    counts = np.random.RandomState(seed).randint(0, 2 * n, 20)
    assert measure_of_samples([(counts / n).tolist()]) == "score"
    assert measure_of_samples([np.float32(counts / n).astype(float).tolist()]) == "score", "as float32"


def test_an_answer_longer_than_any_is_none() -> None:
    n = 1009
    assert measure_of_samples([[k / n for k in range(1, n)]]) == "unknown"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_masses_of_low_precision_are_no_scores(dtype: type) -> None:
    rows = np.array(masses()).astype(dtype).astype(float)
    assert measure_of_samples(rows.tolist()) == "unknown"
    assert measure_of_means(means(rows.tolist())) == "unknown"
    strongest = sorted(means(rows.tolist()))[-20:]
    assert measure_of_means(strongest) == "unknown"


def test_masses_of_eight_bits_are_no_scores_even_averaged_over_few_prompts() -> None:
    """bfloat16: eight bits, so that the largest of them have a small common denominator."""
    exact = np.random.RandomState(1).rand(40, 15) * 0.9 + 0.1
    powers = 2.0 ** np.floor(np.log2(exact))
    rows = (np.round(exact / powers * 128) / 128 * powers).tolist()
    assert measure_of_samples(rows) == "unknown"
    assert measure_of_means(sorted(means(rows))[-20:]) == "unknown"


def test_few_means_show_nothing() -> None:
    assert measure_of_means(sorted(means(copied()))[-7:]) == "unknown"
    assert measure_of_means(sorted(means(copied()))[-8:]) == "score"


def test_rounding() -> None:
    fine = [[round(score, 6) for score in row] for row in copied()]
    assert measure_of_samples(fine) == "score", "six places still show what they are"
    assert measure_of_samples([[round(score, 6) for score in row] for row in masses()]) == "unknown"
    coarse = evidence_of_samples([[round(score, 3) for score in row] for row in copied()])
    assert coarse.places == 3 and not coarse.copies, "three places show nothing, so they are compared with nothing"
    assert not evidence_of_means([round(value, 4) for value in means(copied())]).copies
    printed = evidence_of_means([0.94, 0.92, 0.8, 0.62, 0.61, 0.56, 0.46, 0.44, 0.42, 0.4])
    assert printed.copies and printed.places == 2, "the ten that the paper's page prints"


def test_one_damaged_number_decides_nothing_and_many_do() -> None:
    numbers = sorted({score for row in copied() for score in row} - {0.0})
    assert len(numbers) > 30
    assert measure_of_samples([[*numbers, math.pi / 10]]) == "score"
    assert measure_of_samples([[*numbers, *masses(1, 5)[0]]]) == "unknown"
    often = [[0.5] * 1000 + masses(1, 20)[0]]
    assert measure_of_samples(often) == "unknown", "how often a number occurs shows nothing"


def test_zeros_and_nothing_at_all() -> None:
    assert measure_of_samples([[0.0, 0.0], []]) == measure_of_means([0.0, math.nan]) == measure_of_means([]) == "score"
    assert evidence_of_samples([[0.0]]).numbers == 0


@given(st.lists(st.lists(st.floats(-1e100, 1e100), max_size=6), max_size=6))
def test_any_numbers_are_judged(rows: list[list[float]]) -> None:
    assert measure_of_samples(rows) in ("score", "unknown")
    assert measure_of_means([value for row in rows for value in row]) in ("score", "unknown")
