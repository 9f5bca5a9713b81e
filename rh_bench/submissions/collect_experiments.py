"""Takes experiments into a results repository: those that are valid, on runs that it holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from rh_bench.artifacts.results_repo import EXPERIMENTS, RUNS, VERIFICATION, verification_path
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import (
    DOCUMENT,
    experiment_folders,
    read_document,
    run_reference,
    validate_against_runs,
    validate_experiment,
)
from rh_bench.experiments.record import read_experiment_record
from rh_bench.records import Json
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json, load_json
from rh_bench.system.workshop import Workshop

_TEXTS = ("model_id", "model_folder", "kind", "experiment_id", "revision", "data", "data_sha256", "dtype")
_RUNS = pa.list_(pa.field("element", pa.string(), nullable=False))
TABLE = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _TEXTS),
        pa.field("run_ids", _RUNS),
        *(pa.field(name, pa.string()) for name in ("started", "verified", "claim", "verdict", "reason")),
        *(pa.field(name, pa.float64()) for name in ("effect", "effect_low", "effect_high", "p_value")),
        pa.field("n", pa.int64()),
    ]
)
"""A row an experiment and claim; an experiment without a claim has one row, whose claim is null."""


def take_experiments(
    source: Path, out: Path, made: Workshop, verification: Path | None = None
) -> tuple[int, list[tuple[str, str]]]:
    """Copy the experiments of one results folder to another, and the records of their verification.

    Args:
        source: the folder of experiments; there may be none.
        out: the results folder, whose runs are there already. Experiments that it holds are kept.
        made: on its file system.
        verification: the folder of records, if there is one.

    Returns:
        How many are new, and those that were not taken with the reason.
    """
    new, left_out = 0, []
    for folder in experiment_folders(source):
        name = f"{folder.parent.name}/{folder.name}"
        target = out / EXPERIMENTS / name
        if not _same(folder, target):
            reason = _reason_against(folder, target, out / RUNS)
            if reason:
                left_out.append((f"{EXPERIMENTS}/{name}", reason))
                continue
            _copy(folder, target, made)
            new += 1
        record = read_experiment_record(verification, folder)
        if record is not None:
            path = out / verification_path(folder.parent.name, folder.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, dump_json(record))
    return new, left_out


def experiment_table(out: Path, level: Callable[[Json | None], str | None]) -> pa.Table:
    """The rows of all experiments of a results folder, by :data:`TABLE`.

    Args:
        level: the highest level that a record says.
    """
    verification = out / VERIFICATION
    rows = [
        row
        for folder in experiment_folders(out / EXPERIMENTS)
        for row in _rows(read_document(folder), level(read_experiment_record(verification, folder)))
    ]
    return pa.Table.from_pylist(rows, schema=TABLE)


def _rows(document: Json, level: str | None) -> Iterator[Json]:
    settings, data = document["settings"], document["data"] or {}
    shared = {
        "model_id": document["model"]["id"],
        "model_folder": document["model"]["slug"],
        "kind": document["kind"],
        "experiment_id": document["experiment_id"],
        "revision": document["model"].get("revision"),
        "data": data.get("source"),
        "data_sha256": data.get("sha256"),
        "dtype": settings["protocol"]["dtype"] if "protocol" in settings else settings.get("dtype"),
        "run_ids": [run["run_id"] for run in document["runs"]],
        "started": (document["timings"] or {}).get("started"),
        "verified": level,
    }
    for claim in document["claims"]:
        effect = claim["effect"] or {}
        yield {
            **shared,
            **{name: claim[name] for name in ("claim", "verdict", "reason", "p_value", "n")},
            "effect": effect.get("value"),
            "effect_low": effect.get("low"),
            "effect_high": effect.get("high"),
        }
    if not document["claims"]:
        yield shared


def _same(folder: Path, target: Path) -> bool:
    """experiment.json holds the hash of every table."""
    return (target / DOCUMENT).is_file() and (target / DOCUMENT).read_bytes() == (folder / DOCUMENT).read_bytes()


def _reason_against(folder: Path, target: Path, runs: Path) -> str | None:
    if target.exists():
        return "the results already have this experiment, with other bytes"
    problems = validate_experiment(folder)
    if not problems:
        document = read_document(folder)
        places = [_held(runs, reference) for reference in document["runs"]]
        if None in places or not (places or _models_run(runs, document["model"])):
            return "a run that it is about is not in the results"
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
