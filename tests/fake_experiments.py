"""Small experiments from synthetic runs, made without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_runs import make_run

from rh_bench.experiments.artifact import keep_experiment
from rh_bench.experiments.dynamic import observe


def make_dynamic(root: Path, run: Path, *, permutations: int = 50, **changes: Any) -> Path:
    """The experiment `dynamic` on a run; returns its folder below `root`."""
    document, tables = observe(run, permutations=permutations, **changes)
    return keep_experiment(root, document, tables)[0]


def make_small_dynamic(root: Path) -> Path:
    """With a run of its own, so small that thousands can be damaged."""
    run = make_run(root / "runs", layers=2, heads=2, kv_heads=1, n_samples=8)
    return make_dynamic(root / "experiments", run, permutations=20)
