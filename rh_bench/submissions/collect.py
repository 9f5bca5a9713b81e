"""Gathers runs into a results repository: the runs themselves, and tables over all of them, written one run at a time.

Tables other than `models` lie in 16 files by the first digit of the run id, so that a new run changes one file of each.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rh_bench.artifacts.coverage import coverage
from rh_bench.artifacts.results_repo import (
    ATTESTATIONS,
    DATA,
    EXPERIMENTS,
    JUDGEMENTS,
    RUNS,
    Layout,
    find_layout,
    run_folders,
    verification_path,
)
from rh_bench.artifacts.run import RUN_FILES
from rh_bench.artifacts.tables import EVENTS, GROUP_BYTES, HEADS, OPTIONAL, SAMPLES, read_table
from rh_bench.artifacts.validate import validate_path
from rh_bench.artifacts.verification_record import read_verification, set_sizes
from rh_bench.errors import InputError
from rh_bench.interchange.folder import is_import
from rh_bench.records import Json
from rh_bench.submissions.attest_order import read_order
from rh_bench.submissions.collect_experiments import TABLE as EXPERIMENT_ROWS
from rh_bench.submissions.collect_experiments import experiment_table, take_experiments
from rh_bench.submissions.judgement import read_judgement
from rh_bench.submissions.results_card import results_card
from rh_bench.system.files import atomic_write, shown
from rh_bench.system.schema import dump_json, load_json
from rh_bench.system.workshop import Workshop, workshop

_IDENTITY = [pa.field("model_id", pa.string()), pa.field("run_id", pa.string())]
_ESTIMATES = ("success_rate", "share_zero", "share_above_0.1", "share_above_0.5", "gini", "effective_heads")
MODELS = pa.schema(
    [
        *_IDENTITY,
        *(pa.field(n, pa.string()) for n in ("folder", "revision", "source", "architecture", "model_type")),
        *(pa.field(n, pa.int64()) for n in ("parameters", "layers", "heads", "samples", "counted")),
        *(pa.field(n, pa.string()) for n in ("haystack", "haystack_location", "haystack_revision", "manifest_sha256")),
        pa.field("protocol", pa.int32()),
        *(pa.field(n, pa.string()) for n in ("template", "dtype", "engine", "started", "verified", "attested")),
        *(pa.field(f"{name}{part}", pa.float64()) for name in _ESTIMATES for part in ("", "_low", "_high")),
        pa.field("always_on", pa.int32()),
        pa.field("coverage", pa.string()),
        pa.field("measured_on", pa.string()),
        pa.field("set_samples", pa.int64()),
    ]
)
CONFIGS = {
    "heads": pa.schema([*_IDENTITY, *(field.with_nullable(True) for field in HEADS)]),
    "models": MODELS,
    "samples": pa.schema([*_IDENTITY, *(field.with_nullable(True) for field in SAMPLES)]),
    "events": pa.schema([*_IDENTITY, *(field.with_nullable(True) for field in EVENTS)]),
}
"""Tables that every results folder has. One with experiments has a table of them, too: `load_dataset` reads no table
without rows."""
_SOURCES = {
    "heads": ("heads.parquet", HEADS),
    "samples": ("samples.parquet", SAMPLES),
    "events": ("events.parquet", EVENTS),
}
_ROW_GROUP = 1 << 17


@dataclass(frozen=True, slots=True)
class Collected:
    """What a results folder holds now, and what was not taken in, with the reason."""

    runs: int
    new: int
    left_out: tuple[tuple[str, str], ...]
    rows: Mapping[str, int]
    new_experiments: int = 0

    def to_json(self) -> Json:
        left_out = [{"folder": name, "reason": reason} for name, reason in self.left_out]
        return {
            "runs": self.runs,
            "new": self.new,
            "left_out": left_out,
            "rows": dict(self.rows),
            "new_experiments": self.new_experiments,
        }


def collect_results(source: Path, out: Path, experiments: Path | None = None) -> Collected:
    """Take the valid runs of `source`, and valid experiments on them, into the results folder `out`, and write the
    tables and the card anew.

    Memory does not grow with the number of runs. The same runs give the same bytes.

    Args:
        source: a folder of runs, or another results folder, whose verifications are taken along. May be `out` itself.
        out: made if it is not there. Runs that it holds are kept.
        experiments: folder of experiments; those of `source` without it, if it is a results folder.

    Raises:
        InputError: `source` is no folder, `out` cannot be written, or another process is gathering there.
    """
    layout = find_layout(source)
    try:
        (out / RUNS).mkdir(parents=True, exist_ok=True)
        with workshop(out / DATA) as made:
            new, left_out = _take_runs(layout, out, made)
            left_out += _take_judgements(layout, out)
            left_out += _take_orders(source, out)
            taken, rejected = take_experiments(experiments or source / EXPERIMENTS, out, made, layout.verification)
            rows = _write_tables(out, made)
            runs = sum(1 for _ in run_folders(out / RUNS))
            configs = {**CONFIGS, EXPERIMENTS: EXPERIMENT_ROWS} if EXPERIMENTS in rows else CONFIGS
            atomic_write(out / "README.md", results_card(out, configs, runs).encode())
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=shown(out)) from None
    return Collected(runs, new, (*left_out, *rejected), rows, taken)


def _take_runs(layout: Layout, out: Path, made: Workshop) -> tuple[int, list[tuple[str, str]]]:
    new, left_out = 0, []
    for folder in run_folders(layout.runs):
        name = f"{folder.parent.name}/{folder.name}"
        target = out / RUNS / name
        if not _same(folder, target):
            reason = _reason_against(folder, target)
            if reason:
                left_out.append((name, reason))
                continue
            _copy_run(folder, target, made)
            new += 1
        record = read_verification(layout, folder)
        if record is not None:
            path = out / verification_path(folder.parent.name, folder.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, dump_json(record))
    return new, left_out


def _take_judgements(layout: Layout, out: Path) -> list[tuple[str, str]]:
    """The maintainers' records as they are, and those that are none, with the reason."""
    paths = () if layout.judgements is None else layout.judgements.glob("*/*/*/*.json")
    names = {path: f"{JUDGEMENTS}/{path.relative_to(layout.judgements or path).as_posix()}" for path in sorted(paths)}
    return _take_records(names, out, lambda path, name: read_judgement(path, name).verdict)


