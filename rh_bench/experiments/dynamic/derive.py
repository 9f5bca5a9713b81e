"""Dynamic: in which contexts a head is active, and on which part of the answer.

A *context* is a counted sample of a run; a head is *active* in it when it has at least one copy event there. Some heads
should be active in nearly every context, others in some only, and which those are should depend on the context.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rh_bench.experiments.dynamic.dependence import BoolArray, Design, Parts, design, factor_p_values, part_tests
from rh_bench.experiments.dynamic.tables import COPIES
from rh_bench.experiments.kind import Tables, Verdict, claim
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import IntArray, Json, Layer, head_grid
from rh_bench.scores.events import head_places
from rh_bench.scores.summary import ALWAYS_ON, ALWAYS_ON_MIN_SAMPLES, STRONG_THRESHOLD
from rh_bench.stats.bootstrap import (
    NANO,
    Bootstrap,
    Estimate,
    FloatArray,
    NanoArray,
    bootstrap_means,
    estimate,
    mean,
    rounded,
    stratify,
    wilson,
)
from rh_bench.stats.paired_tests import benjamini_hochberg
from rh_bench.stats.ranks import strongest_first

FACTORS = ("needle", "haystack", "length", "depth")
PARTS = 3
PERMUTATIONS = 2_000
LEVEL = 0.05
"""Of tests, after correction for their number."""
STEADY = 0.8
"""A head is steady when its activation frequency is above this, and occasional when it is below."""
MIN_CONTEXTS = 20
MIN_ACTIVE = 5
"""Contexts in which a head must be active, and as many in which it must not be, for a test to say anything."""
MOST_DESCRIBED = 64
"""Heads that are described one by one: the strongest."""

STATEMENT = (
    "Some retrieval heads are active in nearly every context, others in some contexts only, depending on the context."
)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The tables as arrays: n contexts, H heads."""

    heads: IntArray
    """int32 [H, 2]."""
    factors: Mapping[str, Sequence[Hashable]]
    active: BoolArray
    """bool [n, H]."""
    score: NanoArray
    """int64 [H]: mean of distinct positions copied / span length, nano units; zeros without contexts."""
    copied: tuple[BoolArray, ...]
    """For each context bool [H, span length]."""

    @property
    def n(self) -> int:
        return len(self.active)

    @property
    def retrieval(self) -> BoolArray:
        """bool [H]: retrieval heads."""
        found: BoolArray = self.score > round(HEAD_THRESHOLD * NANO)
        return found

    def name(self, place: int) -> list[int]:
        return [int(self.heads[place, 0]), int(self.heads[place, 1])]


def _see(layers: Sequence[Layer], tables: Tables) -> _Seen:
    contexts, copies = tables["contexts"], tables["copies"]
    grid = np.array(head_grid(list(layers)), dtype=np.int32).reshape(-1, 2)
    spans = contexts.column("span_length").to_pylist()
    context, layer, head, offset = (copies.column(name).to_numpy().astype(np.int64) for name in COPIES.names)
    place = head_places(layers)[layer, head] if len(layer) else layer
    copied = tuple(np.zeros((len(grid), span), dtype=np.bool_) for span in spans)
    ends = np.searchsorted(context, np.arange(len(spans) + 1))
    for one, first, last in zip(copied, ends[:-1], ends[1:], strict=True):
        one[place[first:last], offset[first:last]] = True
    shape = (len(spans), len(grid))
    active = np.array([one.any(axis=1) for one in copied], dtype=np.bool_).reshape(shape)
    shares = np.array([one.sum(axis=1) / one.shape[1] for one in copied], dtype=np.float64).reshape(shape)
    score = mean(shares) if len(spans) else np.zeros(len(grid), dtype=np.int64)
    factors = {name: contexts.column(name).to_pylist() for name in FACTORS}
    return _Seen(grid, factors, active, score, copied)


@dataclass(frozen=True, slots=True, eq=False)
class _Tests:
    """What was tested. p and q by factor, then by place of the head; q is corrected over all factors and heads."""

    designs: tuple[Design, ...]
    tested: IntArray
    """Places of the heads that factors were tested for."""
    p: Mapping[str, Mapping[int, float]]
    q: Mapping[str, Mapping[int, float]]
    parts: tuple[Parts, ...]
    """One a head."""
    part_q: Mapping[int, float]


