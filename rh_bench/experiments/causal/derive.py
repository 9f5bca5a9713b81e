"""Causal: whether a model fails to retrieve without its retrieval heads, and does not fail without as many others.

One row a (condition, sample): what the model answered without some heads. Conditions are the model as it is, the model
without its K strongest heads, and without K random heads that are no retrieval heads, several times, once drawn from
all layers alike and once from the layers of the K strongest. This module computes everything from those rows; what runs
the model is :mod:`rh_bench.experiments.causal.run`. See `docs/experiments/causal.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from rh_bench.experiments.failures import ERRORS, error_of, new_words, rouge1_precision, said_own
from rh_bench.experiments.kind import Tables, Verdict, claim, column
from rh_bench.records import Json
from rh_bench.scores.rouge import rouge1_recall, succeeds
from rh_bench.stats.bootstrap import (
    DECIMALS,
    NANO,
    Bootstrap,
    Estimate,
    FloatArray,
    Strata,
    bootstrap_means,
    estimate,
    rounded,
    strata_by,
    wilson,
)
from rh_bench.stats.paired_tests import difference_of_means, mcnemar, sign_flip_test

CONTROLS = ("uniform", "matched")
MIN_SUCCESSES = 10
"""Samples that the model as it is must answer for a failure to say anything."""
LEVEL = 0.05
MARGIN = 0.1
"""A cost in success below this, over that of random heads, is none to speak of."""
PERMUTATIONS = 10_000
MOST_ANSWERS = 100_000

STATEMENT = (
    "Without its strongest retrieval heads the model retrieves less than without as many random heads that are none."
)
TEST = (
    "Success without the K strongest heads less mean success without K random others, over the same samples; K is the "
    "largest that was measured and does not exceed the number of retrieval heads. Holds if against both kinds of "
    "random heads the 95% paired bootstrap interval lies below 0 and the paired permutation test gives p of at most "
    f"{LEVEL}, both over needles; does not hold if against one of them the interval lies above -{MARGIN}. The effect "
    "is that of the control that is nearer to the K strongest, p the larger one."
)

SAMPLES = pa.schema(
    [
        column("sample_id", pa.string()),
        column("needle_id", pa.string()),
        column("haystack_id", pa.string()),
        column("length", pa.int32()),
        column("depth", pa.float64()),
        column("prompt_sha256", pa.string()),
        column("span_start", pa.int32()),
        column("span_length", pa.int32()),
        column("question", pa.string()),
        column("answer", pa.string()),
        column("own_grams", pa.list_(pa.field("element", pa.string(), nullable=False))),
    ]
)
ANSWERS = pa.schema(
    [
        column("condition", pa.int32()),
        column("sample_id", pa.string()),
        column("tokens", pa.int32()),
        column("text", pa.string()),
        column("rouge1_recall", pa.float64()),
        column("rouge1_precision", pa.float64(), nullable=True),
        column("success", pa.bool_()),
        column("own_grams_said", pa.int32()),
        column("new_words", pa.int32()),
        column("haystack_share", pa.float64(), nullable=True),
        column("error", pa.string(), nullable=True),
    ]
)


def judge(text: str, answer: str, question: str, own: Sequence[str], share: float | None, threshold: float) -> Json:
    """All columns of an answer that follow from its text.

    Args:
        own: the answer's own grams; share: of the response's new words, those that repeat the haystack.
        threshold: of ROUGE-1 recall, above which a sample succeeds.
    """
    recall = rouge1_recall(answer, text)
    new, said = new_words(text, question), said_own(text, own)
    return {
        "rouge1_recall": recall,
        "rouge1_precision": rouge1_precision(answer, text),
        "success": succeeds(recall, threshold),
        "own_grams_said": said,
        "new_words": new,
        "haystack_share": share,
        "error": error_of(succeeds(recall, threshold), new, said, share),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The tables as arrays: C conditions, n samples."""

    conditions: Sequence[Json]
    success: FloatArray
    """float64 [C, n], 0 or 1."""
    recall: FloatArray
    errors: Sequence[Sequence[str | None]]
    needles: Sequence[str]
    bootstrap: Bootstrap
    permutations: int

    @property
    def n(self) -> int:
        return int(self.success.shape[1])

    @property
    def groups(self) -> list[list[int]]:
        """The samples of each needle."""
        return [[i for i, name in enumerate(self.needles) if name == needle] for needle in sorted(set(self.needles))]

    @property
    def one_stratum(self) -> Strata:
        return strata_by({}, len(set(self.needles)))

    def by_needle(self, values: FloatArray) -> FloatArray:
        """Each needle's part of the mean over samples: float64 [n] to [needles], whose mean is that of the samples."""
        sums = np.array([values[group].sum() for group in self.groups])
        parts: FloatArray = np.round(sums * len(sums) / self.n, DECIMALS)
        return parts

    def of(self, kind: str, k: int) -> list[int]:
        """The conditions of a kind that remove K heads."""
        return [i for i, c in enumerate(self.conditions) if c["kind"] == kind and c["k"] == k]


