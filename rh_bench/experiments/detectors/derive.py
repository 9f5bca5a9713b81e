"""Detectors compared: do different ideas of a retrieval head name the same heads?

Raw observations are one score of every head on every sample, for each score of each detector. What follows from them:
mean scores with bootstrap intervals, the heads that each detector names by its own rule, and the agreement of every two
scores: rank correlation and shared strongest heads, with intervals, next to what two scores would share if they had
nothing to do with one another. "Nothing to do" is meant twice: heads shuffled over the whole model, and heads shuffled
within their layer, since any two scores agree a little if both are higher in late layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rh_bench.experiments.kind import Tables, column
from rh_bench.records import Json, Layer, head_grid
from rh_bench.scores.heads import STRATA_COLUMNS
from rh_bench.stats.bootstrap import (
    NANO,
    Bootstrap,
    Estimate,
    FloatArray,
    Means,
    NanoArray,
    bootstrap_means,
    estimate,
    interval,
    rounded,
    stratify,
)
from rh_bench.stats.paired_tests import holm
from rh_bench.stats.ranks import centred_ranks, spearman, strongest

BoolArray = npt.NDArray[np.bool_]

VALUES = pa.list_(pa.field("element", pa.int32(), nullable=False))
SAMPLES = pa.schema(
    [
        *(column(name, pa.string()) for name in ("sample_id", "needle_id", "haystack_id")),
        column("length", pa.int32()),
        column("depth", pa.float64()),
        column("prompt_sha256", pa.string()),
        column("rouge1_recall", pa.float64(), nullable=True),
        column("success", pa.bool_(), nullable=True),
    ]
)
SCORES = pa.schema(
    [
        *(column(name, pa.string()) for name in ("detector", "score", "sample_id")),
        column("values", VALUES),
        column("seconds", pa.float64()),
    ]
)
"""`values`: one number per head, in the order of `results.heads`, in units of 1e-9."""

TOP = (5, 10, 20, 50)
"""How many of the strongest heads are compared."""
PERMUTATIONS = 1000


# What a detector names


def names(rules: Sequence[Json], scores: Mapping[str, NanoArray]) -> BoolArray:
    """Which heads a detector names: those that one of its rules names; see `detectors.base.Rule`.

    Args:
        rules: objects with `score`, `kind` and `value`.
        scores: mean scores int64 [..., H] by name of score.
    """
    named = [_named(rule, scores[rule["score"]]) for rule in rules]
    either: BoolArray = np.logical_or.reduce(named)
    return either


def _named(rule: Json, scores: NanoArray) -> BoolArray:
    if rule["kind"] == "above":
        above: BoolArray = scores > round(rule["value"] * NANO)
        return above
    heads = scores.shape[-1]
    share = Fraction(str(rule["value"])) * (heads if rule["kind"] == "share" else 1)
    return strongest(scores, min(max(1, math.floor(share)), heads)) & (scores > 0)


# The observations


@dataclass(frozen=True)
class _Observed:
    """The tables as arrays. Samples in the order of samples.parquet."""

    document: Json
    samples: pa.Table
    values: Mapping[str, FloatArray]
    """float64 [n, H] by name of score."""

    @classmethod
    def of(cls, document: Json, tables: Tables) -> _Observed:
        grid = head_grid(layers_of(document))
        table = tables["scores"]
        flat = pc.list_flatten(table.column("values")).to_numpy().reshape(len(table), len(grid)) / NANO
        rows = np.asarray(table.column("score").to_pylist())
        return cls(document, tables["samples"], {score: flat[rows == score] for score in score_names(document)})

    @property
    def detectors(self) -> list[Json]:
        found: list[Json] = self.document["settings"]["detectors"]
        return found

    @cached_property
    def grid(self) -> list[tuple[int, int]]:
        return head_grid(layers_of(self.document))

    @cached_property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(**self.document["settings"]["bootstrap"])

    @cached_property
    def counted(self) -> BoolArray:
        return np.asarray([bool(success) for success in self.samples.column("success").to_pylist()], dtype=np.bool_)

    def detector_of(self, score: str) -> Json:
        return next(detector for detector in self.detectors if score in detector["scores"])

    def means(self, scores: Sequence[str]) -> dict[str, Means] | None:
        """Means over the samples that count for all of these scores, resampled together: replicate i of one score is of
        the same samples as replicate i of another. None if no sample counts."""
        counted_only = any(self.detector_of(score)["counted_only"] for score in scores)
        key = "counted" if counted_only else "all"
        return {score: self._all_means[key][score] for score in scores} if self.n(scores) else None

    def n(self, scores: Sequence[str]) -> int:
        """Samples that count for all of these scores."""
        counted_only = any(self.detector_of(score)["counted_only"] for score in scores)
        return int(self.counted.sum()) if counted_only else len(self.samples)

    @cached_property
    def _all_means(self) -> dict[str, dict[str, Means]]:
        every = np.ones(len(self.samples), dtype=np.bool_)
        some = any(detector["counted_only"] for detector in self.detectors)
        wanted = {"all": every, "counted": self.counted} if some else {"all": every}
        return {key: self._means_of(chosen) for key, chosen in wanted.items() if chosen.any()}

    def _means_of(self, chosen: BoolArray) -> dict[str, Means]:
        names_ = {"needle": "needle_id", "length": "length", "depth": "depth"}
        rows = self.samples.filter(pa.array(chosen))
        # In the order in which a run's samples are resampled, so that copy scores get the intervals of a run.
        keys = [rows.column(name).to_pylist() for name in ("needle_id", "length", "depth", "sample_id")]
        order = sorted(range(len(rows)), key=lambda row: tuple(key[row] for key in keys))
        columns = {name: [rows.column(names_[name])[row].as_py() for row in order] for name in STRATA_COLUMNS}
        strata = stratify(columns, len(order))
        return {
            score: bootstrap_means(values[chosen][order], strata, self.bootstrap)
            for score, values in self.values.items()
        }


def layers_of(document: Json) -> list[Layer]:
    return [Layer(**layer) for layer in document["model"]["layers"]]


def score_names(document: Json) -> list[str]:
    return [score for detector in document["settings"]["detectors"] for score in detector["scores"]]


# Results


def derive(document: Json, tables: Tables) -> tuple[Json, list[Json]]:
    """Results from the tables; no claims: agreement of detectors is not one of the paper's."""
    observed = _Observed.of(document, tables)
    decoded = any(detector["counted_only"] for detector in observed.detectors)
    nulls = _Nulls(observed)
    results = {
        "samples": len(observed.samples),
        "counted": int(observed.counted.sum()) if decoded else None,
        "heads": [list(head) for head in observed.grid],
        "detectors": [_detector(observed, detector) for detector in observed.detectors],
        "pairs": _pairs(observed, nulls),
        "named_by_all": _named_by_all(observed, nulls),
    }
    return results, []


