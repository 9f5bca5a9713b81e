"""Experiments of the kind `detectors` from scores that were made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fake_runs import make_document, make_layers, make_run

from rh_bench.experiments.artifact import keep_experiment
from rh_bench.experiments.detectors.derive import SAMPLES, SCORES
from rh_bench.experiments.detectors.kind import KIND
from rh_bench.experiments.document import new_document
from rh_bench.protocol import BOOTSTRAP
from rh_bench.stats.bootstrap import NANO

Array = np.ndarray[Any, Any]
LAYERS, HEADS = 6, 8
H = LAYERS * HEADS
N = 12


def rule(score: str, kind: str, value: float) -> dict[str, Any]:
    return {"score": score, "kind": kind, "value": value}


def detector(name: str, *scores: str, rules: list[dict[str, Any]], counted_only: bool = False) -> dict[str, Any]:
    return {
        "name": name, "version": 1, "source": "made up", "scores": list(scores), "rules": rules,
        "needs_data": True, "counted_only": counted_only,
    }  # fmt: skip


COPY = detector("copy", "copy", rules=[rule("copy", "above", 0.1)], counted_only=True)
MASS = detector("mass", "mass", rules=[rule("mass", "top", 4)])


def made(
    values: dict[str, Array],
    detectors: list[dict[str, Any]] | None = None,
    *,
    success: list[bool] | None = None,
    permutations: int = 200,
    shape: tuple[int, int] = (LAYERS, HEADS),
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """A document and its tables from scores float [n, H] by name."""
    detectors = detectors or [COPY, MASS]
    n = len(next(iter(values.values())))
    answered = success or [True] * n
    decoded = any(one["counted_only"] for one in detectors)
    settings = {
        "detectors": detectors, "seed": 0, "template": "plain", "max_new_tokens": 50, "stop": ["eos"],
        "success_threshold": 0.5, "dtype": "float32",
        "grid": {"kind": "set", "lengths": None, "depths": None, "needles": None, "limit": None},
        "top": [2, 4, 40], "permutations": permutations, "permutation_seed": 0,
        "bootstrap": dict(BOOTSTRAP),
    }  # fmt: skip
    base = make_document(make_layers(*shape, 2), "acme/tiny")
    document = new_document(
        KIND, model=base["model"], runs=[], settings=settings, engine=base["engine"], environment=base["environment"]
    )
    samples = [
        {
            "sample_id": f"s{i:02}", "needle_id": f"n{i % 2}", "haystack_id": "h", "length": 100, "depth": 0.0,
            "prompt_sha256": "0" * 64, "rouge1_recall": float(answered[i]) if decoded else None,
            "success": answered[i] if decoded else None,
        }
        for i in range(n)
    ]  # fmt: skip
    rows = [
        {
            "detector": one["name"], "score": score, "sample_id": f"s{i:02}",
            "values": np.rint(values[score][i] * NANO).astype(np.int32), "seconds": 0.5,
        }
        for one in detectors for score in one["scores"] for i in range(n)
    ]  # fmt: skip
    tables = {
        "samples": pa.Table.from_pylist(samples, schema=SAMPLES),
        "scores": pa.Table.from_pylist(rows, schema=SCORES),
    }
    return document, tables


def around(strength: Array, noise: float, seed: int) -> Array:
    """Scores [N, H] in [0, 1] about the strengths [H]."""
    return np.clip(strength + np.random.RandomState(seed).normal(0, noise, (N, H)), 0, 1)


def strengths(seed: int) -> Array:
    """A few strong heads, anywhere."""
    random = np.random.RandomState(seed)
    return np.where(np.arange(H) < 5, random.uniform(0.5, 0.9, H), random.uniform(0, 0.05, H))[random.permutation(H)]


def make_small_detectors(root: Path) -> Path:
    """Of the model of a run of its own, so small that thousands can be damaged; returns its folder below `root`."""
    make_run(root / "runs", model_id="acme/tiny", layers=2, heads=4, kv_heads=2, n_samples=6)
    random = np.random.RandomState(0)
    values = {name: random.uniform(0, 0.4, (6, 8)) for name in ("copy", "mass")}
    document, tables = made(values, success=[True] * 5 + [False], permutations=20, shape=(2, 4))
    return keep_experiment(root / "experiments", document, tables)[0]


SMALL = {"detectors": make_small_detectors}
