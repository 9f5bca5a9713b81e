"""The experiment `dynamic`: what a run's events say of heads and contexts, its claim, and tables that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fake_experiments import make_dynamic, make_small_dynamic
from fake_runs import make_document, make_layers, make_run
from measured import measured

from rh_bench.artifacts.run import Run
from rh_bench.artifacts.tables import write_table
from rh_bench.cli.main import main
from rh_bench.experiments.artifact import read_document, read_experiment, recompute, validate_experiment
from rh_bench.experiments.dynamic.derive import MOST_DESCRIBED, derive
from rh_bench.experiments.dynamic.tables import tables_of
from rh_bench.records import SampleResult
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json, load_json
from rh_bench.verification.checks import check_folder

LAYERS = make_layers(1, 4, 2)
SPAN = 6


def result_of(samples: list[SampleResult], permutations: int = 400) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results and claim of samples made by hand, without a folder."""
    document = make_document(LAYERS, "acme/tiny")
    document["settings"] = {
        "permutations": permutations, "seed": 0, "parts": 3,
        "bootstrap": {"replicates": 100, "seed": 0, "confidence": 0.95},
    }  # fmt: skip
    tables = tables_of(Run(Path(), document, LAYERS, tuple(samples)))
    results, (row,) = derive(document, tables)
    return results, row


def contexts(n: int, *, dynamic: bool = True) -> list[SampleResult]:
    """Head 0 copies all everywhere; head 1 at depth 0 alone, or everywhere; head 2 the beginning; head 3 nothing."""
    samples = []
    for i in range(n):
        depth = (0.0, 50.0, 100.0)[i % 3]
        events = [(0, 0, step, step) for step in range(SPAN)]
        if depth == 0 or not dynamic:
            events += [(0, 1, step, step) for step in range(SPAN)]
        if not dynamic or i % 2:
            events += [(0, 2, step, step) for step in range(2)]
        samples.append(measured(f"s{i:03}", events, span=SPAN, needle=f"n{i % 2}", depth=depth))
    return samples


def test_how_often_heads_are_active_and_on_what_it_depends() -> None:
    results, row = result_of(contexts(60))
    assert results["active"] == [60, 20, 30, 0] and results["active_heads"] == 3
    assert results["always_on"]["heads"] == [[0, 0]]
    first, second, third = sorted(results["described"], key=lambda head: head["head"])
    assert first["frequency"]["value"] == 1 and first["frequency"]["low"] > 0.9
    by_factor = {condition["factor"]: condition for condition in second["conditions"]}
    assert [rate["value"] for rate in by_factor["depth"]["rates"]] == [1, 0, 0]
    assert by_factor["depth"]["q_value"] < 0.05 and by_factor["needle"]["q_value"] > 0.5
    needle = {condition["factor"]: condition for condition in third["conditions"]}["needle"]
    assert [rate["value"] for rate in needle["rates"]] == [0, 1] and needle["q_value"] < 0.05
    factors = {row["factor"]: row for row in results["factors"]}
    assert factors["depth"]["dependent"] == 1 and factors["depth"]["within"] == ["needle"]
    assert factors["length"]["reason"] == "every context has the same value"
    assert row["verdict"] == "holds" and row["p_value"] < 0.05 and row["n"] == 60
    assert row["effect"]["value"] == pytest.approx(2 / 3)


def test_weak_heads_copy_a_part_of_the_answer() -> None:
    results, _ = result_of(contexts(60))
    parts = {tuple(row["head"]): row["parts"] for row in results["described"]}
    assert parts[0, 0]["p_value"] is None, "it copies all there is"
    assert parts[0, 2]["copied"] == [60, 0, 0] and parts[0, 2]["expected"] == [20, 20, 20]
    assert parts[0, 2]["q_value"] < 0.05
    strengths = {row["strength"]: row for row in results["strengths"]}
    assert strengths["strong"]["heads"] == 1 and strengths["strong"]["mean_frequency"] == 1
    assert strengths["retrieval"]["heads"] == 2 and strengths["retrieval"]["part_dependent"] == 1


def test_heads_that_are_always_active_are_not_dynamic() -> None:
    _, row = result_of(contexts(60, dynamic=False))
    assert row["verdict"] == "does_not_hold" and "nearly every" in row["reason"]


