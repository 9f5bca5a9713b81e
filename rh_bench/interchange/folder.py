"""An import on disk: `<root>/<model>/<import id>/` with `import.json`, `heads.parquet` and, where the file has scores
of single samples, `instances.parquet`. `import.json` is written last; the same file gives the same bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import rh_bench.interchange.audit as auditing
from rh_bench.artifacts.run import model_slug
from rh_bench.artifacts.tables import read_table, table_bytes
from rh_bench.errors import InputError
from rh_bench.interchange.formats import FORMATS, MOST_JSON, READERS
from rh_bench.interchange.measures import measure_of_means, measure_of_samples
from rh_bench.interchange.names import own_name
from rh_bench.interchange.records import LARGEST_SCORE, MEASURES, HeadList, Measure
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Json, Problem
from rh_bench.system.files import atomic_write, make_folder, regular_file, sha256_file, shown
from rh_bench.system.schema import dump_json, load_json, validate_document

DOCUMENT = "import.json"
_NO_INTERVAL = "no interval: samples of a foreign file carry no labels to resample within"


def _column(name: str, kind: pa.DataType, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


HEADS = pa.schema(
    [
        _column("layer", pa.int16()),
        _column("head", pa.int16()),
        _column("value", pa.float64(), nullable=True),
        _column("selected", pa.bool_(), nullable=True),
        _column("place", pa.int32(), nullable=True),
        _column("n", pa.int32()),
    ]
)
"""`place` is a chosen head's position in the file's own list, from 0."""
INSTANCES = pa.schema(
    [
        _column("layer", pa.int16()),
        _column("head", pa.int16()),
        _column("sample", pa.int32()),
        _column("score", pa.float64()),
    ]
)
TABLES = {"heads.parquet": HEADS, "instances.parquet": INSTANCES}


def is_import(folder: Path) -> bool:
    """Whether `folder` holds an import rather than a run or a set."""
    return (folder / DOCUMENT).exists()


def import_file(path: Path, out: Path, *, format: str | None = None, model: str | None = None) -> Path:
    """Read a foreign file and keep it below `out`. Returns the import's folder.

    Args:
        model: the model's name, for files that give none. It goes before the file's own, which a finding then names.

    Raises:
        InputError: the file is of no known format, `model` is no name, or the folder cannot be written.
    """
    audit = auditing.audit_file(path, format)
    source = _main_file(path)
    heads, findings = _as_shown(audit.heads), list(audit.findings)
    name, named_by = heads.model, "file" if heads.model else None
    if model is not None:
        name, named_by = own_name(_checked_name(model), heads.quantisation), "importer"
    if name != heads.model and heads.model is not None:
        said = f"the file names the model {shown(heads.model[:200])}, whoever imported it {shown(str(name)[:200])}"
        findings.append(auditing.Finding("named-otherwise", said))
    digest = sha256_file(source)
    identity = hashlib.sha256(f"{audit.format}\n{name or ''}\n{digest}".encode()).hexdigest()[:16]
    slug = model_slug(name or own_name(source.stem, heads.quantisation))
    tables = {file: table_bytes(table) for file, table in _tables(heads).items()}
    document: Json = {
        "schema": "rh_bench/import",
        "schema_version": "1.1" if audit.format in READERS else "1.2",
        "import_id": identity,
        "origin": "imported",
        "format": audit.format,
        "source": {"name": shown(source.name), "sha256": digest, "bytes": source.stat().st_size},
        "model": {"id": name, "named_by": named_by, "slug": slug, "quantisation": heads.quantisation},
        "unit": heads.unit,
        "measure": heads.measure,
        "every_head": heads.every_head,
        "grid": {"layers": heads.layers, "heads_per_layer": heads.heads_per_layer},
        "counts": {
            "heads": len(heads.heads),
            "selected": None if heads.selected is None else len(heads.selected),
            "samples": heads.samples,
        },
        "sparsity": _sparsity(heads),
        "findings": [{"code": finding.code, "message": finding.message} for finding in findings],
        "extra": dict(heads.extra),
        "files": {file: hashlib.sha256(data).hexdigest() for file, data in tables.items()},
    }
    wrong = validate_document(document, "import")
    if wrong:
        raise InputError(f"cannot be imported: {wrong[0][1]}", where=f"{shown(path)}#{wrong[0][0]}")
    folder = out / slug / identity
    make_folder(folder)
    for file, data in tables.items():
        atomic_write(folder / file, data)
    atomic_write(folder / DOCUMENT, dump_json(document))
    return folder


def _as_shown(heads: HeadList) -> HeadList:
    """A list as it is kept: what a package that is not rh_bench's calls retrieval scores must show that it is some."""
    if heads.format in READERS or heads.measure != "score":
        return heads
    return replace(heads, measure=_shown_measure(heads))


