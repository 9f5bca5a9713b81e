"""experiment.json as far as it is known before anything is observed: what an experiment is made with, and its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from rh_bench.experiments.kind import Kind
from rh_bench.interchange.folder import DOCUMENT as IMPORT_DOCUMENT
from rh_bench.interchange.folder import is_import
from rh_bench.records import Json
from rh_bench.system.files import regular_file, sha256_file

SCHEMA_VERSION, MEMORY_VERSION = "1.1", "1.2"
"""Of most experiments, and of those of a model in memory or with other people's detectors, which 1.1 does not know."""


def experiment_id(kind: Kind, model: Json, runs: Sequence[Json], data: Json | None, settings: Json) -> str:
    """16 hexadecimal digits over everything that decides the observations: the same inputs give the same id."""
    identity = {
        "kind": [kind.name, kind.version],
        "revision": model.get("revision"),
        "runs": [run["run_id"] for run in runs],
        "data": data,
        "settings": settings,
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_reference(folder: Path) -> Json:
    """What an experiment records of a run, or an import, that heads come from."""
    imported = is_import(folder)
    real = folder.resolve()
    return {
        "slug": real.parent.name,
        "run_id": real.name,
        "run_sha256": sha256_file(regular_file(real, IMPORT_DOCUMENT if imported else "run.json")),
        "origin": "imported" if imported else "measured",
    }


def new_document(
    kind: Kind,
    *,
    model: Json,
    runs: Sequence[Json],
    settings: Json,
    data: Json | None = None,
    engine: Json | None = None,
    environment: Json | None = None,
) -> Json:
    """experiment.json as far as it is known before anything is observed.

    Args:
        model: as in run.json.
        runs: see :func:`run_reference`; the first is a run of `model`.
        settings: everything that decides the observations.
        data: the task's data.
        engine, environment: of the model that ran; None if none did.
    """
    return {
        "schema": "rh_bench/experiment",
        "schema_version": _schema_version(model, settings),
        "kind": kind.name,
        "kind_version": kind.version,
        "experiment_id": experiment_id(kind, model, runs, data, settings),
        "model": model,
        "runs": list(runs),
        "data": data,
        "settings": settings,
        "engine": engine,
        "environment": environment,
        "timings": None,
    }


def _schema_version(model: Json, settings: Json) -> str:
    foreign = any("foreign" in detector for detector in settings.get("detectors", ()))
    return MEMORY_VERSION if foreign or "memory" in model else SCHEMA_VERSION


def experiment_folder(root: Path, document: Json) -> Path:
    """Where an experiment lies below `root`, the folder of experiments."""
    slug: str = document["model"]["slug"]
    return root / slug / f"{document['kind']}-{document['experiment_id']}"
