"""Measure detectors on a haystack set: set and model in, an experiment out. Goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rh_bench.artifacts.journal import Entries
from rh_bench.detectors import choose_detectors
from rh_bench.detectors.base import Detector, Measured, Subject
from rh_bench.detectors.foreign import described, foreign_notes
from rh_bench.engines.fast import FastEngine
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import MadeExperiment, make_experiment
from rh_bench.experiments.detectors.derive import PERMUTATIONS, SAMPLES, SCORES, TOP
from rh_bench.experiments.detectors.kind import KIND
from rh_bench.experiments.document import experiment_folder, new_document
from rh_bench.experiments.kind import Tables
from rh_bench.experiments.session import experiment_places, set_data
from rh_bench.measure.asking import ask
from rh_bench.measure.prepare import Prepared, Request, prepare
from rh_bench.measure.session import (
    Findings,
    OnNote,
    OnStage,
    OnStep,
    Outcome,
    Progress,
    Watch,
    hold_in_memory,
    hold_session,
    prompts_sha256,
)
from rh_bench.prompting.thinking import AFTER
from rh_bench.prompting.thoughts import begun_notes
from rh_bench.protocol import BOOTSTRAP, SUCCESS_THRESHOLD
from rh_bench.records import IntArray, Json, Prompt, head_grid
from rh_bench.scores.rouge import rouge1_recall, succeeds
from rh_bench.stats.bootstrap import NANO
from rh_bench.system.environment import describe_environment


@dataclass(frozen=True)
class _Entry:
    """A line of the journal: what one detector found on one sample."""

    detector: str
    sample_id: str
    values: IntArray
    """int32 [S, H], in units of 1e-9."""
    generated: tuple[int, ...] | None
    seconds: float

    def line(self) -> Json:
        return {
            "detector": self.detector,
            "sample_id": self.sample_id,
            "values": self.values.tolist(),
            "generated": None if self.generated is None else list(self.generated),
            "seconds": self.seconds,
        }


def detect(
    request: Request,
    detectors: Sequence[str | Detector] | None = None,
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
) -> Outcome:
    """Measure detectors on the same samples and write the experiment.

    Args:
        request: model, set and samples; `out` is the folder of experiments.
        detectors: names of detectors, or detectors of the caller's own; all that are rh_bench's without any.
        seed: of what detectors draw at random.
        on_step: called when the measuring begins and after every measurement (one a detector and sample).
        on_stage: called with a few words when something begins that takes seconds.
        on_note: called with a line about what is done for this model and not for others; the experiment has it, too.

    Raises:
        InputError: the model, the set, an option or the output folder is wrong; nothing is half written.
    """
    watch = Watch.of(on_step, on_stage, on_note)
    detecting = _ready(request, detectors, seed, watch)
    return hold_session(detecting, experiment_places(request.out, detecting.tables), watch)


def detect_in_memory(
    request: Request,
    detectors: Sequence[str | Detector] | None = None,
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
) -> MadeExperiment:
    """As :func:`detect`, with nothing written: the experiment that would have been. `request.out` is not looked at.

    Raises:
        InputError: the model, the set or an option is wrong.
    """
    watch = Watch.of(on_step, on_stage, on_note)
    detecting = _ready(request, detectors, seed, watch)
    document, entries = hold_in_memory(detecting, watch)
    return make_experiment(experiment_folder(request.out, document), document, detecting.tables(entries))


def _ready(request: Request, detectors: Sequence[str | Detector] | None, seed: int, watch: Watch) -> _Detecting:
    """The set read, the model loaded, the prompts made."""
    chosen = choose_detectors(detectors)
    if request.thinking == AFTER:
        raise InputError("detectors let a model think nothing", where="--thinking after", hint="use --thinking auto")
    prepared = prepare(request, watch.stage)
    watch.stage("Assembling the prompts")
    return _Detecting(request, prepared, chosen, seed)


class _Detecting:
    """Detectors, one model and one list of samples: the prompts, and what comes out of them."""

    def __init__(self, request: Request, prepared: Prepared, detectors: Sequence[Detector], seed: int) -> None:
        loaded = prepared.loaded
        self._prepared, self._loaded, self._detectors = prepared, loaded, tuple(detectors)
        self.asking = ask(loaded, prepared.haystacks, prepared.samples, request.template, request.thinking)
        self._subject = Subject(loaded, self.asking.builder, self.asking.stop, request.max_new_tokens, seed)
        self._prompts = self.asking.prompts
        self._heads = len(head_grid(loaded.layers))

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the model, and of how it is asked."""
        return (*self._loaded.notes, *self.asking.notes)

    def document(self) -> Json:
        """experiment.json as far as it is known before measuring."""
        subject, loaded = self._subject, self._loaded
        engine = FastEngine(loaded.model, loaded.layers, subject.stop, subject.max_new_tokens)
        settings = {
            "detectors": [described(detector) for detector in self._detectors],
            "seed": subject.seed,
            **self.asking.protocol(),
            "max_new_tokens": subject.max_new_tokens,
            "success_threshold": SUCCESS_THRESHOLD,
            "dtype": loaded.dtype,
            "grid": self._prepared.grid,
            "top": list(TOP),
            "permutations": PERMUTATIONS,
            "permutation_seed": 0,
            "bootstrap": dict(BOOTSTRAP),
        }
        return new_document(
            KIND,
            model=loaded.describe(),
            runs=[],
            data=set_data(self._prepared.found),
            settings=settings,
            engine={
                "name": engine.name,
                "version": engine.version,
                "notes": [*engine.notes, *self.asking.notes, *foreign_notes(self._detectors)],
            },
            environment=describe_environment(loaded.device, loaded.device_name),
        )

    def deciding(self) -> Json:
        """The prompts."""
        return {"prompts": prompts_sha256(self._prompts)}

    def measure(self, journal: Entries[_Entry], watch: Watch) -> Findings[list[_Entry]]:
        """Every measurement, in the order of detectors and samples."""
        found = {(entry.detector, entry.sample_id): entry for entry in journal.entries}
        resumed = len(found)
        costs = {prompt.sample.sample_id: len(prompt.ids) for prompt in self._prompts}
        count = len(self._detectors)
        progress = Progress(watch, sum(costs.values()) * count, len(costs) * count, succeeds=False)
        for _, name in found:
            progress.add(costs[name])
        progress.tell()
        for detector in self._detectors:
            done = {name: entry.generated or () for (who, name), entry in found.items() if who == detector.name}
            for measured in detector.measure(self._subject, self._prompts, done):
                entry = self._entry(detector, measured)
                journal.write(entry.line())
                found[entry.detector, entry.sample_id] = entry
                progress.add(costs[entry.sample_id])
                progress.tell()
        order = [(d.name, prompt.sample.sample_id) for d in self._detectors for prompt in self._prompts]
        entries = [found[key] for key in order]
        watch.stage("Comparing")
        seconds = sum(entry.seconds for entry in entries)
        return Findings(entries, seconds, resumed, len(entries) - resumed, self._answer_notes(entries))

    def _entry(self, detector: Detector, measured: Measured) -> _Entry:
        # A share may pass 1 by what float32 rounds.
        values = np.rint(np.clip(measured.scores, -1.0, 1.0) * NANO).astype(np.int32)
        generated = None if measured.generated is None else tuple(int(token) for token in measured.generated)
        return _Entry(detector.name, measured.sample_id, values, generated, round(measured.seconds, 6))

    def parse(self, line: Json) -> _Entry | None:
        """A journal's line, if it is of this experiment."""
        try:
            values = np.asarray(line["values"], dtype=np.int32)
            generated = None if line["generated"] is None else tuple(int(token) for token in line["generated"])
            entry = _Entry(str(line["detector"]), str(line["sample_id"]), values, generated, float(line["seconds"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        scores = next((len(d.scores) for d in self._detectors if d.name == entry.detector), None)
        known = any(prompt.sample.sample_id == entry.sample_id for prompt in self._prompts)
        return entry if known and values.shape == (scores, self._heads) else None

    def _answer_notes(self, entries: Sequence[_Entry]) -> list[str]:
        """What a reader of the experiment should know of the answers."""
        builder = self._subject.builder
        return begun_notes(builder.raw_text(entry.generated) for entry in entries if entry.generated is not None)

    def tables(self, entries: Sequence[_Entry]) -> Tables:
        """The experiment's tables."""
        answers = {entry.sample_id: entry.generated for entry in entries if entry.generated is not None}
        samples = [self._sample_row(prompt, answers.get(prompt.sample.sample_id)) for prompt in self._prompts]
        by_detector = {detector.name: detector.scores for detector in self._detectors}
        rows = [
            {
                "detector": name,
                "score": score,
                "sample_id": entry.sample_id,
                "values": entry.values[place],
                "seconds": entry.seconds,
            }
            for name, scores in by_detector.items()
            for place, score in enumerate(scores)
            for entry in entries
            if entry.detector == name
        ]
        return {
            "samples": pa.Table.from_pylist(samples, schema=SAMPLES),
            "scores": pa.Table.from_pylist(rows, schema=SCORES),
        }

    def _sample_row(self, prompt: Prompt, generated: Sequence[int] | None) -> Json:
        sample, recall = prompt.sample, None
        if generated is not None:
            recall = rouge1_recall(prompt.answer, self._subject.builder.text(list(generated)))
        return {
            "sample_id": sample.sample_id,
            "needle_id": sample.needle_id,
            "haystack_id": sample.haystack_id,
            "length": sample.length,
            "depth": sample.depth,
            "prompt_sha256": prompt.sha256,
            "rouge1_recall": recall,
            "success": None if recall is None else succeeds(recall),
        }
