"""Run a model without its retrieval heads, and without random ones, for :mod:`rh_bench.experiments.causal.derive`.

Goes on where it was interrupted. torch and transformers are imported when something is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from rh_bench.artifacts.journal import Entries
from rh_bench.artifacts.run import Run, read_run
from rh_bench.errors import InputError
from rh_bench.experiments.causal.derive import ANSWERS, MOST_ANSWERS, PERMUTATIONS, SAMPLES, judge
from rh_bench.experiments.causal.kind import KIND
from rh_bench.experiments.causal.plan import (
    describe_reference,
    make_conditions,
    reference_sequences,
    sample_row,
    unseen_needles,
)
from rh_bench.experiments.document import new_document, run_reference
from rh_bench.experiments.failures import RULE_VERSION, Haystack
from rh_bench.experiments.heads import Ranking, run_ranking
from rh_bench.experiments.session import experiment_places, set_data
from rh_bench.measure.asking import ask_as, fitting_prompts
from rh_bench.measure.prepare import ModelRequest
from rh_bench.measure.session import (
    Findings,
    OnNote,
    OnStage,
    OnStep,
    Outcome,
    Progress,
    Watch,
    hold_session,
    prompts_sha256,
)
from rh_bench.prompting.thinking import BEFORE, thought_limit
from rh_bench.prompting.thoughts import begun_notes
from rh_bench.protocol import BOOTSTRAP, HEAD_THRESHOLD
from rh_bench.records import Json, Prompt, Sample, head_grid
from rh_bench.sets.choose import Choice, choose_samples
from rh_bench.sets.find import FoundSet, find_set
from rh_bench.system.environment import describe_environment, refuse_light_install

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
class Request(ModelRequest, Choice):
    """What to measure, as the command line takes it."""

    run: Path
    """Folder of the detection run."""
    haystack: str
    out: Path
    """Folder of experiments."""
    _: KW_ONLY
    top: tuple[int, ...] = TOP
    draws: int = DRAWS
    seed: int = 0
    how: How = "zero"
    phase: Phase = "both"
    limit: int | None = LIMIT
    rows: int | None = None
    """Conditions in one batch; None for as many as the engine's budget holds."""
    dtype: str | None = None


