"""A measured run of a tiny model with a card, and the same run with one lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_runs import run_id_of
from tiny import tiny_checkpoint

from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.measure.evaluate import Request, evaluate
from rh_bench.sets.grids import choose_grid
from rh_bench.system.schema import dump_json


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of a tiny model with a chat template and a card, on a small set."""
    root = tmp_path_factory.mktemp("measured")
    build_set(Recipe(parse_source("synthetic"), choose_grid("quick", "300", "0,100"), needle_count=1), root / "set")
    model = tiny_checkpoint(root / "model", chat=True)
    (model / "README.md").write_text(CARD)
    outcome = evaluate(Request(str(model), str(root / "set"), root / "runs", device="cpu"))
    return {"run": outcome.folder, "set": root / "set", "model": model}


def forged(measured: dict[str, Path], root: Path, lie: Lie) -> Path:
    """The run with one lie; its id and folder are made right."""
    document = json.loads((measured["run"] / "run.json").read_text())
    lie(document)
    document["run_id"] = run_id_of(document)
    run = root / document["model"]["slug"] / document["run_id"]
    shutil.copytree(measured["run"], run)
    (run / "run.json").write_bytes(dump_json(document))
    summary = json.loads((run / "summary.json").read_text())
    if summary["run_id"] != document["run_id"]:
        from rh_bench.artifacts.run import read_run, write_run

        read = read_run(run)
        bare = {name: value for name, value in read.document.items() if name not in ("counts", "files")}
        write_run(run, bare, read.layers, read.results)
    return run


Lie = Callable[[dict[str, Any]], Any]


CARD = "---\nbase_model: acme/base\n---\n"
