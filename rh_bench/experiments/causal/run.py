"""Run a model without its retrieval heads, and without random ones, for :mod:`rh_bench.experiments.causal.derive`.

Goes on where it was interrupted. torch and transformers are imported when something is measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.journal import Lines, now, open_lines
from rh_bench.artifacts.run import Run, read_run
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import finished_document, write_experiment
from rh_bench.experiments.causal.derive import ANSWERS, MOST_ANSWERS, PERMUTATIONS, SAMPLES, judge
from rh_bench.experiments.causal.kind import KIND
from rh_bench.experiments.causal.plan import (
    describe_reference,
    make_conditions,
    reference_sequences,
    sample_row,
    unseen_needles,
)
from rh_bench.experiments.document import experiment_folder, new_document, run_reference
from rh_bench.experiments.failures import RULE_VERSION, Haystack
from rh_bench.experiments.heads import Ranking, run_ranking
from rh_bench.measure.asking import ask_as
from rh_bench.measure.evaluate import (
    OnNote,
    OnStage,
    OnStep,
    Step,
    choose_samples,
    find_set,
    fitting_prompts,
    refuse_light_install,
)
from rh_bench.measure.evaluate import Request as GridRequest
from rh_bench.models.source import base_revision
from rh_bench.models.window import stated_window
from rh_bench.prompting.thinking import BEFORE, thought_limit
from rh_bench.prompting.thoughts import begun_notes
from rh_bench.protocol import BOOTSTRAP, HEAD_THRESHOLD
from rh_bench.records import Json, Needle, Prompt, Sample, head_grid
from rh_bench.sets.dataset import HaystackSet
from rh_bench.system.environment import describe_environment
from rh_bench.system.files import shown

if TYPE_CHECKING:
    from rh_bench.attention.ablation import How, MeanInputs, Phase
    from rh_bench.engines.batched import BatchedEngine
    from rh_bench.models.load import LoadedModel

TOP = (0, 2, 5, 10, 15, 20, 30, 50, 100)
"""The paper's K."""
DRAWS = 5
LIMIT = 24
"""Samples without --limit: enough for minutes on two cores."""


@dataclass(frozen=True)
class Request:
    """What to measure, as the command line takes it."""

    model: str
    run: Path
    """Folder of the detection run."""
    haystack: str
    out: Path
    """Folder of experiments."""
    top: tuple[int, ...] = TOP
    draws: int = DRAWS
    seed: int = 0
    how: How = "zero"
    phase: Phase = "both"
    lengths: tuple[int, ...] | None = None
    depths: tuple[float, ...] | None = None
    needles: tuple[str, ...] | None = None
    limit: int | None = LIMIT
    rows: int | None = None
    """Conditions in one batch; None for as many as the engine's budget holds."""
    device: str = "auto"
    dtype: str | None = None
    """None takes the run's."""
    trust_remote_code: bool = False
    window: int | None = None
    """Largest number of positions; None for what the run says, or the model's configuration."""


@dataclass(frozen=True)
class Outcome:
    """A finished experiment, and how it came to be."""

    folder: Path
    document: Json
    resumed: int
    """Answers that an earlier, interrupted session had."""
    measured: int
    """Answers that this one got: 0 where the experiment was already there."""


@dataclass(frozen=True)
class Line:
    """A line of the journal: the answers to one prompt under one batch of conditions."""

    batch: int
    sample_id: str
    generated: tuple[tuple[int, ...], ...]
    seconds: float


