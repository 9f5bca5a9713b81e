"""Results of experiments as pages show them, made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rh_bench.leaderboard import RunBrief


def estimate(value: float | None, low: float | None = None, high: float | None = None, n: int = 40) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "reason": None if low is not None else "too few"}


CAUSAL = {
    "samples": 40,
    "needles": 4,
    "retrieval_heads": 7,
    "how": "zero",
    "phase": "both",
    "baseline": estimate(0.8, 0.7, 0.9),
    "points": [
        {
            "k": k,
            "top": estimate(top, top / 2, min(1.0, top + 0.1)),
            "failures": {"hallucination": 3, "incomplete_retrieval": 0, "no_answer": 2},
            "controls": {"uniform": estimate(0.78, 0.7, 0.9), **({"matched": estimate(0.7)} if k < 20 else {})},
            "differences": {"uniform": estimate(top - 0.78, -0.9, 0.1), "matched": estimate(top - 0.7)},
            "p_values": {"uniform": 0.0004, "matched": 0.25},
        }
        for k, top in ((5, 0.5), (10, 0.1), (20, 0.0))
    ],
}


ANSWERS = {
    "task": "gsm8k",
    "measure": "accuracy",
    "questions": 1319,
    "removed": 20,
    "rows": [
        {"kind": kind, "mode": mode, "draws": 5 if kind == "random" else 1, "score": estimate(0.3, 0.2, 0.4)}
        for kind in ("none", "top", "random")
        for mode in ("direct", "cot")
    ],
    "comparisons": [
        {
            "mode": "cot",
            "control": "random",
            "draws": 5,
            "draws_better": 5,
            "loss": estimate(0.2, 0.1, 0.3),
            "p_value": 0.01,
        }
    ],
    "chain_of_thought": {
        "gain": estimate(0.1, 0.0, 0.2),
        "gain_p_value": 0.02,
        "extra_loss": estimate(-0.05, -0.1, 0.0),
        "extra_loss_p_value": 0.4,
    },
}


DETECTORS = {
    "samples": 30,
    "detectors": [{"name": name, "n": 30, "named": 9} for name in ("copy", "attention-mass", "induction")],
    "pairs": [
        {"a": a, "b": b, "spearman": estimate(value, value, value)}
        for a, b, value in (("copy", "mass", 0.6), ("copy", "echo", -0.1), ("mass", "echo", 0.0))
    ],
    "count": estimate(3, 2, 5),
    "heads": [[17, 3], [18, 6], [20, 1]],
}


def with_charts(brief: RunBrief, **charts: Any) -> RunBrief:
    experiments = tuple(
        {"kind": kind, "experiment_id": "0" * 16, "slug": brief.slug, "chart": chart} for kind, chart in charts.items()
    )
    return replace(brief, experiments=experiments)
