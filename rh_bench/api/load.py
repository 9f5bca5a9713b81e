"""Loading runs, imports, experiments and sets: everything is checked before it is used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from rh_bench.api.experiment import Experiment
from rh_bench.api.imported import ImportedHeads
from rh_bench.api.notebook import table_html
from rh_bench.api.run import Run
from rh_bench.artifacts.results_repo import find_layout, run_folders
from rh_bench.artifacts.run import RUN_FILES, derive_outputs, read_run
from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import InputError, RhBenchWarning
from rh_bench.interchange.folder import is_import
from rh_bench.records import Problem
from rh_bench.sets.dataset import HaystackSet
from rh_bench.sets.find import find_set
from rh_bench.system.files import shown


def load_set(where: str | Path) -> HaystackSet:
    """Load and check a haystack set.

    Args:
        where: its folder, or its `org/name[@revision]` on the Hub.

    Raises:
        InputError: there is none, or it is invalid.

    ```python
    haystacks = rh.load_set("sets/quick")
    len(haystacks.samples), haystacks.needles[0].question
    ```
    """
    return find_set(str(where)).haystacks


def load_run(where: str | Path, run: str | None = None, *, recompute: bool = False) -> Run | ImportedHeads:
    """Load a run, or an imported head list, checked like `rh-bench validate`.

    Args:
        where: its folder; or a folder of runs, or a results repository `org/name[@revision]` on the Hub.
        run: which run, if there are several: its id, or `<model folder>/<run id>`.
        recompute: also recompute all scores from the events, and refuse a run whose scores differ.

    Raises:
        InputError: there is none, the choice is ambiguous, or it is invalid; one line says what is wrong and where.

    ```python
    run = rh.load_run(folder)
    ```
    """
    folder = _folder(where)
    if not (folder / "run.json").is_file() and not is_import(folder):
        folder = _one(folder, where, run)
    elif run is not None and run not in (folder.name, f"{folder.parent.name}/{folder.name}"):
        raise InputError(f"is not the run {shown(run)!r}", where=shown(folder))
    if is_import(folder):
        return ImportedHeads.read(folder)
    found = read_run_folder(folder)
    if recompute:
        _refuse_other_scores(found)
    return found


def load_runs(where: str | Path, *, recompute: bool = False) -> Runs:
    """Load and check every run in a folder of runs or a results repository. For imports use `load_run`.

    Invalid runs are listed in `left_out` of the result, with a warning.

    Args:
        where: the folder, or `org/name[@revision]` on the Hub.
        recompute: see `load_run`.

    Raises:
        InputError: there is no such folder or repository.

    ```python
    runs = rh.load_runs("runs")
    [run.model for run in runs], runs.left_out
    ```
    """
    runs, left_out = [], []
    for folder in run_folders(find_layout(_folder(where)).runs):
        if is_import(folder):
            continue
        try:
            run = read_run_folder(folder)
            if recompute:
                _refuse_other_scores(run)
        except InputError as error:
            left_out.append((folder, str(error)))
        else:
            runs.append(run)
    if left_out:
        first = left_out[0][1]
        warnings.warn(f"{len(left_out)} runs were left out; the first because {first}", RhBenchWarning, stacklevel=2)
    return Runs(tuple(runs), tuple(left_out))


def load_experiment(where: str | Path) -> Experiment:
    """Load an experiment, checked like `rh-bench validate`: its results are recomputed from its tables.

    Args:
        where: its folder.

    Raises:
        InputError: there is none, or it is invalid.

    ```python
    experiment = rh.load_experiment(folder)
    experiment.kind, experiment.claims
    ```
    """
    return Experiment.read(_folder(where))


@dataclass(frozen=True, repr=False)
class Runs(Sequence[Run]):
    """Runs loaded together, ordered by model and id, and what was left out.

    ```python
    len(runs), runs[0].id, runs.left_out
    ```
    """

    _runs: tuple[Run, ...]
    left_out: tuple[tuple[Path, str], ...] = field(default=())
    """Folders without a valid run, each with the reason."""

    @overload
    def __getitem__(self, place: int) -> Run: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Run]: ...
    def __getitem__(self, place: int | slice) -> Run | Sequence[Run]:
        return self._runs[place]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __repr__(self) -> str:
        return f"<{len(self)} runs, {len(self.left_out)} left out>"

    def _repr_html_(self) -> str:
        rows = [{"model": run.model, **dict(run._facts())} for run in self._runs]
        return table_html(list(rows[0]) if rows else ["model"], rows, len(rows))


def read_run_folder(folder: Path) -> Run:
    """A run in a folder.

    Raises:
        InputError: it is invalid; names the first problem and how many more there are.
    """
    refuse_problems(folder, validate_path(folder))
    read = read_run(folder)
    files = {name: (folder / name).read_bytes() for name in RUN_FILES}
    return Run(read.document, read.layers, read.results, folder, files)


def refuse_problems(folder: Path, problems: Sequence[Problem]) -> None:
    """One line for what is wrong with a folder.

    Raises:
        InputError: something is.
    """
    if problems:
        first, rest = problems[0], len(problems) - 1
        place = f"{shown(folder / first.file)}{first.pointer and '#' + first.pointer}"
        raise InputError(first.message + (f" (and {rest} more problems)" if rest else ""), where=place)


def _refuse_other_scores(run: Run) -> None:
    for name, data in derive_outputs(run.document, run.layers, run.results).items():
        if data != run._files[name]:
            raise InputError(
                "does not follow from the events", where=f"{run.folder}/{name}", hint="see rh-bench verify"
            )


def _folder(where: str | Path) -> Path:
    """The folder itself; something else that looks like a repository is downloaded."""
    path, text = Path(where).expanduser(), str(where)
    if path.exists() or isinstance(where, Path) or text.startswith((".", "/", "~")) or text.count("/") != 1:
        if not path.is_dir():
            raise InputError("no such folder", where=shown(text))
        return path
    from rh_bench.hub.refs import parse_repo
    from rh_bench.hub.sets import fetch_results

    return fetch_results(parse_repo(text))[0]


def _one(folder: Path, where: str | Path, run: str | None) -> Path:
    """The run below a folder that is meant."""
    found = list(run_folders(find_layout(folder).runs))
    meant = [one for one in found if run is None or run in (one.name, f"{one.parent.name}/{one.name}")]
    if len(meant) == 1:
        return meant[0]
    what = f"{len(meant)} runs" if run is None or meant else f"no run {run!r}"
    names = ", ".join(f"{one.parent.name}/{one.name}" for one in (meant or found)[:4])
    hint = f"choose one: {shown(names)}" if names else "give the folder of a finished run"
    raise InputError(f"holds {shown(what)}", where=shown(str(where)), hint=hint)
