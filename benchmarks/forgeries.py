"""Lies about a run, as a determined submitter would tell them: consistent, with every file made to fit.

Each takes the results of an honest run and gives forged ones. :mod:`benchmarks.rerun_power` says how often each is
caught; `tests/verification/test_forgeries.py` plays them through the commands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import IntArray, Layer, SampleResult, head_grid
from rh_bench.scores.heads import sample_scores

Results = tuple[SampleResult, ...]
Forgery = Callable[[Results, Sequence[Layer]], Results]


def dead_head_first(results: Results, layers: Sequence[Layer]) -> Results:
    """A head that does nothing copies all of the answer in every sample: rank 1."""
    return _lift(results, layers, _quietest(results, layers, 1), 1.0)


def strongest_deleted(results: Results, layers: Sequence[Layer]) -> Results:
    """All events of the strongest head are left out."""
    (layer, head), *_ = _ranked(results, layers)
    return tuple(replace(one, events=_without(one.events, layer, head)) for one in results)


def seven_lifted(results: Results, layers: Sequence[Layer]) -> Results:
    """The seven heads nearest below 0.1 are lifted to 0.11."""
    means = _means(results, layers)
    below = [head for head in _ranked(results, layers) if means[head] <= HEAD_THRESHOLD]
    return _lift(results, layers, below[:7], HEAD_THRESHOLD + 0.01)


def two_dead_heads(results: Results, layers: Sequence[Layer]) -> Results:
    """Two heads that do nothing get 0.125."""
    return _lift(results, layers, _quietest(results, layers, 2), 0.125)


def dead_head_eighth(results: Results, layers: Sequence[Layer]) -> Results:
    """A head that does nothing gets the score of rank 8."""
    means, ranked = _means(results, layers), _ranked(results, layers)
    return _lift(results, layers, _quietest(results, layers, 1), means[ranked[min(7, len(ranked) - 1)]])


def few_samples_whole(results: Results, layers: Sequence[Layer]) -> Results:
    """A head that does nothing gets a little more than 0.1 by copying everything in as few samples as that takes."""
    counted = [one.sample.sample_id for one in results if one.success]
    some = set(counted[: math.floor(HEAD_THRESHOLD * len(counted)) + 1])
    head = _quietest(results, layers, 1)
    return tuple(_copying(one, head, 1.0) if one.sample.sample_id in some else one for one in results)


def tenth_of_samples(results: Results, layers: Sequence[Layer]) -> Results:
    """A tenth of the samples is made up: failed ones get the answer and the events of another sample of their needle
    that succeeded; where no more are left, five heads that do nothing copy all of the answer in others."""
    forged, left = list(results), math.ceil(len(results) / 10)
    quiet = _quietest(results, layers, 5)
    for place in sorted(range(len(results)), key=lambda i: (results[i].success, results[i].sample.sample_id)):
        if not left:
            break
        made = _copying(results[place], quiet, 1.0) if results[place].success else _borrowed(results[place], results)
        if made is not None:
            forged[place], left = made, left - 1
    return tuple(forged)


FORGERIES: Mapping[str, Forgery] = {
    "a dead head made rank 1": dead_head_first,
    "the strongest head's events deleted": strongest_deleted,
    "seven heads lifted above 0.1": seven_lifted,
    "two dead heads to 0.125": two_dead_heads,
    "a dead head to rank 8": dead_head_eighth,
    "a dead head above 0.1 by few samples": few_samples_whole,
    "10% of samples forged": tenth_of_samples,
}


def _means(results: Results, layers: Sequence[Layer]) -> dict[tuple[int, int], float]:
    counted = [one for one in results if one.success]
    paper, _ = sample_scores(layers, counted)
    return dict(zip(head_grid(tuple(layers)), paper.mean(axis=0).tolist(), strict=True))


def _ranked(results: Results, layers: Sequence[Layer]) -> list[tuple[int, int]]:
    means = _means(results, layers)
    return sorted(means, key=lambda head: (-means[head], head))


def _quietest(results: Results, layers: Sequence[Layer], count: int) -> list[tuple[int, int]]:
    return _ranked(results, layers)[::-1][:count]


def _lift(results: Results, layers: Sequence[Layer], heads: Sequence[tuple[int, int]], score: float) -> Results:
    """Add events of `heads` to counted samples until the mean of each is `score`, or nothing more can be copied."""
    lifted = list(results)
    for head in heads:
        rng = np.random.default_rng(0)
        for place in rng.permutation([i for i, one in enumerate(lifted) if one.success]):
            if _means(tuple(lifted), layers)[head] >= score and score < 1:
                break
            lifted[place] = _copying(lifted[place], [head], score)
    return tuple(lifted)


def _copying(result: SampleResult, heads: Sequence[tuple[int, int]], share: float) -> SampleResult:
    """`heads` copy at least `share` of the span, of what the answer holds of it."""
    events = result.events
    wanted = math.ceil(share * len(result.span_ids))
    for layer, head in heads:
        mine = events[(events[:, 0] == layer) & (events[:, 1] == head)]
        steps, offsets = set(mine[:, 2].tolist()), set(mine[:, 3].tolist())
        new = []
        for offset, token in enumerate(result.span_ids):
            free = [i for i, said in enumerate(result.generated_ids) if said == token and i not in steps]
            if offset not in offsets and free and len(offsets) < wanted:
                new.append((layer, head, free[0], offset))
                steps.add(free[0])
                offsets.add(offset)
        events = _sorted(np.concatenate([events, np.array(new, dtype=np.int32).reshape(-1, 4)]))
    return replace(result, events=events)


def _borrowed(result: SampleResult, results: Results) -> SampleResult | None:
    """The sample with the answer of another one of its needle that succeeded; None if there is none."""
    for one in results:
        if one.success and one.span_ids == result.span_ids and one.sample.needle_id == result.sample.needle_id:
            return replace(
                result,
                generated_ids=one.generated_ids,
                text=one.text,
                spelling=replace(result.spelling, generated_ends=one.spelling.generated_ends),
                rouge1_recall=one.rouge1_recall,
                success=True,
                events=one.events,
            )
    return None


def _without(events: IntArray, layer: int, head: int) -> IntArray:
    return events[~((events[:, 0] == layer) & (events[:, 1] == head))]


def _sorted(events: IntArray) -> IntArray:
    return events[np.lexsort((events[:, 3], events[:, 1], events[:, 0], events[:, 2]))]
