"""The runs that an experiment names, where they are available, and what their files show of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rh_bench.artifacts.run import derive_outputs, read_run
from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import InputError
from rh_bench.experiments.document import run_reference
from rh_bench.interchange.folder import check_import, is_import
from rh_bench.records import Json
from rh_bench.system.files import shown

if TYPE_CHECKING:
    from rh_bench.experiments.artifact import Experiment


def find_runs(experiment: Experiment, named: Sequence[str]) -> tuple[list[Path | None], list[str], list[str]]:
    """Folders of an experiment's runs: of those named here, else beside it.

    Args:
        named: folders of runs that the verifier gave.

    Returns:
        A folder for each run of the document, None if there is none; what is wrong with those there are; and which
        are not available.

    Raises:
        InputError: a folder that was named is no run's.
    """
    given = {_key(Path(text)): Path(text).resolve() for text in named}
    found: list[Path | None] = []
    wrong, absent = [], []
    for reference in experiment.document["runs"]:
        name = f"{reference['slug']}/{reference['run_id']}"
        folder = given.pop(name, None) or _beside(experiment.folder, reference)
        if folder is None:
            absent.append(f"the run {name} is not at hand; name its folder with --run")
        elif run_reference(folder) != reference:
            wrong.append(f"the run {name} that is at hand is another than the one meant: its SHA-256 differs")
            folder = None
        found.append(folder)
    wrong += [f"{shown(name)} is none of the runs that the experiment names" for name in given]
    return found, wrong, absent


def _key(folder: Path) -> str:
    real = folder.resolve()
    if not any((real / name).is_file() for name in ("run.json", "import.json")):
        raise InputError("is no run's folder", where=shown(folder), hint="give a finished run's folder with --run")
    return f"{real.parent.name}/{real.name}"


def _beside(experiment: Path, reference: Json) -> Path | None:
    """In a results repository, or where the folders of runs and of experiments stand side by side."""
    above = experiment.resolve().parent.parent.parent
    for runs in (above / "runs", above):
        folder: Path = runs / reference["slug"] / reference["run_id"]
        plain = not any(part.is_symlink() for part in (folder, folder.parent))
        if plain and any((folder / name).is_file() for name in ("run.json", "import.json")):
            return folder
    return None


def run_problems(folder: Path) -> list[str]:
    """Why what a run says of heads cannot be believed, from its files: the heads must be what its events give."""
    name = f"the run {folder.parent.name}/{folder.name}"
    imported = is_import(folder)
    problems = check_import(folder) if imported else validate_path(folder)
    if problems:
        return [f"{name} is not valid: {problems[0].file}{problems[0].pointer}: {problems[0].message}"]
    if imported:
        return []
    run = read_run(folder)
    outputs = derive_outputs(run.document, run.layers, run.results)
    return [
        f"{name}: {file} is not what its events give" for file, data in outputs.items() if _differs(folder / file, data)
    ]


def _differs(path: Path, data: bytes) -> bool:
    return path.read_bytes() != data


def model_differences(document: Json, run: Json) -> list[str]:
    """What an experiment says of its model and its run does not.

    Args:
        document: experiment.json; run: run.json.
    """
    one, other = document["model"], run["model"]
    names = [name for name in ("id", "slug", "revision") if one.get(name) != other.get(name)]
    layers = ("index", "kind", "query_heads", "kv_heads", "window")
    if [[x.get(n) for n in layers] for x in one["layers"]] != [[x.get(n) for n in layers] for x in other["layers"]]:
        names.append("layers")
    if _hashes(one) != _hashes(other):
        names.append("files")
    return [f"its model's {name} is not that of the run" for name in names]


def _hashes(model: Json) -> list[tuple[str, str]]:
    return sorted((file["path"], file["sha256"]) for file in model["files"])
