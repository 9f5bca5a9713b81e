"""The tables of a dynamic experiment, and how they follow from a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from rh_bench.artifacts.run import Run, read_run
from rh_bench.experiments.kind import Tables, column
from rh_bench.records import Json, Problem
from rh_bench.scores.heads import in_order

CONTEXTS = pa.schema(
    [
        column("context", pa.int32()),
        column("sample_id", pa.string()),
        column("needle", pa.string()),
        column("haystack", pa.string()),
        column("length", pa.int32()),
        column("depth", pa.float64()),
        column("span_length", pa.int16()),
    ]
)


COPIES = pa.schema(
    [
        column("context", pa.int32()),
        column("layer", pa.int16()),
        column("head", pa.int16()),
        column("span_offset", pa.int16()),
    ]
)


def tables_of(run: Run) -> dict[str, pa.Table]:
    """contexts and copies of a run: its counted samples, and the distinct positions that each head copied in each."""
    counted = [result for result in in_order(run.results) if result.success]
    rows = [
        {
            "context": place,
            "sample_id": result.sample.sample_id,
            "needle": result.sample.needle_id,
            "haystack": result.sample.haystack_id,
            "length": result.sample.length,
            "depth": result.sample.depth,
            "span_length": len(result.span_ids),
        }
        for place, result in enumerate(counted)
    ]
    copies = [np.empty((0, 4), dtype=np.int64)]
    for place, result in enumerate(counted):
        distinct = np.unique(result.events[:, [0, 1, 3]].astype(np.int64), axis=0)
        copies.append(np.insert(distinct, 0, place, axis=1))
    columns = np.concatenate(copies)
    arrays = [pa.array(columns[:, i], type=field.type, safe=True) for i, field in enumerate(COPIES)]
    return {
        "contexts": pa.Table.from_pylist(rows, schema=CONTEXTS),
        "copies": pa.Table.from_arrays(arrays, schema=COPIES),
    }


def against_runs(document: Json, tables: Tables, runs: Sequence[Path | None]) -> Iterator[Problem]:
    """The tables must be what the run's events give."""
    if runs[0] is not None:
        wanted = tables_of(read_run(runs[0]))
        for name, table in tables.items():
            if not table.equals(wanted[name]):
                yield Problem(f"{name}.parquet", "", "is not what the run's events give")
