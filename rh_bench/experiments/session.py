"""What the sessions of all experiments that run a model share: where they lie, and what is said of a haystack set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rh_bench.experiments.artifact import finished_document, write_experiment
from rh_bench.experiments.document import experiment_folder
from rh_bench.experiments.kind import Tables
from rh_bench.measure.session import Place, R
from rh_bench.records import Json
from rh_bench.sets.find import FoundSet


def experiment_places(root: Path, tables: Callable[[R], Tables]) -> Callable[[Json], Place[R]]:
    """Gives the place of an experiment by its document.

    Args:
        root: the folder of experiments.
        tables: makes the experiment's tables of what was measured.
    """

    def write(folder: Path, document: Json, results: R) -> Json:
        return write_experiment(folder, document, tables(results))

    return lambda document: Place(experiment_folder(root, document), finished_document, write)


def set_data(found: FoundSet) -> Json:
    """The `data` of an experiment on the samples of a set."""
    return {
        "source": found.location,
        "revision": found.commit,
        "sha256": found.haystacks.manifest_sha256,
        "prompts": None,
        "prompts_sha256": None,
    }
