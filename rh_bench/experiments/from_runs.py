"""Experiments that follow from runs alone, made again from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rh_bench.experiments.kind import Tables
from rh_bench.records import Json

if TYPE_CHECKING:
    from rh_bench.experiments.artifact import Experiment

_LEFT = ("schema_version", "timings", "engine", "environment")
"""What another version, or nothing, decides."""


def settings_problems(experiment: Experiment, least: int) -> Iterator[str]:
    """More permutations are no choice that helps; fewer, and another seed, are.

    Args:
        least: permutations that are needed.
    """
    settings = experiment.document["settings"]
    if settings["permutations"] < least:
        yield f"settings/permutations is {settings['permutations']}; at least {least} are needed"
    if settings["seed"] != 0:
        yield f"settings/seed is {settings['seed']}; for all experiments it is 0"


def made_differences(experiment: Experiment, document: Json, tables: Tables) -> Iterator[str]:
    """What of an experiment is not as it was made again, in `document` and `tables`."""
    for name, value in document.items():
        claimed = experiment.document[name]
        if name in _LEFT or claimed == value:
            continue
        parts = [key for key in value if claimed.get(key) != value[key]] if isinstance(value, dict) else []
        yield f"its {name}{' (' + ', '.join(parts) + ')' if parts else ''} is not what its runs give"
    for name, table in experiment.tables.items():
        if not table.equals(tables[name]):
            yield f"{name}.parquet is not what its runs give"
