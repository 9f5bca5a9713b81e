"""A dynamic experiment made again from its run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rh_bench.experiments.dynamic.derive import PERMUTATIONS
from rh_bench.experiments.dynamic.run import observe
from rh_bench.experiments.from_runs import made_differences, settings_problems
from rh_bench.experiments.kind import Verifying

if TYPE_CHECKING:
    from rh_bench.experiments.artifact import Experiment


def planned(experiment: Experiment, runs: Sequence[Path]) -> Iterator[str]:
    """All of it again, from the run's events."""
    settings = experiment.document["settings"]
    yield from settings_problems(experiment, PERMUTATIONS)
    made = observe(runs[0], permutations=settings["permutations"], seed=settings["seed"])
    yield from made_differences(experiment, *made)


VERIFYING = Verifying(planned)
