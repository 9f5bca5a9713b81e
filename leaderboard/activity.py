"""What each head copied in each sample of a run, read from its tables in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rh_bench.artifacts.tables import SPELLING
from rh_bench.leaderboard.collect import Entry
from rh_bench.records import IntArray, Json, Layer, head_grid
from rh_bench.scores.events import head_places
from rh_bench.stats.bootstrap import FloatArray

MOST_CELLS = 1 << 24
"""Samples × heads beyond which a run is not laid out in memory."""
_BLOCK = 1 << 24


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One sample, as far as pages show it."""

    sample_id: str
    needle_id: str
    length: int
    depth: float
    success: bool
    span: int
    """Tokens of the answer."""
    steps: int
    """Tokens that were generated."""
    answer: str
    text: str


@dataclass(frozen=True, slots=True)
class Pieces:
    """The text that each token adds."""

    span: tuple[str, ...]
    generated: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Activity:
    """The copy events of a run. Samples are in the order of `scores.heads.in_order`, heads in that of `head_grid`."""

    samples: tuple[SampleRow, ...]
    heads: tuple[tuple[int, int], ...]
    """(layer, query head)."""
    copied: npt.NDArray[np.uint16] = field(repr=False)
    """uint16 [samples, heads]: distinct answer tokens that the head copied."""
    events: IntArray = field(repr=False)
    """int32 [E, 4]: sample, head (places in the two tuples above), step, span offset; sorted by sample, then step."""
    spelling: pa.Table | None = field(default=None, repr=False)
    """`tables.SPELLING` of the samples; None for a run that does not say what its tokens spell."""

    @cached_property
    def counted(self) -> npt.NDArray[np.bool_]:
        """bool [samples]."""
        return np.array([sample.success for sample in self.samples], dtype=np.bool_)

    @cached_property
    def shares(self) -> FloatArray:
        """float64 [counted samples, heads]: score of each head on each counted sample, rule `paper`."""
        spans = np.array([sample.span for sample in self.samples], dtype=np.float64)
        chosen = np.flatnonzero(self.counted)
        return self.copied[chosen] / spans[chosen, None]

    def pieces_of(self, sample: int) -> Pieces | None:
        """What the tokens of a sample spell, by its place."""
        if self.spelling is None:
            return None
        row = {name: self.spelling.column(name)[sample].as_py() for name in SPELLING.names}
        return Pieces(_cut(row["span_text"], row["span_ends"]), _cut(self.samples[sample].text, row["generated_ends"]))

    def of(self, sample: int, head: int) -> IntArray:
        """int32 [E, 2]: step and span offset of the events of one head in one sample."""
        rows = self.events[self._starts[sample] : self._starts[sample + 1]]
        return rows[rows[:, 1] == head, 2:]

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """int64 [samples + 1]: where the events of each sample begin."""
        counts = np.bincount(self.events[:, 0], minlength=len(self.samples))
        return np.concatenate([[0], np.cumsum(counts)])


def activity_of(entry: Entry) -> Activity | None:
    """The activity of an entry; None if its tables are not available, or too large."""
    return None if entry.folder is None else read_activity(entry.folder, entry.run["model"]["layers"])


def read_activity(folder: Path, layers: Sequence[Json]) -> Activity | None:
    """The activity of a valid run; None for one of more than `MOST_CELLS` samples × heads.

    Args:
        folder: of a run that the validator has nothing against.
        layers: `model.layers` of its run.json.
    """
    shape = [Layer(**layer) for layer in layers]
    heads = tuple(head_grid(shape))
    rows, order, spelling = _samples(folder / "samples.parquet")
    if len(rows) * max(len(heads), 1) > MOST_CELLS:
        return None
    events = _events(folder / "events.parquet", rows, order, shape)
    return Activity(tuple(rows), heads, _distinct(events, rows, len(heads)), events, spelling)


def _cut(text: str, ends: Sequence[int]) -> tuple[str, ...]:
    """A text in parts that end at `ends`."""
    return tuple(text[first:last] for first, last in pairwise([0, *ends]))


def _samples(path: Path) -> tuple[list[SampleRow], dict[str, int], pa.Table | None]:
    """The rows in order, the place of each sample id among them, and what they spell."""
    names = ("sample_id", "needle_id", "length", "depth", "success", "answer", "text")
    with pq.ParquetFile(path) as file:
        spelt = [name for name in SPELLING.names if name in file.schema_arrow.names]
        table = file.read([*names, "span_ids", "generated_ids", *spelt])
    columns = {name: table.column(name).to_pylist() for name in names}
    columns |= {
        "span": pc.list_value_length(table.column("span_ids")).to_pylist(),
        "steps": pc.list_value_length(table.column("generated_ids")).to_pylist(),
    }
    rows = [SampleRow(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    order = sorted(
        range(len(rows)), key=lambda i: (rows[i].needle_id, rows[i].length, rows[i].depth, rows[i].sample_id)
    )
    rows = [rows[place] for place in order]
    spelling = table.select(spelt).take(pa.array(order, type=pa.int64())).combine_chunks() if spelt else None
    return rows, {row.sample_id: place for place, row in enumerate(rows)}, spelling


def _events(path: Path, rows: Sequence[SampleRow], order: dict[str, int], layers: Sequence[Layer]) -> IntArray:
    table = pq.read_table(path, read_dictionary=["sample_id"]).unify_dictionaries().combine_chunks()
    if not len(table):
        return np.empty((0, 4), dtype=np.int32)
    ids = table.column("sample_id").chunk(0)
    place_of = np.array([order[name] for name in ids.dictionary.to_pylist()], dtype=np.int32)
    layer, head, step, offset = (
        table.column(name).to_numpy().astype(np.int32) for name in ("layer", "head", "step", "span_offset")
    )
    events = np.stack([place_of[ids.indices.to_numpy()], head_places(layers)[layer, head], step, offset], axis=1)
    # A sample's events come together and sorted by step, so whole samples are moved, which a stable sort does.
    return np.ascontiguousarray(events[np.argsort(events[:, 0], kind="stable")])


def _distinct(events: IntArray, rows: Sequence[SampleRow], heads: int) -> npt.NDArray[np.uint16]:
    """Marks every (sample, head, offset) that occurs, a block of samples at a time; sorting the events takes longer."""
    longest = max((row.span for row in rows), default=1)
    cells = heads * longest
    copied = np.zeros((len(rows), heads), dtype=np.uint16)
    block = max(1, _BLOCK // max(cells, 1))
    for first in range(0, len(rows), block):
        last = min(first + block, len(rows))
        part = events[np.searchsorted(events[:, 0], first) : np.searchsorted(events[:, 0], last)]
        marks = np.zeros((last - first) * cells, dtype=np.bool_)
        marks[(part[:, 0].astype(np.int64) - first) * cells + part[:, 1] * longest + part[:, 3]] = True
        counts = np.bincount(np.flatnonzero(marks) // longest, minlength=(last - first) * heads)
        copied[first:last] = counts.reshape(last - first, heads)
    return copied
