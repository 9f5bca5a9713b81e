"""By what a run or an experiment is recognised, however its files were written.

See :mod:`rh_bench.artifacts.fingerprint`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rh_bench.artifacts.fingerprint import SKETCH, WEIGHTS, Fingerprint, digest, fingerprint
from rh_bench.artifacts.run import read_run
from rh_bench.experiments.artifact import Experiment, is_experiment, read_experiment
from rh_bench.interchange.folder import is_import

_FEWEST_TEXTS = 3
"""Different answers to one prompt that say something: a model that is right under every condition is like any other."""


def mark_of(folder: Path) -> Fingerprint | None:
    """Of a valid run or experiment; None for an import, and for an experiment that measures nothing of its own."""
    if is_import(folder):
        return None
    if is_experiment(folder):
        return experiment_mark(read_experiment(folder))
    run = read_run(folder)
    return fingerprint(run.document, run.results)


def experiment_mark(experiment: Experiment) -> Fingerprint | None:
    """What the model did in each sample or question, without names, order and encoding; seconds are not kept."""
    hashes = sorted(set(_hashes(experiment)))[:SKETCH]
    model = experiment.document["model"]
    if not hashes or "files" not in model:
        return None
    files = sorted(file["sha256"] for file in model["files"] if file["path"].endswith(WEIGHTS))
    return Fingerprint(digest(files), tuple(hashes), None)


def _hashes(experiment: Experiment) -> Iterator[str]:
    kind, tables = experiment.document["kind"], experiment.tables
    if kind == "detectors":
        found: dict[str, list[object]] = {}
        for row in tables["scores"].select(["sample_id", "score", "values"]).to_pylist():
            found.setdefault(row["sample_id"], []).append([row["score"], row["values"]])
        yield from (digest(sorted(rows, key=str))[:16] for rows in found.values())
    elif kind in ("causal", "chain_of_thought", "extractive_qa"):
        name, key = ("answers", "sample_id") if kind == "causal" else ("responses", "item_id")
        said: dict[str, list[str]] = {}
        for row in tables[name].select([key, "text"]).to_pylist():
            said.setdefault(row[key], []).append(row["text"])
        yield from (digest(texts)[:16] for texts in said.values() if len(set(texts)) >= _FEWEST_TEXTS)
