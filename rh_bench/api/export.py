"""Writing heads in the formats of other projects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rh_bench.errors import InputError
from rh_bench.system.files import shown

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
    return Exported(write_files(written, path), written.losses)