def _take_orders(source: Path, out: Path) -> list[tuple[str, str]]:
    """The maintainers' orders of attested runs as they are, and those that are none, with the reason."""
    folder = source / ATTESTATIONS
    paths = folder.glob("*.json") if folder.is_dir() and not folder.is_symlink() else ()
    names = {path: f"{ATTESTATIONS}/{path.name}" for path in sorted(paths)}
    return _take_records(names, out, lambda path, name: read_order(path, name).started)


def _take_records(
    names: Mapping[Path, str], out: Path, outcome: Callable[[Path, str], object | None]
) -> list[tuple[str, str]]:
    """Copy records by their paths below `out`. One that has its outcome here is not put back to one without.

    Args:
        outcome: reads a record, and gives what became of what it is about, or None; raises InputError if it is none.

    Returns:
        Those that are none, with the reason.
    """
    left_out = []
    for path, name in names.items():
        target = out / name
        try:
            if outcome(path, name) is None and target.exists() and outcome(target, name) is not None:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(target, path.read_bytes())
        except InputError as error:
            left_out.append((name, str(error)))
    return left_out


def _same(folder: Path, target: Path) -> bool:
    """Whether a run was taken in before. run.json holds the hash of every other file."""
    names = ("run.json",)
    return all((target / n).is_file() and (folder / n).is_file() for n in names) and all(
        (target / n).read_bytes() == (folder / n).read_bytes() for n in names
    )


def _reason_against(folder: Path, target: Path) -> str | None:
    if is_import(folder):
        return "imported from another project's file"
    if target.exists():
        return "the results already have this run, with other bytes"
    problems = validate_path(folder)
    return f"{problems[0].file}{problems[0].pointer}: {problems[0].message}" if problems else None


