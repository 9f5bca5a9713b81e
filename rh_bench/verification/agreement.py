"""What a run claims of one sample, compared with what the model does along the claimed answer, head by head.

Every step whose token stands in the span is a decision of every head: does it look there or elsewhere? The margin of
each says how likely an honest run is to claim the opposite, so that for each head there is a number of claims that
differ, and the number that rounding would explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rh_bench.records import IntArray, Layer, SampleResult
from rh_bench.scores.heads import sample_scores
from rh_bench.verification.noise import Noise

if TYPE_CHECKING:
    from rh_bench.engines.follow import Claimed, Followed

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FAR = 1e-5
"""Probability of being turned by rounding from which on a decision is not close."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decisions of one sample. C is how many of its steps have a token of the span, H the heads in the order of
    `records.head_grid`."""

    lead: Floats
    """float64 [C, H]: best score among the positions that make an event, less the best elsewhere. Above 0: the head has
    a copy event. Where an event is claimed, of the position that is claimed."""
    claimed: Bools
    """bool [C, H]: an event is claimed."""

    @property
    def found(self) -> Bools:
        """bool [C, H]."""
        return self.lead > 0

    @property
    def margin(self) -> Floats:
        """float64 [C, H], of each decision."""
        return np.abs(self.lead)


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How one sample's claims agree with what was found. Arrays over heads are in the order of `records.head_grid`."""

    sample_id: str
    counted: bool
    tokens: int
    """Of thought and answer, and the end of it."""
    turned: int
    """Tokens that the model does not say."""
    turned_expected: float
    turned_far: int
    """Those that were decided by so much that rounding hardly ever turns them."""
    turned_far_expected: float
    widest: float
    """Largest gap of logits between what the model says and what is claimed."""
    added: IntArray
    """int32 [H]: events claimed and not found."""
    added_expected: Floats
    """float64 [H]: how many rounding explains, at most."""
    deleted: IntArray
    """int32 [H]: events found and not claimed."""
    deleted_expected: Floats
    far: IntArray
    """int32 [H]: those of the added and deleted that were decided by so much that rounding hardly ever turns them."""
    far_expected: Floats
    claimed_score: Floats
    """float64 [H]: rule `paper`, of the claimed events."""
    found_score: Floats
    """float64 [H]: of those found along the claimed answer."""


def decisions(result: SampleResult, followed: Followed, layers: Sequence[Layer]) -> Decisions:
    """What was decided at each step, and what is claimed of it."""
    scored = [layer for layer in layers if layer.scored]
    steps, places = len(followed.offsets), {layer.index: place for place, layer in enumerate(scored)}
    shape = (steps, len(scored), max((layer.query_heads for layer in scored), default=0))
    inside = followed.inside.astype(np.float64)
    lead = inside.max(axis=1) - followed.outside
    claimed = np.zeros(shape, dtype=np.bool_)
    for layer, head, step, offset in result.events.tolist():
        place = places[layer]
        claimed[step, place, head] = True
        here = followed.offsets[step] == offset
        rivals = np.concatenate([inside[step, ~here, place, head], followed.outside[step, place, head][None]])
        lead[step, place, head] = inside[step, here, place, head].max(initial=-np.inf) - rivals.max()
    has = (followed.offsets >= 0).any(axis=1)
    return Decisions(_by_head(lead[has], scored), _by_head(claimed[has], scored))


def agreement(
    result: SampleResult, claim: Claimed, followed: Followed, layers: Sequence[Layer], noise: Noise
) -> Agreement:
    """How one sample's claims agree with what the model does along its answer."""
    made = decisions(result, followed, layers)
    turns = noise.event_turns(made.margin)
    far = turns <= FAR
    told = np.array([*claim.thought, *claim.answer, *([-1] if claim.ends else [])], dtype=np.int64)
    turned = (followed.gaps > 0) | ((told >= 0) & (followed.produced != told))
    token_turns = noise.token_turns(np.maximum(followed.gaps, followed.margins).astype(np.float64))
    token_far = token_turns <= FAR
    return Agreement(
        sample_id=result.sample.sample_id,
        counted=result.success,
        tokens=len(followed.gaps),
        turned=int(turned.sum()),
        turned_expected=float(token_turns.sum()),
        turned_far=int((turned & token_far).sum()),
        turned_far_expected=float(token_turns[token_far].sum()),
        widest=float(followed.gaps.max(initial=0.0)),
        added=(made.claimed & ~made.found).sum(axis=0).astype(np.int32),
        added_expected=np.where(made.found, 0.0, turns).sum(axis=0),
        deleted=(made.found & ~made.claimed).sum(axis=0).astype(np.int32),
        deleted_expected=np.where(made.found, turns, 0.0).sum(axis=0),
        far=(far & (made.claimed != made.found)).sum(axis=0).astype(np.int32),
        far_expected=np.where(far, turns, 0.0).sum(axis=0),
        claimed_score=_claimed_score(result, layers),
        found_score=_found_score(result, followed, layers),
    )


def _claimed_score(result: SampleResult, layers: Sequence[Layer]) -> Floats:
    paper, _ = sample_scores(layers, [result])
    scores: Floats = paper[0]
    return scores


def _found_score(result: SampleResult, followed: Followed, layers: Sequence[Layer]) -> Floats:
    """Distinct positions of the span at which each head has an event, of all of them: float64 [H]."""
    scored = [layer for layer in layers if layer.scored]
    has: Bools = np.asarray((followed.offsets >= 0).any(axis=1))
    looks = np.logical_and(followed.inside.max(axis=1) > followed.outside, has[:, None, None])
    best = followed.inside.argmax(axis=1)
    copied = np.zeros((len(result.span_ids), *looks.shape[1:]), dtype=np.bool_)
    step, place, head = np.nonzero(looks)
    copied[followed.offsets[step, best[step, place, head]], place, head] = True
    share: Floats = _by_head(copied, scored).mean(axis=0)
    return share


def _by_head(values: npt.NDArray[Any], scored: Sequence[Layer]) -> npt.NDArray[Any]:
    """[C, A, H] as [C, heads of all layers]: layers can have fewer heads than the widest."""
    parts = [values[:, place, : layer.query_heads] for place, layer in enumerate(scored)]
    return np.concatenate(parts, axis=1) if parts else values.reshape(len(values), -1)
