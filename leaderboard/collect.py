"""Finds the finished runs below a folder, and reads of one at a time what the site is made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rh_bench.artifacts.coverage import Coverage, coverage
from rh_bench.artifacts.results_repo import Layout, find_layout, run_folders
from rh_bench.artifacts.validate import validate_path
from rh_bench.artifacts.verification_record import read_verification, set_sizes
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import experiment_folders, kind_by_name, read_document, run_reference
from rh_bench.experiments.record import read_experiment_record
from rh_bench.experiments.scorecard import read_about
from rh_bench.interchange.folder import check_import, is_import
from rh_bench.records import Json, Problem
from rh_bench.system.schema import load_json

_MANIFEST = re.compile(rb'"manifest_sha256": "([0-9a-f]{64})"')


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
    folder: Path | None = None
    """Where its tables lie, for pages that need more than the above; None for an entry that no folder holds."""
    experiments: tuple[Json, ...] = ()
    """The `experiment.json` of each valid experiment about this run's very bytes, sorted by kind and id."""
    records: Mapping[str, Json] = field(default_factory=dict)
    """What a maintainer found of these experiments' very bytes, by the name of their folder."""
    rejected: tuple[tuple[str, str], ...] = ()
    """Experiments that seem to be about this run and are not shown: folder, and why."""
    set_samples: int | None = None
    """Samples of its set, where a run shows it that was verified against the set."""

    @property
    def coverage(self) -> Coverage:
        """What the run covers of its set."""
        return coverage(self.run, self.set_samples)