def _test(seen: _Seen, settings: Json) -> _Tests:
    designs = tuple(design(seen.factors, factor, seen.n) for factor in FACTORS)
    count = seen.active.sum(axis=0)
    tested = np.flatnonzero(np.minimum(count, seen.n - count) >= MIN_ACTIVE).astype(np.int32)
    p: dict[str, dict[int, float]] = {}
    chance = {"permutations": settings["permutations"], "seed": settings["seed"]}
    for how in designs:
        if how.reason is None and len(tested):
            values = factor_p_values(seen.active[:, tested], how, **chance)
            p[how.factor] = {int(place): value for place, value in zip(tested, values, strict=True)}
    keys = [(factor, place) for factor, values in p.items() for place in values]
    corrected = dict(zip(keys, benjamini_hochberg([p[f][place] for f, place in keys]), strict=True))
    q = {factor: {place: corrected[factor, place] for place in values} for factor, values in p.items()}
    parts = part_tests(seen.copied, parts=settings["parts"], fewest=MIN_ACTIVE, **chance) if seen.n else ()
    known = [(place, part.p_value) for place, part in enumerate(parts) if part.p_value is not None]
    part_q = dict(zip([k for k, _ in known], benjamini_hochberg([v for _, v in known]), strict=True))
    return _Tests(designs, tested, p, q, parts, part_q)


def derive(document: Json, tables: Tables) -> tuple[Json, list[Json]]:
    """Results and claim of the experiment, see `docs/experiments/dynamic.md`."""
    seen = _see([Layer(**layer) for layer in document["model"]["layers"]], tables)
    settings = document["settings"]
    bootstrap = Bootstrap(**settings["bootstrap"])
    tests = _test(seen, settings)
    count = seen.active.sum(axis=0)
    enough = seen.n >= ALWAYS_ON_MIN_SAMPLES
    results: Json = {
        "contexts": seen.n,
        "heads": len(seen.heads),
        "retrieval_heads": int(seen.retrieval.sum()),
        "active_heads": int((count > 0).sum()),
        "active": [int(k) for k in count],
        "always_on": {
            "definition": ALWAYS_ON,
            "heads": [seen.name(int(i)) for i in np.flatnonzero(count == seen.n)] if enough else None,
            "reason": None if enough else f"needs {ALWAYS_ON_MIN_SAMPLES} counted samples, there are {seen.n}",
        },
        "factors": [_factor_row(seen, how, tests) for how in tests.designs],
        "strengths": _strength_rows(seen, tests),
        "described": [_head_row(seen, tests, int(place), bootstrap.confidence) for place in _strongest(seen)],
    }
    return results, [_claim(seen, tests, bootstrap)]


def _strongest(seen: _Seen) -> IntArray:
    order = strongest_first(seen.score, MOST_DESCRIBED).astype(np.int32)
    found: IntArray = order[seen.score[order] > 0]
    return found


def _factor_row(seen: _Seen, how: Design, tests: _Tests) -> Json:
    """One factor: its values, how it was tested, and how many heads depend on it."""
    q = tests.q.get(how.factor, {})
    dependent = [place for place, value in q.items() if value <= LEVEL]
    reason = how.reason
    if reason is None and not q:
        reason = f"no head is active in {MIN_ACTIVE} contexts and not active in as many others"
    return {
        "factor": how.factor,
        "levels": list(how.levels) if how.reason is None else [],
        "contexts": np.bincount(how.group, minlength=len(how.levels)).tolist() if how.reason is None else [],
        "within": list(how.within),
        "confounded": list(how.confounded),
        "permutable": how.permutable,
        "tested": len(q),
        "dependent": len(dependent),
        "dependent_retrieval_heads": int(seen.retrieval[dependent].sum()),
        "reason": reason,
    }


def _strength_rows(seen: _Seen, tests: _Tests) -> list[Json]:
    """Heads in three classes of strength: how often they are active, and what it depends on."""
    strong, retrieval = seen.score > round(STRONG_THRESHOLD * NANO), seen.retrieval
    classes = (("strong", strong), ("retrieval", retrieval & ~strong), ("weak", (seen.score > 0) & ~retrieval))
    rows: list[Json] = []
    for name, members in classes:
        places = np.flatnonzero(members)
        rates = seen.active[:, places].mean(axis=0) if seen.n else np.zeros(0)
        dependent = [p for p in places if any(q.get(int(p), 1.0) <= LEVEL for q in tests.q.values())]
        on_part = [p for p in places if tests.part_q.get(int(p), 1.0) <= LEVEL]
        rows.append(
            {
                "strength": name,
                "heads": len(places),
                "mean_frequency": rounded(float(np.cumsum(rates)[-1] / len(rates))) if len(rates) else None,
                "context_tested": int(np.isin(places, tests.tested).sum()) if tests.q else 0,
                "context_dependent": len(dependent),
                "part_tested": sum(int(p) in tests.part_q for p in places),
                "part_dependent": len(on_part),
            }
        )
    return rows


