"""Judgements about simulated runs: honest ones pass, lies about one head, many heads or an answer do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from rh_bench.engines.follow import Claimed, Followed
from rh_bench.records import IntArray, Layer, Sample, SampleResult, head_grid
from rh_bench.verification.agreement import agreement, decisions
from rh_bench.verification.judging import ALPHA, Judgement, judge, tail
from rh_bench.verification.noise import OTHER, SAME, Noise, measured_noise
from rh_bench.verification.power import caught, percent

LAYERS = tuple(Layer(index, "full" if index != 1 else "mamba", 4 if index != 1 else 0, 2) for index in range(4))
SPAN = tuple(range(100, 108))
NOISE = Noise("bfloat16", OTHER, events=0.08, tokens=0.1, event_floor=1e-7, token_floor=1e-7)
HEADS = np.array(head_grid(LAYERS), dtype=np.int32)


@dataclass
class World:
    """A model with 3 scored layers of 4 heads: the lead of each head at each step, before rounding."""

    rng: np.random.Generator
    scale: float = 0.04

    def sample(self, name: str) -> tuple[SampleResult, Claimed, Followed]:
        """A sample whose claims and whose second measurement differ by rounding, in every decision and token."""
        true = self.rng.normal(-1.0, 1.5, (len(SPAN), 3, 4))
        true[:, 2, 3] += 4.0  # one strong head
        claimed, again = (true + self.rng.laplace(0, self.scale / 2, true.shape) for _ in range(2))
        step, place, head = np.nonzero(claimed > 0)
        index = np.array([0, 2, 3])
        events = np.stack([index[place], head, step, step], axis=1).astype(np.int32)
        margins = self.rng.exponential(3.0, len(SPAN) + 1).astype(np.float32)
        result = SampleResult(
            Sample(name, "n", "h", 100, 50.0), "", 10, 12, SPAN, "answer", SPAN, "answer", 1.0, True, 0.1, events
        )
        inside = np.minimum(again, 0.0)[:, None].astype(np.float32)
        followed = Followed(
            name,
            np.zeros(len(SPAN) + 1, dtype=np.float32),
            margins,
            np.array([*SPAN, 2], dtype=np.int32),
            np.arange(len(SPAN), dtype=np.int32)[:, None],
            inside,
            (inside[:, 0] - again).astype(np.float32),
        )
        return result, Claimed((), SPAN, ends=True), followed


def judged(rows: list[tuple[SampleResult, Claimed, Followed]]) -> Judgement:
    return judge([agreement(*row, LAYERS, NOISE) for row in rows], HEADS, NOISE)


def rows(seed: int, count: int = 16) -> list[tuple[SampleResult, Claimed, Followed]]:
    world = World(np.random.default_rng(seed))
    return [world.sample(f"s{place}") for place in range(count)]


def lie(result: SampleResult, layer: int, head: int, steps: IntArray) -> SampleResult:
    """`head` copies at `steps`, and nowhere else."""
    mine = (result.events[:, 0] == layer) & (result.events[:, 1] == head)
    made = np.stack([np.full_like(steps, layer), np.full_like(steps, head), steps, steps], axis=1)
    return replace(result, events=np.concatenate([result.events[~mine], made]).astype(np.int32))


@pytest.mark.slow
def test_honest_runs_pass() -> None:
    refused = [seed for seed in range(200) if not judged(rows(seed)).agreed]
    assert len(refused) <= 200 * ALPHA, refused


def test_rounding_does_turn_decisions_in_them() -> None:
    made = [decisions(result, followed, LAYERS) for result, _, followed in rows(0)]
    assert sum(int((one.found != one.claimed).sum()) for one in made) > 3


def test_a_head_that_copies_nothing_of_what_it_is_said_to() -> None:
    everything = np.arange(len(SPAN), dtype=np.int32)
    lied = [(lie(result, 0, 1, everything), claim, followed) for result, claim, followed in rows(1)]
    found = judged(lied)
    assert not found.agreed
    assert found.problems[0].startswith("layer 0 head 1: ")
    assert "claimed that are not there" in found.problems[0]
    assert "score 1.000 claimed" in found.problems[0]
    assert "the other side of 0.1" not in found.problems[0], "it is above 0.1 here, too"


def test_a_strong_head_whose_events_are_left_out() -> None:
    nothing = np.arange(0, dtype=np.int32)
    lied = [(lie(result, 3, 3, nothing), claim, followed) for result, claim, followed in rows(2)]
    found = judged(lied)
    assert not found.agreed
    assert found.problems[0].startswith("layer 3 head 3: ")
    assert "left out" in found.problems[0]
    assert "the other side of 0.1" in found.problems[0]


def test_one_sample_of_many_is_enough() -> None:
    several = rows(3, 32)
    result, claim, followed = several[7]
    far = np.flatnonzero(followed.inside[:, 0, 0, 1] < -1.0).astype(np.int32)
    several[7] = (lie(result, 0, 1, far), claim, followed)
    assert len(far) >= 3
    assert not judged(several).agreed


def test_a_lie_of_one_event_about_each_head() -> None:
    def add_one(result: SampleResult, followed: Followed) -> SampleResult:
        extra = []
        for place, layer in ((0, 0), (1, 2)):
            step, head = np.unravel_index(int(np.argmin(followed.inside[:, 0, place])), (len(SPAN), 4))
            extra.append((layer, head, step, step))
        return replace(result, events=np.concatenate([result.events, np.array(extra, dtype=np.int32)]))

    lied = [(add_one(result, followed), claim, followed) for result, claim, followed in rows(4)]
    found = judged(lied)
    assert not found.agreed
    assert any(problem.startswith("all heads: ") for problem in found.problems)


def test_an_answer_that_the_model_does_not_give() -> None:
    several = rows(5)
    result, claim, followed = several[0]
    gaps, produced = followed.gaps.copy(), followed.produced.copy()
    gaps[2], produced[2] = 4.0, 55
    several[0] = (result, claim, replace(followed, gaps=gaps, produced=produced))
    found = judged(several)
    assert not found.agreed
    assert found.problems[0].startswith("sample s0: the model says something else at 1 of 9 tokens")


def test_a_near_tie_of_tokens_is_no_lie() -> None:
    several = rows(6)
    result, claim, followed = several[0]
    gaps, margins, produced = followed.gaps.copy(), followed.margins.copy(), followed.produced.copy()
    gaps[2], margins[2], produced[2] = 0.05, 0.05, 55
    several[0] = (result, claim, replace(followed, gaps=gaps, margins=margins, produced=produced))
    assert judged(several).agreed


@pytest.mark.parametrize(("count", "mean"), [(1, 0.3), (4, 0.5), (9, 3.0), (30, 12.0)])
def test_the_tail_is_that_of_a_negative_binomial(count: int, mean: float) -> None:
    drawn = np.random.default_rng(0).negative_binomial(mean / 2, 1 / 3, 400_000)
    assert drawn.var() == pytest.approx(3 * mean, rel=0.05)
    assert tail(count, mean) == pytest.approx((drawn >= count).mean(), rel=0.1, abs=1e-4)


def test_nothing_expected_and_something_found() -> None:
    assert tail(1, 0.0) == 0.0
    assert tail(0, 0.0) == 1.0


def test_noise_is_narrow_and_falls_off() -> None:
    here = {"device": "cpu", "device_name": "c", "torch": "1", "transformers": "2"}
    single, half = measured_noise("float32", here, here), measured_noise("bfloat16", here, here)
    assert (single.pair, measured_noise("float32", here, {**here, "torch": "0"}).pair) == (SAME, OTHER)
    margins = np.array([0.0, 0.1, 1.0, 5.0])
    assert np.all(np.diff(half.event_turns(margins)) < 0) or half.event_turns(margins)[-1] == half.event_floor
    assert half.event_turns(margins)[0] == 0.5
    assert np.all(single.event_turns(margins)[1:] == single.event_floor)
    assert half.event_turns(margins)[2] < 1e-4


def test_the_chance_to_draw_one_forged_sample() -> None:
    assert caught(60, 6, 0) == 0.0
    assert caught(60, 0, 30) == 0.0
    assert caught(60, 6, 60) == 1.0
    assert caught(10, 1, 5) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    drawn = np.mean([(rng.permutation(60)[:16] < 6).any() for _ in range(20_000)])
    assert caught(60, 6, 16) == pytest.approx(drawn, abs=0.01)
    assert percent(0.9999) == "99.9%"
