"""Experiments that follow from runs alone, made again from them: `dynamic` and `intrinsic`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rh_bench.experiments.dynamic import derive as dynamic
from rh_bench.experiments.intrinsic import derive as intrinsic
from rh_bench.experiments.kind import Tables, Verifying
from rh_bench.records import Json

if TYPE_CHECKING:
    from rh_bench.experiments.artifact import Experiment

_LEFT = ("schema_version", "timings", "engine", "environment")
"""What another version, or nothing, decides."""


def _plan(experiment: Experiment, least: int) -> Iterator[str]:
    """More permutations are no choice that helps; fewer, and another seed, are."""
    settings = experiment.document["settings"]
    if settings["permutations"] < least:
        yield f"settings/permutations is {settings['permutations']}; at least {least} are needed"
    if settings["seed"] != 0:
        yield f"settings/seed is {settings['seed']}; for all experiments it is 0"


def _differences(experiment: Experiment, document: Json, tables: Tables) -> Iterator[str]:
    for name, value in document.items():
        claimed = experiment.document[name]
        if name in _LEFT or claimed == value:
            continue
        parts = [key for key in value if claimed.get(key) != value[key]] if isinstance(value, dict) else []
        yield f"its {name}{' (' + ', '.join(parts) + ')' if parts else ''} is not what its runs give"
    for name, table in experiment.tables.items():
        if not table.equals(tables[name]):
            yield f"{name}.parquet is not what its runs give"


def dynamic_planned(experiment: Experiment, runs: Sequence[Path]) -> Iterator[str]:
    """All of it again, from the run's events."""
    settings = experiment.document["settings"]
    yield from _plan(experiment, dynamic.PERMUTATIONS)
    made = dynamic.observe(runs[0], permutations=settings["permutations"], seed=settings["seed"])
    yield from _differences(experiment, *made)


def intrinsic_planned(experiment: Experiment, runs: Sequence[Path]) -> Iterator[str]:
    """All of it again, from the scores of both runs or imports."""
    settings = experiment.document["settings"]
    yield from _plan(experiment, intrinsic.PERMUTATIONS)
    relation = settings["relation"] if settings["relation_by"] == "user" else None
    again = {"permutations": settings["permutations"], "seed": settings["seed"]}
    yield from _differences(experiment, *intrinsic.observe(runs[0], runs[1], relation=relation, **again))


def intrinsic_notes(document: Json) -> Iterator[str]:
    """Nobody can compute whether one model was made from another."""
    if document["settings"]["relation_by"] == "user":
        yield f"that the models are {document['settings']['relation']} is said by its maker"
    imported = [f"{run['slug']}/{run['run_id']}" for run in document["runs"] if run["origin"] == "imported"]
    if imported:
        yield f"scores imported from elsewhere, which nobody can compute again: {', '.join(imported)}"


DYNAMIC = Verifying(dynamic_planned)
INTRINSIC = Verifying(intrinsic_planned, notes=intrinsic_notes)