def test_what_cannot_be_told_is_not_told() -> None:
    _, few = result_of(contexts(12))
    assert few["verdict"] == "not_enough_evidence" and "20" in few["reason"]
    results, none = result_of([])
    assert none["verdict"] == "not_enough_evidence" and none["effect"]["value"] is None
    assert results["contexts"] == 0 and results["always_on"]["heads"] is None and results["described"] == []
    _, lone = result_of([measured(f"s{i}", [(0, 0, 0, 0)], span=1, depth=float(i % 2)) for i in range(40)])
    assert lone["verdict"] == "not_enough_evidence" and "two retrieval heads" in lone["reason"]


def test_occasional_heads_that_depend_on_nothing_known_are_not_enough() -> None:
    random = np.random.RandomState(4)
    samples = []
    for i in range(60):
        events = [(0, 0, step, step) for step in range(SPAN)]
        events += [(0, 1, step, step) for step in range(SPAN)] if random.rand() < 0.4 else []
        samples.append(measured(f"s{i:03}", events, span=SPAN, needle=f"n{i % 2}", depth=float(i % 3)))
    _, row = result_of(samples)
    assert row["verdict"] == "not_enough_evidence" and "depends on the context" in row["reason"]


def test_failed_samples_and_their_order_change_nothing() -> None:
    samples = contexts(24)
    failed = measured("failed", [(0, 3, 0, 0)], span=SPAN, success=False)
    assert result_of(samples) == result_of([failed, *reversed(samples)])


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", n_samples=12)
    one, two = (make_dynamic(tmp_path / name, run) for name in ("a", "b"))
    assert one.name == two.name
    for name in ("experiment.json", "contexts.parquet", "copies.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert check_folder(one) == [] and recompute(one) == []
    assert make_dynamic(tmp_path / "a", run, seed=1).name != one.name


def test_its_numbers_are_those_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", layers=6, heads=6, n_samples=30)
    results = read_document(make_dynamic(tmp_path / "e", run))["results"]
    top = load_json(run / "summary.json")["top_heads"]
    described = {tuple(row["head"]): row for row in results["described"]}
    assert len(described) <= MOST_DESCRIBED
    for head in top:
        row = described[head["layer"], head["head"]]
        assert row["score"] == head["score"]
        assert row["frequency"]["value"] == head["activation_frequency"]
    assert results["always_on"]["heads"] == load_json(run / "summary.json")["always_on"]["heads"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "runs", n_samples=24)
    command = ["dynamic", str(run), "--out", str(tmp_path / "e"), "--permutations", "100"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "depth:" in shown and "dynamic:" in shown
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["written"] is False and document["kind"] == "dynamic"
    assert main(["validate", document["folder"]]) == 0
    assert main(["dynamic", str(tmp_path / "none"), "--out", str(tmp_path / "e")]) == 2


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    ("table", "column", "row", "value", "place"),
    [
        ("copies", "context", 0, -1, "/0/context"),
        ("copies", "context", 0, 99, "/0/context"),
        ("copies", "layer", 0, 7, "/0/head"),
        ("copies", "head", 0, -1, "/0/head"),
        ("copies", "span_offset", 0, 7, "/0/span_offset"),
        ("copies", "span_offset", 0, 6, ""),
        ("contexts", "context", 1, 0, "/1/context"),
        ("contexts", "span_length", 0, 0, "/0/span_length"),
        ("contexts", "span_length", 0, 30_000, "/0/span_length"),
        ("contexts", "depth", 0, 101.0, "/0/depth"),
        ("contexts", "needle", 0, "zzz", ""),
        ("contexts", "sample_id", 1, "n0-L512-D0-0", "/sample_id"),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, table: str, column: str, row: int, value: object, place: str) -> None:
    folder = make_small_dynamic(tmp_path)
    experiment = read_experiment(folder)
    rows = experiment.tables[table].to_pylist()
    rows[row][column] = value
    write_table(folder / f"{table}.parquet", pa.Table.from_pylist(rows, schema=experiment.tables[table].schema))
    document = dict(experiment.document)
    document["files"] = {name: sha256_file(folder / name) for name in document["files"]}
    (folder / "experiment.json").write_bytes(dump_json(document))
    assert (f"{table}.parquet", place) in {(p.file, p.pointer) for p in validate_experiment(folder)}
