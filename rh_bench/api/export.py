"""Writing heads in the formats of other projects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rh_bench.errors import InputError
from rh_bench.interchange.base import Written
from rh_bench.system.files import atomic_write, shown

_OPTIONS = ("rule", "threshold", "top", "reduce", "dataset", "developer")


class Exported(NamedTuple):
    """The files written, the main one first, and what their format cannot hold."""

    paths: list[Path]
    losses: tuple[str, ...]


def export(folder: Path, format: str, path: Path, options: dict[str, Any]) -> Exported:
    """Write the run or import in `folder`.

    Raises:
        InputError: there is no such format or option, or the run lacks data the format needs.
    """
    from rh_bench.interchange.export import export_run, write_files

    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise InputError(f"unknown option {shown(unknown[0])!r}", where="to", hint=f"there are {', '.join(_OPTIONS)}")
    written = export_run(folder, format, **options)
    main = Path(next(iter(written.files)))
    if len(written.files) > 1 and path.suffix == main.suffix and not path.is_dir():
        return Exported(_beside(written, path), written.losses)
    return Exported(write_files(written, path), written.losses)


def _beside(written: Written, path: Path) -> list[Path]:
    """Write the main file to `path`, and those that belong to it beside it.

    Raises:
        InputError: something else lies there under the name of one of the latter.
    """
    _, *others = written.files
    for name in others:
        there = path.parent / name
        if there.exists() and (not there.is_file() or there.read_bytes() != written.files[name]):
            hint = "give a folder, or another place"
            raise InputError("would be written over", where=shown(str(there)), hint=hint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=shown(str(path.parent))) from None
    paths = [path, *(path.parent / name for name in others)]
    for target, data in zip(paths, written.files.values(), strict=True):
        atomic_write(target, data)
    return paths
