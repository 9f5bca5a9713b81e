"""Experiments on made-up runs of a tiny model, and the same with changes that everything else is made to fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fake_runs import make_run
from tiny import tiny_checkpoint

from rh_bench.artifacts.run import read_run
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.experiments.artifact import experiment_folder, experiment_id, read_experiment, write_experiment
from rh_bench.experiments.causal import derive as causal
from rh_bench.experiments.causal.run import Request as Ablation
from rh_bench.experiments.causal.run import ablation_experiment
from rh_bench.experiments.detectors.run import detect
from rh_bench.experiments.registry import kinds
from rh_bench.measure.evaluate import Request as Measuring
from rh_bench.models.load import load_model
from rh_bench.sets.grids import Grid


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, a set, and in `results` two runs of it, which were made up, since it would find no heads."""
    folder = tmp_path_factory.mktemp("levels")
    tiny_checkpoint(folder / "model", window=2000)
    build_set(Recipe(parse_source("synthetic"), GRID), folder / "set")
    model = load_model(str(folder / "model"), device="cpu").describe()
    made = read_run(make_run(folder / "made", layers=3, heads=4, kv_heads=2, model_id="model")).document
    for seed, tokens in ((0, 8), (1, 9)):
        protocol = {**made["protocol"], "template": "plain", "max_new_tokens": tokens, "dtype": "float32"}
        shape = {"layers": 3, "heads": 4, "kv_heads": 2, "model_id": "model", "seed": seed}
        strength = np.zeros((3, 4))
        strength[seed, :3] = 0.8
        make_run(folder / "results" / "runs", **shape, model=model, protocol=protocol, strength=strength)
    return folder


@pytest.fixture(scope="module")
def ablated(place: Path) -> Path:
    given: dict[str, Any] = {"top": (0, 2), "draws": 2, "limit": 5, "rows": 4, "device": "cpu"}
    out = place / "results" / "experiments"
    return ablation_experiment(Ablation(str(place / "model"), run_of(place), str(place / "set"), out, **given)).folder


@pytest.fixture(scope="module")
def detected(place: Path) -> Path:
    request = Measuring(
        str(place / "model"),
        str(place / "set"),
        place / "results" / "experiments",
        max_new_tokens=6,
        limit=4,
        device="cpu",
    )
    return detect(request).folder


def forge(folder: Path, root: Path, change: Change) -> Path:
    """A copy with changes, in which everything else is made to fit: judgements, results, hashes, the id."""
    experiment = read_experiment(folder)
    document, tables = json.loads(json.dumps(experiment.document)), dict(experiment.tables)
    change(document, tables)
    kind = kinds()[document["kind"]]
    parts = (document["model"], document["runs"], document["data"], document["settings"])
    document["experiment_id"] = experiment_id(kind, *parts)
    target = experiment_folder(root / "results" / "experiments", document)
    target.mkdir(parents=True)
    shutil.copytree(folder.parents[2] / "runs", root / "results" / "runs")
    write_experiment(target, document, tables)
    return target


def answers_made_up(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    """Whatever the model says without its strongest heads, it is said to have said nothing of the needle."""
    samples = {row["sample_id"]: row for row in tables["samples"].to_pylist()}
    kinds = {c["condition"]: c["kind"] for c in document["settings"]["conditions"]}

    def lie(row: dict[str, Any]) -> dict[str, Any]:
        sample, text = samples[row["sample_id"]], ""
        if kinds[row["condition"]] != "top":
            text = sample["answer"]
        share = None if not text else row["haystack_share"]
        if text and share is None:
            share = 0.0
        judged = causal.judge(text, sample["answer"], sample["question"], sample["own_grams"], share, 0.5)
        return {**row, "text": text, **judged}

    tables["answers"] = with_rows(tables["answers"], lie)


GRID = Grid("custom", (400, 500), (0.0, 100.0), needles=3, haystacks=2)


Change = Callable[[dict[str, Any], dict[str, pa.Table]], None]


def run_of(place: Path, tokens: int = 8) -> Path:
    runs = (place / "results" / "runs" / "model").iterdir()
    return next(run for run in runs if read_run(run).document["protocol"]["max_new_tokens"] == tokens)


def with_rows(table: pa.Table, change: Callable[[dict[str, Any]], dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([change(row) for row in table.to_pylist()], schema=table.schema)
