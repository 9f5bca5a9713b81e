"""Experiments on disk, by a kind made up here: writing, reading, recomputing, and everything that can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fake_runs import make_run
from other_package import install, installed

from rh_bench.artifacts.run import read_run
from rh_bench.artifacts.tables import write_table
from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import (
    experiment_folder,
    experiment_folders,
    finished_document,
    is_experiment,
    new_document,
    read_document,
    read_experiment,
    recompute,
    run_reference,
    validate_experiment,
    write_experiment,
)
from rh_bench.experiments.kind import claim
from rh_bench.experiments.registry import kinds
from rh_bench.records import Problem
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json
from rh_bench.verification.checks import check_folder


@pytest.fixture(autouse=True, scope="module")
def coin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A kind made up here, added as another package adds one."""
    site = tmp_path_factory.mktemp("site-packages")
    install(site)
    with installed(site):
        yield


def tosses(*heads: bool) -> dict[str, pa.Table]:
    columns = [pa.array(np.arange(len(heads), dtype=np.int32)), pa.array(heads)]
    return {"tosses": pa.Table.from_arrays(columns, schema=kinds()["coin"].tables["tosses"])}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "runs", layers=2, heads=2, kv_heads=1, n_samples=3)
    model = read_run(run).document["model"]
    document = new_document(kinds()["coin"], model=model, runs=[run_reference(run)], settings={"seed": 3})
    folder = experiment_folder(tmp_path / "experiments", document)
    folder.mkdir(parents=True)
    write_experiment(folder, document, tosses(True, False, True))
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "experiment.json").read_text())
    change(document)
    (folder / "experiment.json").write_bytes(dump_json(document))


def places(folder: Path) -> set[str]:
    return {f"{problem.file}#{problem.pointer}" for problem in validate_experiment(folder)}


def test_an_experiment_is_written_read_and_sound(experiment: Path) -> None:
    assert validate_experiment(experiment) == check_folder(experiment) == []
    read = read_experiment(experiment)
    assert read.document == read_document(experiment)
    assert read.document["counts"] == {"tosses": 3}
    assert read.document["results"]["share"]["value"] == pytest.approx(2 / 3)
    assert read.tables["tosses"].column("heads").to_pylist() == [True, False, True]
    assert list(experiment_folders(experiment.parent.parent)) == [experiment]
    assert list(experiment_folders(experiment / "none")) == []


def test_a_journal_beside_a_finished_experiment_goes(experiment: Path) -> None:
    """A process can die between writing the document and removing its journal."""
    (experiment / "journal.jsonl").write_text("{}\n")
    assert places(experiment) == {"journal.jsonl#"}
    assert finished_document(experiment) == read_document(experiment)
    assert validate_experiment(experiment) == []
    (experiment / "experiment.json").unlink()
    (experiment / "journal.jsonl").write_text("{}\n")
    assert finished_document(experiment) is None and (experiment / "journal.jsonl").exists()


def test_the_id_says_what_it_was_made_with(experiment: Path) -> None:
    document = read_document(experiment)
    coin = kinds()["coin"]
    remade = new_document(coin, **{k: document[k] for k in ("model", "runs", "settings")})
    assert remade["experiment_id"] == document["experiment_id"]
    for field, value in (("settings", {"seed": 4}), ("data", {"source": "x"})):
        other = new_document(
            kinds()["coin"], **{k: document[k] for k in ("model", "runs", "settings")} | {field: value}
        )
        assert other["experiment_id"] != document["experiment_id"]


def test_an_unfinished_one_is_told_from_a_run(experiment: Path) -> None:
    (experiment / "experiment.json").unlink()
    assert is_experiment(experiment)
    assert check_folder(experiment) == [Problem("experiment.json", "", "missing: the experiment is unfinished")]
    with pytest.raises(InputError, match="missing"):
        read_experiment(experiment)
    assert list(experiment_folders(experiment.parent.parent)) == []