def _see(document: Json, tables: Tables) -> _Seen:
    settings, samples, answers = document["settings"], tables["samples"], tables["answers"]
    shape = (len(settings["conditions"]), len(samples))
    errors = answers.column("error").to_pylist()
    return _Seen(
        conditions=settings["conditions"],
        success=answers.column("success").to_numpy(zero_copy_only=False).astype(np.float64).reshape(shape),
        recall=answers.column("rouge1_recall").to_numpy().reshape(shape),
        errors=[errors[i * shape[1] : (i + 1) * shape[1]] for i in range(shape[0])],
        needles=samples.column("needle_id").to_pylist(),
        bootstrap=Bootstrap(**settings["bootstrap"]),
        permutations=settings["permutations"],
    )


def derive(document: Json, tables: Tables) -> tuple[Json, list[Json]]:
    """Results and claim of the experiment, see `docs/experiments/causal.md`."""
    seen = _see(document, tables)
    kept = sorted({c["k"] for c in seen.conditions if c["kind"] == "top"})
    curve = [_row(seen, k) for k in kept]
    results: Json = {
        "samples": seen.n,
        "needles": len(set(seen.needles)),
        "conditions": len(seen.conditions),
        "retrieval_heads": len(document["settings"]["retrieval_heads"]),
        "baseline": _cell(seen, [0]),
        "curve": curve,
    }
    return results, [_claim(seen, curve, results["retrieval_heads"], document["settings"])]


def _row(seen: _Seen, k: int) -> Json:
    """A point of the curve: what is lost with the K strongest heads, and with K random ones."""
    (top,) = seen.of("top", k)
    return {
        "k": k,
        "top": _cell(seen, [top]),
        "cost": _difference(seen, seen.success[top], seen.success[0]),
        "controls": {control: _control(seen, k, top, control) for control in CONTROLS},
    }


def _cell(seen: _Seen, conditions: Sequence[int]) -> Json:
    """Success and recall of one condition, or of the mean of several draws; kinds of failures, counted over all."""
    success, recall = seen.success[conditions], seen.recall[conditions]
    if len(conditions) == 1:
        rate = wilson(int(success.sum()), seen.n, seen.bootstrap.confidence)
    else:
        rate = _mean(seen, success.mean(axis=0))
    found = Counter(error for condition in conditions for error in seen.errors[condition])
    return {
        "answers": seen.n * len(conditions),
        "success": rate.to_json(),
        "recall": _mean(seen, recall.mean(axis=0)).to_json(),
        "failures": {error: found[error] for error in ERRORS},
    }


def _control(seen: _Seen, k: int, top: int, control: str) -> Json | None:
    """The K strongest heads against random ones; None if none could be drawn."""
    draws = seen.of(control, k)
    if not draws:
        return None
    success = seen.success[draws].mean(axis=0)
    # Of whole numbers: what ties must be exact, or assignments as extreme as what was seen would not count as such.
    lost = seen.success[top] * len(draws) - seen.success[draws].sum(axis=0)
    by_needle = np.array([lost[group].sum() for group in seen.groups])
    return {
        **_cell(seen, draws),
        "draws": len(draws),
        "moved": sum(seen.conditions[draw]["moved"] for draw in draws),
        "success_by_draw": [rounded(float(seen.success[draw].mean())) for draw in draws],
        "difference": {
            "success": _difference(seen, seen.success[top], success),
            "recall": _difference(seen, seen.recall[top], seen.recall[draws].mean(axis=0)),
        },
        "p_needles": sign_flip_test(by_needle, permutations=seen.permutations),
        "p_samples": sign_flip_test(lost, permutations=seen.permutations),
        "p_by_draw": [mcnemar(seen.success[top] == 1, seen.success[draw] == 1) for draw in draws],
        "needles_below": int((by_needle < 0).sum()),
    }