def ablation_experiment(
    request: Request,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
) -> Outcome:
    """Measure success without heads, and write the experiment.

    Args:
        on_step: called when the measuring begins and after every batch of answers.
        on_stage: called with a few words when something begins that takes seconds.
        on_note: called with a line about what is done for this model and not for others; the experiment has it, too.

    Raises:
        InputError: the model, the run, the set, an option or the output folder is wrong; nothing is half written.
    """
    refuse_light_install("ablate")
    say = on_stage or (lambda text: None)
    say("Reading the run and the set")
    run = read_run(request.run)
    if thought_limit(run.document):
        raise InputError(
            "this run's answers follow thoughts, which no ablation produces",
            where=request.run,
            hint="give a run of --thinking auto",
        )
    ranking = run_ranking(request.run)
    conditions, left_out = make_conditions(head_grid(run.layers), ranking, request.top, request.draws, request.seed)
    haystacks, location, commit = find_set(request.haystack)
    needles = unseen_needles(haystacks, run, request.needles)
    samples, grid = choose_samples(haystacks, _grid_request(request, needles))
    samples = tuple(sorted(samples, key=lambda s: (s.needle_id, s.length, s.depth, s.sample_id)))
    if len(samples) * len(conditions) > MOST_ANSWERS:
        text = f"{len(samples)} samples × {len(conditions)} conditions are more than {MOST_ANSWERS} answers"
        raise InputError(text, where="--limit", hint="give fewer samples, --draws or --top")
    say("Loading the model")
    loaded = _load(request, run, haystacks, samples)
    say("Assembling the prompts")
    measurement = _Measurement(request, run, haystacks, samples, loaded, conditions)
    for note in (*loaded.notes, *measurement.asking.notes):
        (on_note or (lambda line: None))(note)
    data = {
        "source": location,
        "revision": commit,
        "sha256": haystacks.manifest_sha256,
        "prompts": None,
        "prompts_sha256": None,
    }
    settings = measurement.settings(ranking, left_out, grid)
    document = measurement.document(data, settings)
    folder = experiment_folder(request.out, document)
    finished = finished_document(folder)
    if finished is not None:
        return Outcome(folder, finished, resumed=0, measured=0)
    _make_folder(folder)
    with open_lines(folder, measurement.identity(document), now(), _line) as journal:
        finished = finished_document(folder)  # another process may have been at work on it until just now
        if finished is not None:
            return Outcome(folder, finished, resumed=0, measured=0)
        lines, resumed = measurement.measure(journal, on_step)
        document["timings"] = journal.timings(sum(line.seconds for line in lines))
        say("Judging the answers")
        document["engine"]["notes"] += measurement.answer_notes(lines)
        document = write_experiment(folder, document, measurement.tables(lines))
        (folder / JOURNAL).unlink(missing_ok=True)
    total = len(samples) * len(conditions)
    return Outcome(folder, document, resumed, total - resumed)


def _grid_request(request: Request, needles: Sequence[Needle]) -> GridRequest:
    chosen = request.needles or tuple(needle.needle_id for needle in needles)
    return GridRequest(
        model=request.model,
        haystack=request.haystack,
        out=request.out,
        lengths=request.lengths,
        depths=request.depths,
        needles=chosen,
        limit=request.limit,
    )


def _load(request: Request, run: Run, haystacks: HaystackSet, samples: Sequence[Sample]) -> LoadedModel:
    """The run's model, and no other.

    Raises:
        InputError: it cannot be loaded, is another one, or its window is too small.
    """
    from rh_bench.models.load import load_model

    protocol = run.document["protocol"]
    loaded = load_model(
        request.model,
        dtype=request.dtype or protocol["dtype"],
        device=request.device,
        trust_remote_code=request.trust_remote_code,
        positions=max(sample.length for sample in samples) + protocol["max_new_tokens"],
        window=request.window or stated_window(run.document["model"]),
        base_revision=base_revision(run.document["model"]),
        prompts=fitting_prompts(haystacks, samples, protocol["template"], protocol["max_new_tokens"]),
    )
    if loaded.source.revision != run.document["model"]["revision"]:
        raise InputError(
            f"is not the model of the run: its revision is {loaded.source.revision[:12]}, the run's "
            f"{run.document['model']['revision'][:12]}",
            where=request.model,
            hint=f"give the run's model, {run.document['model']['id']}",
        )
    return loaded


