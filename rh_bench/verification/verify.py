"""How far a run can be believed, from the lowest level up.

*valid*: it is well formed, and agrees with itself and with its model's public configuration. *recomputed*: its scores
are what its events give, its samples are those of the set, and every prompt is reproduced with the model's tokenizer.
*rerun*: samples that its maker could not choose, measured again here, agree. A level for which there is no evidence is
not reached, and says why.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from rh_bench.artifacts.coverage import coverage
from rh_bench.artifacts.levels import Evidence, Level, Verification, untried
from rh_bench.artifacts.run import Run, derive_outputs, read_run
from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import InputError
from rh_bench.interchange.folder import check_import, is_import
from rh_bench.models.config import config_problems
from rh_bench.records import Problem
from rh_bench.system.schema import load_json

_MOST_REASONS = 20


def verify_run(folder: Path, evidence: Evidence | None = None) -> Verification:
    """Verify a run, or an import as far as that goes.

    Raises:
        InputError: there is no such folder, or what was named as evidence cannot be fetched.
    """
    return Verification(folder, tuple(verify_levels(folder, evidence or Evidence())))


def verify_levels(folder: Path, evidence: Evidence) -> Iterator[Level]:
    """The levels one by one, as soon as each is known. Arguments and errors as for `verify_run`."""
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, hint="give the folder of a finished run")
    from rh_bench.experiments.artifact import is_experiment

    if is_experiment(folder):
        from rh_bench.experiments.levels import experiment_levels

        yield from experiment_levels(folder, evidence)
        return
    imported = is_import(folder)
    level = _valid_import(folder) if imported else _valid(folder, evidence)
    yield level
    if imported and level.reached:
        reason = "imported from another project's file: there are no events to recompute anything from"
        yield from (Level(name, None, (reason,)) for name in ("recomputed", "rerun"))
        return
    run = read_run(folder) if level.reached else None
    steps: tuple[tuple[str, Callable[[Run, Evidence], Level]], ...] = (("recomputed", _recomputed), ("rerun", _rerun))
    for name, step in steps:
        if run is None or level.reached is False:
            level, run = Level(name, None, (f"the run is not {level.name}",)), None
        else:
            level = _tried(name, step, run, evidence)
        yield level


def _tried(name: str, step: Callable[[Run, Evidence], Level], run: Run, evidence: Evidence) -> Level:
    """A level; not tried where the run's own set or model cannot be fetched, an error where those named here cannot."""
    try:
        return step(run, evidence)
    except InputError as error:
        return untried(name, error, evidence)


def _valid_import(folder: Path) -> Level:
    problems = _in_words(check_import(folder))
    return Level("valid", not problems, problems)


def _valid(folder: Path, evidence: Evidence) -> Level:
    """What the run's files show, and whether its layers and heads are those of its model's configuration."""
    problems = _in_words(validate_path(folder))
    if problems:
        return Level("valid", False, problems)
    run, named = load_json(folder / "run.json"), evidence.model
    note = coverage(run).note
    notes = (note.rstrip("."),) if note else ()
    try:
        wrong = config_problems(run["model"], named)
    except InputError as error:
        if named is not None:
            raise
        return Level("valid", True, (*notes, f"not compared with its model's configuration: {error}"))
    return Level("valid", not wrong, tuple(wrong) or notes)


def _in_words(found: list[Problem]) -> tuple[str, ...]:
    return tuple(f"{p.file}{'#' + p.pointer if p.pointer else ''}: {p.message}" for p in found)


def _recomputed(run: Run, evidence: Evidence) -> Level:
    differing = [
        f"{name} is not what the events give"
        for name, data in derive_outputs(run.document, run.layers, run.results).items()
        if (run.folder / name).read_bytes() != data
    ]
    if differing:
        return Level("recomputed", False, tuple(differing))
    missing = _missing_evidence(run, evidence)
    if missing:
        return Level("recomputed", None, ("heads.parquet and summary.json are what the events give", missing))
    from rh_bench.measure.reproduce import covered, prompt_problems

    problems = prompt_problems(run, evidence.haystack, evidence.model)
    if problems:
        return Level("recomputed", False, _first(problems))
    return Level("recomputed", True, (f"measured on {covered(run, evidence.haystack).words}",))


def _rerun(run: Run, evidence: Evidence) -> Level:
    if not evidence.rerun:
        return Level("rerun", None, ("no samples were measured again; use --rerun N",))
    missing = _missing_evidence(run, evidence)
    if missing:
        return Level("rerun", None, (missing,))
    from rh_bench.verification.rerun import rerun

    salt = secrets.token_hex(8) if evidence.salt is None else evidence.salt
    agreed, words = rerun(run, evidence.haystack, evidence.model, evidence.rerun, salt, evidence.device)
    return Level("rerun", agreed, _first(words))


def _missing_evidence(run: Run, evidence: Evidence) -> str | None:
    """Why the prompts cannot be reproduced, if they cannot."""
    model, haystack = run.document["model"], run.document["haystack"]
    if evidence.haystack is None and haystack["revision"] is None:
        return "its prompts were not reproduced: it was measured on a local set; give a copy with --haystack"
    if evidence.model is None and model["source"] == "memory":
        return "its prompts were not reproduced: its model was in memory; name a copy that was saved with --model"
    if evidence.model is None and model["source"] != "hub":
        return "its prompts were not reproduced: its model is a local file; give a copy with --model"
    return None


def _first(words: list[str]) -> tuple[str, ...]:
    more = [f"and {len(words) - _MOST_REASONS} more"] if len(words) > _MOST_REASONS else []
    return tuple(words[:_MOST_REASONS] + more)
