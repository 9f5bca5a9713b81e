"""Detect: from a set and a model to an experiment, through interruptions; the scores of `copy` are those of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import tiny_checkpoint

from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.run import read_run
from rh_bench.cli.demo import find_weights
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.detectors import DETECTORS
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import recompute, validate_experiment
from rh_bench.experiments.detectors.run import detect
from rh_bench.measure.evaluate import Outcome, Request, Step, evaluate
from rh_bench.records import head_grid
from rh_bench.scores.heads import sample_scores
from rh_bench.sets.grids import Grid
from rh_bench.stats.bootstrap import NANO

GRID = Grid("custom", (450, 600), (0.0, 100.0), needles=1, haystacks=1)
SAMPLES, SCORES = 4, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detect")
    tiny_checkpoint(folder / "model", window=1000)
    build_set(Recipe(parse_source("synthetic"), GRID), folder / "set")
    return folder


def request(place: Path, out: Path, **changes: Any) -> Request:
    return Request(str(place / "model"), str(place / "set"), out, max_new_tokens=8, **changes)


@pytest.fixture(scope="module")
def whole(place: Path) -> Outcome:
    return detect(request(place, place / "whole"))


def values(folder: Path, score: str) -> np.ndarray[Any, Any]:
    """int [n, H] of one score."""
    rows = [row for row in pq.read_table(folder / "scores.parquet").to_pylist() if row["score"] == score]
    return np.array([row["values"] for row in rows])


def without_times(folder: Path) -> dict[str, object]:
    document = json.loads((folder / "experiment.json").read_text())
    del document["timings"], document["files"]["scores.parquet"]
    return {
        "document": document,
        "names": sorted(path.name for path in folder.iterdir()),
        "samples": (folder / "samples.parquet").read_bytes(),
        "scores": pq.read_table(folder / "scores.parquet").drop_columns(["seconds"]).to_pylist(),
    }


@pytest.mark.slow
def test_an_experiment_is_valid_and_says_what_was_measured(whole: Outcome, place: Path) -> None:
    assert validate_experiment(whole.folder) == [] and recompute(whole.folder) == []
    assert (whole.measured, whole.resumed) == (SAMPLES * len(DETECTORS), 0)
    document = whole.document
    assert document["counts"] == {"samples": SAMPLES, "scores": SAMPLES * SCORES}
    assert document["runs"] == [] and document["claims"] == [] and document["engine"]["name"] == "fast"
    assert document["data"]["source"] == "set" and document["settings"]["grid"]["kind"] == "set"
    assert sorted(path.name for path in whole.folder.iterdir()) == [
        "experiment.json", "samples.parquet", "scores.parquet"
    ]  # fmt: skip
    assert str(place) not in (whole.folder / "experiment.json").read_text()


@pytest.mark.slow
def test_copy_scores_are_those_of_a_run_on_the_same_samples(whole: Outcome, place: Path) -> None:
    run = read_run(evaluate(request(place, place / "runs")).folder)
    paper, _ = sample_scores(run.layers, run.results)
    np.testing.assert_allclose(values(whole.folder, "copy") / NANO, paper, atol=1e-9)
    samples = pq.read_table(whole.folder / "samples.parquet").to_pylist()
    assert [row["sample_id"] for row in samples] == [result.sample.sample_id for result in run.results]
    assert [row["prompt_sha256"] for row in samples] == [result.prompt_sha256 for result in run.results]
    assert [row["rouge1_recall"] for row in samples] == [result.rouge1_recall for result in run.results]


def test_masses_are_positive_and_differ_between_samples(whole: Outcome) -> None:
    samples = pq.read_table(whole.folder / "samples.parquet").to_pylist()
    for score in ("attention-mass", "induction", "echo"):
        found = values(whole.folder, score)
        assert found.shape == (SAMPLES, len(head_grid(read_layers(whole)))) and (found > 0).all()
        # Where no sentence ends before it, a needle stands at the same place at two depths.
        different = len({row["prompt_sha256"] for row in samples}) if score == "attention-mass" else SAMPLES
        assert len({tuple(row) for row in found.tolist()}) == different > 1


def read_layers(detection: Outcome) -> Any:
    from rh_bench.records import Layer

    return [Layer(**layer) for layer in detection.document["model"]["layers"]]


def test_again_is_not_measured_again(whole: Outcome, place: Path) -> None:
    again = detect(request(place, place / "whole"))
    assert (again.measured, again.resumed) == (0, 0) and again.document == whole.document


@pytest.mark.slow
@pytest.mark.slow_but_first(1)
@pytest.mark.parametrize("after", [2, 5, 10])
def test_an_interruption_changes_nothing(after: int, whole: Outcome, place: Path, tmp_path: Path) -> None:
    """Within each of the three detectors."""

    def stop(step: Step) -> None:
        if step.samples_done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect(request(place, tmp_path), on_step=stop)
    journal = next(tmp_path.rglob(JOURNAL))
    assert not (journal.parent / "experiment.json").exists()
    with journal.open("ab") as file:  # the process died while it wrote
        file.write(b'{"detector":"copy","sample_id":"x","va')
    steps: list[Step] = []
    resumed = detect(request(place, tmp_path), on_step=steps.append)
    assert (resumed.resumed, resumed.measured) == (after, SAMPLES * len(DETECTORS) - after)
    assert steps[0].samples_done == after and steps[-1].done == steps[-1].total
    assert without_times(resumed.folder) == without_times(whole.folder)


def test_some_detectors_alone_are_another_experiment(whole: Outcome, place: Path, tmp_path: Path) -> None:
    some = detect(request(place, tmp_path, limit=2), ("attention-mass",))
    assert some.document["experiment_id"] != whole.document["experiment_id"]
    assert some.document["counts"] == {"samples": 2, "scores": 2} and some.document["results"]["counted"] is None
    assert validate_experiment(some.folder) == []


@pytest.mark.slow
def test_a_seed_changes_the_random_tokens_alone(place: Path, whole: Outcome, tmp_path: Path) -> None:
    other = detect(request(place, tmp_path), seed=1)
    assert other.document["experiment_id"] != whole.document["experiment_id"]
    np.testing.assert_array_equal(values(other.folder, "attention-mass"), values(whole.folder, "attention-mass"))
    assert (values(other.folder, "induction") != values(whole.folder, "induction")).any()


def test_lengths_beyond_the_window_are_refused_by_name(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="window of 1000"):
        detect(request(place, tmp_path, lengths=(5000,), depths=(0.0,)))


@pytest.mark.slow
def test_the_command(place: Path, whole: Outcome, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["detect", str(place / "model"), "--haystack", str(place / "set"), "--out", str(tmp_path)]
    command += ["--detectors", "attention-mass,induction", "--limit", "3"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "attention-mass – echo" in said and "Heads that all detectors name" in said
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["written"] is False and found["results"]["samples"] == 3
    assert main(["validate", found["folder"]]) == 0
    assert main([*command[:-4], "--detectors", "copies"]) == 2
    assert "copy, attention-mass, induction" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.real_model
def test_a_real_model_has_induction_heads_and_they_retrieve(tmp_path: Path) -> None:
    build_set(
        Recipe(parse_source("synthetic"), Grid("custom", (512,), (50.0,), needles=2, haystacks=1)), tmp_path / "set"
    )
    found = detect(Request(f"gguf:{find_weights()}", str(tmp_path / "set"), tmp_path / "out"))
    strongest = {score: int(values(found.folder, score).sum(axis=0).argmax()) for score in ("copy", "induction")}
    heads = found.document["results"]["heads"]
    assert heads[strongest["copy"]] == [18, 6] == heads[strongest["induction"]]
    assert values(found.folder, "induction").mean(axis=0).max() > 0.8 * NANO