@dataclass(frozen=True, slots=True)
class Imported:
    """A head list of another project, and where it lies below the runs folder."""

    folder: str
    document: Json
    path: Path | None = None
    """The folder itself, while its pages are made; None if only the document is available."""
    experiments: tuple[Json, ...] = ()
    """The `experiment.json` of each valid experiment on this import, which can only be comparisons with others."""
    records: Mapping[str, Json] = field(default_factory=dict)
    """As of :class:`Entry`."""


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


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that may hold a run or an import, not read yet."""

    layout: Layout
    folder: Path
    experiments: tuple[Path, ...] = ()
    """Folders of experiments that may be about this run."""
    set_sizes: Mapping[str, int] = field(default_factory=dict)
    """Samples of sets, as of `rh_bench.artifacts.verification_record.set_sizes`."""

    @property
    def name(self) -> str:
        """Path below the runs folder, with forward slashes."""
        return self.folder.relative_to(self.layout.runs).as_posix()


def sources(runs_root: Path, experiments: Path | None = None) -> list[Source]:
    """Every folder at `<runs_root>/<slug>/<run_id>/`, sorted.

    Args:
        runs_root: the folder that `rh-bench evaluate --out` wrote to, or a results repository. An empty one is fine.
        experiments: the folder that holds experiments; that of the results repository without it, if there is one.

    Raises:
        InputError: `runs_root` or `experiments` is not a folder.
    """
    layout = find_layout(runs_root)
    if experiments is not None and not experiments.is_dir():
        raise InputError("no such folder", where=experiments, hint="give the --out folder of the experiments")
    if experiments is None and layout.runs != runs_root and (runs_root / "experiments").is_dir():
        experiments = runs_root / "experiments"
    index = _experiments_by_model(experiments) if experiments else {}
    sizes = set_sizes(layout)
    return [Source(layout, folder, index.get(folder.parent.name, ()), sizes) for folder in run_folders(layout.runs)]


def _experiments_by_model(experiments: Path) -> dict[str, tuple[Path, ...]]:
    """Folders of finished experiments by the folder name of each model that they are about: one that compares is about
    several."""
    found: dict[str, list[Path]] = {}
    for folder in experiment_folders(experiments):
        slugs = {folder.parent.name}
        kind = kind_by_name(folder)
        if kind is not None and kind.compares:
            with contextlib.suppress(InputError):
                slugs |= {run["slug"] for run in read_document(folder)["runs"]}
        for slug in slugs:
            found.setdefault(slug, []).append(folder)
    return {slug: tuple(folders) for slug, folders in found.items()}


def read_source(source: Source) -> Entry | Imported | LeftOut:
    """Validate and read one folder. What is unfinished or not valid is left out and named, never half shown."""
    folder = source.folder
    reasons = _reasons_against(folder)
    if reasons:
        return LeftOut(source.name, reasons)
    if is_import(folder):
        named = _read_json(folder / "import.json")
        experiments, records, _ = _experiments(source, {"slug": named["model"]["slug"], "revision": None})
        return Imported(source.name, named, folder, tuple(experiments), records)
    return _read_entry(source)


def fingerprint(source: Source) -> str:
    """SHA-256 that changes when anything does that the pages of this folder are made from: names, sizes and times of
    its files, the bytes of its document, those of its verification and of its model's experiments, and how many samples
    its set is known to have."""
    folder, layout = source.folder, source.layout
    found: list[object] = [source.name]
    for child in sorted(folder.iterdir(), key=lambda child: child.name):
        stat = child.lstat()
        found.append([child.name, stat.st_mode, stat.st_size, stat.st_mtime_ns])
    documents = [folder / "run.json", folder / "import.json"]
    if layout.verification is not None:
        documents.append(layout.verification / folder.parent.name / f"{folder.name}.json")
    for experiment in source.experiments:
        documents.append(experiment / "experiment.json")
        found += [[str(stat.st_size), stat.st_mtime_ns] for stat in map(Path.lstat, sorted(experiment.iterdir()))]
        if layout.verification is not None:
            documents.append(layout.verification / experiment.parent.name / f"{experiment.name}.json")
    for path in documents:
        if path.is_file():
            data = path.read_bytes()
            found.append([path.name, hashlib.sha256(data).hexdigest()])
            if path.name == "run.json" and any(d.decode() in source.set_sizes for d in _MANIFEST.findall(data)):
                found += _corrected(path, source.set_sizes)
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _corrected(path: Path, set_sizes: Mapping[str, int]) -> list[object]:
    """What a run covers, where it is not what the run itself says."""
    with contextlib.suppress(InputError, KeyError, TypeError, AttributeError):  # not valid, then, and so left out
        run = load_json(path)
        known = coverage(run, set_sizes.get(run["haystack"]["manifest_sha256"]))
        return [] if known == coverage(run) else [known.to_json()]
    return []


def collect(runs_root: Path) -> Collection:
    """Read every run below `runs_root` at once: for a few of them. `rh_bench.leaderboard.build` reads one at a time.

    Raises:
        InputError: `runs_root` is not a folder.
    """
    found = [read_source(source) for source in sources(runs_root)]
    entries = [one for one in found if isinstance(one, Entry)]
    entries.sort(key=lambda entry: (entry.run["model"]["id"].casefold(), entry.slug, entry.run_id))
    return Collection(
        tuple(entries),
        tuple(one for one in found if isinstance(one, LeftOut)),
        tuple(one for one in found if isinstance(one, Imported)),
    )


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


def _read_entry(source: Source) -> Entry:
    folder = source.folder
    run = _read_json(folder / "run.json")
    experiments, records, rejected = _experiments(source, run["model"])
    return Entry(
        slug=folder.parent.name,
        run_id=folder.name,
        run=run,
        summary=_read_json(folder / "summary.json"),
        heads=_read_heads(folder / "heads.parquet"),
        verification=read_verification(source.layout, folder),
        folder=folder,
        experiments=tuple(experiments),
        records=records,
        rejected=tuple(rejected),
        set_samples=source.set_sizes.get(run["haystack"]["manifest_sha256"]),
    )


def _experiments(source: Source, model: Json) -> tuple[list[Json], dict[str, Json], list[tuple[str, str]]]:
    """Valid experiments about this folder, sorted by kind and id; records of their verification by the folder's name;
    and those that say nothing, with the reason."""
    if not source.experiments:
        return [], {}, []
    reference, kept, rejected = run_reference(source.folder), [], []
    records: dict[str, Json] = {}
    for folder in source.experiments:
        why, document = read_about(folder, source.folder, reference, model)
        if document is not None:
            kept.append(document)
            record = read_experiment_record(source.layout.verification, folder)
            records |= {folder.name: record} if record is not None else {}
        elif why:
            rejected.append(("/".join(folder.parts[-2:]), why))
    return sorted(kept, key=lambda one: (one["kind"], one["experiment_id"])), records, rejected


def _read_json(path: Path) -> Json:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _read_heads(path: Path) -> tuple[Head, ...]:
    columns = list(Head.__slots__)
    table = pq.read_table(path, columns=columns)
    return tuple(Head(*row) for row in zip(*(table.column(name).to_pylist() for name in columns), strict=True))
