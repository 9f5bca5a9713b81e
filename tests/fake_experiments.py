"""Small experiments from synthetic runs, made without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from fake_runs import make_document, make_layers, make_run

from rh_bench.experiments.artifact import keep_experiment
from rh_bench.experiments.dynamic import run as dynamic
from rh_bench.experiments.intrinsic import run as intrinsic


def make_dynamic(root: Path, run: Path, *, permutations: int = 50, **changes: Any) -> Path:
    """The experiment `dynamic` on a run; returns its folder below `root`."""
    document, tables = dynamic.observe(run, permutations=permutations, **changes)
    return keep_experiment(root, document, tables)[0]


def make_small_dynamic(root: Path) -> Path:
    """With a run of its own, so small that thousands can be damaged."""
    run = make_run(root / "runs", layers=2, heads=2, kv_heads=1, n_samples=8)
    return make_dynamic(root / "experiments", run, permutations=20)


def make_relatives(root: Path, *, layers: int = 6, heads: int = 6, n_samples: int = 30) -> tuple[Path, Path, Path]:
    """Three runs with equal head grids: a base, a model whose card names it, and a stranger."""
    folders = []
    for place, (name, variant, base) in enumerate(
        (("acme/base", 0, None), ("acme/chat", 0, ["Acme/Base"]), ("other/stranger", 1, None))
    ):
        strength = np.zeros((layers, heads))
        places = np.random.RandomState(variant).permutation(layers * heads)[: layers * heads // 6]
        strength.flat[places] = np.linspace(0.95, 0.3, len(places))
        model = make_document(make_layers(layers, heads, heads // 2), name)["model"]
        model |= {"base_model": base, "revision": f"{place + 1:040x}"}
        folders.append(
            make_run(
                root,
                model_id=name,
                layers=layers,
                heads=heads,
                kv_heads=heads // 2,
                n_samples=n_samples,
                seed=10 + place,
                strength=strength,
                model=model,
                schema_version="1.1",
            )
        )
    return folders[0], folders[1], folders[2]


def make_intrinsic(root: Path, first: Path, second: Path, *, permutations: int = 50, **changes: Any) -> Path:
    """The experiment `intrinsic` on two runs; returns its folder below `root`."""
    document, tables = intrinsic.observe(first, second, permutations=permutations, **changes)
    return keep_experiment(root, document, tables)[0]


def make_small_intrinsic(root: Path) -> Path:
    """With runs of its own, so small that thousands can be damaged."""
    base, chat, _ = make_relatives(root / "runs", layers=2, heads=4, n_samples=6)
    return make_intrinsic(root / "experiments", chat, base, permutations=20)


Makers = Mapping[str, Callable[[Path], Path]]


def _of_others() -> dict[str, Callable[[Path], Path]]:
    """`SMALL` of every module beside this one that is called `fake_…`."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("fake_*.py") if path.stem != __name__)
    found = [getattr(import_module(name), "SMALL", {}) for name in names]
    return {kind: make for makers in found for kind, make in makers.items()}


SMALL: Makers = {"dynamic": make_small_dynamic, "intrinsic": make_small_intrinsic, **_of_others()}
"""An experiment of each kind that is small enough to be damaged thousands of times: from a folder to its folder."""