def test_numbers_that_the_tables_do_not_give_are_found_and_mended(experiment: Path) -> None:
    before = (experiment / "experiment.json").read_bytes()
    assert recompute(experiment) == []
    edit(experiment, lambda d: (d["results"]["share"].update(value=0.5), d["claims"][0].update(n=9)))
    assert places(experiment) == {"experiment.json#/results", "experiment.json#/claims"}
    assert recompute(experiment) == ["experiment.json"]
    assert (experiment / "experiment.json").read_bytes() == before


def test_the_command_line_validates_and_scores_it(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(experiment)]) == 0
    assert main(["score", str(experiment)]) == 0
    assert "unchanged" in capsys.readouterr().out
    edit(experiment, lambda d: d["results"].update(share=None))
    assert main(["validate", str(experiment)]) == 1
    assert main(["score", str(experiment)]) == 0
    assert main(["validate", str(experiment)]) == 0


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d.update(experiment_id="0" * 16), "experiment.json#/experiment_id"),
        (lambda d: d["settings"].update(seed=5), "experiment.json#/experiment_id"),
        (lambda d: d["model"].update(slug="other"), "experiment.json#/model/slug"),
        (lambda d: d["runs"][0].update(slug="other"), "experiment.json#/runs/0/slug"),
        (lambda d: d["counts"].update(tosses=4), "experiment.json#/counts/tosses"),
        (lambda d: d["counts"].update(more=4), "experiment.json#/counts"),
        (lambda d: d["files"].update({"tosses.parquet": "0" * 64}), "experiment.json#/files/tosses.parquet"),
        (lambda d: d["files"].update({"../x.parquet": "0" * 64}), "experiment.json#/files"),
        (lambda d: d.update(kind="causal"), "experiment.json#/settings"),
        (lambda d: d.update(kind="other"), "experiment.json#/kind"),
        (lambda d: d.update(kind_version=2), "experiment.json#/kind_version"),
        (lambda d: d.update(schema_version="1.9"), "experiment.json#/schema_version"),
        (lambda d: d["model"].pop("layers"), "experiment.json#/model"),
        (lambda d: d["claims"][0].update(verdict="surely"), "experiment.json#/claims/0/verdict"),
        (lambda d: d.update(extra=1), "experiment.json#"),
    ],
)
def test_a_changed_document_is_found(experiment: Path, change: Callable[[Any], object], place: str) -> None:
    edit(experiment, change)
    assert place in places(experiment)


def test_rows_columns_and_files_are_checked(experiment: Path) -> None:
    (experiment / "note.txt").write_text("x")
    assert places(experiment) == {"note.txt#"}
    (experiment / "note.txt").unlink()
    table = tosses(True, False, True)["tosses"]
    for changed, place in (
        (table.take([1, 0, 2]), "tosses.parquet#/0/toss"),
        (table.drop_columns(["heads"]), "tosses.parquet#"),
    ):
        write_table(experiment / "tosses.parquet", changed)
        edit(experiment, lambda d: d["files"].update({"tosses.parquet": sha256_file(experiment / "tosses.parquet")}))
        assert place in places(experiment)
        with pytest.raises(InputError, match="tosses"):
            read_experiment(experiment)


def test_what_is_not_valid_is_not_finished(experiment: Path) -> None:
    document = {key: value for key, value in read_document(experiment).items() if key not in ("results", "claims")}
    before = (experiment / "experiment.json").read_bytes()
    wrong = {"tosses": tosses(True, False)["tosses"].take([1, 0])}
    with pytest.raises(InputError, match="numbered from 0"):
        write_experiment(experiment, document, wrong)
    with pytest.raises(InputError, match="schema_version"):
        write_experiment(experiment, {**document, "schema_version": "7"}, tosses(True))
    assert (experiment / "experiment.json").read_bytes() == before


def test_verdicts_without_evidence_say_why() -> None:
    with pytest.raises(ValueError, match="reason"):
        claim("fair", "x", "not_enough_evidence", test="none", n=0)
