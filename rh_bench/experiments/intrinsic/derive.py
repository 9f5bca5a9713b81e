"""Intrinsic: whether two models have the same retrieval heads, as a model and one derived from it should.

Each side is a run, or a head list imported from another project, with scores of the same query heads. How similar they
are comes with what other samples might have given (bootstrap) and with what chance would give (heads in random order,
over the whole model and within layers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from rh_bench.experiments.intrinsic.plan import Relation
from rh_bench.experiments.intrinsic.tables import (
    SIDES,
    side_scores,
)
from rh_bench.experiments.kind import Tables, Verdict, claim
from rh_bench.interchange.records import MEASURES
from rh_bench.records import IntArray, Json
from rh_bench.stats.bootstrap import (
    NANO,
    Bootstrap,
    Estimate,
    Means,
    bootstrap_means,
    stratify,
)
from rh_bench.stats.distribution import above
from rh_bench.stats.similarity import Measure, jaccard, pearson, permutation_null, similarity, spearman, top_overlap
from rh_bench.system.files import shown

SIMILAR = 0.5
"""Pearson correlation from which heads count as the same: above it with its whole interval, the claim holds."""
UNLIKE = 0.2
"""Correlation below which heads of unrelated models count as different."""
LEVEL = 0.05
MIN_SAMPLES = 20

STATEMENT = "A model and the models derived from it have the same retrieval heads."
CONTROL = "Models that are not derived from one another have different retrieval heads."


# What the tables give


def _side_means(tables: Tables, side: int, bootstrap: Bootstrap) -> Means:
    """Each side draws its samples by a seed of its own."""
    scores = side_scores(tables, side)
    if len(scores) == 0:
        column = tables["heads"].column(SIDES[side]).to_numpy()
        return Means(np.rint(column * NANO).astype(np.int64), None)
    samples = tables["samples"]
    own = np.flatnonzero(samples.column("side").to_numpy() == side)
    chosen = samples.take(pa.array(own))
    labels = {name: chosen.column(name).to_pylist() for name in ("needle", "length", "depth")}
    seed = (bootstrap.seed + side) % 2**32
    strata = stratify(labels, len(own))
    return bootstrap_means(scores, strata, Bootstrap(bootstrap.replicates, seed, bootstrap.confidence))


def derive(document: Json, tables: Tables) -> tuple[Json, list[Json]]:
    """Results and claim of the experiment, see `docs/experiments/intrinsic.md`."""
    settings = document["settings"]
    bootstrap = Bootstrap(**settings["bootstrap"])
    first, second = (_side_means(tables, side, bootstrap) for side in (0, 1))
    layers = tables["heads"].column("layer").to_numpy().astype(np.int32)
    sides = tables["samples"].column("side").to_numpy()
    counts = [int((sides == side).sum()) for side in (0, 1)]
    rows = [
        _measure_row(measure, first, second, layers, min(counts), settings, bootstrap)
        for measure in (pearson(), spearman(), jaccard(), *(top_overlap(k) for k in settings["top"]))
    ]
    results: Json = {
        "heads": len(layers),
        "samples": counts,
        "retrieval_heads": [int(above(means.value).sum()) for means in (first, second)],
        "shared_retrieval_heads": int((above(first.value) & above(second.value)).sum()),
        "measures": rows,
    }
    return results, [_claim(settings, rows[0], results)]


def _measure_row(
    measure: Measure,
    first: Means,
    second: Means,
    layers: IntArray,
    n: int,
    settings: Json,
    bootstrap: Bootstrap,
) -> Json:
    """One measure: its estimate, and what it would be with heads in random order."""
    found = similarity(first, second, measure, bootstrap, n)
    if found.value is not None and (first.replicates is None or second.replicates is None):
        found = Estimate(found.value, None, None, n, "no interval: a side has no scores of several single samples")
    chance = {"permutations": settings["permutations"], "seed": settings["seed"]}
    whole = permutation_null(measure, first.value, second.value, **chance)
    within = permutation_null(measure, first.value, second.value, groups=layers, **chance)
    names = ("mean", "p_value", "reason")
    return {
        "measure": measure.name,
        "similarity": found.to_json(),
        "at_random": {name: asdict(whole)[name] for name in names},
        "at_random_within_layers": {name: asdict(within)[name] for name in names},
    }


def _claim(settings: Json, row: Json, results: Json) -> Json:
    relation: Relation = settings["relation"]
    name, statement = ("intrinsic_control", CONTROL) if relation == "unrelated" else ("intrinsic", STATEMENT)
    found = Estimate(**row["similarity"])
    p_value = row["at_random_within_layers"]["p_value"]
    verdict, reason = _verdict(relation, found, p_value, results["samples"])
    one, two = (model["id"] for model in settings["models"])
    heads = "head scores" if "numbers" not in settings else MEASURES[settings["numbers"]]
    limit = (
        f"Does not hold when the interval begins above {UNLIKE}; holds when it ends below."
        if relation == "unrelated"
        else f"Holds when the interval begins above {SIMILAR} and p is at most {LEVEL}; does not when it ends below."
    )
    return claim(
        name,
        statement,
        verdict,
        test=(
            f"Pearson correlation of the {heads} of {shown(one[:200])} and {shown(two[:200])} (both with their"
            f" samples resampled), against heads in random order within their layers. {limit}"
        ),
        effect=found,
        p_value=p_value,
        n=min(results["samples"]),
        reason=reason,
    )


def _verdict(
    relation: Relation, found: Estimate, p_value: float | None, samples: Sequence[int]
) -> tuple[Verdict, str | None]:
    if found.value is None:
        return "not_enough_evidence", f"The similarity is not defined: {found.reason}."
    if relation == "unknown":
        reason = "Nothing says whether one model was derived from the other; say so with --relation."
        return "not_enough_evidence", reason
    if found.low is None or found.high is None:
        return "not_enough_evidence", f"There is {found.reason}."
    if min(samples) < MIN_SAMPLES:
        return "not_enough_evidence", f"Needs {MIN_SAMPLES} counted samples of each, there are {min(samples)}."
    if relation == "unrelated":
        if found.high < UNLIKE:
            return "holds", None
        if found.low > UNLIKE:
            return "does_not_hold", None
        return "not_enough_evidence", f"The interval of the correlation includes {UNLIKE}."
    if found.low > SIMILAR and p_value is not None and p_value <= LEVEL:
        return "holds", None
    if found.high < SIMILAR:
        return "does_not_hold", None
    return "not_enough_evidence", f"The interval of the correlation includes {SIMILAR}, or chance would give as much."