def _detector(observed: _Observed, detector: Json) -> Json:
    scores: list[str] = detector["scores"]
    means = observed.means(scores)
    reason = None if means else "no sample counted: the model answered none"
    named = names(detector["rules"], {score: mean.value for score, mean in means.items()}) if means else None
    return {
        "name": detector["name"],
        "n": observed.n(scores),
        "scores": [_score(score, means[score] if means else None, observed) for score in scores],
        "named": None if named is None else _heads(observed, named),
        "reason": reason,
    }


def _score(name: str, means: Means | None, observed: _Observed) -> Json:
    """Mean score of every head with its interval, in columns."""
    bounds = None
    if means is not None and means.replicates is not None:
        bounds = interval(means.value, means.replicates, observed.bootstrap)
    return {
        "score": name,
        "value": _numbers(means.value if means else None),
        "low": _numbers(bounds[0] if bounds else None),
        "high": _numbers(bounds[1] if bounds else None),
    }


def _numbers(nano: NanoArray | None) -> list[float] | None:
    return None if nano is None else [rounded(value) for value in (nano / NANO).tolist()]


def _heads(observed: _Observed, chosen: BoolArray) -> list[list[int]]:
    return [list(observed.grid[place]) for place in np.flatnonzero(chosen)]


class _Nulls:
    """Orders of the heads that know nothing of their scores: over the whole model, and within layers."""

    def __init__(self, observed: _Observed) -> None:
        settings = observed.document["settings"]
        self._random = np.random.RandomState(settings["permutation_seed"])
        self._shape = (settings["permutations"], len(observed.grid))
        self._layer = np.asarray([layer for layer, _ in observed.grid], dtype=np.float64)
        self._bootstrap = observed.bootstrap
        self.first = self.draw()

    def draw(self) -> dict[str, npt.NDArray[np.int64]]:
        """int64 [P, H] of each kind: place of the head that takes a head's place."""
        keys = self._random.random_sample(self._shape)
        return {
            "any": np.argsort(keys, axis=1, kind="stable"),
            "layer": np.argsort(self._layer + keys, axis=1, kind="stable"),
        }

    def compare(self, value: float, chance: Mapping[str, FloatArray]) -> Json:
        """A value next to what chance gives, by kind of permutation: its mean, its 95% range, and the one-sided p-value
        (1 + as high) / (1 + drawn)."""
        low, high = self._bootstrap_bounds()
        compared = {}
        for kind, drawn in chance.items():
            ordered = np.sort(drawn)
            compared[kind] = {
                "mean": rounded(math.fsum(drawn.tolist()) / len(drawn)),
                "low": rounded(float(ordered[low])),
                "high": rounded(float(ordered[high])),
                "p_value": rounded((1 + int((drawn >= value).sum())) / (1 + len(drawn))),
            }
        return compared

    def _bootstrap_bounds(self) -> tuple[int, int]:
        return Bootstrap(self._shape[0], 0, self._bootstrap.confidence).bounds()


