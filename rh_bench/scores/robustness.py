"""Whether a model's retrieval heads stay the same whatever it reads: over needles, lengths, depths and sets.

Counted samples are split by a factor, heads are scored on each part alone, and the parts are compared in pairs. Small
parts differ by chance, so the same is done with the factor's labels shuffled among samples that agree in the other
factors: only similarity below that level shows an effect of the factor.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rh_bench.records import IntArray, Json
from rh_bench.stats.bootstrap import Estimate, FloatArray, NanoArray, rounded, subset_means
from rh_bench.stats.similarity import Measure, jaccard, matrix, random_orders, spearman

FACTORS = ("needle", "length", "depth")
SHUFFLES = 100
_NO_INTERVAL = "no interval: pairs of parts are not independent"


@dataclass(frozen=True, slots=True)
class Robustness:
    """How similarly heads score on the parts of a factor: means over the pairs of parts; n is the number of pairs."""

    factor: str
    parts: int
    """Parts with counted samples."""
    counted: int
    spearman: Estimate
    jaccard: Estimate
    """Of the sets of heads above 0.1."""
    spearman_at_random: float | None
    """Mean over shuffles of the labels; None if undefined in any."""
    jaccard_at_random: float | None
    p_value: float | None
    """(1 + shuffles whose Spearman correlation is as low or lower) / (1 + shuffles): small if the factor matters."""
    within: tuple[str, ...]
    """Labels are shuffled among samples with equal values of these other factors."""
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
            "within": list(self.within),
            "shuffles": self.shuffles,
            "seed": self.seed,
        }


def robustness(
    scores: FloatArray, labels: Mapping[str, Sequence[Hashable]], *, shuffles: int = SHUFFLES, seed: int = 0
) -> tuple[Robustness, ...]:
    """Robustness of head scores over the parts of each factor.

    Args:
        scores: float64 [n, H], rule `paper`, of the counted samples.
        labels: for each factor, the part each sample belongs to.
        shuffles, seed: of `numpy.random.RandomState`, whose stream NumPy has frozen.
    """
    return tuple(_over(factor, scores, labels, shuffles, seed) for factor in labels)


def _over(
    factor: str, scores: FloatArray, labels: Mapping[str, Sequence[Hashable]], shuffles: int, seed: int
) -> Robustness:
    own = _numbered(labels[factor])
    parts, (n, heads) = int(own.max(initial=-1)) + 1, scores.shape
    reason = _too_few(parts, heads, factor)
    if reason:
        missing = Estimate.missing(0, reason)
        return Robustness(factor, parts, n, missing, missing, None, None, None, (), shuffles, seed)
    within, strata = _strata(own, {name: labels[name] for name in labels if name != factor})
    ways = np.concatenate([own[None], *(own[orders] for orders in random_orders(strata, n, shuffles, seed))])
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
        within=within,
        shuffles=shuffles,
        seed=seed,
    )


def _numbered(labels: Sequence[Hashable]) -> IntArray:
    """int32 [n]: 0 for the first label and all that equal it, and so on."""
    place = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([place[label] for label in labels], dtype=np.int32)


def _strata(own: IntArray, others: Mapping[str, Sequence[Hashable]]) -> tuple[tuple[str, ...], IntArray]:
    """The finest strata, by all other factors or fewer, in which half of the samples can change their part.

    Shuffling across other factors would unbalance them, and attribute their effect to this one.
    """
    names = tuple(others)
    for used in range(len(names), 0, -1):
        strata = _numbered(list(zip(*(others[name] for name in names[:used]), strict=True)))
        kinds = [len(set(own[strata == stratum].tolist())) for stratum in range(int(strata.max()) + 1)]
        if 2 * int((np.array(kinds)[strata] > 1).sum()) >= len(own):
            return names[:used], strata
    return (), np.zeros(len(own), dtype=np.int32)


def agreement(rows: NanoArray, what: str) -> tuple[Estimate, Estimate]:
    """Mean Spearman correlation and mean overlap above 0.1 over the pairs of rows.

    Args:
        rows: int64 [N, H] in nano units: the same heads, scored N times.
        what: plural name of the rows, for reasons.
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
    """NaN if a pair is undefined: leaving it out would make parts look more alike than is known."""
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
