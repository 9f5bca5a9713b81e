"""A comparison of two models made again from their runs or imports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rh_bench.experiments.from_runs import made_differences, settings_problems
from rh_bench.experiments.intrinsic.plan import PERMUTATIONS
from rh_bench.experiments.intrinsic.run import observe
from rh_bench.experiments.kind import Verifying
from rh_bench.records import Json

if TYPE_CHECKING:
    from rh_bench.experiments.artifact import Experiment


def planned(experiment: Experiment, runs: Sequence[Path]) -> Iterator[str]:
    """All of it again, from the scores of both runs or imports."""
    settings = experiment.document["settings"]
    yield from settings_problems(experiment, PERMUTATIONS)
    relation = settings["relation"] if settings["relation_by"] == "user" else None
    again = {"permutations": settings["permutations"], "seed": settings["seed"]}
    yield from made_differences(experiment, *observe(runs[0], runs[1], relation=relation, **again))


def notes(document: Json) -> Iterator[str]:
    """Nobody can compute whether one model was made from another."""
    if document["settings"]["relation_by"] == "user":
        yield f"that the models are {document['settings']['relation']} is said by its maker"
    imported = [f"{run['slug']}/{run['run_id']}" for run in document["runs"] if run["origin"] == "imported"]
    if imported:
        yield f"scores imported from elsewhere, which nobody can compute again: {', '.join(imported)}"


VERIFYING = Verifying(planned, notes=notes)