def _pairs(observed: _Observed, nulls: _Nulls) -> list[Json]:
    pairs = [_pair(observed, nulls, a, b) for a, b in combinations(score_names(observed.document), 2)]
    for kind in ("any", "layer"):
        tested = [pair["null"][kind] for pair in pairs if pair["null"] is not None]
        for one, corrected in zip(tested, holm([one["p_value"] for one in tested]), strict=True):
            one["p_holm"] = corrected
    return pairs


def _pair(observed: _Observed, nulls: _Nulls, a: str, b: str) -> Json:
    pair: Json = {"a": a, "b": b, "n": observed.n([a, b]), "spearman": None, "null": None, "top": []}
    means = observed.means([a, b])
    constant = next((name for name, mean in (means or {}).items() if np.ptp(mean.value) == 0), None)
    if means is None or constant is not None:
        reason = f"{constant} scores every head alike" if constant else "no sample counts for both"
        return {**pair, "spearman": Estimate.missing(pair["n"], reason).to_json()}
    one, other = means[a], means[b]
    value = float(spearman(np.stack([one.value, other.value]))[0, 1])
    pair["spearman"] = _with_interval(value, _correlations(one, other), pair["n"], observed).to_json()
    pair["null"] = nulls.compare(rounded(value), _null_correlations(one.value, other.value, nulls))
    pair["top"] = [_top(observed, nulls, one, other, k) for k in observed.document["settings"]["top"]]
    return pair


def _correlations(one: Means, other: Means) -> FloatArray | str:
    """Rank correlation of each replicate, or why there is none."""
    if one.replicates is None or other.replicates is None:
        return "no interval: one sample cannot be resampled"
    found = np.empty(len(one.replicates))
    for i, rows in enumerate(zip(one.replicates, other.replicates, strict=True)):
        try:
            found[i] = spearman(np.stack(rows))[0, 1]
        except ValueError:
            return "no interval: in some replicate a score is the same for every head"
    return found


