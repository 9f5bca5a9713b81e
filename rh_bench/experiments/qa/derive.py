"""Question answering with heads removed: the kinds `chain_of_thought` and `extractive_qa`. No model is needed here.

Every question is answered under each condition (no head removed, the strongest removed, as many random ones removed in
several draws) and in each mode (`direct`, and for reasoning `cot`). All comparisons are paired by question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa

from rh_bench.experiments.kind import Tables, Verdict, claim, column
from rh_bench.records import Json
from rh_bench.scores.answers import (
    exact_match,
    extract_choice,
    extract_number,
    extract_words,
    token_f1,
)
from rh_bench.stats.bootstrap import (
    NANO,
    Bootstrap,
    Estimate,
    FloatArray,
    Strata,
    bootstrap_means,
    estimate,
    rounded,
    stratify,
    wilson,
)
from rh_bench.stats.paired_tests import difference_of_means, sign_flip_test

NONE, TOP, RANDOM, MATCHED = "none", "top", "random", "matched"
CONTROLS = (NONE, RANDOM, MATCHED)
"""What the strongest heads' removal is compared with: nothing removed, and two kinds of random heads."""
FINE_TASKS = ("musique", "extractive")
"""Tasks whose answers are words: token F1 is what is compared; for the others it is accuracy."""

MIN_QUESTIONS = 30
FLOOR = {"gsm8k": 0.05, "musique": 0.1, "extractive": 0.1}
"""A model whose score, without ablation, is not above this at the lower end of its interval has nothing to lose. For
mmlu it is what guessing gives."""
MARGIN = 0.05
"""A loss that is at most this much larger than that of random heads, at the upper end of its interval, is none."""
LEVEL = 0.05

_TEXTS = pa.list_(pa.field("element", pa.string(), nullable=False))
ITEMS = pa.schema(
    [
        column("item_id", pa.string()),
        column("question_sha256", pa.string()),
        column("group", pa.string()),
        column("choices", pa.int16()),
        column("answers", _TEXTS),
    ]
)
RESPONSES = pa.schema(
    [
        column("condition", pa.string()),
        column("mode", pa.string()),
        column("item_id", pa.string()),
        column("prompt_sha256", pa.string()),
        column("prompt_tokens", pa.int32()),
        column("tokens", pa.int32()),
        column("finished", pa.bool_()),
        column("text", pa.string()),
        column("answer", pa.string(), nullable=True),
        column("correct", pa.bool_()),
        column("f1", pa.float64()),
    ]
)


# --- one response ---


@dataclass(frozen=True, slots=True)
class Graded:
    """What a response answers and how right that is."""

    answer: str | None
    correct: bool
    f1: float
    """Token F1 for answers in words; 0 or 1 for others."""


def grade(task: str, text: str, answers: Sequence[str], choices: int) -> Graded:
    """Read and judge one response, already cut at its stop text."""
    if task in FINE_TASKS:
        words = extract_words(text)
        return Graded(words, exact_match(words or "", answers), rounded(token_f1(words or "", answers)))
    found = extract_choice(text, choices) if task == "mmlu" else extract_number(text)
    return Graded(found, found in answers, float(found in answers))


# --- results ---


@dataclass(frozen=True, eq=False)
class _Scores:
    """Score of every question by (condition, mode): float64 [n] each, and what goes with it."""

    settings: Json
    values: dict[tuple[str, str], FloatArray]
    strata: Strata
    bootstrap: Bootstrap

    @property
    def n(self) -> int:
        return len(self.strata.labels)

    def names(self, kind: str) -> list[str]:
        return [one["name"] for one in self.settings["conditions"] if one["kind"] == kind]

    def over(self, kind: str, mode: str) -> FloatArray:
        """Of each question, the mean over the conditions of a kind."""
        mean: FloatArray = np.mean([self.values[name, mode] for name in self.names(kind)], axis=0)
        return mean

    def loss(self, control: str, mode: str) -> FloatArray:
        """How much worse each question fares without the strongest heads than under a control."""
        return self.over(control, mode) - self.over(TOP, mode)


