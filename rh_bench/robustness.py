"""Whether a model's retrieval heads are the same ones whatever it reads: over needles, lengths, depths and sets.

Counted samples are parted by a factor, heads are scored on each part alone, and the parts are compared in pairs. Parts
of few samples differ by chance, so the same is done with the samples dealt to parts of the same sizes at random: only
what is below that depends on the factor.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .records import Json, Layer, SampleResult
from .scoring import in_order, sample_scores
from .similarity import Measure, jaccard, matrix, spearman
from .statistics import Estimate, FloatArray, NanoArray, rounded, subset_means

FACTORS = ("needle", "length", "depth")
SHUFFLES = 100
_NO_INTERVAL = "no interval: pairs of parts are not independent"


@dataclass(frozen=True, slots=True)
class Robustness:
    """How alike heads score on the parts of a factor: means over the pairs of parts, whose number is each n."""

    factor: str
    parts: int
    """Parts with counted samples."""
    counted: int
    spearman: Estimate
    jaccard: Estimate
    """Of the sets of heads above 0.1."""
    spearman_at_random: float | None
    """Mean over shuffles of what parts of these sizes give when samples are dealt to them at random; None where that is
    undefined in any."""
    jaccard_at_random: float | None
    p_value: float | None
    """(1 + shuffles whose Spearman correlation is as low or lower) / (1 + shuffles): small where the factor matters."""
    shuffles: int
    seed: int

    def to_json(self) -> Json:
        return {
            "factor": self.factor,
            "parts": self.parts,
            "counted": self.counted,
            "spearman": self.spearman.to_json(),
            "jaccard": self.jaccard.to_json(),
            "spearman_at_random": self.spearman_at_random,
            "jaccard_at_random": self.jaccard_at_random,
            "p_value": self.p_value,
            "shuffles": self.shuffles,
            "seed": self.seed,
        }


def run_robustness(
    layers: Sequence[Layer], samples: Sequence[SampleResult], *, shuffles: int = SHUFFLES, seed: int = 0
) -> tuple[Robustness, ...]:
    """Robustness of a run's heads over each of FACTORS. The order of the samples changes nothing; errors as in
    `scoring.score`."""
    counted = [sample for sample in in_order(samples) if sample.success]
    paper, _ = sample_scores(layers, counted)
    labels: dict[str, list[Hashable]] = {
        "needle": [sample.sample.needle_id for sample in counted],
        "length": [sample.sample.length for sample in counted],
        "depth": [sample.sample.depth for sample in counted],
    }
    return tuple(robustness(paper, labels[factor], factor, shuffles=shuffles, seed=seed) for factor in FACTORS)


def robustness(
    scores: FloatArray, labels: Sequence[Hashable], factor: str, *, shuffles: int = SHUFFLES, seed: int = 0
) -> Robustness:
    """Robustness of head scores over the parts of one factor.

    Args:
        scores: float64 [n, H], rule `paper`, of the counted samples.
        labels: which part each sample belongs to.
        shuffles, seed: of `numpy.random.RandomState`, whose stream NumPy has frozen.
    """
    values = list(dict.fromkeys(labels))
    parts, (n, heads) = len(values), scores.shape
    reason = _too_few(parts, heads, factor)
    if reason:
        missing = Estimate.missing(0, reason)
        return Robustness(factor, parts, n, missing, missing, None, None, None, shuffles, seed)
    place = {value: number for number, value in enumerate(values)}
    own = np.array([place[label] for label in labels], dtype=np.int32)
    random = np.random.RandomState(seed)
    ways = np.stack([own, *(own[random.permutation(n)] for _ in range(shuffles))])
    chosen = ways[:, None, :] == np.arange(parts)[None, :, None]
    means = subset_means(scores, chosen.reshape(-1, n)).reshape(len(ways), parts, heads)
    ranks, sets = (np.array([_mean_of_pairs(measure, rows) for rows in means]) for measure in (spearman(), jaccard()))
    return Robustness(
        factor=factor,
        parts=parts,
        counted=n,
        spearman=_estimate(float(ranks[0]), parts, spearman().undefined),
        jaccard=_estimate(float(sets[0]), parts, jaccard().undefined),
        spearman_at_random=_mean(ranks[1:]),
        jaccard_at_random=_mean(sets[1:]),
        p_value=_p_value(ranks),
        shuffles=shuffles,
        seed=seed,
    )


def agreement(rows: NanoArray, what: str) -> tuple[Estimate, Estimate]:
    """Mean Spearman correlation and mean overlap above 0.1 over the pairs of rows.

    Args:
        rows: int64 [N, H] in nano units: the same heads, scored N times.
        what: names the rows in a reason, in the plural.
    """
    reason = _too_few(len(rows), rows.shape[1], what.removesuffix("s"))
    if reason:
        return Estimate.missing(0, reason), Estimate.missing(0, reason)
    ranks, sets = (_mean_of_pairs(measure, rows) for measure in (spearman(), jaccard()))
    return (
        _estimate(ranks, len(rows), spearman().undefined),
        _estimate(sets, len(rows), jaccard().undefined),
    )


def _too_few(parts: int, heads: int, what: str) -> str | None:
    if heads < 2:
        return "the model has fewer than two softmax-attention heads"
    return f"needs two {what}s with counted samples, there are {parts}" if parts < 2 else None


def _mean_of_pairs(measure: Measure, rows: NanoArray) -> float:
    """NaN where a pair is undefined: leaving it out would make parts look more alike than is known."""
    found = matrix(measure, rows)[np.triu_indices(len(rows), k=1)]
    return float(np.cumsum(found)[-1] / len(found))


def _mean(found: FloatArray) -> float | None:
    if len(found) == 0 or np.isnan(found).any():
        return None
    return rounded(float(np.cumsum(found)[-1] / len(found)))


def _p_value(ranks: FloatArray) -> float | None:
    if len(ranks) == 1 or np.isnan(ranks).any():
        return None
    return rounded((1 + int((ranks[1:] <= ranks[0]).sum())) / len(ranks))


def _estimate(value: float, parts: int, undefined: str) -> Estimate:
    if np.isnan(value):
        return Estimate.missing(0, f"{undefined} in some part")
    return Estimate(rounded(value), None, None, parts * (parts - 1) // 2, _NO_INTERVAL)
