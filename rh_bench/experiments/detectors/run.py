"""Measure detectors on a haystack set: set and model in, an experiment out. Goes on where it was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.journal import Lines, Unwritten, now, open_lines
from rh_bench.detectors import choose_detectors
from rh_bench.detectors.base import Detector, Measured, Subject
from rh_bench.detectors.foreign import described, foreign_notes
from rh_bench.engines.fast import FastEngine
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import MadeExperiment, finished_document, make_experiment, write_experiment
from rh_bench.experiments.detectors.derive import KIND, PERMUTATIONS, SAMPLES, SCORES, TOP
from rh_bench.experiments.document import experiment_folder, new_document
from rh_bench.experiments.kind import Tables
from rh_bench.measure.asking import ask
from rh_bench.measure.evaluate import Load, OnNote, OnStage, OnStep, Prepared, Request, Step, prepare
from rh_bench.models.load import LoadedModel
from rh_bench.prompting.thinking import AFTER
from rh_bench.prompting.thoughts import begun_notes
from rh_bench.protocol import BOOTSTRAP, SUCCESS_THRESHOLD
from rh_bench.records import IntArray, Json, Prompt, Sample, head_grid
from rh_bench.scores.rouge import rouge1_recall, succeeds
from rh_bench.sets.dataset import HaystackSet
from rh_bench.stats.bootstrap import NANO
from rh_bench.system.environment import describe_environment
from rh_bench.system.files import shown


@dataclass(frozen=True)
class Detection:
    """A finished experiment, and how it came to be."""

    folder: Path
    document: Json
    resumed: int
    """Measurements (one a detector and sample) that an earlier, interrupted session had made."""
    measured: int
    """Measurements that this one made: 0 where the experiment was already there."""


@dataclass(frozen=True)
class _Entry:
    """A line of the journal: what one detector found on one sample."""

    detector: str
    sample_id: str
    values: IntArray
    """int32 [S, H], in units of 1e-9."""
    generated: tuple[int, ...] | None
    seconds: float


def detect(
    request: Request,
    detectors: Sequence[str | Detector] | None = None,
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
    load: Load | None = None,
) -> Detection:
    """Measure detectors on the same samples and write the experiment.

    Args:
        request: model, set and samples; `out` is the folder of experiments.
        detectors: names of detectors, or detectors of the caller's own; all that there are here without any.
        seed: of what detectors draw at random.
        on_step: called when the measuring begins and after every measurement.
        on_stage: called with a few words when something begins that takes seconds.
        on_note: called with a line about what is done for this model and not for others; the experiment has it, too.
        load: gives the model instead of what `request.model` names.

    Raises:
        InputError: the model, the set, an option or the output folder is wrong; nothing is half written.
    """
    say = on_stage or (lambda words: None)
    task, detecting = _ready(request, detectors, seed, say, load)
    for note in (*task.loaded.notes, *detecting.asking.notes):
        (on_note or (lambda line: None))(note)
    document = detecting.document(task.grid, task.location, task.commit)
    folder = experiment_folder(request.out, document)
    finished = finished_document(folder)
    if finished is not None:
        return Detection(folder, finished, resumed=0, measured=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=shown(folder)) from None
    with open_lines(folder, detecting.identity(document), now(), detecting.parse) as journal:
        finished = finished_document(folder)  # another process may have been at work on it until just now
        if finished is not None:
            return Detection(folder, finished, resumed=0, measured=0)
        entries, resumed = detecting.measure(journal, on_step)
        say("Comparing")
        document["timings"] = journal.timings(sum(entry.seconds for entry in entries))
        document["engine"]["notes"] += detecting.answer_notes(entries)
        document = write_experiment(folder, document, detecting.tables(entries))
        (folder / JOURNAL).unlink(missing_ok=True)
    return Detection(folder, document, resumed, len(entries) - resumed)


def detect_unwritten(
    request: Request,
    detectors: Sequence[str | Detector] | None = None,
    *,
    seed: int = 0,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    load: Load | None = None,
) -> MadeExperiment:
    """As :func:`detect`, with nothing written: the experiment that would have been. `request.out` is not looked at.

    Raises:
        InputError: the model, the set or an option is wrong.
    """
    say = on_stage or (lambda words: None)
    task, detecting = _ready(request, detectors, seed, say, load)
    document = detecting.document(task.grid, task.location, task.commit)
    journal = cast("Lines[_Entry]", Unwritten(now()))
    entries, _ = detecting.measure(journal, on_step)
    say("Comparing")
    document["timings"] = journal.timings(sum(entry.seconds for entry in entries))
    document["engine"]["notes"] += detecting.answer_notes(entries)
    return make_experiment(experiment_folder(request.out, document), document, detecting.tables(entries))


def _ready(
    request: Request, detectors: Sequence[str | Detector] | None, seed: int, say: OnStage, load: Load | None
) -> tuple[Prepared, _Detecting]:
    """The set read, the model loaded, the prompts made."""
    chosen = choose_detectors(detectors)
    if request.thinking == AFTER:
        raise InputError("detectors let a model think nothing", where="--thinking after", hint="use --thinking auto")
    task = prepare(request, say, load)
    say("Assembling the prompts")
    return task, _Detecting(request, task.haystacks, task.samples, task.loaded, chosen, seed)


class _Detecting:
    """Detectors, one model and one list of samples: the prompts, and what comes out of them."""

    def __init__(
        self,
        request: Request,
        haystacks: HaystackSet,
        samples: Sequence[Sample],
        loaded: LoadedModel,
        detectors: Sequence[Detector],
        seed: int,
    ) -> None:
        self.asking = ask(loaded, haystacks, samples, request.template, request.thinking)
        self._request, self._set, self._loaded, self._detectors = request, haystacks, loaded, tuple(detectors)
        self._subject = Subject(loaded, self.asking.builder, self.asking.stop, request.max_new_tokens, seed)
        self._prompts = self.asking.prompts
        self._heads = len(head_grid(loaded.layers))

    def document(self, grid: Json, location: str, commit: str | None) -> Json:
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
            "grid": grid,
            "top": list(TOP),
            "permutations": PERMUTATIONS,
            "permutation_seed": 0,
            "bootstrap": dict(BOOTSTRAP),
        }
        data = {
            "source": location,
            "revision": commit,
            "sha256": self._set.manifest_sha256,
            "prompts": None,
            "prompts_sha256": None,
        }
        return new_document(
            KIND,
            model=loaded.describe(),
            runs=[],
            data=data,
            settings=settings,
            engine={
                "name": engine.name,
                "version": engine.version,
                "notes": [*engine.notes, *self.asking.notes, *foreign_notes(self._detectors)],
            },
            environment=describe_environment(loaded.device, loaded.device_name),
        )

    def identity(self, document: Json) -> Json:
        """What must be equal for measurements of two sessions to belong to one experiment."""
        environment = document["environment"]
        prompts = hashlib.sha256("".join(prompt.sha256 for prompt in self._prompts).encode()).hexdigest()
        names = ("rh_bench", "torch", "transformers", "device", "device_name", "threads")
        return {
            "experiment_id": document["experiment_id"],
            "prompts": prompts,
            **{name: environment[name] for name in names},
        }

    def measure(self, journal: Lines[_Entry], on_step: OnStep | None) -> tuple[list[_Entry], int]:
        """Every measurement, in the order of detectors and samples, and how many of them the journal had."""
        found = {(entry.detector, entry.sample_id): entry for entry in journal.entries}
        resumed = len(found)
        progress = _Progress(self._prompts, len(self._detectors), on_step)
        progress.report(found)
        for detector in self._detectors:
            done = {name: entry.generated or () for (who, name), entry in found.items() if who == detector.name}
            for measured in detector.measure(self._subject, self._prompts, done):
                entry = self._entry(detector, measured)
                journal.write(_line(entry))
                found[entry.detector, entry.sample_id] = entry
                progress.report(found)
        order = [(d.name, prompt.sample.sample_id) for d in self._detectors for prompt in self._prompts]
        return [found[key] for key in order], resumed

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

    def answer_notes(self, entries: Sequence[_Entry]) -> list[str]:
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


class _Progress:
    """A sample's work is its length; it is measured once by every detector."""

    def __init__(self, prompts: Sequence[Prompt], detectors: int, on_step: OnStep | None) -> None:
        self._costs = {prompt.sample.sample_id: len(prompt.ids) for prompt in prompts}
        self._total, self._count = sum(self._costs.values()) * detectors, len(prompts) * detectors
        self._on_step = on_step

    def report(self, found: dict[tuple[str, str], _Entry]) -> None:
        if self._on_step is not None:
            done = sum(self._costs[name] for _, name in found)
            self._on_step(Step(done, self._total, len(found), self._count, None))


def _line(entry: _Entry) -> Json:
    return {
        "detector": entry.detector,
        "sample_id": entry.sample_id,
        "values": entry.values.tolist(),
        "generated": None if entry.generated is None else list(entry.generated),
        "seconds": entry.seconds,
    }