def _mean(seen: _Seen, values: FloatArray) -> Estimate:
    """Mean over samples (float64 [n]), its interval from resampling needles."""
    if np.ptp(values) == 0:
        value = float(values[0])
        if value in (0.0, 1.0):
            return wilson(int(value) * seen.n, seen.n, seen.bootstrap.confidence)
        return Estimate(rounded(value), None, None, seen.n, "no interval: all samples are alike")
    means = bootstrap_means(seen.by_needle(values)[:, None], seen.one_stratum, seen.bootstrap)
    if means.replicates is None:
        return Estimate(rounded(float(values.mean())), None, None, seen.n, "no interval: one needle")
    return estimate(float(means.value[0] / NANO), means.replicates[:, 0] / NANO, seen.n, seen.bootstrap)


def _difference(seen: _Seen, a: FloatArray, b: FloatArray) -> Json:
    """Mean of a - b over samples (float64 [n] each). Its interval is from resampling needles with all their samples,
    which are alike; where needles do not differ either, from the samples."""
    one, two = seen.by_needle(a), seen.by_needle(b)
    if np.ptp(one - two) == 0:
        found = difference_of_means(a, b, strata_by({}, seen.n), seen.bootstrap)
    else:
        found = difference_of_means(one, two, seen.one_stratum, seen.bootstrap)
    return replace(found, n=seen.n).to_json()


# The claim


def _claim(seen: _Seen, curve: Sequence[Json], retrieval: int, settings: Json) -> Json:
    row = _chosen(curve, retrieval)
    usual = settings["how"] in ("zero", "mean") and settings["phase"] == "both"
    qualified = None if usual else f"heads were changed by {settings['how']}, phase {settings['phase']}, not removed"
    controls = [] if row is None else [row["controls"][name] for name in CONTROLS if row["controls"][name]]
    reason = _too_little(seen, row, retrieval, controls)
    if row is None or reason is not None:
        return claim("causal", STATEMENT, "not_enough_evidence", test=TEST, n=seen.n, reason=reason)
    nearest = max(controls, key=lambda c: float(c["difference"]["success"]["value"]))
    effect = Estimate(**nearest["difference"]["success"])
    p_value = max(float(control["p_needles"]) for control in controls)
    verdict, words = _verdict(controls, len(set(seen.needles)))
    about = f"K = {row['k']} of {retrieval} retrieval heads"
    draws = [share for control in controls for share in control["success_by_draw"]]
    # Draws differ: a mean of them can hide that some sets of other heads are as dear as the strongest.
    as_dear = sum(share <= row["top"]["success"]["value"] for share in draws)
    about += f"; {as_dear} of {len(draws)} random sets cost as much" if as_dear else ""
    said = "; ".join(part for part in (about, words, qualified) if part)
    return claim("causal", STATEMENT, verdict, test=TEST, n=seen.n, effect=effect, p_value=p_value, reason=said)


def _chosen(curve: Sequence[Json], retrieval: int) -> Json | None:
    """The row that the claim is about: chosen by the run that found the heads, not by what comes out."""
    within = [row for row in curve if row["k"] <= retrieval]
    return within[-1] if within else None


def _too_little(seen: _Seen, row: Json | None, retrieval: int, controls: Sequence[Json]) -> str | None:
    """Why nothing can be said, None if something can."""
    if retrieval == 0:
        return "the run found no retrieval heads"
    if row is None:
        return f"the run found {retrieval} retrieval heads, and no K so small was measured"
    succeeded = int(seen.success[0].sum())
    if succeeded < MIN_SUCCESSES:
        return f"the model as it is answers {succeeded} of {seen.n} samples; {MIN_SUCCESSES} are needed"
    if len(controls) < len(CONTROLS):
        return f"no random heads to compare with at K = {row['k']}"
    if any(control["difference"]["success"]["low"] is None for control in controls):
        return "one needle has no interval"
    return None


def _verdict(controls: Sequence[Json], needles: int) -> tuple[Verdict, str | None]:
    differences = [control["difference"]["success"] for control in controls]
    if any(d["low"] > -MARGIN for d in differences):
        return "does_not_hold", None
    if all(d["high"] < 0 for d in differences):
        if all(control["p_needles"] <= LEVEL for control in controls):
            return "holds", None
        return "not_enough_evidence", f"the difference may be that of the {needles} needles measured"
    return "not_enough_evidence", "the interval neither lies below 0 nor shows that the difference is small"
