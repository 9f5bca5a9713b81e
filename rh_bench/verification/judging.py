"""Whether a run's claims about samples measured again are those of an honest run: a judgement per head.

Each test asks how likely an honest run is to differ as much, given how close the decisions were
(:mod:`rh_bench.verification.agreement`). All tests together refuse an honest run with a probability of at most ALPHA.
Counts of differences are compared with a negative binomial of the expected mean, since decisions of one head turn
together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rh_bench.errors import InputError
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import IntArray
from rh_bench.verification.agreement import Agreement, Floats
from rh_bench.verification.noise import Noise

ALPHA = 0.005
"""How often an honest run may be refused, at most: shared out among the tests below."""
_SHARE_TOKENS, _SHARE_ALL, _SHARE_SIDES, _SHARE_HEADS = 0.2, 0.2, 0.2, 0.4
DISPERSION = 3.0
"""Variance of a count of differences, in units of its mean: decisions of one head, or one sample, turn together."""
FAR_DISPERSION = 1.5
"""The same for decisions that rounding hardly ever turns: it is being close that makes others turn together."""
_MOST_NAMED = 8

Part = Callable[[Agreement], npt.NDArray[Any]]
"""Of an agreement, [H]."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found. `problems` is empty for a run whose claims are those of an honest one."""

    problems: tuple[str, ...]
    words: tuple[str, ...]
    """How much was compared, and how much differed where how much was expected."""

    @property
    def agreed(self) -> bool:
        return not self.problems


def judge(found: Sequence[Agreement], heads: IntArray, noise: Noise) -> Judgement:
    """Judge the samples that were measured again.

    Args:
        found: of each of them, at least one.
        heads: int32 [H, 2]: layer, query head, as `records.head_grid`.
    """
    if not found:
        raise InputError("no sample was measured again")
    problems = [*_token_problems(found), *_head_problems(found, heads), *_sum_problems(found)]
    return Judgement(tuple(problems), tuple(_words(found, noise)))


def tail(count: float, mean: float, dispersion: float = DISPERSION) -> float:
    """Probability that a negative binomial of this mean, and a variance of `dispersion` times it, reaches `count`."""
    if count <= mean:
        return 1.0  # near enough: only small ones are checked
    if mean <= 0:
        return 0.0
    size, odds = mean / (dispersion - 1), 1 / dispersion
    below = math.fsum(
        math.exp(
            math.lgamma(k + size)
            - math.lgamma(size)
            - math.lgamma(k + 1)
            + size * math.log(odds)
            + k * math.log1p(-odds)
        )
        for k in range(math.ceil(count))
    )
    return max(1.0 - below, 0.0)


def _token_problems(found: Sequence[Agreement]) -> Iterator[str]:
    """Samples whose claimed answers the model does not give."""
    alpha = ALPHA * _SHARE_TOKENS / (2 * (len(found) + 1))
    for one in found:
        if (
            tail(one.turned, one.turned_expected) < alpha
            or tail(one.turned_far, one.turned_far_expected, FAR_DISPERSION) < alpha
        ):
            yield (
                f"sample {one.sample_id}: the model says something else at {one.turned} of {one.tokens} tokens, by up"
                f" to {one.widest:.3g} in logits"
            )
    turned, expected = sum(one.turned for one in found), sum(one.turned_expected for one in found)
    if tail(turned, expected) < alpha:
        yield f"all answers: the model says something else at {turned} tokens, where rounding explains {expected:.2g}"


def _head_problems(found: Sequence[Agreement], heads: IntArray) -> Iterator[str]:
    """Heads with more events added or left out than rounding explains, the most changed first."""
    claimed, scored = _means(found)
    counts = {what: (_over(found, count), _over(found, expected), spread) for what, count, expected, spread in _COUNTS}
    changes = (claimed > HEAD_THRESHOLD) != (scored > HEAD_THRESHOLD)
    every = ALPHA * _SHARE_HEADS / (len(_COUNTS) * max(len(heads), 1))
    side = ALPHA * _SHARE_SIDES / (len(_COUNTS) * max(int(changes.sum()), 1))
    named = 0
    for place in np.argsort(-np.abs(claimed - scored), kind="stable"):
        alpha = max(every, side) if changes[place] else every
        told = [
            f"{count[place]:.0f} events {what} ({expected[place]:.2g} expected)"
            for what, (count, expected, dispersion) in counts.items()
            if tail(count[place], expected[place], dispersion) < alpha
        ]
        named += bool(told)
        if told and named <= _MOST_NAMED:
            layer, head = heads[place].tolist()
            other = f", which is on the other side of {HEAD_THRESHOLD}" if changes[place] else ""
            yield (
                f"layer {layer} head {head}: {' and '.join(told)}; score {claimed[place]:.3f} claimed,"
                f" {scored[place]:.3f} found{other}"
            )
    if named > _MOST_NAMED:
        yield f"and {named - _MOST_NAMED} more heads"


_COUNTS: tuple[tuple[str, Part, Part, float], ...] = (
    ("claimed that are not there", lambda one: one.added, lambda one: one.added_expected, DISPERSION),
    ("left out", lambda one: one.deleted, lambda one: one.deleted_expected, DISPERSION),
    ("otherwise by far", lambda one: one.far, lambda one: one.far_expected, FAR_DISPERSION),
)
"""What is counted of each head, how many of it rounding explains, and how these spread."""


def _sum_problems(found: Sequence[Agreement]) -> Iterator[str]:
    """Small lies about many heads."""
    for what, count, expected, dispersion in _sums(found):
        if tail(count, expected, dispersion) < ALPHA * _SHARE_ALL / len(_COUNTS):
            yield f"all heads: {count} events {what}, where rounding explains {expected:.2g}"


def _sums(found: Sequence[Agreement]) -> Iterator[tuple[str, int, float, float]]:
    for what, count, expected, dispersion in _COUNTS:
        yield what, int(_over(found, count).sum()), float(_over(found, expected).sum()), dispersion


def _over(found: Sequence[Agreement], part: Part) -> Floats:
    """Sum over samples: float64 [H]."""
    total: Floats = np.sum([part(one) for one in found], axis=0, dtype=np.float64)
    return total


def _means(found: Sequence[Agreement]) -> tuple[Floats, Floats]:
    """Score of each head over the counted samples, as claimed and as found: float64 [H] each; zeros without any."""
    counted = [one for one in found if one.counted]
    if not counted:
        nothing = np.zeros(len(found[0].added))
        return nothing, nothing
    return (
        np.mean([one.claimed_score for one in counted], axis=0),
        np.mean([one.found_score for one in counted], axis=0),
    )


def _words(found: Sequence[Agreement], noise: Noise) -> Iterator[str]:
    same = sum(one.turned == 0 for one in found)
    yield f"{same} of {len(found)} answers are, token for token, what the model says here"
    claimed, scored = _means(found)
    widest = np.abs(claimed - scored).max(initial=0.0)
    counted = sum(one.counted for one in found)
    yield f"scores over the {counted} counted samples of these: no head differs by more than {widest:.3f}"
    for what, count, expected, _ in _sums(found):
        yield f"events {what}: {count}, where rounding explains up to {expected:.2g}"
    pair = "the same kind of device and versions" if noise.pair == "same" else "another device or versions"
    yield f"judged by the noise of {noise.dtype} on {pair}"