def _with_interval(value: float, replicates: FloatArray | str, n: int, observed: _Observed) -> Estimate:
    if isinstance(replicates, str):
        return Estimate(rounded(value), None, None, n, replicates)
    return estimate(value, replicates, n, observed.bootstrap)


def _null_correlations(one: NanoArray, other: NanoArray, nulls: _Nulls) -> dict[str, FloatArray]:
    ranks = [centred_ranks(scores).astype(np.float64) for scores in (one, other)]
    norm = math.sqrt(float(ranks[0] @ ranks[0]) * float(ranks[1] @ ranks[1]))
    # Products of integers, exact in any order; rounded as the value is, so that equal ones compare equal.
    return {kind: np.round((ranks[0][places] @ ranks[1]) / norm, 9) + 0.0 for kind, places in nulls.first.items()}


def _top(observed: _Observed, nulls: _Nulls, one: Means, other: Means, k: int) -> Json:
    """How many of the k strongest heads two scores share."""
    n = min(int((one.value > 0).sum()), int((other.value > 0).sum()))
    if k > n or 2 * k > len(observed.grid):
        words = f"only {n} heads score above 0" if k > n else f"{k} is more than half of the heads"
        return {"k": k, "shared": Estimate.missing(k, words).to_json(), "null": None}
    mine, theirs = strongest(one.value, k), strongest(other.value, k)
    shared = int((mine & theirs).sum())
    replicates: FloatArray | str = "no interval: one sample cannot be resampled"
    if one.replicates is not None and other.replicates is not None:
        both = strongest(one.replicates, k) & strongest(other.replicates, k)
        replicates = both.sum(axis=1).astype(np.float64)
    chance = {kind: (mine[places] & theirs).sum(axis=1).astype(np.float64) for kind, places in nulls.first.items()}
    value = _with_interval(float(shared), replicates, k, observed)
    return {"k": k, "shared": value.to_json(), "null": nulls.compare(shared, chance)}


def _named_by_all(observed: _Observed, nulls: _Nulls) -> Json:
    """The heads that every detector names, over the samples that count for all of them."""
    scores = score_names(observed.document)
    means, n, detectors = observed.means(scores), observed.n(scores), observed.detectors
    found: Json = {"n": n, "count": None, "null": None, "named": None, "heads": [], "support": []}
    if means is None or len(detectors) < 2:
        reason = "no sample counts for all detectors" if means is None else "one detector agrees with itself"
        return {**found, "count": Estimate.missing(n, reason).to_json()}
    values = {score: mean.value for score, mean in means.items()}
    masks = [names(detector["rules"], values) for detector in detectors]
    all_name: BoolArray = np.logical_and.reduce(masks)
    replicates: FloatArray | str = "no interval: one sample cannot be resampled"
    drawn = {score: mean.replicates for score, mean in means.items() if mean.replicates is not None}
    if len(drawn) == len(means):
        each: BoolArray = np.logical_and.reduce([names(detector["rules"], drawn) for detector in detectors])
        replicates = each.sum(axis=1).astype(np.float64)
        found["support"] = [rounded(float(each[:, place].mean())) for place in np.flatnonzero(all_name)]
    count = int(all_name.sum())
    found["count"] = _with_interval(float(count), replicates, n, observed).to_json()
    found["named"] = [_heads(observed, mask) for mask in masks]
    found["heads"] = _heads(observed, all_name)
    found["null"] = nulls.compare(count, _null_counts(masks, nulls))
    return found


def _null_counts(masks: Sequence[BoolArray], nulls: _Nulls) -> dict[str, FloatArray]:
    """Heads that all would name if the heads of all but one were shuffled, each by itself."""
    left: dict[str, Any] = {"any": masks[0], "layer": masks[0]}
    for mask in masks[1:]:
        left = {kind: left[kind] & mask[places] for kind, places in nulls.draw().items()}
    return {kind: both.sum(axis=1).astype(np.float64) for kind, both in left.items()}