@dataclass(frozen=True)
class Line:
    """A line of the journal: the answers to one prompt under one batch of conditions."""

    batch: int
    sample_id: str
    generated: tuple[tuple[int, ...], ...]
    seconds: float

    @classmethod
    def parse(cls, line: Json) -> Line | None:
        """The line, if it is one."""
        try:
            generated = tuple(tuple(int(token) for token in answer) for answer in line["generated"])
            return cls(int(line["batch"]), str(line["sample_id"]), generated, float(line["seconds"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


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
    watch = Watch.of(on_step, on_stage, on_note)
    watch.stage("Reading the run and the set")
    planned = _plan(request)
    watch.stage("Loading the model")
    loaded = _load(request, planned)
    watch.stage("Assembling the prompts")
    ablating = _Ablating(request, planned, loaded)
    return hold_session(ablating, experiment_places(request.out, ablating.tables), watch)


@dataclass(frozen=True)
class _Plan:
    """What is asked without which heads, as far as the run and the set say it."""

    run: Run
    ranking: Ranking
    conditions: Sequence[Json]
    left_out: Sequence[Json]
    """Conditions that cannot be, and why."""
    found: FoundSet
    samples: tuple[Sample, ...]
    grid: Json
    """Which samples they are, as a document says it."""


def _plan(request: Request) -> _Plan:
    """Read the run and the set, and choose conditions and samples.

    Raises:
        InputError: the run, the set or an option is wrong, or too much is asked for.
    """
    run = read_run(request.run)
    if thought_limit(run.document):
        raise InputError(
            "this run's answers follow thoughts, which no ablation produces",
            where=request.run,
            hint="give a run of --thinking auto",
        )
    ranking = run_ranking(request.run)
    conditions, left_out = make_conditions(head_grid(run.layers), ranking, request.top, request.draws, request.seed)
    found = find_set(request.haystack)
    unseen = unseen_needles(found.haystacks, run, request.needles)
    named = replace(request, needles=request.needles or tuple(needle.needle_id for needle in unseen))
    samples, grid = choose_samples(found.haystacks, named, request.haystack)
    samples = tuple(sorted(samples, key=lambda s: (s.needle_id, s.length, s.depth, s.sample_id)))
    if len(samples) * len(conditions) > MOST_ANSWERS:
        text = f"{len(samples)} samples × {len(conditions)} conditions are more than {MOST_ANSWERS} answers"
        raise InputError(text, where="--limit", hint="give fewer samples, --draws or --top")
    return _Plan(run, ranking, conditions, left_out, found, samples, grid)


def _load(request: Request, planned: _Plan) -> LoadedModel:
    """The run's model, and no other.

    Raises:
        InputError: it cannot be loaded, is another one, or its window is too small.
    """
    document, samples = planned.run.document, planned.samples
    template, limit = document["protocol"]["template"], document["protocol"]["max_new_tokens"]
    loaded = request.load(
        run=document,
        positions=max(sample.length for sample in samples) + limit,
        prompts=fitting_prompts(planned.found.haystacks, samples, template, limit),
    )
    if loaded.source.revision != document["model"]["revision"]:
        raise InputError(
            f"is not the model of the run: its revision is {loaded.source.revision[:12]}, the run's "
            f"{document['model']['revision'][:12]}",
            where=request.model,
            hint=f"give the run's model, {document['model']['id']}",
        )
    return loaded


class _Ablating:
    """One model under all conditions on one list of samples."""

    def __init__(self, request: Request, planned: _Plan, loaded: LoadedModel) -> None:
        self._request, self._planned, self._loaded = request, planned, loaded
        self._run, self._conditions = planned.run, planned.conditions
        haystacks, used = planned.found.haystacks, {sample.needle_id for sample in planned.samples}
        self._needles = {key: needle for key, needle in haystacks.needles_by_id.items() if key in used}
        self._texts = {n.haystack_id: haystacks.texts[n.haystack_id] for n in self._needles.values()}
        self.asking = ask_as(loaded, haystacks, planned.samples, self._run.document)
        if self.asking.thinking == BEFORE:
            raise InputError(
                "this run is of an older version, which did not ask whether the model was thinking",
                where=request.run,
                hint="measure it again",
            )
        self._builder, self._prompts, self._stop = self.asking.builder, self.asking.prompts, self.asking.stop
        self._engine = self._make_engine(self._run.document["protocol"]["max_new_tokens"])
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

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the model, and of how it is asked."""
        return (*self._loaded.notes, *self.asking.notes)

    def _settings(self) -> Json:
        """Everything that decides the observations."""
        request, protocol = self._request, self._run.document["protocol"]
        return {
            "how": request.how,
            "phase": request.phase,
            "top": sorted(request.top),
            "draws": request.draws,
            "seed": request.seed,
            "retrieval_threshold": HEAD_THRESHOLD,
            "retrieval_heads": [list(head) for head in self._planned.ranking.retrieval],
            "conditions": list(self._conditions),
            "left_out": list(self._planned.left_out),
            "protocol": {
                **self.asking.protocol(),
                "max_new_tokens": self._max_new,
                "success_threshold": protocol["success_threshold"],
                "dtype": self._loaded.dtype,
            },
            "grid": self._planned.grid,
            "rows": self._rows,
            "reference": self._means[1] if self._means else None,
            "error_rule": RULE_VERSION,
            "permutations": PERMUTATIONS,
            "bootstrap": dict(BOOTSTRAP),
        }

    def document(self) -> Json:
        """experiment.json as far as it is known before measuring."""
        engine, loaded = self._engine, self._loaded
        return new_document(
            KIND,
            model=loaded.describe(),
            runs=[run_reference(self._run.folder)],
            settings=self._settings(),
            data=set_data(self._planned.found),
            engine={"name": engine.name, "version": engine.version, "notes": [*engine.notes, *self.asking.notes]},
            environment=describe_environment(loaded.device, loaded.device_name),
        )

    def deciding(self) -> Json:
        """The prompts."""
        return {"prompts": prompts_sha256(self._prompts)}

    def parse(self, line: Json) -> Line | None:
        """As :meth:`Line.parse`."""
        return Line.parse(line)

    def measure(self, journal: Entries[Line], watch: Watch) -> Findings[list[Line]]:
        """The answers to every prompt under every batch of conditions."""
        sets = [[(layer, head) for layer, head in row["heads"]] for row in self._conditions]
        sizes = [len(batch) for batch in self._engine.batches(sets)]
        names = {prompt.sample.sample_id for prompt in self._prompts}
        lines = {
            (line.batch, line.sample_id): line
            for line in journal.entries
            if line.sample_id in names and line.batch < len(sizes) and len(line.generated) == sizes[line.batch]
        }
        resumed = sum(len(line.generated) for line in lines.values())
        total = len(sets) * len(self._prompts)
        progress = Progress(watch, len(sizes) * len(self._prompts), total, succeeds=False)
        for line in lines.values():
            progress.add(1, samples=len(line.generated))
        progress.tell()
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
            progress.add(1, samples=len(line.generated))
            progress.tell()
        done = list(lines.values())
        watch.stage("Judging the answers")
        seconds = sum(line.seconds for line in done)
        return Findings(done, seconds, resumed, total - resumed, self._answer_notes(done))

    def _answer_notes(self, lines: Sequence[Line]) -> list[str]:
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
