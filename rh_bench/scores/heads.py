"""From copy events to head scores, their intervals and their ranks. No model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rh_bench.errors import InputError
from rh_bench.records import IntArray, Layer, SampleResult, head_grid
from rh_bench.scores.events import count_copies, head_places
from rh_bench.stats.bootstrap import (
    NANO,
    Bootstrap,
    FloatArray,
    Means,
    NanoArray,
    Strata,
    bootstrap_means,
    interval,
    mean,
    stratify,
)
from rh_bench.stats.ranks import competition_ranks

STRATA_COLUMNS = ("needle", "length", "depth")
"""Samples are resampled within groups equal in these, the coarsest first."""


@dataclass(frozen=True, slots=True, eq=False)
class RuleScores:
    """Mean score of every head under one rule, float64 [H] each, rounded to 9 decimals. The bounds are None if only
    one sample counted."""

    score: FloatArray
    low: FloatArray | None
    high: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """Competition ranks by the score of rule `paper`, int32 [H] each, 1 is strongest, with their interval."""

    rank: IntArray
    low: IntArray | None
    high: IntArray | None


@dataclass(frozen=True, slots=True, eq=False)
class HeadScores:
    """Scores of every head, in the order of `head_grid(layers)`. Fields are None because no sample counted."""

    heads: IntArray
    """int32 [H, 2]: layer, query head."""
    n: int
    """Counted samples."""
    bootstrap: Bootstrap
    strata: tuple[str, ...]
    """Columns that define the strata for resampling; empty for none."""
    paper: RuleScores | None
    """Rule `paper`: distinct span positions copied / span length, in [0, 1]."""
    events: RuleScores | None
    """Rule `events`: copy events / span length, uncapped, as the paper's released code computes it."""
    ranks: Ranks | None
    active: IntArray
    """int32 [H]: counted samples in which the head has at least one copy event."""
    means: Means | None = field(repr=False)
    """Rule `paper` in nano units with every replicate, for measures of the whole distribution."""

    @property
    def activation_frequency(self) -> FloatArray | None:
        """float64 [H]: share of counted samples in which the head has at least one copy event."""
        return np.round(self.active / self.n, 9) if self.n else None


