"""The summary of a run: the content of summary.json, computed from measured samples and head scores alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Json, Layer, SampleResult
from rh_bench.scores.heads import HeadScores, in_order, needle_means, strata_columns
from rh_bench.stats.bootstrap import (
    NANO,
    Bootstrap,
    Estimate,
    FloatArray,
    NanoArray,
    Strata,
    bootstrap_means,
    estimate,
    mean,
    rounded,
    strata_by,
    wilson,
)
from rh_bench.stats.distribution import above, effective_number, gini, share_above, share_zero
from rh_bench.stats.ranks import spearman, strongest_first

SCHEMA = "rh_bench/summary"
SCHEMA_VERSION = "1.0"

STRONG_THRESHOLD = 0.5
SPARSE_SHARE = 0.05
"""The paper: fewer than 5% of heads are retrieval heads."""
SPARSITY_MIN_SAMPLES = 20
ALWAYS_ON_MIN_SAMPLES = 10
TOP_HEADS = 20

NOTHING_COUNTED = "no sample counted: ROUGE-1 recall was above 0.5 in none"
NO_HEADS = "the model has no softmax-attention heads"
ALL_ZERO = "every head scores zero"
ALWAYS_ON = "Heads with at least one copy event in every counted sample."

_BEYOND_ONE_RUN = {
    "universality": (
        "Every model that answers from long context has retrieval heads.",
        "One run measures one model; the claim is about many.",
    ),
    "intrinsic": (
        "A model and the models derived from it have the same retrieval heads.",
        "One run measures one model; the claim compares a base model with models derived from it.",
    ),
    "dynamic": (
        "Some retrieval heads are active in every context, others in some contexts only.",
        "One run uses one haystack set; the claim needs runs of the model on several.",
    ),
    "causal": (
        "Retrieval fails without retrieval heads and not without as many other heads.",
        "A run observes the heads and removes none; the claim needs an ablation.",
    ),
}


def summarise(run_id: str, layers: Sequence[Layer], samples: Sequence[SampleResult], scores: HeadScores) -> Json:
    """summary.json of a run.

    Args:
        run_id: 16 hexadecimal digits.
        layers: the model's layers, in order.
        samples: every measured sample, failed ones included.
        scores: result of `scores.heads.score` for these layers and samples.

    Returns:
        A document of `schemas/summary.v1.schema.json`. The order of the samples does not change it.
    """
    ordered = in_order(samples)
    share = _distribution(scores, lambda rows: share_above(rows, HEAD_THRESHOLD))
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "n_samples": len(ordered),
        "n_counted": scores.n,
        "heads": len(scores.heads),
        "bootstrap": {
            "replicates": scores.bootstrap.replicates,
            "seed": scores.bootstrap.seed,
            "confidence": scores.bootstrap.confidence,
            "strata": list(scores.strata),
        },
        "success": _success(ordered, scores.strata, scores.bootstrap),
        "sparsity": {
            "share_zero": _distribution(scores, share_zero).to_json(),
            "share_above_0.1": share.to_json(),
            "share_above_0.5": _distribution(scores, lambda rows: share_above(rows, STRONG_THRESHOLD)).to_json(),
            "gini": _distribution(scores, gini, needs_positive=True).to_json(),
            "effective_heads": _distribution(scores, effective_number, needs_positive=True).to_json(),
        },
        "universality": {
            "curve": _curve(scores),
            "layers": _layer_rows(layers, scores),
            "stability": {"by_needle": _stability(layers, ordered, scores).to_json()},
        },
        "always_on": _always_on(scores),
        "top_heads": _top_heads(scores),
        "claims": [_sparsity_claim(share, bool(scores.active.any())), *_claims_beyond_one_run()],
    }


def _success(samples: Sequence[SampleResult], strata_names: Sequence[str], bootstrap: Bootstrap) -> Json:
    """Success and recall over all samples, failed ones included."""
    lengths = sorted({s.sample.length for s in samples})
    depths = sorted({s.sample.depth for s in samples})
    cells = sorted({(s.sample.length, s.sample.depth) for s in samples})

    def rate(chosen: Sequence[SampleResult]) -> Json:
        return wilson(sum(s.success for s in chosen), len(chosen), bootstrap.confidence).to_json()

    overall, recall = _overall(samples, strata_names, bootstrap)
    return {
        "rate": overall.to_json(),
        "by_length": [{"length": x, "rate": rate([s for s in samples if s.sample.length == x])} for x in lengths],
        "by_depth": [{"depth": x, "rate": rate([s for s in samples if s.sample.depth == x])} for x in depths],
        "by_cell": [
            {"length": x, "depth": y, "rate": rate([s for s in samples if (s.sample.length, s.sample.depth) == (x, y)])}
            for x, y in cells
        ],
        "mean_rouge1_recall": recall.to_json(),
    }


def _overall(
    samples: Sequence[SampleResult], strata_names: Sequence[str], bootstrap: Bootstrap
) -> tuple[Estimate, Estimate]:
    """Success rate and mean ROUGE-1 recall, resampled within the same strata as the head scores."""
    n = len(samples)
    if n == 0:
        return Estimate.missing(0, "no samples"), Estimate.missing(0, "no samples")
    columns = strata_columns(samples)
    strata = strata_by({name: columns[name] for name in strata_names}, n)
    success = [float(s.success) for s in samples]
    rate = _bootstrapped(success, strata, bootstrap)
    # Resampling only successes, or only failures, gives an interval without width, as if the rate were known exactly.
    if sum(success) in (0, n):
        rate = wilson(int(sum(success)), n, bootstrap.confidence)
    return rate, _bootstrapped([s.rouge1_recall for s in samples], strata, bootstrap)


def _bootstrapped(values: Sequence[float], strata: Strata, bootstrap: Bootstrap) -> Estimate:
    """The mean of one number per sample."""
    means = bootstrap_means(np.array(values, dtype=np.float64)[:, None], strata, bootstrap)
    replicates = None if means.replicates is None else means.replicates[:, 0] / NANO
    return estimate(float(means.value[0] / NANO), replicates, len(values), bootstrap)


def _distribution(
    scores: HeadScores, measure: Callable[[NanoArray], FloatArray], *, needs_positive: bool = False
) -> Estimate:
    """A measure of all head scores together, recomputed on the head scores of every replicate.

    Args:
        measure: from int64 [R, H] in nano units to float64 [R].
        needs_positive: whether it is undefined when every head scores zero.
    """
    if len(scores.heads) == 0:
        return Estimate.missing(scores.n, NO_HEADS)
    if scores.means is None:
        return Estimate.missing(0, NOTHING_COUNTED)
    value, replicates = scores.means.value[None], scores.means.replicates
    if needs_positive and not value.any():
        return Estimate.missing(scores.n, ALL_ZERO)
    point = float(measure(value)[0])
    if replicates is None:
        return estimate(point, None, scores.n, scores.bootstrap)
    zero = int((~replicates.any(axis=1)).sum())
    if needs_positive and zero:
        reason = f"no interval: every head scores zero in {zero} of {len(replicates)} replicates"
        return Estimate(rounded(point), None, None, scores.n, reason)
    return estimate(point, measure(replicates), scores.n, scores.bootstrap)


def _curve(scores: HeadScores) -> Json:
    """Percentiles of the head scores by nearest rank: each is the score of a head."""
    percents = range(101)
    quantiles = [percent / 100 for percent in percents]
    heads = len(scores.heads)
    if scores.paper is None or heads == 0:
        return {"quantiles": quantiles, "scores": None}
    ordered = np.sort(scores.paper.score)
    places = [max(-(-percent * heads // 100) - 1, 0) for percent in percents]
    return {"quantiles": quantiles, "scores": ordered[places].tolist()}


def _layer_rows(layers: Sequence[Layer], scores: HeadScores) -> list[Json]:
    """One row per layer; a layer without softmax attention has no heads, and nulls rather than zeros."""
    rows: list[Json] = []
    for layer in layers:
        own = scores.heads[:, 0] == layer.index
        retrieval, average = None, None
        if scores.means is not None and own.any():
            nano = scores.means.value[own]
            retrieval = int(above(nano).sum())
            average = rounded(int(nano.sum()) / (len(nano) * NANO))
        rows.append(
            {"layer": layer.index, "heads": int(own.sum()), "retrieval_heads": retrieval, "mean_score": average}
        )
    return rows


def _stability(layers: Sequence[Layer], samples: Sequence[SampleResult], scores: HeadScores) -> Estimate:
    """Mean Spearman correlation of head scores over the pairs of needles; n is the number of pairs.

    There is no interval: pairs share needles, so they are not independent, and resampling samples would add its own
    noise to the ranks and pull every replicate below the value.
    """
    if len(scores.heads) < 2:
        return Estimate.missing(0, "the model has fewer than two softmax-attention heads")
    by_needle = needle_means(layers, samples)
    if len(by_needle) < 2:
        return Estimate.missing(0, f"needs two needles with counted samples, there are {len(by_needle)}")
    rows = np.stack(list(by_needle.values()))
    constant = int((np.ptp(rows, axis=1) == 0).sum())
    if constant:
        return Estimate.missing(0, f"all heads score alike on {constant} of {len(rows)} needles")
    pairs = spearman(rows)[np.triu_indices(len(rows), k=1)]
    value = float(mean(pairs[:, None])[0] / NANO)
    return Estimate(rounded(value), None, None, len(pairs), "no interval: pairs of needles are not independent")


def _always_on(scores: HeadScores) -> Json:
    enough = scores.n >= ALWAYS_ON_MIN_SAMPLES
    reason = None if enough else f"needs {ALWAYS_ON_MIN_SAMPLES} counted samples, there are {scores.n}"
    return {
        "definition": ALWAYS_ON,
        "min_samples": ALWAYS_ON_MIN_SAMPLES,
        "heads": scores.heads[scores.active == scores.n].tolist() if enough else None,
        "reason": reason,
    }


def _top_heads(scores: HeadScores) -> list[Json]:
    """The strongest heads with a score above zero, by rank, then layer, then head."""
    paper, ranks, frequency = scores.paper, scores.ranks, scores.activation_frequency
    if paper is None or ranks is None or frequency is None:
        return []
    return [
        {
            "layer": int(scores.heads[place, 0]),
            "head": int(scores.heads[place, 1]),
            "score": float(paper.score[place]),
            "low": None if paper.low is None else float(paper.low[place]),
            "high": None if paper.high is None else float(paper.high[place]),
            "rank": int(ranks.rank[place]),
            "rank_low": None if ranks.low is None else int(ranks.low[place]),
            "rank_high": None if ranks.high is None else int(ranks.high[place]),
            "activation_frequency": float(frequency[place]),
        }
        for place in strongest_first(paper.score, TOP_HEADS)
        if paper.score[place] > 0
    ]


def _sparsity_claim(share: Estimate, anything_copied: bool) -> Json:
    verdict, reason = sparsity_verdict(share, anything_copied)
    return {
        "claim": "sparsity",
        "statement": "Fewer than 5% of heads are retrieval heads (score above 0.1).",
        "verdict": verdict,
        "evidence": None if share.value is None else share.to_json(),
        "reason": reason,
    }


def sparsity_verdict(share: Estimate, anything_copied: bool) -> tuple[str, str | None]:
    """Whether fewer than 5% of heads are retrieval heads, as far as the interval of their share tells.

    Args:
        share: of heads that are retrieval heads, over counted samples.
        anything_copied: whether any head has a copy event. Otherwise the claim would hold vacuously, and a failed
            measurement would look like a sparse model.

    Returns:
        "holds", "does_not_hold" or "not_enough_evidence", and the reason for the last.
    """
    if share.n < SPARSITY_MIN_SAMPLES:
        return "not_enough_evidence", f"Needs {SPARSITY_MIN_SAMPLES} counted samples, there are {share.n}."
    if not anything_copied:
        return "not_enough_evidence", "No head copied anything in any counted sample."
    if share.low is None or share.high is None:
        return "not_enough_evidence", f"The share of retrieval heads has no interval: {share.reason}."
    if share.high < SPARSE_SHARE:
        return "holds", None
    if share.low > SPARSE_SHARE:
        return "does_not_hold", None
    return "not_enough_evidence", "The interval of the share of retrieval heads includes 5%."


def _claims_beyond_one_run() -> list[Json]:
    return [
        {"claim": claim, "statement": statement, "verdict": "not_enough_evidence", "evidence": None, "reason": reason}
        for claim, (statement, reason) in _BEYOND_ONE_RUN.items()
    ]
