"""Measure a model on a haystack set: set and model in, a finished run on disk out. Goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path

from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.run import RUN_FILES, MadeRun, make_run, run_folder, write_run
from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import InputError
from rh_bench.measure.copies import CopyMeasurement
from rh_bench.measure.prepare import Prepared, Request, prepare
from rh_bench.measure.session import OnNote, OnStage, OnStep, Outcome, Place, Step, Watch, hold_in_memory, hold_session
from rh_bench.records import Json, SampleResult
from rh_bench.system.environment import refuse_light_install
from rh_bench.system.schema import load_json

__all__ = ["Outcome", "Request", "Step", "evaluate", "evaluate_in_memory"]


def evaluate(
    request: Request,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
) -> Outcome:
    """Measure a model on a set and write the run.

    Args:
        request: what to measure.
        on_step: called when the measuring begins and after every sample.
        on_stage: called with a few words when something begins that takes seconds.
        on_note: called with a line about what is done for this model and not for others; run.json has it, too.

    Raises:
        InputError: the model, the set, an option or the output folder is wrong; nothing is half written.
    """
    refuse_light_install("evaluate")
    watch = Watch.of(on_step, on_stage, on_note)
    prepared = prepare(request, watch.stage)
    watch.stage("Assembling the prompts")
    measurement = CopyMeasurement(request, prepared)
    return hold_session(measurement, lambda document: _place(request, prepared, document), watch)


def evaluate_in_memory(
    request: Request,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
) -> MadeRun:
    """As :func:`evaluate`, with nothing written: the run that would have been. `request.out` is not looked at.

    Raises:
        InputError: the model, the set or an option is wrong.
    """
    refuse_light_install("evaluate")
    watch = Watch.of(on_step, on_stage, on_note)
    prepared = prepare(request, watch.stage)
    watch.stage("Assembling the prompts")
    document, results = hold_in_memory(CopyMeasurement(request, prepared), watch)
    return make_run(document, prepared.loaded.layers, results)


def _place(request: Request, prepared: Prepared, document: Json) -> Place[list[SampleResult]]:
    """Where the run lies, and how it is written."""
    loaded = prepared.loaded

    def write(folder: Path, document: Json, results: list[SampleResult]) -> Json:
        attested = {} if request.attestation is None else {"attestation": request.attestation}
        return write_run(folder, {**document, **attested}, loaded.layers, results)

    folder = run_folder(request.out, loaded.source.slug, document["run_id"])
    return Place(folder, finished_run, write, RUN_FILES)


def finished_run(folder: Path) -> Json | None:
    """run.json of a run that is finished and sound; None if it is not finished. A journal beside it is removed.

    Raises:
        InputError: it is finished and was damaged since.
    """
    if not (folder / "run.json").exists():
        return None
    problems = [p for p in validate_path(folder) if p.file != JOURNAL]
    if problems:
        first = problems[0]
        raise InputError(
            f"this run is finished but damaged ({first.file}{first.pointer}: {first.message})",
            where=folder,
            hint="remove the folder to measure again",
        )
    (folder / JOURNAL).unlink(missing_ok=True)
    document: Json = load_json(folder / "run.json")
    return document