def _head_row(seen: _Seen, tests: _Tests, place: int, confidence: float) -> Json:
    active = seen.active[:, place]
    parts = tests.parts[place]
    return {
        "head": seen.name(place),
        "score": float(seen.score[place] / NANO),
        "frequency": wilson(int(active.sum()), seen.n, confidence).to_json(),
        "conditions": [
            {
                "factor": how.factor,
                "rates": [
                    wilson(int(active[how.group == level].sum()), int((how.group == level).sum()), confidence).to_json()
                    for level in range(len(how.levels))
                ],
                "p_value": tests.p.get(how.factor, {}).get(place),
                "q_value": tests.q.get(how.factor, {}).get(place),
            }
            for how in tests.designs
            if how.reason is None
        ],
        "parts": {
            "copied": list(parts.copied),
            "expected": list(parts.expected),
            "contexts": parts.contexts,
            "p_value": parts.p_value,
            "q_value": tests.part_q.get(place),
        },
    }


def _claim(seen: _Seen, tests: _Tests, bootstrap: Bootstrap) -> Json:
    """Whether retrieval heads are steady, occasional, or some of each, by bounds that hold for all of them at once."""
    places = np.flatnonzero(seen.retrieval).astype(np.int32)
    share = _share_occasional(seen, places, bootstrap)
    dependent = {p for q in tests.q.values() for p, value in q.items() if value <= LEVEL and seen.retrieval[p]}
    tested = [value for q in tests.q.values() for p, value in q.items() if seen.retrieval[p]]
    # Bonferroni: an interval of each head, such that all hold at once as surely as one alone would.
    confidence = 1 - (1 - bootstrap.confidence) / max(1, len(places))
    bounds = [wilson(int(seen.active[:, p].sum()), seen.n, confidence) for p in places]
    steady = sum(b.low is not None and b.low > STEADY for b in bounds)
    occasional = sum(b.high is not None and b.high < STEADY for b in bounds)
    verdict, reason = _verdict(seen.n, len(places), steady, occasional, len(dependent))
    return claim(
        "dynamic",
        STATEMENT,
        verdict,
        test=(
            f"Of {len(places)} retrieval heads, {steady} are active in more than {STEADY:.0%} of contexts and"
            f" {occasional} in fewer (Wilson intervals, corrected for their number); activation of {len(dependent)}"
            " depends on needle, haystack, length or depth (permutation tests, false discovery rate"
            f" {LEVEL:.0%}). Holds when all three numbers are above zero. The effect is the share of retrieval heads"
            f" that are active in fewer than {STEADY:.0%} of contexts."
        ),
        effect=share,
        p_value=min(tested) if tested else None,
        n=seen.n,
        reason=reason,
    )


def _verdict(n: int, heads: int, steady: int, occasional: int, dependent: int) -> tuple[Verdict, str | None]:
    if n < MIN_CONTEXTS:
        return "not_enough_evidence", f"Needs {MIN_CONTEXTS} counted samples, there are {n}."
    if heads < 2:
        return "not_enough_evidence", f"Needs two retrieval heads, there are {heads}."
    if steady and occasional and dependent:
        return "holds", None
    if steady == heads:
        return "does_not_hold", "Every retrieval head is active in nearly every context."
    if occasional == heads:
        return "does_not_hold", "No retrieval head is active in nearly every context."
    missing = [
        words
        for number, words in (
            (steady, f"no retrieval head is surely active in more than {STEADY:.0%} of contexts"),
            (occasional, f"none is surely active in fewer than {STEADY:.0%}"),
            (dependent, "for none is it shown that activation depends on the context"),
        )
        if not number
    ]
    sentence = "; ".join(missing)
    return "not_enough_evidence", f"{sentence[0].upper()}{sentence[1:]}."


def _share_occasional(seen: _Seen, places: IntArray, bootstrap: Bootstrap) -> Estimate:
    if len(places) == 0:
        return Estimate.missing(seen.n, "there are no retrieval heads")
    columns = {name: seen.factors[name] for name in ("needle", "length", "depth")}
    means = bootstrap_means(seen.active[:, places].astype(np.float64), stratify(columns, seen.n), bootstrap)

    def share(rates: NanoArray) -> FloatArray:
        found: FloatArray = (rates < round(STEADY * NANO)).mean(axis=-1)
        return found

    replicates = None if means.replicates is None else share(means.replicates)
    return estimate(float(share(means.value)), replicates, seen.n, bootstrap)
