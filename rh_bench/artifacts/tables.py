"""The Parquet tables of a run: their columns, deterministic writing, and reading that trusts nothing.

The bytes written depend on the rows and on the pyarrow version alone (Parquet names its writer in the footer).
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rh_bench.artifacts.parquet_footer import column_values
from rh_bench.errors import InputError
from rh_bench.records import EVENT_FIELDS, Sample, SampleResult, Spelling
from rh_bench.system.faults import is_out_of_memory
from rh_bench.system.files import atomic_write, shown

MAX_ROWS = 50_000_000
MAX_BYTES = 2 << 30
"""Uncompressed bytes that a table may claim in its footer."""
GROUP_BYTES = 64 << 20
"""Of a row group in memory, about. The Hub's viewer reads none above 300,000,000, and whoever streams a table reads a
group at a time."""
_GROUP_ROWS = 1 << 20
_MALLOC = re.compile(r"malloc of size ([0-9]+) failed")
_LARGEST_PIECE = 4 * GROUP_BYTES
"""Bytes of memory that reading takes at once for a table of ours: a column of a row group, decompressed."""


def _column(name: str, kind: pa.DataType, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


_IDS = pa.list_(pa.field("element", pa.int32(), nullable=False))
SAMPLES = pa.schema(
    [
        _column("sample_id", pa.string()),
        _column("needle_id", pa.string()),
        _column("haystack_id", pa.string()),
        _column("length", pa.int32()),
        _column("depth", pa.float64()),
        _column("prompt_sha256", pa.string()),
        _column("insert_at", pa.int32()),
        _column("span_start", pa.int32()),
        _column("span_ids", _IDS),
        _column("answer", pa.string()),
        _column("generated_ids", _IDS),
        _column("text", pa.string()),
        _column("rouge1_recall", pa.float64()),
        _column("success", pa.bool_()),
        _column("seconds", pa.float64()),
    ]
)
SPELLING = pa.schema([_column("span_text", pa.string()), _column("span_ends", _IDS), _column("generated_ends", _IDS)])
"""Columns that samples.parquet has besides, all of them or none: `records.Spelling`."""
THOUGHTS = pa.schema([_column("thought_ids", _IDS)])
"""The column that samples.parquet has besides where a model thought before its answers."""
EVENTS = pa.schema([_column("sample_id", pa.string()), *(_column(name, pa.int16()) for name in EVENT_FIELDS)])
HEADS = pa.schema(
    [
        _column("layer", pa.int16()),
        _column("head", pa.int16()),
        *(
            _column(name, pa.float64(), nullable=True)
            for name in ("score", "score_low", "score_high", "events_score", "events_low", "events_high")
        ),
        *(_column(name, pa.int32(), nullable=True) for name in ("rank", "rank_low", "rank_high")),
        _column("activation_frequency", pa.float64(), nullable=True),
        _column("n", pa.int32()),
    ]
)
SCHEMAS = {"samples.parquet": SAMPLES, "events.parquet": EVENTS, "heads.parquet": HEADS}
OPTIONAL: Mapping[str, tuple[pa.Schema, ...]] = {"samples.parquet": (SPELLING, THOUGHTS)}
"""Columns that may follow those of SCHEMAS, in this order; of each group all or none."""


def table_bytes(table: pa.Table) -> bytes:
    """A table as Parquet: fixed compression and row groups, no time, no writer's metadata of ours."""
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(None),
        buffer,
        compression="zstd",
        compression_level=9,
        row_group_size=max(1, min(_GROUP_ROWS, GROUP_BYTES * len(table) // max(table.nbytes, 1))),
        store_schema=False,
    )
    return buffer.getvalue()


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table atomically."""
    atomic_write(path, table_bytes(table))


def read_table(
    path: Path,
    schema: pa.Schema,
    optional: Sequence[pa.Schema] = (),
    *,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
) -> pa.Table:
    """Read a table that has exactly the columns of `schema`, and after them those of any groups of `optional`.

    What the footer claims is checked against the limits before any data is read, and what strings become in memory
    before they are written out: a few bytes on disk can repeat a long string many times.

    Raises:
        InputError: the file is missing, damaged or too large, or its columns differ; names file and column.
        MemoryError, OSError: this machine has too little memory to say.
    """
    if not path.is_file() or path.is_symlink():
        raise InputError("missing", where=path)
    try:
        with pq.ParquetFile(path) as file:
            _check_footer(path, file.metadata, max_rows, max_bytes)
            for group in optional:
                if not set(group.names).isdisjoint(file.schema_arrow.names):
                    schema = pa.schema([*schema, *group])
            _check_columns(path, file.schema_arrow, schema)
        strings = [field.name for field in schema if pa.types.is_string(field.type)]
        with pq.ParquetFile(path, read_dictionary=strings) as file:
            table = file.read(use_threads=False)  # a thread takes memory that a limit can refuse
        _check_values(path, table, strings, max_bytes)
        table = table.cast(schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if is_out_of_memory(error) and not _asks_for_much(error):
            raise  # this machine's fault: a sound file must not be called damaged
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"not a readable Parquet file ({shown(first[:160])})", where=path) from None
    return table


def _asks_for_much(error: BaseException) -> bool:
    """Whether memory was wanted for something that no sound table holds in one piece, as a forged page asks for it."""
    asked = _MALLOC.search(str(error))
    return asked is not None and int(asked[1]) > _LARGEST_PIECE


def _check_footer(path: Path, footer: pq.FileMetaData, max_rows: int, max_bytes: int) -> None:
    if footer.num_rows > max_rows:
        raise InputError(f"it claims {footer.num_rows} rows, at most {max_rows} are read", where=path)
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    if size > max_bytes:
        raise InputError(f"it claims {size} bytes uncompressed, at most {max_bytes} are read", where=path)
    values = max(column_values(path), default=0)
    if values > max_bytes // 4:
        raise InputError(f"it claims {values} values in a column, at most {max_bytes // 4} are read", where=path)


def _check_columns(path: Path, found: pa.Schema, wanted: pa.Schema) -> None:
    missing = [name for name in wanted.names if name not in found.names]
    extra = [name for name in found.names if name not in wanted.names]
    if missing:
        raise InputError(f"column {missing[0]!r} is missing", where=path)
    if extra:
        raise InputError(f"column {extra[0][:80]!r} is unknown", where=path)
    if found.names != wanted.names:
        raise InputError(f"the columns must be {', '.join(wanted.names)}, once each, in this order", where=path)
    for field in wanted:
        kind = found.field(field.name).type
        same_list = pa.types.is_list(kind) and pa.types.is_list(field.type) and kind.value_type == field.type.value_type
        if kind != field.type and not same_list:
            raise InputError(f"column {field.name!r} is {str(kind)[:80]}, expected {field.type}", where=path)


def _check_values(path: Path, table: pa.Table, strings: Sequence[str], max_bytes: int) -> None:
    """Nothing is null that must not be, and strings fit in memory."""
    for field in table.schema:
        column = table.column(field.name)
        if pa.types.is_list(field.type) and pc.list_flatten(column).null_count:
            raise InputError(f"column {field.name!r} has a list with a null in it", where=path)
    for name in strings:
        chunks = table.column(name).chunks
        size = sum(pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0 for chunk in chunks)
        if size > max_bytes:
            raise InputError(f"column {name!r} has {size} bytes of text, at most {max_bytes} are read", where=path)


def samples_to_table(results: Sequence[SampleResult]) -> pa.Table:
    """samples.parquet, one row per sample in the order given. It has the columns of SPELLING, and that of
    THOUGHTS, if all results have them."""
    rows = [
        {
            "sample_id": r.sample.sample_id,
            "needle_id": r.sample.needle_id,
            "haystack_id": r.sample.haystack_id,
            "length": r.sample.length,
            "depth": r.sample.depth,
            "prompt_sha256": r.prompt_sha256,
            "insert_at": r.insert_at,
            "span_start": r.span_start,
            "span_ids": list(r.span_ids),
            "answer": r.answer,
            "generated_ids": list(r.generated_ids),
            "text": r.text,
            "rouge1_recall": r.rouge1_recall,
            "success": r.success,
            "seconds": r.seconds,
        }
        for r in results
    ]
    table = pa.Table.from_pylist(rows, schema=SAMPLES)
    spelt = [r.spelling for r in results if r.spelling is not None]
    if spelt and len(spelt) == len(results):
        for field in SPELLING:
            values = pa.array([getattr(spelling, field.name) for spelling in spelt], type=field.type)
            table = table.append_column(field, values)
    thoughts = [list(r.thought_ids) for r in results if r.thought_ids is not None]
    if thoughts and len(thoughts) == len(results):
        table = table.append_column(THOUGHTS.field(0), pa.array(thoughts, type=_IDS))
    return table


def events_to_table(results: Sequence[SampleResult]) -> pa.Table:
    """events.parquet, sorted by sample (in the order given), step, layer, head."""
    counts = [len(r.events) for r in results]
    ids = np.repeat(np.asarray([r.sample.sample_id for r in results], dtype=object), counts)
    events = np.concatenate([r.events for r in results]) if results else np.empty((0, 4), dtype=np.int32)
    columns = [pa.array(ids, type=pa.string())]
    columns += [pa.array(events[:, i].astype(np.int16)) for i in range(len(EVENT_FIELDS))]
    return pa.Table.from_arrays(columns, schema=EVENTS)


def heads_to_table(columns: Mapping[str, Any]) -> pa.Table:
    """heads.parquet from the columns that :func:`rh_bench.scores.heads.heads_columns` gives."""
    arrays = [pa.array(list(columns[field.name]), type=field.type) for field in HEADS]
    return pa.Table.from_arrays(arrays, schema=HEADS)


def results_from_tables(samples: pa.Table, events: pa.Table) -> list[SampleResult]:
    """The results that :func:`samples_to_table` and :func:`events_to_table` wrote.

    Raises:
        InputError: an event names a sample that is not there.
    """
    names = events.column("sample_id").to_pylist()
    order = {name: place for place, name in enumerate(samples.column("sample_id").to_pylist())}
    unknown = next((name for name in names if name not in order), None)
    if unknown is not None:
        raise InputError(f"an event names sample {unknown!r}, which is not in samples.parquet", where="events.parquet")
    places = np.asarray([order[name] for name in names], dtype=np.int64)
    values = np.stack([events.column(name).to_numpy() for name in EVENT_FIELDS], axis=1).astype(np.int32)
    values, places = values.reshape(-1, 4), places.reshape(-1)
    grouped = np.lexsort((values[:, 1], values[:, 0], values[:, 2], places))
    bounds = np.searchsorted(places[grouped], np.arange(len(order) + 1))
    spelt = SPELLING.names[0] in samples.column_names
    return [
        SampleResult(
            sample=Sample(row["sample_id"], row["needle_id"], row["haystack_id"], row["length"], row["depth"]),
            prompt_sha256=row["prompt_sha256"],
            insert_at=row["insert_at"],
            span_start=row["span_start"],
            span_ids=tuple(row["span_ids"]),
            answer=row["answer"],
            generated_ids=tuple(row["generated_ids"]),
            text=row["text"],
            rouge1_recall=row["rouge1_recall"],
            success=row["success"],
            seconds=row["seconds"],
            events=values[grouped[bounds[place] : bounds[place + 1]]],
            spelling=_spelling(row) if spelt else None,
            thought_ids=tuple(row["thought_ids"]) if "thought_ids" in row else None,
        )
        for place, row in enumerate(samples.to_pylist())
    ]


def _spelling(row: Mapping[str, Any]) -> Spelling:
    return Spelling(row["span_text"], tuple(row["span_ends"]), tuple(row["generated_ends"]))
