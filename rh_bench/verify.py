"""How far a run can be believed without its model.

The first two levels of verification: *valid* (the run is well formed and agrees with itself), and *recomputed* (its
scores are what its events give).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.runs import derive_outputs, read_run
from rh_bench.validate import validate_path


@dataclass(frozen=True, slots=True)
class Level:
    """One level: `reached` is None where a lower level failed, so that it was not tried."""

    name: str
    reached: bool | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found about a run, from the lowest level up."""

    folder: Path
    levels: tuple[Level, ...]

    def to_json(self) -> Json:
        return {
            "folder": str(self.folder),
            "levels": [
                {"level": level.name, "reached": level.reached, "reasons": list(level.reasons)} for level in self.levels
            ],
        }


def verify_run(folder: Path) -> Verification:
    """Verify a run as far as its own files go.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, mend="give a finished run's folder")
    problems = tuple(f"{p.file}{'#' + p.pointer if p.pointer else ''}: {p.message}" for p in validate_path(folder))
    valid = Level("valid", not problems, problems)
    if problems:
        return Verification(folder, (valid, Level("recomputed", None, ("the run is not valid",))))
    return Verification(folder, (valid, _recomputed(folder)))


def _recomputed(folder: Path) -> Level:
    run = read_run(folder)
    differing = tuple(
        f"{name} is not what the events give"
        for name, data in derive_outputs(run.document, run.layers, run.results).items()
        if (folder / name).read_bytes() != data
    )
    return Level("recomputed", not differing, differing)
