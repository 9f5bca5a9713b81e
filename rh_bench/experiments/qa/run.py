"""Ask a model a task's questions with heads removed: what runs `chain_of_thought` and `extractive_qa`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rh_bench.artifacts.journal import Entries
from rh_bench.artifacts.run import Run, read_run
from rh_bench.attention.ablation import PHASES, Phase
from rh_bench.errors import InputError
from rh_bench.experiments.document import new_document, run_reference
from rh_bench.experiments.heads import Ranking, run_ranking
from rh_bench.experiments.kind import Tables
from rh_bench.experiments.qa.derive import ITEMS, RESPONSES, grade
from rh_bench.experiments.qa.generate import Generator, rows_that_fit
from rh_bench.experiments.qa.kind import CHAIN_OF_THOUGHT, EXTRACTIVE_QA
from rh_bench.experiments.qa.plan import Condition, choose_conditions, choose_modes, item_row
from rh_bench.experiments.qa.task_prompts import AnswerPrompts, load_prompts
from rh_bench.experiments.session import experiment_places
from rh_bench.measure.asking import FIRST_TOKENS
from rh_bench.measure.prepare import ModelRequest
from rh_bench.measure.session import Findings, OnNote, OnStage, OnStep, Outcome, Progress, Watch, hold_session
from rh_bench.models.load import LoadedModel
from rh_bench.prompting.chat import CHAT, choose_template
from rh_bench.prompting.thinking import AUTO, Thinking, settle_thinking
from rh_bench.prompting.thoughts import begun_notes
from rh_bench.protocol import BOOTSTRAP
from rh_bench.records import IntArray, Json, head_grid
from rh_bench.scores.answers import RULES_VERSION
from rh_bench.sets.prompts import prompt_sha256
from rh_bench.sets.tasks import Question, TaskData, choose_questions
from rh_bench.system.environment import describe_environment

ENGINE = {"name": "generate", "version": 1}


@dataclass(frozen=True)
class Request(ModelRequest):
    """What to ask, as the command line takes it."""

    run: Path
    """The run of this model that the heads come from."""
    out: Path
    """Folder of experiments."""
    _: KW_ONLY
    limit: int | None = None
    """Questions, at even distances in the data; all without it."""
    shots: int | None = None
    """All that the prompts have, without it."""
    modes: tuple[str, ...] | None = None
    top: int | None = None
    """Heads to remove; as many as the run has retrieval heads, without it."""
    draws: int = 3
    """Random draws, as many uniform ones as matched by layer."""
    seed: int = 0
    """Of the first draw; each next one has the next seed."""
    phase: Phase = "both"
    max_new_tokens: int | None = None
    """In every mode, instead of what the prompts say."""
    batch: int | None = None
    """Rows; what fits in memory, without it."""
    template: str = "auto"


def ask(
    request: Request,
    data: TaskData,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
) -> Outcome:
    """Ask the questions of a task under every condition and write the experiment.

    Args:
        data: the task's questions.
        on_step: called when the asking begins and after every batch.
        on_stage: called with a few words when something begins that takes seconds.
        on_note: called with a line about what is done for this model and not for others; the experiment has it, too.

    Raises:
        InputError: the model, the run, the questions, an option or the output folder is wrong; nothing says "finished".
    """
    watch = Watch.of(on_step, on_stage, on_note)
    if request.phase not in PHASES:
        raise InputError(f"unknown phase {request.phase!r}", where="--phase", hint=f"use {', '.join(PHASES)}")
    watch.stage("Reading the run")
    run = read_run(request.run)
    ranking = run_ranking(request.run)
    questions = choose_questions(data.questions, request.limit)
    conditions = choose_conditions(
        head_grid(run.layers), ranking, request.top, request.draws, request.seed, request.run
    )
    watch.stage("Loading the model")
    loaded = request.load(
        run=run.document,
        prompts=lambda tokenizer, *_: _assemble(request, data.task, questions, tokenizer)[1].values(),
    )
    _refuse_other_model(run, loaded)
    watch.stage("Assembling the prompts")
    asking = _Asking(request, data, questions, conditions, ranking, loaded)
    return hold_session(asking, experiment_places(request.out, asking.tables), watch)


def _refuse_other_model(run: Run, loaded: LoadedModel) -> None:
    measured = run.document["model"]
    if measured["revision"] != loaded.source.revision:
        raise InputError(
            f"its revision is {loaded.source.revision}, the run is of {measured['id']} {measured['revision']}",
            where=loaded.source.id,
            hint="give the run of this very model",
        )


# --- asking ---


@dataclass(frozen=True, slots=True)
class _Job:
    """One prompt under one condition."""

    key: str
    condition: Condition
    mode: str
    question: Question
    ids: IntArray


@dataclass(frozen=True, slots=True)
class _Answer:
    key: str
    ids: tuple[int, ...]
    finished: bool
    seconds: float

    def line(self) -> Json:
        return {"key": self.key, "ids": list(self.ids), "finished": self.finished, "seconds": self.seconds}

    @classmethod
    def parse(cls, line: Json) -> _Answer | None:
        try:
            ids = tuple(int(token) for token in line["ids"])
            return cls(str(line["key"]), ids, bool(line["finished"]), float(line["seconds"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


class _Asking:
    """One model and one list of questions: the prompts, the batches, and what comes out of them."""

    def __init__(
        self,
        request: Request,
        data: TaskData,
        questions: Sequence[Question],
        conditions: Sequence[Condition],
        ranking: Ranking,
        loaded: LoadedModel,
    ) -> None:
        self._request, self._data, self._loaded, self._ranking = request, data, loaded, ranking
        self._questions, self._conditions = questions, conditions
        self._prompts = load_prompts(data.task)
        self._modes = choose_modes(self._prompts.modes, request.modes)
        shots = len(self._prompts.shots) if request.shots is None else request.shots
        chat = choose_template(loaded.tokenizer, request.template)
        self._generator = Generator(loaded, self._prompts.stop, request.phase, chat)
        thinking = None if chat is None else settle_thinking(chat, AUTO, None, lambda left: self._begin(left, shots))
        self._builder, self._ids = _assemble(request, data.task, questions, loaded.tokenizer, thinking)
        self._limits = {
            mode: request.max_new_tokens or self._prompts.modes[mode].max_new_tokens for mode in self._modes
        }
        self._refuse_beyond_window()
        self._rows = request.batch or rows_that_fit(loaded, self._positions)

    def _begin(self, left: Thinking, shots: int) -> str:
        """How the model begins its answer to the first question, special tokens and all."""
        builder = AnswerPrompts(self._loaded.tokenizer, self._prompts, CHAT, shots, left)
        (made,) = self._generator.run([builder.build(self._modes[0], self._questions[0])], [()], FIRST_TOKENS)
        return self._raw_text(made.ids)

    def _raw_text(self, ids: Sequence[int]) -> str:
        return str(self._loaded.tokenizer.decode(list(ids), skip_special_tokens=False))

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the model, and of how it is asked."""
        return (*self._loaded.notes, *self._asking_notes)

    @property
    def _asking_notes(self) -> tuple[str, ...]:
        thinking = self._builder.thinking
        return (*([thinking.note] if thinking else []), *self._generator.rule.notes)

    @property
    def _positions(self) -> int:
        return max(len(ids) + self._limits[mode] for (mode, _), ids in self._ids.items())

    def document(self) -> Json:
        """experiment.json as far as it is known before anything is asked."""
        request, data, loaded = self._request, self._data, self._loaded
        settings: Json = {
            "task": data.task,
            "modes": list(self._modes),
            "questions": len(self._questions),
            "limit": request.limit,
            "left_out": data.source["left_out"],
            "shots": self._builder.shots,
            "template": self._builder.template_name,
            "stop": list(self._prompts.stop),
            **({"turn_token": turn[1]} if (turn := self._generator.rule.turn) else {}),
            **({"thinking": thinking.to_json()} if (thinking := self._builder.thinking) else {}),
            "max_new_tokens": dict(self._limits),
            "dtype": loaded.dtype,
            "how": "zero",
            "phase": request.phase,
            "top": len(self._conditions[1].heads),
            "retrieval_heads": [list(head) for head in self._ranking.retrieval],
            "conditions": [condition.describe() for condition in self._conditions],
            "rules_version": RULES_VERSION,
            "bootstrap": dict(BOOTSTRAP),
        }
        source = data.source
        return new_document(
            EXTRACTIVE_QA if data.task == "extractive" else CHAIN_OF_THOUGHT,
            model=loaded.describe(),
            runs=[run_reference(request.run)],
            settings=settings,
            data={
                "source": source["name"],
                "revision": source["revision"],
                "sha256": source["sha256"],
                "prompts": self._prompts.file,
                "prompts_sha256": self._prompts.sha256,
            },
            engine={**ENGINE, "notes": [f"batches of up to {self._rows} rows", *self._asking_notes]},
            environment=describe_environment(loaded.device, loaded.device_name),
        )

    def deciding(self) -> Json:
        """Rows of a batch; the prompts follow from the settings."""
        return {"batch": self._rows}

    def parse(self, line: Json) -> _Answer | None:
        """A journal's line, if it is one."""
        return _Answer.parse(line)

    def measure(self, journal: Entries[_Answer], watch: Watch) -> Findings[dict[str, _Answer]]:
        """Every job's answer by its key."""
        batches = list(self._batches())
        known = {answer.key: answer for answer in journal.entries}
        # A batch is the unit: rows of half a batch might differ in their last bits from those of a whole one.
        done = {j.key: known[j.key] for batch in batches if all(j.key in known for j in batch) for j in batch}
        resumed, total = len(done), sum(map(len, batches))
        progress = Progress(watch, total, total, succeeds=True)
        for job in (job for batch in batches for job in batch if job.key in done):
            progress.add(1, succeeded=self._right(job, done[job.key]))
        progress.tell()
        for batch in (batch for batch in batches if batch[0].key not in done):
            for job, answer in zip(batch, self._answer(batch), strict=True):
                journal.write(answer.line())
                done[job.key] = answer
                progress.add(1, succeeded=self._right(job, answer))
            progress.tell()
        watch.stage("Computing the results")
        seconds = sum(answer.seconds for answer in done.values())
        return Findings(done, seconds, resumed, len(done) - resumed, self._answer_notes(done))

    def _answer_notes(self, answers: dict[str, _Answer]) -> list[str]:
        """What a reader of the experiment should know of the answers."""
        return begun_notes(self._raw_text(answer.ids) for answer in answers.values())

    def tables(self, answers: dict[str, _Answer]) -> Tables:
        """The tables of the experiment, in the order of its settings."""
        items = [item_row(question) for question in self._questions]
        responses = [self._row(job, answers[job.key]) for job in self._jobs()]
        return {
            "items": pa.Table.from_pylist(items, schema=ITEMS),
            "responses": pa.Table.from_pylist(responses, schema=RESPONSES),
        }

    def _jobs(self) -> Iterator[_Job]:
        for condition in self._conditions:
            for mode in self._modes:
                for question in self._questions:
                    key = f"{condition.name}/{mode}/{question.item_id}"
                    yield _Job(key, condition, mode, question, self._ids[mode, question.item_id])

    def _batches(self) -> Iterator[list[_Job]]:
        """Jobs of one mode, the longest prompts first, all conditions of a question side by side."""
        place = {question.item_id: number for number, question in enumerate(self._questions)}
        for mode in self._modes:
            jobs = [job for job in self._jobs() if job.mode == mode]
            jobs.sort(key=lambda job: (-len(job.ids), place[job.question.item_id]))
            for first in range(0, len(jobs), self._rows):
                yield jobs[first : first + self._rows]

    def _answer(self, batch: Sequence[_Job]) -> list[_Answer]:
        begun = time.perf_counter()
        limit = self._limits[batch[0].mode]
        found = self._generator.run([job.ids for job in batch], [job.condition.heads for job in batch], limit)
        seconds = round((time.perf_counter() - begun) / len(batch), 6)
        return [_Answer(job.key, one.ids, one.finished, seconds) for job, one in zip(batch, found, strict=True)]

    def _right(self, job: _Job, answer: _Answer) -> bool:
        return bool(self._row(job, answer)["correct"])

    def _row(self, job: _Job, answer: _Answer) -> Json:
        text = self._builder.text(answer.ids)
        graded = grade(self._data.task, text, job.question.answers, len(job.question.choices))
        return {
            "condition": job.condition.name,
            "mode": job.mode,
            "item_id": job.question.item_id,
            "prompt_sha256": prompt_sha256(job.ids),
            "prompt_tokens": len(job.ids),
            "tokens": len(answer.ids),
            "finished": answer.finished,
            "text": text,
            "answer": graded.answer,
            "correct": graded.correct,
            "f1": graded.f1,
        }

    def _refuse_beyond_window(self) -> None:
        window = self._loaded.window
        for (mode, item), ids in self._ids.items():
            if window is not None and len(ids) + self._limits[mode] > window:
                raise InputError(
                    f"its {len(ids)} tokens with {self._limits[mode]} new ones are beyond the window of {window}",
                    where=item,
                    hint="give fewer --shots, or --window N if the model is for more positions",
                )


def _assemble(
    request: Request, task: str, questions: Sequence[Question], tokenizer: Any, thinking: Thinking | None = None
) -> tuple[AnswerPrompts, dict[tuple[str, str], IntArray]]:
    """The builder of the prompts, and the prompts as ids, by mode and question.

    Raises:
        InputError: an option is wrong, or a question's text holds a control token.
    """
    prompts = load_prompts(task)
    shots = len(prompts.shots) if request.shots is None else request.shots
    builder = AnswerPrompts(tokenizer, prompts, request.template, shots, thinking)
    modes = choose_modes(prompts.modes, request.modes)
    return builder, {(mode, one.item_id): builder.build(mode, one) for mode in modes for one in questions}