def score(
    layers: Sequence[Layer],
    samples: Sequence[SampleResult],
    *,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> HeadScores:
    """Score every head over the samples that count.

    Neither the order of the samples nor the failed ones change any number.

    Args:
        layers: the model's layers, in order.
        samples: measured samples, counted or not, with different ids.
        replicates, seed, confidence: of the bootstrap, see `stats.bootstrap.Bootstrap`.

    Raises:
        InputError: a sample occurs twice or has no span, an event names a head or a span position that does not exist,
            or a bootstrap setting is out of range.
    """
    bootstrap = Bootstrap(replicates, seed, confidence)
    grid = np.array(head_grid(list(layers)), dtype=np.int32).reshape(-1, 2)
    counted = [sample for sample in in_order(samples) if sample.success]
    if not counted:
        nobody = np.zeros(len(grid), dtype=np.int32)
        return HeadScores(grid, 0, bootstrap, (), None, None, None, nobody, None)
    paper, events = sample_scores(layers, counted)
    strata = stratify(strata_columns(counted), len(counted))
    means = bootstrap_means(paper, strata, bootstrap)
    return HeadScores(
        heads=grid,
        n=len(counted),
        bootstrap=bootstrap,
        strata=strata.columns,
        paper=_rule_scores(means, bootstrap),
        events=_event_scores(events, strata, bootstrap),
        ranks=_ranks(means, bootstrap),
        active=np.count_nonzero(paper, axis=0).astype(np.int32),
        means=means,
    )


def heads_columns(scores: HeadScores) -> dict[str, list[None] | npt.NDArray[np.generic]]:
    """The columns of heads.parquet, by name and in order; a column that cannot be computed is a list of None."""
    heads = len(scores.heads)
    paper, events, ranks = scores.paper, scores.events, scores.ranks

    def known(column: npt.NDArray[np.generic] | None) -> list[None] | npt.NDArray[np.generic]:
        return [None] * heads if column is None else column

    return {
        "layer": scores.heads[:, 0].astype(np.int16),
        "head": scores.heads[:, 1].astype(np.int16),
        "score": known(paper.score if paper else None),
        "score_low": known(paper.low if paper else None),
        "score_high": known(paper.high if paper else None),
        "events_score": known(events.score if events else None),
        "events_low": known(events.low if events else None),
        "events_high": known(events.high if events else None),
        "rank": known(ranks.rank if ranks else None),
        "rank_low": known(ranks.low if ranks else None),
        "rank_high": known(ranks.high if ranks else None),
        "activation_frequency": known(scores.activation_frequency),
        "n": np.full(heads, scores.n, dtype=np.int32),
    }


def in_order(samples: Sequence[SampleResult]) -> list[SampleResult]:
    """The samples in the one order in which they are resampled.

    Raises:
        InputError: two samples have the same id.
    """
    ordered = sorted(samples, key=lambda s: (s.sample.needle_id, s.sample.length, s.sample.depth, s.sample.sample_id))
    seen: set[str] = set()
    for sample in ordered:
        if sample.sample.sample_id in seen:
            raise InputError("occurs twice", where=f"sample {sample.sample.sample_id}", hint="keep one of the two")
        seen.add(sample.sample.sample_id)
    return ordered


def strata_columns(samples: Sequence[SampleResult]) -> Mapping[str, Sequence[str | float]]:
    """For each of STRATA_COLUMNS, the values of all samples."""
    rows = ((s.sample.needle_id, s.sample.length, s.sample.depth) for s in samples)
    return dict(zip(STRATA_COLUMNS, zip(*rows, strict=True), strict=True))


def sample_scores(layers: Sequence[Layer], samples: Sequence[SampleResult]) -> tuple[FloatArray, FloatArray]:
    """Score of every head on every sample.

    Returns:
        Two arrays float64 [n, H], H in the order of `head_grid(layers)`: rule `paper` and rule `events`.

    Raises:
        InputError: a sample has no span, or an event names a head or a span position that does not exist.
    """
    places, heads = head_places(layers), len(head_grid(list(layers)))
    paper, events = np.empty((len(samples), heads)), np.empty((len(samples), heads))
    for row, sample in enumerate(samples):
        name, span_length = f"sample {sample.sample.sample_id}", len(sample.span_ids)
        if span_length == 0:
            raise InputError("has no answer tokens", where=name, hint="measure it again")
        try:
            distinct, total = count_copies(sample.events, span_length, places, heads)
        except InputError as error:
            raise InputError(f"has an impossible event: {error}", where=name, hint="measure it again") from error
        paper[row], events[row] = distinct / span_length, total / span_length
    return paper, events


def needle_means(layers: Sequence[Layer], samples: Sequence[SampleResult]) -> dict[str, NanoArray]:
    """Mean score of every head (rule `paper`, nano units, int64 [H]) over the counted samples of each needle that
    has any, ordered by needle id. Errors as in `sample_scores`."""
    counted = [sample for sample in in_order(samples) if sample.success]
    paper, _ = sample_scores(layers, counted)
    needles = np.array([sample.sample.needle_id for sample in counted])
    return {str(needle): mean(paper[needles == needle]) for needle in dict.fromkeys(needles.tolist())}


def _rule_scores(means: Means, bootstrap: Bootstrap) -> RuleScores:
    if means.replicates is None:
        return RuleScores(means.value / NANO, None, None)
    low, high = interval(means.value, means.replicates, bootstrap)
    return RuleScores(means.value / NANO, low / NANO, high / NANO)


def _event_scores(events: FloatArray, strata: Strata, bootstrap: Bootstrap) -> RuleScores:
    """A separate function, so that the replicates of this rule are freed before others are made."""
    return _rule_scores(bootstrap_means(events, strata, bootstrap), bootstrap)


def _ranks(means: Means, bootstrap: Bootstrap) -> Ranks:
    rank = competition_ranks(means.value[None])[0]
    if means.replicates is None:
        return Ranks(rank, None, None)
    return Ranks(rank, *interval(rank, competition_ranks(means.replicates), bootstrap))
