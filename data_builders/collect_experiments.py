"""Takes experiments into a results repository: those that are valid, on runs that it holds."""

from __future__ import annotations

import shutil
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.experiments.artifact import (
    DOCUMENT,
    experiment_folders,
    read_document,
    run_reference,
    validate_against_runs,
    validate_experiment,
)
from rh_bench.records import Json
from rh_bench.results import EXPERIMENTS, RUNS
from rh_bench.schema import load_json
from rh_bench.workshop import Workshop


def take_experiments(source: Path, out: Path, made: Workshop) -> tuple[int, list[tuple[str, str]]]:
    """Copy the experiments of one results folder to another.

    Args:
        source: the folder of experiments; there may be none.
        out: the results folder, whose runs are there already. Experiments that it holds are kept.
        made: on its file system.

    Returns:
        How many are new, and those that were not taken with the reason.
    """
    new, left_out = 0, []
    for folder in experiment_folders(source):
        name = f"{folder.parent.name}/{folder.name}"
        target = out / EXPERIMENTS / name
        if _same(folder, target):
            continue
        reason = _reason_against(folder, target, out / RUNS)
        if reason:
            left_out.append((f"{EXPERIMENTS}/{name}", reason))
            continue
        _copy(folder, target, made)
        new += 1
    return new, left_out


def _same(folder: Path, target: Path) -> bool:
    """experiment.json holds the hash of every table."""
    return (target / DOCUMENT).is_file() and (target / DOCUMENT).read_bytes() == (folder / DOCUMENT).read_bytes()


def _reason_against(folder: Path, target: Path, runs: Path) -> str | None:
    if target.exists():
        return "the results hold this experiment already, with other bytes"
    problems = validate_experiment(folder)
    if not problems:
        document = read_document(folder)
        places = [_held(runs, reference) for reference in document["runs"]]
        if None in places or not (places or _models_run(runs, document["model"])):
            return "a run that it is about is not among the results"
        try:
            problems = validate_against_runs(folder, places)
        except InputError as error:
            return str(error)
    first = problems[0] if problems else None
    return f"{first.file}{first.pointer}: {first.message}" if first else None


def _held(runs: Path, reference: Json) -> Path | None:
    """Where a run lies among the results, if it is there with the very bytes that were meant."""
    folder = runs / reference["slug"] / reference["run_id"]
    return folder if (folder / "run.json").is_file() and run_reference(folder) == reference else None


def _models_run(runs: Path, model: Json) -> bool:
    """Whether there is a run of the very model that an experiment without runs is about."""
    documents = sorted((runs / model["slug"]).glob("[!.]*/run.json"))
    return any(load_json(path)["model"]["revision"] == model["revision"] for path in documents)


def _copy(folder: Path, target: Path, made: Workshop) -> None:
    """As plain files, there as a whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    names = [DOCUMENT, *read_document(folder)["files"]]
    fresh = made.fresh()
    for name in names:
        shutil.copyfile(folder / name, fresh / name)
    fresh.rename(target)
