"""Experiments on disk: raw observations in tables, and everything that is said about them computed from these.

```
experiments/<model slug>/<kind>-<experiment id>/
  experiment.json    written last: a folder without it is unfinished
  <table>.parquet    one row per unit of observation; columns are those of the kind
```
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.results_repo import run_folders
from rh_bench.artifacts.run import model_slug
from rh_bench.artifacts.table_checks import MOST
from rh_bench.artifacts.tables import read_table, table_bytes
from rh_bench.artifacts.validate import folder_name_of, layer_problems
from rh_bench.errors import InputError
from rh_bench.experiments.document import experiment_folder, experiment_id, new_document, run_reference
from rh_bench.experiments.kind import Kind, Tables
from rh_bench.experiments.registry import kinds
from rh_bench.experiments.schemas import experiment_schema
from rh_bench.protocol import bootstrap_problems
from rh_bench.records import Json, Problem
from rh_bench.system.files import atomic_write, make_folder, regular_file, sha256_file, shown
from rh_bench.system.schema import dump_json, load_json, validate_document

__all__ = [
    "DOCUMENT",
    "Experiment",
    "MadeExperiment",
    "derived_problems",
    "experiment_files",
    "experiment_folder",
    "experiment_folders",
    "experiment_id",
    "finished_document",
    "is_experiment",
    "keep_experiment",
    "kind_by_name",
    "make_experiment",
    "new_document",
    "read_document",
    "read_experiment",
    "recompute",
    "run_reference",
    "validate_against_runs",
    "validate_experiment",
    "write_experiment",
]

DOCUMENT = "experiment.json"
_MOST_HEADS = 1 << 20
_MOST_JSON = 16 << 20
_FOLDER = re.compile(r"([a-z0-9_]+)-[0-9a-f]{16}")


@dataclass(frozen=True)
class Experiment:
    """A finished experiment as read from disk."""

    folder: Path
    document: Json
    tables: Tables


def is_experiment(folder: Path) -> bool:
    """Whether `folder` holds an experiment, finished or not, rather than a run, a set or an import."""
    return (folder / DOCUMENT).exists() or kind_by_name(folder) is not None


def kind_by_name(folder: Path) -> Kind | None:
    """The kind that the name of an experiment's folder says, as :func:`experiment_folder` gives it; None for a name
    that is none of an experiment of a known kind."""
    named = _FOLDER.fullmatch(folder.resolve().name)
    return None if named is None else kinds().get(named[1])


def write_experiment(folder: Path, document: Json, tables: Tables) -> Json:
    """Write a finished experiment; experiment.json comes last.

    Args:
        folder: it exists, and is called as :func:`experiment_folder` says.
        document: see :func:`new_document`, with `timings` where a model ran.
        tables: every table of the kind, by its name without `.parquet`, its rows in a fixed order.

    Returns:
        The complete document.

    Raises:
        InputError: the folder cannot be written, or what would be written is not valid: nothing says "finished" then.
    """
    made = make_experiment(folder, document, tables)
    for name, data in experiment_files(made.tables).items():
        atomic_write(folder / name, data)
    atomic_write(folder / DOCUMENT, dump_json(made.document))
    return made.document


@dataclass(frozen=True)
class MadeExperiment:
    """A finished experiment that may lie nowhere yet."""

    document: Json
    tables: Tables


def make_experiment(folder: Path, document: Json, tables: Tables) -> MadeExperiment:
    """A finished experiment, not written. Arguments and errors as for :func:`write_experiment`.

    Args:
        folder: where it would lie, for an error.
    """
    kind = kinds()[document["kind"]]
    cast = {name: tables[name].cast(schema) for name, schema in kind.tables.items()}
    for problem in kind.check(document, cast):
        raise _as_error(folder, problem)
    results, claims = kind.derive(document, cast)
    document = {
        **document,
        "counts": {name: len(table) for name, table in cast.items()},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in experiment_files(cast).items()},
        "results": results,
        "claims": claims,
    }
    for problem in _schema_problems(document):
        raise _as_error(folder, problem)
    return MadeExperiment(document, cast)


def experiment_files(tables: Tables) -> dict[str, bytes]:
    """The tables of an experiment as files, by name."""
    return {f"{name}.parquet": table_bytes(table) for name, table in tables.items()}


def keep_experiment(root: Path, document: Json, tables: Tables) -> tuple[Path, Json, bool]:
    """Write an experiment below `root`, the folder of experiments, unless it lies there finished.

    Returns:
        Its folder, its document, and whether it was written now.

    Raises:
        InputError: as :func:`write_experiment`.
    """
    folder = experiment_folder(root, document)
    if (folder / DOCUMENT).is_file():
        return folder, read_document(folder), False
    make_folder(folder)
    return folder, write_experiment(folder, document, tables), True


def finished_document(folder: Path) -> Json | None:
    """experiment.json of an experiment that is finished; None if it is not. A journal beside it is removed: the process
    that wrote both died, or has yet to do it.

    Raises:
        InputError: it is damaged.
    """
    if not (folder / DOCUMENT).is_file():
        return None
    document = read_document(folder)
    (folder / JOURNAL).unlink(missing_ok=True)
    return document


def read_document(folder: Path) -> Json:
    """experiment.json alone, valid by its schema.

    Raises:
        InputError: it is unfinished, damaged, or of a kind or version that is not known; names the file and the place.
    """
    document, problems = _document(folder)
    if document is None:
        raise _as_error(folder, problems[0])
    return document


def read_experiment(folder: Path) -> Experiment:
    """Read a finished experiment.

    Raises:
        InputError: it is unfinished or damaged; names the file.
    """
    document = read_document(folder)
    tables, problems = _tables(folder, document)
    problems += [] if problems else list(kinds()[document["kind"]].check(document, tables))
    if problems:
        raise _as_error(folder, problems[0])
    return Experiment(folder, document, tables)


def recompute(folder: Path) -> list[str]:
    """Compute results and claims again from the tables; rewrite experiment.json if they differ.

    Returns:
        The names of the files that changed: none for an untouched experiment.
    """
    experiment = read_experiment(folder)
    results, claims = kinds()[experiment.document["kind"]].derive(experiment.document, experiment.tables)
    counts = {name: len(table) for name, table in experiment.tables.items()}
    data = dump_json({**experiment.document, "counts": counts, "results": results, "claims": claims})
    if dump_json(experiment.document) == data:
        return []
    atomic_write(folder / DOCUMENT, data)
    return [DOCUMENT]


def validate_experiment(folder: Path, *, derived: bool = True) -> list[Problem]:
    """Every problem of an experiment folder; none if it is sound.

    What is checked: the files that belong there and no others; the document against its schema (a newer version is
    refused by name); the id, which the folder must carry; hashes, columns and counts of the tables; what the kind says
    of every row; and that results and claims are what the tables give.

    Args:
        derived: without it the last is left out, see :func:`derived_problems`.
    """
    if not (folder / DOCUMENT).is_file():
        return [Problem(DOCUMENT, "", "missing: the experiment is unfinished")]
    return list(dict.fromkeys(_problems(folder, derived)))


def derived_problems(experiment: Experiment) -> list[Problem]:
    """What of results and claims is not what the tables of a sound experiment give."""
    return list(_derived_problems(kinds()[experiment.document["kind"]], experiment.document, experiment.tables))


def validate_against_runs(folder: Path, runs: Sequence[Path | None]) -> list[Problem]:
    """What contradicts the runs that a sound experiment names: tables that follow from runs must be what these give.

    Args:
        runs: folders of the runs, in the order of the document; None for one that is not available.

    Raises:
        InputError: the experiment or a run is damaged.
    """
    experiment = read_experiment(folder)
    against = kinds()[experiment.document["kind"]].against_runs
    if against is None:
        return []
    named = experiment.document["runs"]
    known = [run if run and run_reference(run) == one else None for run, one in zip(runs, named, strict=True)]
    return list(against(experiment.document, experiment.tables, known))


def experiment_folders(root: Path) -> Iterator[Path]:
    """The finished experiments below `root`, the folder of experiments, sorted; none where there is no such folder."""
    if root.is_dir():
        yield from (folder for folder in run_folders(root) if (folder / DOCUMENT).is_file())


def _as_error(folder: Path, problem: Problem) -> InputError:
    place = f"{shown(folder / problem.file)}{problem.pointer and '#' + problem.pointer}"
    return InputError(problem.message, where=place)


def _problems(folder: Path, derived: bool) -> Iterator[Problem]:
    yield from _unexpected_files(folder)
    document, found = _document(folder)
    yield from found
    if document is None:
        return
    yield from (Problem(DOCUMENT, pointer, message) for pointer, message in _identity_problems(folder, document))
    tables, wrong = _tables(folder, document)
    yield from wrong
    if wrong:
        return
    for name, table in tables.items():
        if document["counts"].get(name) != len(table):
            yield Problem(DOCUMENT, f"/counts/{name}", f"is {document['counts'].get(name)}, the table has {len(table)}")
    if "bootstrap" in document["settings"]:
        for pointer, message in bootstrap_problems(document["settings"]["bootstrap"], "/settings/bootstrap"):
            yield Problem(DOCUMENT, pointer, message)
    kind = kinds()[document["kind"]]
    doubts = list(kind.check(document, tables))
    yield from doubts
    if derived and not doubts:
        yield from _derived_problems(kind, document, tables)


def _derived_problems(kind: Kind, document: Json, tables: Tables) -> Iterator[Problem]:
    try:
        results, claims = kind.derive(document, tables)
    except InputError as error:
        yield Problem(DOCUMENT, "/results", f"cannot be computed from the tables ({error})")
        return
    for name, derived in (("results", results), ("claims", claims)):
        if dump_json(document[name]) != dump_json(derived):
            yield Problem(DOCUMENT, f"/{name}", "is not what the tables give")


def _unexpected_files(folder: Path) -> Iterator[Problem]:
    """Files that do not belong to an experiment: they would be published with it, and no hash covers them."""
    try:
        names = sorted(child.name for child in folder.iterdir())
    except OSError as error:
        yield Problem(".", "", f"cannot be read ({error.strerror or error})")
        return
    kind = kinds().get(folder.resolve().name.rpartition("-")[0])
    own = {DOCUMENT, *(f"{name}.parquet" for name in (() if kind is None else kind.tables))}
    strange = [name for name in names if name not in own]
    yield from (Problem(shown(name[:120]), "", "does not belong to an experiment") for name in strange[:MOST])
    if len(strange) > MOST:
        yield Problem(".", "", f"and {len(strange) - MOST} more files that do not belong to an experiment")


def _document(folder: Path) -> tuple[Json | None, list[Problem]]:
    """A valid document of a known kind, or what is wrong with it."""
    try:
        document = load_json(regular_file(folder, DOCUMENT), max_bytes=_MOST_JSON)
    except InputError as error:
        return None, [Problem(DOCUMENT, "", error.problem)]
    problems = _schema_problems(document)
    if problems:
        return None, problems
    kind = kinds().get(document["kind"])
    if kind is None:
        return None, [Problem(DOCUMENT, "/kind", f"{document['kind']} is not known to this rh_bench")]
    if document["kind_version"] != kind.version:
        words = f"is {document['kind_version']}; this rh_bench computes version {kind.version}"
        return None, [Problem(DOCUMENT, "/kind_version", words)]
    problems += [Problem(DOCUMENT, pointer, message) for pointer, message in _layer_problems(document["model"])]
    for name, wanted in (("counts", set(kind.tables)), ("files", {f"{table}.parquet" for table in kind.tables})):
        if set(document[name]) != wanted:
            problems.append(Problem(DOCUMENT, f"/{name}", f"must name {', '.join(sorted(wanted))} and nothing else"))
    return (None if problems else document), problems


def _schema_problems(document: object) -> list[Problem]:
    found = validate_document(document, "experiment", schema=experiment_schema())
    return [Problem(DOCUMENT, pointer, message) for pointer, message in found]


def _layer_problems(model: Json) -> Iterator[tuple[str, str]]:
    """A head list that was imported gives no layers."""
    layers = model.get("layers", [])
    yield from layer_problems(layers)
    heads = sum(layer["query_heads"] for layer in layers)
    if heads > _MOST_HEADS:
        yield "/model/layers", f"have {heads} heads, at most {_MOST_HEADS} are read"


def _identity_problems(folder: Path, document: Json) -> Iterator[tuple[str, str]]:
    """The id follows from what the experiment was made with, and the folders are called after model, kind and id."""
    model, runs, real = document["model"], document["runs"], folder.resolve()
    kind, given = kinds()[document["kind"]], document["experiment_id"]
    expected = experiment_id(kind, model, runs, document["data"], document["settings"])
    if given != expected:
        yield "/experiment_id", f"is {given}; kind, revision, runs, data and settings give {expected}"
    if real.name != f"{kind.name}-{given}":
        yield "/experiment_id", f"is {given}, the folder is called {shown(real.name[:120])}"
    slug = folder_name_of(model) if "source" in model else model_slug(model["id"])
    if model["slug"] != slug:
        yield "/model/slug", f"is {model['slug']}, the model's id gives {slug}"
    if real.parent.name != model["slug"]:
        yield "/model/slug", f"is {model['slug']}, the folder above is called {shown(real.parent.name[:120])}"
    if runs and runs[0]["slug"] != model["slug"]:
        yield "/runs/0/slug", f"is {runs[0]['slug']}, the experiment is about {model['slug']}"


def _tables(folder: Path, document: Json) -> tuple[Mapping[str, pa.Table], list[Problem]]:
    """The tables, with hashes as the document has them; or what is wrong with them."""
    kind, tables, problems = kinds()[document["kind"]], {}, []
    for name, schema in kind.tables.items():
        file = f"{name}.parquet"
        try:
            if sha256_file(regular_file(folder, file)) != document["files"][file]:
                problems.append(Problem(DOCUMENT, f"/files/{file}", "the file's hash differs"))
                continue
            tables[name] = read_table(folder / file, schema, max_rows=kind.most_rows, max_bytes=kind.most_bytes)
        except InputError as error:
            problems.append(Problem(file, "", error.problem))
    return tables, problems
