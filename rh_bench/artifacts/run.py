"""Runs on disk: where they lie and what they are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rh_bench.artifacts.tables import (
    EVENTS,
    OPTIONAL,
    SAMPLES,
    events_to_table,
    heads_to_table,
    read_table,
    results_from_tables,
    samples_to_table,
    table_bytes,
)
from rh_bench.errors import InputError
from rh_bench.records import Json, Layer, SampleResult, head_grid
from rh_bench.scores.heads import heads_columns, score
from rh_bench.scores.summary import summarise
from rh_bench.system.files import atomic_write, sha256_file
from rh_bench.system.schema import dump_json, load_json, validate_document
from rh_bench.system.slugs import model_slug as model_slug

MEASURED, IN_MEMORY = "measured", "in-memory"
ORIGINS = (MEASURED, IN_MEMORY)
"""Of runs: of a model that was loaded from its files, and of one that its user held in memory."""
RUN_FILES = ("samples.parquet", "events.parquet", "heads.parquet", "summary.json")


def run_folder(root: Path, slug: str, run_id: str) -> Path:
    return root / slug / run_id


def compute_run_id(
    *, model_revision: str, manifest_sha256: str, protocol: Json, engine_name: str, engine_version: int
) -> str:
    """16 hexadecimal digits over everything that decides the events: the same inputs give the same id."""
    identity = {
        "model_revision": model_revision,
        "manifest_sha256": manifest_sha256,
        "protocol": protocol,
        "engine": [engine_name, engine_version],
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def memory_revision(memory: Json) -> str | None:
    """The revision of a model that was measured in memory; None if its weights were not hashed, so that it is any.

    Args:
        memory: the `memory` object of its run.
    """
    if memory["weights_sha256"] is None:
        return None
    lines = "".join(f"{memory[name]}\n" for name in ("weights_sha256", "config_sha256", "tokenizer_sha256"))
    return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """A finished run as read from disk."""

    folder: Path
    document: Json
    layers: tuple[Layer, ...]
    results: tuple[SampleResult, ...]


@dataclass(frozen=True)
class MadeRun:
    """A finished run that may lie nowhere yet."""

    document: Json
    """run.json."""
    layers: tuple[Layer, ...]
    results: tuple[SampleResult, ...]
    files: Mapping[str, bytes]
    """The other files by name, in the order in which they are written."""


def make_run(document: Json, layers: Sequence[Layer], results: Sequence[SampleResult]) -> MadeRun:
    """A finished run, not written.

    Args:
        document: run.json without `counts` and `files`.
    """
    files = {
        "samples.parquet": table_bytes(samples_to_table(results)),
        "events.parquet": table_bytes(events_to_table(results)),
        **derive_outputs(document, layers, results),
    }
    counted = sum(r.success for r in results)
    counts = {
        "samples": len(results),
        "counted": counted,
        "failed": len(results) - counted,
        "events": sum(len(r.events) for r in results),
        "heads": len(head_grid(tuple(layers))),
    }
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in RUN_FILES}
    return MadeRun({**document, "counts": counts, "files": digests}, tuple(layers), tuple(results), files)


def write_run(folder: Path, document: Json, layers: Sequence[Layer], results: Sequence[SampleResult]) -> Json:
    """Write a finished run; run.json comes last.

    Args:
        document: run.json without `counts` and `files`.

    Returns:
        The complete run.json document.
    """
    made = make_run(document, layers, results)
    write_made(folder, made)
    return made.document


def write_made(folder: Path, made: MadeRun) -> None:
    """Write a run; run.json comes last."""
    for name, data in made.files.items():
        atomic_write(folder / name, data)
    atomic_write(folder / "run.json", dump_json(made.document))


def derive_outputs(document: Json, layers: Sequence[Layer], results: Sequence[SampleResult]) -> dict[str, bytes]:
    """heads.parquet and summary.json as the events give them: the same events give the same bytes."""
    bootstrap = document["protocol"]["bootstrap"]
    scores = score(layers, results, **bootstrap)
    summary = summarise(document["run_id"], layers, results, scores)
    return {
        "heads.parquet": table_bytes(heads_to_table(heads_columns(scores))),
        "summary.json": dump_json(summary),
    }


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        InputError: it is unfinished or damaged; names the file.
    """
    if not (folder / "run.json").is_file():
        raise InputError("there is no run.json", where=folder, hint="give the folder of a finished run")
    document = load_json(folder / "run.json")
    problems = validate_document(document, "run")
    if problems:
        pointer, message = problems[0]
        raise InputError(message, where=f"{folder / 'run.json'}#{pointer}")
    layers = tuple(Layer(**layer) for layer in document["model"]["layers"])
    results = results_from_tables(
        read_table(folder / "samples.parquet", SAMPLES, OPTIONAL["samples.parquet"]),
        read_table(folder / "events.parquet", EVENTS),
    )
    return Run(folder, document, layers, tuple(results))


def rescore(folder: Path) -> list[str]:
    """Recompute heads.parquet and summary.json from the events; rewrite what differs, and run.json's hashes with it.

    Returns:
        The names of the files that changed: none for an untouched run.
    """
    run = read_run(folder)
    changed = []
    for name, data in derive_outputs(run.document, run.layers, run.results).items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            atomic_write(path, data)
            changed.append(name)
    files = {name: sha256_file(folder / name) for name in RUN_FILES}
    if files != run.document["files"]:
        atomic_write(folder / "run.json", dump_json({**run.document, "files": files}))
        changed.append("run.json")
    return changed
