"""The tables of a comparison, and how they follow from two runs or imports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rh_bench.artifacts.run import read_run
from rh_bench.errors import InputError
from rh_bench.experiments.document import run_reference
from rh_bench.experiments.kind import Tables, column
from rh_bench.interchange.folder import DOCUMENT as IMPORT_DOCUMENT
from rh_bench.interchange.folder import is_import, read_import
from rh_bench.interchange.records import COMPARED, MEASURES
from rh_bench.interchange.records import Measure as Numbers
from rh_bench.records import Json, Problem, head_grid
from rh_bench.scores.heads import in_order, sample_scores
from rh_bench.stats.bootstrap import (
    NANO,
    FloatArray,
    mean,
)
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json

SIDES = ("first", "second")
HEADS = pa.schema(
    [
        column("layer", pa.int16()),
        column("head", pa.int16()),
        column("first", pa.float64()),
        column("second", pa.float64()),
    ]
)


SAMPLES = pa.schema(
    [
        column("side", pa.int8()),
        column("sample", pa.int32()),
        column("needle", pa.string(), nullable=True),
        column("length", pa.int32(), nullable=True),
        column("depth", pa.float64(), nullable=True),
    ]
)


SCORES = pa.schema(
    [
        column("side", pa.int8()),
        column("sample", pa.int32()),
        column("place", pa.int32()),
        column("score", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two: a run's counted samples, or an import's."""

    reference: Json
    model: Json
    """As in run.json; of an import, id and slug."""
    heads: tuple[tuple[int, int], ...]
    """Sorted by layer, head."""
    scores: FloatArray | None
    """float64 [n, H], one row per sample; None if an import has none of single samples."""
    values: FloatArray
    """float64 [H]: scores of the heads, rounded to 9 decimals."""
    labels: Mapping[str, Sequence[str | float]]
    """needle, length and depth of each sample; empty for an import."""
    numbers: Numbers = "score"
    """What the scores are; a run's are always copy scores."""

    @property
    def n(self) -> int:
        return 0 if self.scores is None else len(self.scores)


def read_side(folder: Path) -> Side:
    """A run's or an import's scores.

    Raises:
        InputError: see :func:`observe`.
    """
    return _imported_side(folder) if is_import(folder) else _measured_side(folder)


def _measured_side(folder: Path) -> Side:
    run = read_run(folder)
    counted = [result for result in in_order(run.results) if result.success]
    if not counted:
        raise InputError("no sample of this run counted, so no head has a score", where=shown(folder))
    scores, _ = sample_scores(run.layers, counted)
    labels: dict[str, list[str | float]] = {
        "needle": [result.sample.needle_id for result in counted],
        "length": [result.sample.length for result in counted],
        "depth": [result.sample.depth for result in counted],
    }
    heads = tuple(head_grid(list(run.layers)))
    return Side(run_reference(folder), run.document["model"], heads, scores, mean(scores) / NANO, labels)


def _imported_side(folder: Path) -> Side:
    heads = read_import(folder)
    if heads.unit != "query" or heads.values is None:
        raise InputError("has no scores of query heads to compare", where=shown(folder))
    if heads.measure not in COMPARED:
        raise InputError(
            f"its numbers are {MEASURES[heads.measure]}, which are compared with nothing",
            where=shown(folder),
            hint="give a run, or an import of retrieval scores",
        )
    if heads.model is None:
        hint = "import it again with --model"
        raise InputError("nobody said which model this is", where=shown(folder), hint=hint)
    if heads.layers is None or any(math.isnan(value) for value in heads.values):
        raise InputError("some heads have no score", where=shown(folder))
    named = load_json(folder / IMPORT_DOCUMENT)["model"]
    model = {"id": named["id"], "slug": named["slug"]}
    if heads.instances is None or heads.samples is None or heads.samples == 0:
        values = np.round(np.array(heads.values), 9) + 0.0
        return Side(run_reference(folder), model, heads.heads, None, values, {}, heads.measure)
    scores = np.array(heads.instances, dtype=np.float64).T
    return Side(run_reference(folder), model, heads.heads, scores, mean(scores) / NANO, {}, heads.measure)


def tables_of(sides: tuple[Side, Side]) -> dict[str, pa.Table]:
    layer, head = (np.array(part) for part in zip(*sides[0].heads, strict=True))
    values = [pa.array(x, type=f.type) for x, f in zip((layer, head, *(s.values for s in sides)), HEADS, strict=True)]
    samples: list[Json] = []
    scores = [np.empty((4, 0))]
    for number, side in enumerate(sides):
        unlabelled: dict[str, Sequence[Any]] = dict.fromkeys(("needle", "length", "depth"), [None] * side.n)
        labels = side.labels or unlabelled
        rows = zip(labels["needle"], labels["length"], labels["depth"], strict=True)
        samples += [
            {"side": number, "sample": place, "needle": needle, "length": length, "depth": depth}
            for place, (needle, length, depth) in enumerate(rows)
        ]
        if side.scores is not None:
            sample, place = np.nonzero(side.scores)
            scores.append(np.stack([np.full(len(sample), number), sample, place, side.scores[sample, place]]))
    columns = np.concatenate(scores, axis=1)
    arrays = [pa.array(columns[i].astype(f.type.to_pandas_dtype()), type=f.type) for i, f in enumerate(SCORES)]
    return {
        "heads": pa.Table.from_arrays(values, schema=HEADS),
        "samples": pa.Table.from_pylist(samples, schema=SAMPLES),
        "scores": pa.Table.from_arrays(arrays, schema=SCORES),
    }


def side_scores(tables: Tables, side: int) -> FloatArray:
    """float64 [n, H]; n is 0 where a side has no single samples."""
    own = tables["samples"].column("side").to_numpy() == side
    scores = np.zeros((int(own.sum()), len(tables["heads"])))
    columns = {name: tables["scores"].column(name).to_numpy() for name in SCORES.names}
    mine = columns["side"] == side
    scores[columns["sample"][mine], columns["place"][mine]] = columns["score"][mine]
    return scores


def against_runs(document: Json, tables: Tables, runs: Sequence[Path | None]) -> Iterator[Problem]:
    """Each side must be what its run, or its import, gives."""
    for place, (name, folder) in enumerate(zip(SIDES, runs, strict=True)):
        if folder is None:
            continue
        side = read_side(folder)
        if list(side.heads) != list(
            zip(*(tables["heads"].column(c).to_pylist() for c in HEADS.names[:2]), strict=True)
        ):
            yield Problem("heads.parquet", "", f"its heads are not those of {shown(side.model['id'])}")
            continue
        scores = side_scores(tables, place)
        given = np.zeros((0, len(side.heads))) if side.scores is None else side.scores
        same_values = np.array_equal(tables["heads"].column(name).to_numpy(), side.values)
        if not same_values or not np.array_equal(scores, given):
            yield Problem("scores.parquet", "", f"is not what the run of {shown(side.model['id'])} gives")
