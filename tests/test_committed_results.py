"""The results that the repository holds are valid, and recompute from their raw observations."""

from __future__ import annotations

from pathlib import Path

import pytest

from rh_bench.experiments.artifact import read_document
from rh_bench.experiments.schemas import experiment_schema
from rh_bench.system.schema import load_json, validate_document
from rh_bench.verification.checks import check_folder

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
FOLDERS = sorted((RESULTS / "models").glob("*/*/*"))


def test_there_are_some_of_every_kind() -> None:
    kinds = {read_document(folder)["kind"] for folder in FOLDERS if (folder / "experiment.json").is_file()}
    assert kinds == {"causal", "detectors", "dynamic", "extractive_qa", "intrinsic"}
    assert sum((folder / "run.json").is_file() for folder in FOLDERS) == 5


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_each_is_valid(folder: Path) -> None:
    assert check_folder(folder) == []


def test_the_document_that_came_without_its_tables_fits_its_schema() -> None:
    document = load_json(RESULTS / "h100-qwen2.5-coder-1.5b-gsm8k.json")
    assert validate_document(document, "experiment", schema=experiment_schema()) == []
    assert document["kind"] == "chain_of_thought"
