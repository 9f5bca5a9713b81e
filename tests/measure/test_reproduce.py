"""Doing a run's work again: an honest run is reproduced, and every kind of forgery is caught at its level."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reproducing import forge
from tiny import tiny_checkpoint

from rh_bench.artifacts.levels import Evidence, Verification
from rh_bench.artifacts.run import compute_run_id, read_run, write_run
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.measure.evaluate import Request, evaluate
from rh_bench.scores.rouge import rouge1_recall
from rh_bench.sets.grids import choose_grid
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json
from rh_bench.verification.rerun import choose
from rh_bench.verification.verify import verify_run

GRID = choose_grid("quick", "300,400", "0,50,100")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of a tiny model on a small set."""
    root = tmp_path_factory.mktemp("measured")
    build_set(Recipe(parse_source("synthetic"), GRID, needle_count=2), root / "set")
    model = tiny_checkpoint(root / "model")
    outcome = evaluate(Request(str(model), str(root / "set"), root / "runs", device="cpu"))
    return {"run": outcome.folder, "set": root / "set", "model": model}


@pytest.fixture
def forged(measured: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """A copy of it to change."""
    run = tmp_path / "runs" / measured["run"].parent.name / measured["run"].name
    shutil.copytree(measured["run"], run)
    return {**measured, "run": run}


def verified(paths: dict[str, Path], rerun: int = 0, **changes: Any) -> Verification:
    evidence = {"haystack": str(paths["set"]), "model": str(paths["model"]), "rerun": rerun, "device": "cpu"} | changes
    return verify_run(paths["run"], Evidence(**evidence))


def reached(report: Verification) -> list[bool | None]:
    return [level.reached for level in report.levels]


@pytest.mark.slow
def test_an_honest_run_reaches_every_level(measured: dict[str, Path]) -> None:
    report = verified(measured, rerun=3)
    assert reached(report) == [True, True, True], report.to_json()
    words = " ".join(report.levels[2].reasons)
    assert "3 of 3 answers are, token for token, what the model says here" in words


@pytest.mark.slow
def test_the_salt_decides_which_samples(measured: dict[str, Path]) -> None:
    run = read_run(measured["run"])
    names = {salt: tuple(r.sample.sample_id for r in choose(run, 3, salt)) for salt in map(str, range(20))}
    assert len(set(names.values())) > 10
    assert names["1"] == tuple(r.sample.sample_id for r in choose(run, 3, "1"))
    assert len(choose(run, 1000, "")) == len(run.results)


def test_another_set_is_caught(measured: dict[str, Path], tmp_path: Path) -> None:
    build_set(Recipe(parse_source("synthetic:5"), GRID, needle_count=2), tmp_path / "s")
    report = verified({**measured, "set": tmp_path / "s"}, rerun=1)
    assert reached(report) == [True, False, None]
    assert "not the run's set" in report.levels[1].reasons[0]


def test_another_model_is_caught(measured: dict[str, Path], tmp_path: Path) -> None:
    report = verified({**measured, "model": tiny_checkpoint(tmp_path / "model", seed=1)})
    assert reached(report) == [True, False, None]
    assert "not the run's model" in report.levels[1].reasons[0]


def test_other_weights_than_the_models_are_caught(forged: dict[str, Path]) -> None:
    document = json.loads((forged["run"] / "run.json").read_text())
    weights = next(file for file in document["model"]["files"] if file["path"].endswith(".safetensors"))
    weights["sha256"] = "e" * 64
    (forged["run"] / "run.json").write_bytes(dump_json(document))
    report = verified(forged)
    assert reached(report) == [True, False, None]
    assert "the weights that run.json names are not those of the model" in report.levels[1].reasons[0]


def test_a_dropped_sample_is_caught(forged: dict[str, Path]) -> None:
    run = read_run(forged["run"])
    write_run(forged["run"], run.document, run.layers, run.results[1:])
    assert reached(verified(forged)) == [False, None, None], "the run says how many samples the set has"
    haystack = {**run.document["haystack"], "samples": len(run.results) - 1}
    write_run(forged["run"], {**run.document, "haystack": haystack}, run.layers, run.results[1:])
    report = verified(forged)
    assert reached(report) == [True, False, None]
    assert f"sample {run.results[0].sample.sample_id} is missing" in report.levels[1].reasons
    assert f"run.json#/haystack/samples: the set has {len(run.results)}" in report.levels[1].reasons


@pytest.mark.parametrize(
    ("column", "forge"), [("prompt_sha256", lambda _: "0" * 64), ("text", lambda text: text[::-1])]
)
def test_a_sample_that_is_not_reproduced_is_caught(
    forged: dict[str, Path], column: str, forge: Callable[[str], str]
) -> None:
    run = read_run(forged["run"])
    changed = [dict(row) for row in pq.read_table(forged["run"] / "samples.parquet").to_pylist()]
    before, changed[0][column] = changed[0][column], forge(changed[0][column])
    assert changed[0][column] != before
    changed[0]["rouge1_recall"] = rouge1_recall(changed[0]["answer"], changed[0]["text"])
    schema = pq.read_schema(forged["run"] / "samples.parquet")
    pq.write_table(pa.Table.from_pylist(changed, schema=schema), forged["run"] / "samples.parquet")
    again = read_run(forged["run"])
    write_run(forged["run"], run.document, run.layers, again.results)
    report = verified(forged)
    assert reached(report) == [True, False, None], report.to_json()
    assert run.results[0].sample.sample_id in report.levels[1].reasons[0]


@pytest.mark.slow
def test_made_up_events_are_caught_by_measuring_again(forged: dict[str, Path]) -> None:
    """Consistent in themselves: only the model can tell."""
    run = read_run(forged["run"])
    forged_results = [forge(result, run.layers) for result in run.results]
    assert any(len(a.events) != len(b.events) for a, b in zip(run.results, forged_results, strict=True))
    write_run(forged["run"], run.document, run.layers, forged_results)
    report = verified(forged, rerun=12)
    assert reached(report) == [True, True, False], report.to_json()


@pytest.mark.slow
def test_a_run_replayed_under_another_models_name_is_caught(forged: dict[str, Path], tmp_path: Path) -> None:
    """Name, revision, weights, id, folders and hashes are all the other model's: only its answers are not."""
    from rh_bench.models.load import resolve_model

    other = tiny_checkpoint(tmp_path / "other", seed=1)
    run = read_run(forged["run"])
    document = run.document
    source = resolve_model(str(other))
    files = [{"path": name, "sha256": digest, "bytes": size} for name, digest, size in source.files]
    document["model"] |= {"id": "other", "slug": "other", "revision": source.revision, "files": files}
    document["run_id"] = compute_run_id(
        model_revision=document["model"]["revision"],
        manifest_sha256=document["haystack"]["manifest_sha256"],
        protocol=document["protocol"],
        engine_name=document["engine"]["name"],
        engine_version=document["engine"]["version"],
    )
    replayed = tmp_path / "replayed" / "other" / document["run_id"]
    replayed.mkdir(parents=True)
    write_run(replayed, document, run.layers, run.results)
    report = verified({**forged, "run": replayed, "model": other}, rerun=3)
    assert reached(report) == [True, True, False], report.to_json()


@pytest.mark.slow
def test_the_command_writes_a_report(
    measured: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["verify", str(measured["run"]), "--haystack", str(measured["set"]), "--model", str(measured["model"])]
    assert main([*arguments, "--rerun", "2", "--device", "cpu", "--report", str(tmp_path / "report.md")]) == 0
    assert "rerun: yes" in capsys.readouterr().out
    assert "| rerun | ✅ yes |" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert main([*arguments[:3], str(tmp_path / "none"), *arguments[4:]]) == 2
    document = json.loads((measured["run"] / "run.json").read_text())
    assert document["files"]["heads.parquet"] == sha256_file(measured["run"] / "heads.parquet")