def derive(document: Json, tables: Tables) -> tuple[Json, list[Json]]:
    """Results and claims of an experiment of either kind; see `rh_bench.experiments.kind.Derive`."""
    settings, items, responses = document["settings"], tables["items"], tables["responses"]
    bootstrap = Bootstrap(**settings["bootstrap"])
    n = len(items)
    strata = stratify({"group": items.column("group").to_pylist()}, n)
    columns = {name: responses.column(name).to_numpy() for name in ("correct", "f1", "finished", "tokens")}
    answered = ~np.asarray(responses.column("answer").is_null())
    fine = settings["task"] in FINE_TASKS
    values: dict[tuple[str, str], FloatArray] = {}
    rows: list[Json] = []
    for place, (name, kind, mode) in enumerate(cells_of(settings)):
        part = slice(place * n, (place + 1) * n)
        correct, f1 = columns["correct"][part], columns["f1"][part].astype(np.float64)
        values[name, mode] = f1 if fine else correct.astype(np.float64)
        rows.append(
            {
                "condition": name,
                "kind": kind,
                "mode": mode,
                "accuracy": wilson(int(correct.sum()), n, bootstrap.confidence).to_json(),
                "f1": _mean(f1, strata, bootstrap).to_json() if fine else None,
                "answered": wilson(int(answered[part].sum()), n, bootstrap.confidence).to_json(),
                "finished": wilson(int(columns["finished"][part].sum()), n, bootstrap.confidence).to_json(),
                "mean_tokens": rounded(int(columns["tokens"][part].astype(np.int64).sum()) / n),
            }
        )
    scores = _Scores(settings, values, strata, bootstrap)
    comparisons = [_compare(scores, control, mode) for mode in settings["modes"] for control in _controls(scores)]
    results: Json = {
        "measure": "f1" if fine else "accuracy",
        "questions": n,
        "strata": list(strata.columns),
        "scores": rows,
        "comparisons": comparisons,
        "chain_of_thought": _chain_of_thought(scores) if settings["modes"] == ["direct", "cot"] else None,
    }
    return results, _claims(document["kind"], settings, results, items)


def cells_of(settings: Json) -> list[tuple[str, str, str]]:
    """(condition, kind, mode) in the order of the responses."""
    return [(one["name"], one["kind"], mode) for one in settings["conditions"] for mode in settings["modes"]]


def _controls(scores: _Scores) -> list[str]:
    return [control for control in CONTROLS if scores.names(control)]


def _mean(values: FloatArray, strata: Strata, bootstrap: Bootstrap) -> Estimate:
    """Of F1. Resampling equal numbers would give an interval without width, as if the mean were known exactly."""
    n = len(values)
    if n > 1 and np.ptp(values) == 0:
        if values[0] in (0.0, 1.0):
            return wilson(int(values.sum()), n, bootstrap.confidence)
        return Estimate(rounded(float(values[0])), None, None, n, "no interval: all questions score alike")
    means = bootstrap_means(values[:, None], strata, bootstrap)
    replicates = None if means.replicates is None else means.replicates[:, 0] / NANO
    return estimate(float(means.value[0] / NANO), replicates, n, bootstrap)


def _compare(scores: _Scores, control: str, mode: str) -> Json:
    """How much worse answers are without the strongest heads than under a control, question by question."""
    loss = scores.loss(control, mode)
    worse = [float(scores.values[name, mode].sum()) for name in scores.names(control)]
    top = float(scores.over(TOP, mode).sum())
    return {
        "mode": mode,
        "control": control,
        "draws": len(worse),
        "draws_better": sum(one > top for one in worse),
        "loss": _difference(scores, scores.over(control, mode), scores.over(TOP, mode)).to_json(),
        "p_value": sign_flip_test(loss),
    }


def _difference(scores: _Scores, a: FloatArray, b: FloatArray) -> Estimate:
    return difference_of_means(a, b, scores.strata, scores.bootstrap)


def _chain_of_thought(scores: _Scores) -> Json:
    """What chain of thought gains without ablation, and how much more is lost with it than without it."""
    direct, cot = scores.over(NONE, "direct"), scores.over(NONE, "cot")
    losses = {mode: scores.loss(NONE, mode) for mode in ("direct", "cot")}
    return {
        "gain": _difference(scores, cot, direct).to_json(),
        "gain_p_value": sign_flip_test(cot - direct),
        "extra_loss": _difference(scores, losses["cot"], losses["direct"]).to_json(),
        "extra_loss_p_value": sign_flip_test(losses["cot"] - losses["direct"]),
    }


# --- claims ---

STATEMENTS = {
    "reasoning": "With chain of thought a model answers worse without its strongest retrieval heads, and worse than"
    " without as many other heads.",
    "reasoning_more_than_direct": "A model loses more by the removal of its strongest retrieval heads when it reasons"
    " step by step than when it answers at once.",
    "extractive_qa": "A model copies answers out of a passage worse without its strongest retrieval heads, and worse"
    " than without as many other heads.",
}


def _claims(kind: str, settings: Json, results: Json, items: pa.Table) -> list[Json]:
    if kind == "extractive_qa":
        return [_loss_claim("extractive_qa", "direct", settings, results, items)]
    claims = [_loss_claim("reasoning", "cot", settings, results, items)]
    if results["chain_of_thought"] is not None:
        claims.append(_more_claim(settings, results, items))
    return claims


