"""Haystack sets and results repositories from the Hub, as folders of plain files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.hub.download import download
from rh_bench.hub.refs import RepoRef
from rh_bench.system.workshop import PATIENCE, sweep, workshop

SET_FILES = ("manifest.json", "README.md", "*.parquet")
RESULT_FILES = ("runs/*", "verification/*", "experiments/*", "judgements/*", "attestations/*")


def fetch_set(
    ref: RepoRef, cache_dir: Path | None = None, *, endpoint: str | None = None, token: str | None = None
) -> tuple[Path, str]:
    """Download a haystack set.

    Args:
        ref: the dataset repository.
        cache_dir: cache to use instead of huggingface_hub's own.
        endpoint: Hub to use instead of the one huggingface_hub is configured for.
        token: token to use instead of the one huggingface_hub is configured for.

    Returns:
        The folder with the set's files, and the 40-digit commit they belong to.

    Raises:
        InputError: the repository cannot be read, or is not a haystack set.
    """
    snapshot, commit = download(ref, "dataset", SET_FILES, (), cache_dir, endpoint, token)
    folder = _without_links(snapshot, _sets_folder(cache_dir) / snapshot.parents[1].name / commit)
    if not (folder / "manifest.json").is_file():
        raise InputError(
            "has no manifest.json, so it is not an rh-bench haystack set",
            where=f"dataset {ref}",
            hint="give a repository made by `rh-bench publish`, or build a set with `rh-bench build`",
        )
    return folder, commit


def fetch_results(
    ref: RepoRef, cache_dir: Path | None = None, *, endpoint: str | None = None, token: str | None = None
) -> tuple[Path, str]:
    """Download the runs, verifications and experiments of a results repository. Arguments and result as for
    `fetch_set`.

    Raises:
        InputError: the repository cannot be read, or has no runs.
    """
    snapshot, commit = download(ref, "dataset", RESULT_FILES, (), cache_dir, endpoint, token)
    if not (snapshot / "runs").is_dir():
        raise InputError("has no runs", where=f"dataset {ref}", hint="give a results repository")
    return _without_links(snapshot, _sets_folder(cache_dir) / snapshot.parents[1].name / commit), commit


def fetch_verifications(
    ref: RepoRef, *, endpoint: str | None = None, token: str | None = None
) -> dict[tuple[str, str], Path]:
    """Download the verification records of a results repository; those in the cache are not fetched again.

    Returns:
        Their files by the two folder names of the run.

    Raises:
        InputError: the repository cannot be read.
    """
    snapshot, _ = download(ref, "dataset", RESULT_FILES[1:2], (), None, endpoint, token)
    return {(path.parent.name, path.stem): path for path in sorted(snapshot.glob("verification/*/*.json"))}


def _sets_folder(cache_dir: Path | None) -> Path:
    from huggingface_hub import constants

    return (cache_dir or Path(constants.HF_HOME)) / "rh_bench"


def _without_links(snapshot: Path, folder: Path) -> Path:
    """The files of a snapshot as plain files. In the client's cache they are symbolic links, which our readers do not
    follow, because a set from elsewhere could point out of its folder with one.

    Raises:
        InputError: the folder cannot be written.
    """
    names = sorted(path.relative_to(snapshot) for path in snapshot.rglob("*") if path.is_file())

    def whole() -> bool:
        return folder.is_dir() and all((folder / name).is_file() for name in names)

    if whole():
        sweep(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with workshop(folder, patience=PATIENCE) as made:
            if whole():  # another process was faster
                return folder
            fresh = made.fresh()
            for name in names:
                target = fresh / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link((snapshot / name).resolve(), target)
                except OSError:  # another file system, or one without hard links
                    shutil.copyfile(snapshot / name, target)
            made.put(fresh)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=folder) from None
    return folder