def _main_file(path: Path) -> Path:
    return path / "full_attention_heads.tsv" if path.is_dir() else path


def _checked_name(model: str) -> str:
    if not model.strip() or not model.isprintable() or model != model.strip():
        hint = "give org/name, or any printable name without surrounding spaces"
        raise InputError("is not a valid model name", where=f"--model {shown(model)!r}", hint=hint)
    return model


def _sparsity(heads: HeadList) -> Json:
    return {
        "share_above_0.1": _share(heads, lambda value: value > HEAD_THRESHOLD),
        "share_zero": _share(heads, lambda value: value == 0),
    }


def _share(heads: HeadList, wanted: Callable[[float], bool]) -> Json:
    share: float | None = None
    reason = _NO_INTERVAL
    grid = (heads.layers or 0) * (heads.heads_per_layer or 0)
    if heads.values is None:
        reason = "the file has no scores"
    elif heads.measure != "score":
        reason = f"its numbers are {MEASURES[heads.measure]}, not retrieval scores"
    elif grid != len(heads.heads):
        reason = "the file does not have every head of the model" if grid else "the file does not say how many heads"
    elif any(math.isnan(value) for value in heads.values):
        reason = "some heads have no sample"
    else:
        share = round(sum(map(wanted, heads.values)) / len(heads.values), 9)
    return {"value": share, "low": None, "high": None, "n": heads.samples or 0, "reason": reason}


def _tables(heads: HeadList) -> dict[str, pa.Table]:
    places = {head: place for place, head in enumerate(heads.order or ())}
    values: list[float | None] = [None] * len(heads.heads)
    if heads.values is not None:
        values = [None if math.isnan(value) else value for value in heads.values]
    counts = [len(row) for row in heads.instances] if heads.instances is not None else [0] * len(heads.heads)
    columns: list[Any] = [
        [layer for layer, _ in heads.heads],
        [head for _, head in heads.heads],
        values,
        [None if heads.selected is None else head in heads.selected for head in heads.heads],
        [places.get(head) for head in heads.heads],
        counts,
    ]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, HEADS, strict=True)]
    tables = {"heads.parquet": pa.Table.from_arrays(arrays, schema=HEADS)}
    if heads.instances is not None:
        numbers: list[Any] = [
            np.repeat([layer for layer, _ in heads.heads], counts),
            np.repeat([head for _, head in heads.heads], counts),
            np.concatenate([np.arange(count) for count in counts]),
            np.concatenate([np.asarray(row, dtype=np.float64) for row in heads.instances]),
        ]
        arrays = [pa.array(column, type=field.type) for column, field in zip(numbers, INSTANCES, strict=True)]
        tables["instances.parquet"] = pa.Table.from_arrays(arrays, schema=INSTANCES)
    return tables


def read_import(folder: Path) -> HeadList:
    """An import as it was read from its file.

    Raises:
        InputError: it is damaged; names the file and the place.
    """
    problems = check_import(folder)
    if problems:
        first = problems[0]
        raise InputError(first.message, where=f"{shown(folder / first.file)}{first.pointer and '#' + first.pointer}")
    document = load_json(folder / DOCUMENT, max_bytes=MOST_JSON)
    return _head_list(document, {name: read_table(folder / name, TABLES[name]) for name in document["files"]})


def _head_list(document: Json, tables: Mapping[str, pa.Table]) -> HeadList:
    rows = tables["heads.parquet"].to_pylist()
    placed = sorted((row["place"], (row["layer"], row["head"])) for row in rows if row["place"] is not None)
    chosen = (
        None
        if document["counts"]["selected"] is None
        else frozenset((row["layer"], row["head"]) for row in rows if row["selected"])
    )
    values = None
    if document["measure"] != "membership":
        values = tuple(math.nan if row["value"] is None else row["value"] for row in rows)
    instances = tables.get("instances.parquet")
    return HeadList(
        format=document["format"],
        model=document["model"]["id"],
        unit=document["unit"],
        measure=document["measure"],
        layers=document["grid"]["layers"],
        heads_per_layer=document["grid"]["heads_per_layer"],
        heads=tuple((row["layer"], row["head"]) for row in rows),
        values=values,
        selected=chosen,
        instances=None if instances is None else _instances(instances, [row["n"] for row in rows]),
        order=tuple(head for _, head in placed) or None,
        extra=document["extra"],
        quantisation=document["model"].get("quantisation"),
        every_head=document.get("every_head", False),
    )


def _instances(table: pa.Table, counts: list[int]) -> tuple[tuple[float, ...], ...]:
    scores = table.column("score").to_numpy()
    ends = np.cumsum([0, *counts])
    return tuple(tuple(scores[first:last].tolist()) for first, last in pairwise(ends))