def _loss_claim(name: str, mode: str, settings: Json, results: Json, items: pa.Table) -> Json:
    """Whether removing the strongest heads costs more than removing random ones, of either kind."""
    rows = {row["control"]: row for row in results["comparisons"] if row["mode"] == mode}
    random = [rows[control] for control in (RANDOM, MATCHED) if control in rows]
    shown = min(random, key=lambda row: (row["loss"]["value"], row["control"]))
    p_value = max(row["p_value"] for row in [rows[NONE], *random])
    verdict, reason = _loss_verdict(rows[NONE], random, results, _doubt(mode, settings, results, items))
    words = (
        f"{_about(settings, results)}: loss against no ablation and against {_kinds(random)} heads, paired by question;"
        f" holds when every interval lies above 0, every sign-flip p-value is at most {LEVEL} and every draw does"
        f" better; does not hold when the loss beyond some random heads ends below {MARGIN}; p-value: the largest"
    )
    n = results["questions"]
    return claim(
        name,
        STATEMENTS[name],
        verdict,
        test=words,
        n=n,
        effect=_estimate(shown["loss"]),
        p_value=p_value,
        reason=reason,
    )


def _about(settings: Json, results: Json) -> str:
    return f"{settings['task']}, {results['measure']}, {settings['top']} heads"


def _kinds(rows: list[Json]) -> str:
    return " and ".join(row["control"] for row in rows)


def _loss_verdict(none: Json, random: list[Json], results: Json, doubt: str | None) -> tuple[Verdict, str | None]:
    if doubt is not None:
        return "not_enough_evidence", doubt
    rows = [none, *random]
    if any(row["loss"]["low"] is None for row in rows):
        return "not_enough_evidence", "A loss has no interval."
    if all(row["loss"]["low"] > 0 and row["p_value"] <= LEVEL and row["draws_better"] == row["draws"] for row in rows):
        return "holds", None
    if any(row["loss"]["high"] < MARGIN for row in random):
        return "does_not_hold", None
    unsure = next((row for row in rows if row["loss"]["low"] <= 0 or row["p_value"] > LEVEL), None)
    if unsure is None:
        return "not_enough_evidence", "A draw of random heads costs as much as the strongest heads do."
    low, high = unsure["loss"]["low"], unsure["loss"]["high"]
    against = "no ablation" if unsure["control"] == NONE else f"{unsure['control']} heads"
    return "not_enough_evidence", f"The loss against {against} lies between {low:.3f} and {high:.3f}: too wide to tell."


def _more_claim(settings: Json, results: Json, items: pa.Table) -> Json:
    """Whether chain of thought loses more than direct answers do."""
    more = results["chain_of_thought"]
    doubt = _doubt("cot", settings, results, items) or _doubt("direct", settings, results, items)
    low, high = more["extra_loss"]["low"], more["extra_loss"]["high"]
    verdict: Verdict = "not_enough_evidence"
    reason: str | None = doubt
    if doubt is None and low is None:
        reason = "The difference of the losses has no interval."
    elif doubt is None and low > 0 and more["extra_loss_p_value"] <= LEVEL:
        verdict = "holds"
    elif doubt is None and high < MARGIN:
        verdict = "does_not_hold"
    elif doubt is None:
        reason = f"The difference of the losses lies between {low:.3f} and {high:.3f}: too wide to tell."
    words = (
        f"{_about(settings, results)}: loss with chain of thought less loss without, paired by question; holds when its"
        f" interval lies above 0 and the sign-flip p-value is at most {LEVEL}; does not hold when it ends below"
        f" {MARGIN}"
    )
    name = "reasoning_more_than_direct"
    return claim(
        name,
        STATEMENTS[name],
        verdict,
        test=words,
        n=results["questions"],
        effect=_estimate(more["extra_loss"]),
        p_value=more["extra_loss_p_value"],
        reason=reason,
    )


def _doubt(mode: str, settings: Json, results: Json, items: pa.Table) -> str | None:
    """Why nothing can be said, whatever the losses: too few questions, or a model that has nothing to lose."""
    n = results["questions"]
    if n < MIN_QUESTIONS:
        return f"Needs {MIN_QUESTIONS} questions, there are {n}."
    row = next(row for row in results["scores"] if row["kind"] == NONE and row["mode"] == mode)
    score = row[results["measure"]]
    floor = FLOOR.get(settings["task"])
    if floor is None:
        floor = float(sum(Fraction(1, int(number)) for number in items.column("choices").to_pylist()) / n)
    low = score["value"] if score["low"] is None else score["low"]
    if low > floor:
        return None
    how = "with chain of thought" if mode == "cot" else "at once"
    what = "token F1" if results["measure"] == "f1" else "accuracy"
    return (
        f"Without ablation, answering {how}, the model has {what} {score['value']:.3f} (interval from {low:.3f}), which"
        f" is not above {floor:.3g}: it has nothing to lose."
    )


def _estimate(row: Json) -> Estimate:
    return Estimate(row["value"], row["low"], row["high"], row["n"], row["reason"])
