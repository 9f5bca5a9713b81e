"""Finds the valid, finished runs below a folder and reads of each what the site is made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rh_bench.interchange.folder import check_import, is_import
from rh_bench.records import Json
from rh_bench.results import find_layout, read_verification, run_folders
from rh_bench.validate import Problem, validate_path


@dataclass(frozen=True, slots=True)
class Head:
    """One row of heads.parquet, as far as the site shows it. Scores are None in a run without a counted sample."""

    layer: int
    head: int
    score: float | None
    score_low: float | None
    score_high: float | None
    rank: int | None
    rank_low: int | None
    rank_high: int | None
    activation_frequency: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A valid run: `slug` and `run_id` are its two folder names, `heads` is sorted by layer, head."""

    slug: str
    run_id: str
    run: Json
    summary: Json
    heads: tuple[Head, ...]
    verification: Json | None = None
    """What a maintainer found, of this run's very bytes."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A head list of another project, and where it lies below the runs folder."""

    folder: str
    document: Json


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run folder that is not shown, and every reason why."""

    folder: str
    """Path below the runs folder, with forward slashes."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """What a site is made from, in an order that depends on the runs alone."""

    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...]
    imported: tuple[Imported, ...] = ()


def collect(runs_root: Path) -> Collection:
    """Read every run at `<runs_root>/<slug>/<run_id>/`.

    A run that is unfinished or that the validator has something against is left out and named, never half shown.

    Args:
        runs_root: the folder that `rh-bench evaluate --out` wrote to, or a results repository. An empty one is fine.

    Raises:
        InputError: `runs_root` is not a folder.
    """
    layout = find_layout(runs_root)
    runs_root = layout.runs
    entries: list[Entry] = []
    left_out: list[LeftOut] = []
    imported: list[Imported] = []
    for folder in run_folders(runs_root):
        reasons = _reasons_against(folder)
        if reasons:
            left_out.append(LeftOut(folder.relative_to(runs_root).as_posix(), reasons))
        elif is_import(folder):
            imported.append(Imported(folder.relative_to(runs_root).as_posix(), _read_json(folder / "import.json")))
        else:
            entries.append(_read_entry(folder, read_verification(layout, folder)))
    entries.sort(key=lambda entry: (entry.run["model"]["id"].casefold(), entry.slug, entry.run_id))
    return Collection(tuple(entries), tuple(left_out), tuple(imported))


def _reasons_against(folder: Path) -> tuple[str, ...]:
    if is_import(folder):
        return _in_words(check_import(folder))
    if not (folder / "run.json").is_file():
        return ("unfinished: it has no run.json, which is written last",)
    return _in_words(validate_path(folder))


def _in_words(problems: list[Problem]) -> tuple[str, ...]:
    return tuple(
        " ".join(part for part in (problem.file, problem.pointer, problem.message) if part) for problem in problems
    )


def _read_entry(folder: Path, verification: Json | None) -> Entry:
    return Entry(
        slug=folder.parent.name,
        run_id=folder.name,
        run=_read_json(folder / "run.json"),
        summary=_read_json(folder / "summary.json"),
        heads=_read_heads(folder / "heads.parquet"),
        verification=verification,
    )


def _read_json(path: Path) -> Json:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _read_heads(path: Path) -> tuple[Head, ...]:
    columns = list(Head.__slots__)
    table = pq.read_table(path, columns=columns)
    return tuple(Head(**row) for row in table.to_pylist())
