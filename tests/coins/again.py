"""How the experiment is made again: coins are tossed by the seed 3 alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rh_bench.experiments.artifact import Experiment
from rh_bench.experiments.kind import Verifying


def planned(experiment: Experiment, runs: Sequence[Path]) -> Iterator[str]:
    seed = experiment.document["settings"]["seed"]
    if seed != 3:
        yield f"settings/seed is {seed}; for all coins it is 3"


VERIFYING = Verifying(planned)