def check_import(folder: Path) -> list[Problem]:
    """Every problem of an import; none if it is sound."""
    return list(_problems(folder))


def _problems(folder: Path) -> Iterator[Problem]:
    try:
        document = load_json(regular_file(folder, DOCUMENT), max_bytes=MOST_JSON)
    except InputError as error:
        yield Problem(DOCUMENT, "", error.problem)
        return
    wrong = [Problem(DOCUMENT, pointer, message) for pointer, message in validate_document(document, "import")]
    yield from wrong
    if wrong:
        return
    names = {DOCUMENT, *document["files"]}
    yield from (
        Problem(shown(child.name), "", "does not belong to an import")
        for child in sorted(folder.iterdir())
        if child.name not in names
    )
    tables = {}
    for name, digest in document["files"].items():
        try:
            if sha256_file(regular_file(folder, name)) != digest:
                yield Problem(DOCUMENT, f"/files/{name}", "the file's hash differs")
                continue
            tables[name] = read_table(folder / name, TABLES[name])
        except InputError as error:
            yield Problem(name, "", error.problem)
    if len(tables) == len(document["files"]):
        yield from _cross_check(document, tables)


def _cross_check(document: Json, tables: Mapping[str, pa.Table]) -> Iterator[Problem]:
    """The tables agree with the document, means are those of their samples, and nothing passes for what it is not."""
    wrong = [*_check_heads(document, tables["heads.parquet"]), *_check_instances(tables)]
    yield from wrong
    if wrong:
        return
    heads = _head_list(document, tables)
    yield from _check_measure(heads)
    for name, share in _sparsity(heads).items():
        if document["sparsity"][name]["value"] != share["value"]:
            words = f"must be {share['value']}, as the heads give it ({share['reason']})"
            yield Problem(DOCUMENT, f"/sparsity/{name}", words)


def _check_heads(document: Json, table: pa.Table) -> Iterator[Problem]:
    rows = table.to_pylist()
    heads = [(row["layer"], row["head"]) for row in rows]
    if heads != sorted(set(heads)):
        yield Problem("heads.parquet", "", "heads must be sorted and named once")
    if len(rows) != document["counts"]["heads"]:
        yield Problem(DOCUMENT, "/counts/heads", f"heads.parquet has {len(rows)} rows")
    if bool(rows) == document.get("every_head", False):
        yield Problem("heads.parquet", "", "must have heads, or none if the file stands for every head")
    values = [row["value"] for row in rows if row["value"] is not None]
    if not all(abs(value) <= LARGEST_SCORE for value in values):
        yield Problem("heads.parquet", "/value", "must be finite, and small enough to add up")


def _check_instances(tables: Mapping[str, pa.Table]) -> Iterator[Problem]:
    instances = tables.get("instances.parquet")
    if instances is None:
        return
    rows = tables["heads.parquet"].to_pylist()
    heads = [(row["layer"], row["head"]) for row in rows]
    counts = np.array([row["n"] for row in rows], dtype=np.int64)
    layer, head, score = (instances.column(name).to_numpy() for name in ("layer", "head", "score"))
    if (counts < 0).any() or counts.sum() != len(score):
        yield Problem("instances.parquet", "", f"has {len(score)} rows, heads.parquet counts {counts.sum()}")
        return
    if not (np.abs(score) <= LARGEST_SCORE).all():
        yield Problem("instances.parquet", "/score", "must be finite, and small enough to add up")
        return
    wanted = np.repeat(np.array(heads, dtype=np.int64).reshape(-1, 2), counts, axis=0)
    if not (np.array_equal(layer, wanted[:, 0]) and np.array_equal(head, wanted[:, 1])):
        yield Problem("instances.parquet", "", "its rows must be in the order of heads.parquet")
        return
    ends = np.cumsum([0, *counts])
    for row, first, last in zip(rows, ends[:-1], ends[1:], strict=True):
        mean = math.fsum(score[first:last].tolist()) / (last - first) if last > first else None
        if row["value"] != mean:
            yield Problem(
                "heads.parquet", "/value", f"head {row['layer']}-{row['head']} is not the mean of its samples"
            )
            return


def _shown_measure(heads: HeadList) -> Measure:
    """What the numbers show that they are."""
    return measure_of_means(heads.values or ()) if heads.instances is None else measure_of_samples(heads.instances)


def _check_measure(heads: HeadList) -> Iterator[Problem]:
    """The document calls the numbers what they are: nothing else passes for copy scores."""
    own = FORMATS.get(heads.format)
    if own is None and heads.measure != "score":
        return  # as the package says that reads it
    measure = (own.measure if own else None) or _shown_measure(heads)
    if heads.measure != measure:
        words = f"must be {measure!r}: the numbers are {MEASURES[measure]}; import the file again"
        yield Problem(DOCUMENT, "/measure", words)
