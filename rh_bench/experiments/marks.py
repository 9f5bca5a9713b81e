"""By what a run or an experiment is recognised, however its files were written.

See :mod:`rh_bench.artifacts.fingerprint`.
"""

from __future__ import annotations

from pathlib import Path

from rh_bench.artifacts.fingerprint import SKETCH, WEIGHTS, Fingerprint, digest, fingerprint
from rh_bench.artifacts.run import read_run
from rh_bench.experiments.artifact import Experiment, is_experiment, read_experiment
from rh_bench.experiments.registry import kinds
from rh_bench.interchange.folder import is_import


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
    observed = kinds()[experiment.document["kind"]].observed
    hashes = sorted(set(observed.sketch(experiment.tables)))[:SKETCH] if observed is not None else []
    model = experiment.document["model"]
    if not hashes or "files" not in model:
        return None
    files = sorted(file["sha256"] for file in model["files"] if file["path"].endswith(WEIGHTS))
    return Fingerprint(digest(files), tuple(hashes), None)
