"""A run or an import in another format, as files."""

from __future__ import annotations

from pathlib import Path

from rh_bench.artifacts.run import read_run
from rh_bench.errors import InputError
from rh_bench.interchange import reports
from rh_bench.interchange.eee import every_eval_ever
from rh_bench.interchange.eval_results import eval_results
from rh_bench.interchange.folder import is_import, read_import
from rh_bench.interchange.formats import Written, write
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.system.files import atomic_write


def export_run(
    folder: Path,
    format: str,
    *,
    rule: reports.Rule = "paper",
    threshold: float = HEAD_THRESHOLD,
    top: int | None = None,
    reduce: str = "max",
    dataset: str | None = None,
    developer: str | None = None,
) -> Written:
    """The files of a format, and what it cannot carry. Options as of :mod:`rh_bench.interchange.reports`, `developer`
    as of :func:`rh_bench.interchange.eee.every_eval_ever`.

    Raises:
        InputError: the folder is damaged, or lacks what the format is made of.
    """
    if is_import(folder):
        if format in ("eee", "eval-results"):
            raise InputError("an import has no measured success to report", where=folder)
        heads = read_import(folder)
        if format == "duo" and heads.unit == "query":
            raise InputError("an import does not say how many key/value heads the model has", where=folder)
        return write(heads, format)
    if format == "eee":
        return every_eval_ever(folder, developer)
    if format == "eval-results":
        return eval_results(folder, dataset)
    heads = reports.head_list(folder, rule=rule, threshold=threshold, top=top)
    groups = reports.kv_heads(read_run(folder).layers, folder) if format == "duo" else None
    return write(heads, format, kv_heads=groups, reduce=reduce)


def write_files(written: Written, target: Path) -> list[Path]:
    """Write the files: to `target` itself where there is one file and `target` has a suffix, else below it as a folder.

    Raises:
        InputError: it cannot be written.
    """
    single = len(written.files) == 1 and bool(target.suffix) and not target.is_dir()
    folder = target.parent if single else target
    paths = [target] if single else [folder / name for name in written.files]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=folder) from None
    for path, data in zip(paths, written.files.values(), strict=True):
        atomic_write(path, data)
    return paths