class _Measurement:
    """One model under all conditions on one list of samples."""

    def __init__(
        self,
        request: Request,
        run: Run,
        haystacks: HaystackSet,
        samples: Sequence[Sample],
        loaded: LoadedModel,
        conditions: Sequence[Json],
    ) -> None:
        self._request, self._run, self._loaded, self._conditions = request, run, loaded, conditions
        used = {sample.needle_id for sample in samples}
        self._needles = {key: needle for key, needle in haystacks.needles_by_id.items() if key in used}
        self._texts = {n.haystack_id: haystacks.texts[n.haystack_id] for n in self._needles.values()}
        self.asking = ask_as(loaded, haystacks, samples, run.document)
        if self.asking.thinking == BEFORE:
            raise InputError(
                "this run is of an older version, which did not ask whether the model was thinking",
                where=request.run,
                hint="measure it again",
            )
        self._builder, self._prompts, self._stop = self.asking.builder, self.asking.prompts, self.asking.stop
        self._engine = self._make_engine(run.document["protocol"]["max_new_tokens"])
        self._means = self._reference()

    def _make_engine(self, max_new_tokens: int) -> BatchedEngine:
        from rh_bench.engines.batched import BatchedEngine, rows_that_fit

        loaded, config = self._loaded, self._loaded.model.config.get_text_config(decoder=True)
        self._max_new = max_new_tokens
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        positions = max(len(prompt.ids) for prompt in self._prompts) + max_new_tokens
        fit = rows_that_fit(loaded.layers, head_dim, loaded.model.dtype.itemsize, positions, loaded.device)
        self._rows = min(self._request.rows or fit, len(self._conditions))
        return BatchedEngine(loaded.model, loaded.layers, self._stop, max_new_tokens, rows=self._rows)

    def _reference(self) -> tuple[MeanInputs, Json] | None:
        """Means over the beginnings of the haystacks, which hold no needle, and what they are of."""
        if self._request.how != "mean":
            return None
        from rh_bench.attention.ablation import mean_inputs

        sequences = reference_sequences(self._loaded.tokenizer, self._texts)
        return mean_inputs(self._loaded.model, list(sequences.values())), describe_reference(sequences)

    def settings(self, ranking: Ranking, left_out: Sequence[Json], grid: Json) -> Json:
        """Everything that decides the observations."""
        request, protocol = self._request, self._run.document["protocol"]
        return {
            "how": request.how,
            "phase": request.phase,
            "top": sorted(request.top),
            "draws": request.draws,
            "seed": request.seed,
            "retrieval_threshold": HEAD_THRESHOLD,
            "retrieval_heads": [list(head) for head in ranking.retrieval],
            "conditions": list(self._conditions),
            "left_out": list(left_out),
            "protocol": {
                **self.asking.protocol(),
                "max_new_tokens": self._max_new,
                "success_threshold": protocol["success_threshold"],
                "dtype": self._loaded.dtype,
            },
            "grid": grid,
            "rows": self._rows,
            "reference": self._means[1] if self._means else None,
            "error_rule": RULE_VERSION,
            "permutations": PERMUTATIONS,
            "bootstrap": dict(BOOTSTRAP),
        }

    def document(self, data: Json, settings: Json) -> Json:
        """experiment.json as far as it is known before measuring."""
        engine, loaded = self._engine, self._loaded
        return new_document(
            KIND,
            model=loaded.describe(),
            runs=[run_reference(self._run.folder)],
            settings=settings,
            data=data,
            engine={"name": engine.name, "version": engine.version, "notes": [*engine.notes, *self.asking.notes]},
            environment=describe_environment(loaded.device, loaded.device_name),
        )

    def identity(self, document: Json) -> Json:
        """What must be equal for answers of two sessions to belong to one experiment."""
        environment = document["environment"]
        prompts = hashlib.sha256("".join(prompt.sha256 for prompt in self._prompts).encode()).hexdigest()
        names = ("rh_bench", "torch", "transformers", "device", "device_name", "threads")
        known = {name: environment[name] for name in names}
        return {"experiment_id": document["experiment_id"], "prompts": prompts, **known}

    def measure(self, journal: Lines[Line], on_step: OnStep | None) -> tuple[list[Line], int]:
        """The answers to every prompt under every batch of conditions, and how many answers the journal had."""
        sets = [[(layer, head) for layer, head in row["heads"]] for row in self._conditions]
        sizes = [len(batch) for batch in self._engine.batches(sets)]
        names = {prompt.sample.sample_id for prompt in self._prompts}
        lines = {
            (line.batch, line.sample_id): line
            for line in journal.entries
            if line.sample_id in names and line.batch < len(sizes) and len(line.generated) == sizes[line.batch]
        }
        resumed = sum(len(line.generated) for line in lines.values())
        report = _Progress(len(sizes) * len(self._prompts), len(sets) * len(self._prompts), on_step)
        report(lines.values())
        for found in self._engine.answer(
            self._prompts,
            sets,
            how=self._request.how,
            phase=self._request.phase,
            means=self._means[0] if self._means else None,
            done=set(lines),
        ):
            line = Line(found.batch, found.sample_id, found.generated, round(found.seconds, 6))
            journal.write(asdict(line))
            lines[line.batch, line.sample_id] = line
            report(lines.values())
        return list(lines.values()), resumed

    def answer_notes(self, lines: Sequence[Line]) -> list[str]:
        """What a reader of the experiment should know of the answers."""
        return begun_notes(self._builder.raw_text(answer) for line in lines for answer in line.generated)

    def tables(self, lines: Sequence[Line]) -> dict[str, pa.Table]:
        """samples and answers, in their order."""
        samples = [self._sample_row(prompt) for prompt in self._prompts]
        around = {p.sample.sample_id: Haystack(self._builder.haystack_text(p)) for p in self._prompts}
        said = {
            (line.batch * self._rows + place, line.sample_id): generated
            for line in lines
            for place, generated in enumerate(line.generated)
        }
        rows = [
            self._answer_row(number, row, said[number, row["sample_id"]], around[row["sample_id"]])
            for number in range(len(self._conditions))
            for row in samples
        ]
        return {
            "samples": pa.Table.from_pylist(samples, schema=SAMPLES),
            "answers": pa.Table.from_pylist(rows, schema=ANSWERS),
        }

    def _sample_row(self, prompt: Prompt) -> Json:
        needle = self._needles[prompt.sample.needle_id]
        return sample_row(prompt, needle.question, self._builder.haystack_text(prompt))

    def _answer_row(self, condition: int, sample: Json, generated: Sequence[int], around: Haystack) -> Json:
        text = self._builder.text(list(generated))
        share = around.share_of(text, sample["question"])
        threshold = self._run.document["protocol"]["success_threshold"]
        judged = judge(text, sample["answer"], sample["question"], sample["own_grams"], share, threshold)
        about = {"condition": condition, "sample_id": sample["sample_id"], "tokens": len(generated), "text": text}
        return {**about, **judged}


class _Progress:
    """Tells the caller how far the batches are."""

    def __init__(self, batches: int, answers: int, on_step: OnStep | None) -> None:
        self._batches, self._answers, self._on_step = batches, answers, on_step

    def __call__(self, lines: Any) -> None:
        if self._on_step is not None:
            done = sum(len(line.generated) for line in lines)
            self._on_step(Step(len(lines), self._batches, done, self._answers, 0))


def _line(line: Json) -> Line | None:
    try:
        generated = tuple(tuple(int(token) for token in answer) for answer in line["generated"])
        return Line(int(line["batch"]), str(line["sample_id"]), generated, float(line["seconds"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=shown(folder)) from None
