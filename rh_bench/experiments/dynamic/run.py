"""The experiment on a run that is there: no model is needed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from rh_bench.artifacts.run import read_run
from rh_bench.experiments.document import new_document, run_reference
from rh_bench.experiments.dynamic.derive import PARTS, PERMUTATIONS
from rh_bench.experiments.dynamic.kind import KIND
from rh_bench.experiments.dynamic.tables import tables_of
from rh_bench.protocol import BOOTSTRAP
from rh_bench.records import Json


def observe(folder: Path, *, permutations: int = PERMUTATIONS, seed: int = 0) -> tuple[Json, dict[str, pa.Table]]:
    """The experiment on a finished run: document and tables, to be written.

    Raises:
        InputError: the run is unfinished or damaged.
    """
    run = read_run(folder)
    settings = {"permutations": permutations, "seed": seed, "parts": PARTS, "bootstrap": dict(BOOTSTRAP)}
    document = new_document(KIND, model=run.document["model"], runs=[run_reference(folder)], settings=settings)
    return document, tables_of(run)
