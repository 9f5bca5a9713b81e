"""Whether a run is what it says it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rh_bench.files import sha256_file

RUN_FILES = ("samples.parquet", "events.parquet", "heads.parquet", "summary.json")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file, where in it (JSON pointer), what."""

    file: str
    pointer: str
    message: str


def validate_path(path: Path) -> list[Problem]:
    """Every problem of a run folder: files missing, hashes that differ."""
    if not (path / "run.json").is_file():
        return [Problem("run.json", "", "missing: the run is unfinished")]
    try:
        document = json.loads((path / "run.json").read_text(encoding="utf-8"))
        hashes = dict(document["files"])
    except (ValueError, KeyError, TypeError) as error:
        return [Problem("run.json", "", f"unreadable ({error})")]
    problems = []
    for name in RUN_FILES:
        if not (path / name).is_file():
            problems.append(Problem(name, "", "missing"))
        elif hashes.get(name) != sha256_file(path / name):
            problems.append(Problem("run.json", f"/files/{name}", "the file's hash differs"))
    return problems
