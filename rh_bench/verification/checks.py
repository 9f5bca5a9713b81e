"""One check for whatever folder a user names: a run, a haystack set, an import or an experiment."""

from __future__ import annotations

from pathlib import Path

from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import is_experiment, validate_experiment
from rh_bench.interchange.folder import check_import, is_import
from rh_bench.records import Problem
from rh_bench.sets.dataset import check_set, is_set
from rh_bench.system.files import shown


def check_folder(folder: Path) -> list[Problem]:
    """Every problem of a run, a set, an import or an experiment; none if it is sound.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError("no such folder", where=shown(folder), hint="give the folder of a run or a set")
    if is_import(folder):
        return check_import(folder)
    if is_experiment(folder):
        return validate_experiment(folder)
    return check_set(folder) if is_set(folder) else validate_path(folder)