def _copy_run(folder: Path, target: Path, made: Workshop) -> None:
    """A run as plain files, there as a whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = made.fresh()
    for name in (*RUN_FILES, "run.json"):
        shutil.copyfile(folder / name, fresh / name)
    fresh.rename(target)


def _write_tables(out: Path, made: Workshop) -> dict[str, int]:
    """All tables, in a folder beside the old ones, which they then replace."""
    rows = dict.fromkeys(CONFIGS, 0)
    fresh = made.fresh()
    for name in CONFIGS:
        (fresh / name).mkdir()
    ordered = sorted(run_folders(out / RUNS), key=lambda f: (f.name[0], f.parent.name, f.name))
    layout = find_layout(out)
    sizes = set_sizes(layout)
    found = experiment_table(out, verified_level)
    if len(found):
        (fresh / EXPERIMENTS).mkdir()
        with _Writer(fresh / EXPERIMENTS / f"{EXPERIMENTS}.parquet", EXPERIMENT_ROWS) as experiments:
            experiments.write(found)
        rows[EXPERIMENTS] = len(found)
    with _Writer(fresh / "models" / "models.parquet", MODELS) as models:
        for digit, folders in groupby(ordered, key=lambda folder: folder.name[0]):
            _write_bucket(fresh, digit, folders, layout, sizes, models, rows)
    made.put(fresh)
    return rows


def _write_bucket(
    fresh: Path,
    digit: str,
    folders: Iterator[Path],
    layout: Layout,
    sizes: Mapping[str, int],
    models: _Writer,
    rows: dict[str, int],
) -> None:
    writers = {name: _Writer(fresh / name / f"{name}-{digit}.parquet", CONFIGS[name]) for name in _SOURCES}
    for folder in folders:
        run = load_json(folder / "run.json")
        identity = {"model_id": run["model"]["id"], "run_id": run["run_id"]}
        models.write(pa.Table.from_pylist([_model_row(folder, run, layout, sizes)], schema=MODELS))
        rows["models"] += 1
        for name, (file, schema) in _SOURCES.items():
            table = read_table(folder / file, schema, OPTIONAL.get(file, ())).select(schema.names)
            columns = [pa.repeat(pa.scalar(text), len(table)) for text in identity.values()]
            whole = pa.Table.from_arrays([*columns, *table.columns], schema=CONFIGS[name])
            writers[name].write(whole)
            rows[name] += len(table)
    for writer in writers.values():
        writer.close()


def _model_row(folder: Path, run: Json, layout: Layout, sizes: Mapping[str, int]) -> dict[str, Any]:
    summary = load_json(folder / "summary.json")
    model, haystack, protocol = run["model"], run["haystack"], run["protocol"]
    estimates = {"success_rate": summary["success"]["rate"], **summary["sparsity"]}
    always_on = summary["always_on"]["heads"]
    record = read_verification(layout, folder)
    covered = coverage(run, sizes.get(haystack["manifest_sha256"]))
    return {
        "model_id": model["id"],
        "run_id": run["run_id"],
        "folder": f"{folder.parent.name}/{folder.name}",
        **{name: model[name] for name in ("revision", "source", "architecture", "model_type", "parameters")},
        "layers": len(model["layers"]),
        **{name: run["counts"][name] for name in ("heads", "samples", "counted")},
        "haystack": haystack["name"],
        "haystack_location": haystack["location"],
        "haystack_revision": haystack["revision"],
        "manifest_sha256": haystack["manifest_sha256"],
        "protocol": protocol["version"],
        "template": protocol["template"],
        "dtype": protocol["dtype"],
        "engine": run["engine"]["name"],
        "started": run["timings"]["started"],
        "verified": verified_level(record),
        "attested": attested_by(record),
        **{
            f"{name}{part}": estimates[name][key]
            for name in _ESTIMATES
            for part, key in (("", "value"), ("_low", "low"), ("_high", "high"))
        },
        "always_on": None if always_on is None else len(always_on),
        "coverage": covered.kind,
        "measured_on": covered.words,
        "set_samples": covered.of,
    }


def verified_level(record: Json | None) -> str | None:
    """The highest level that a verification found reached; None without a verification, or where a level failed."""
    reached = [level["level"] for level in record["levels"] if level["reached"]] if record else []
    failed = any(level["reached"] is False for level in record["levels"]) if record else False
    return reached[-1] if reached and not failed else None


def attested_by(record: Json | None) -> str | None:
    """Namespace and id of the job that made a run, where a maintainer saw that it did and no level failed."""
    seen = record.get("attestation") if record and verified_level(record) else None
    return f"{seen['namespace']}/{seen['job']}" if seen else None


class _Writer:
    """A Parquet file that grows by a run at a time: rows wait until there are enough for a row group."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = pq.ParquetWriter(path, schema, compression="zstd", store_schema=False)
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= _ROW_GROUP or sum(part.nbytes for part in self._waiting) >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting), row_group_size=_ROW_GROUP)
            self._waiting = []

    def close(self) -> None:
        self._flush()
        self._file.close()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
