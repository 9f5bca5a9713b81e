"""Prompts of the question-answering experiments: instructions and shots from versioned files, as text or as turns.

A file of `data/` is never changed once it was used: another wording is another version. Its SHA-256 goes into the
artifact. Neither torch nor transformers is imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from rh_bench.errors import InputError
from rh_bench.prompting.chat import CHAT, PLAIN, choose_template, control_tokens, encode_template, uses_bos
from rh_bench.prompting.thinking import Thinking, plan_thinking
from rh_bench.records import IntArray, Json
from rh_bench.scores.answers import LETTERS
from rh_bench.sets.tasks import TASKS, Question
from rh_bench.system.files import shown
from rh_bench.system.schema import parse_json

VERSIONS: Mapping[str, int] = dict.fromkeys(TASKS, 1)
"""The version of each task's prompts that new experiments use."""

DIRECT, COT = "direct", "cot"


@dataclass(frozen=True, slots=True)
class Mode:
    """How answers are asked for."""

    instruction: str
    answer: str
    """What a shot answers, with {answer} and perhaps {rationale}."""
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Shot:
    """A question with its answer, shown before the one that is asked."""

    question: Question
    rationale: str
    answer: str


@dataclass(frozen=True, slots=True)
class TaskPrompts:
    """The prompts of a task."""

    task: str
    version: int
    file: str
    sha256: str
    question: str
    """How a question is written, with {question} and perhaps {passage} or {choices}."""
    stop: tuple[str, ...]
    """Texts at which a response ends; they are no part of it."""
    modes: Mapping[str, Mode]
    shots: tuple[Shot, ...]

    def describe(self) -> Json:
        """The `prompts` object of an experiment's data."""
        return {"file": self.file, "version": self.version, "sha256": self.sha256}

    def asked(self, question: Question) -> str:
        """A question as text."""
        letters = zip(LETTERS, question.choices, strict=False)
        choices = "\n".join(f"({letter}) {choice}" for letter, choice in letters)
        return self.question.format(question=question.question, passage=question.passage, choices=choices)

    def answered(self, mode: str, shot: Shot) -> str:
        """What a shot answers in a mode."""
        return self.modes[mode].answer.format(rationale=shot.rationale, answer=shot.answer)

    def plain(self, mode: str, question: Question, shots: int) -> str:
        """The whole prompt as one text, up to "Answer:"."""
        parts = [self.modes[mode].instruction]
        parts += [f"{self.asked(shot.question)}\nAnswer: {self.answered(mode, shot)}" for shot in self.shots[:shots]]
        return "\n\n".join([*parts, f"{self.asked(question)}\nAnswer:"])

    def turns(self, mode: str, question: Question, shots: int) -> list[dict[str, str]]:
        """The whole prompt as turns: the instruction stands before the first question, a shot is two turns."""
        asked = [self.asked(shot.question) for shot in self.shots[:shots]] + [self.asked(question)]
        asked[0] = f"{self.modes[mode].instruction}\n\n{asked[0]}"
        turns = []
        for text, shot in zip(asked, [*self.shots[:shots], None], strict=True):
            turns.append({"role": "user", "content": text})
            if shot is not None:
                turns.append({"role": "assistant", "content": self.answered(mode, shot)})
        return turns

    def cut(self, text: str) -> str:
        """A response up to where it should have stopped. Empty lines before it do not count."""
        text = text.lstrip()
        return text[: min((place for stop in self.stop if (place := text.find(stop)) >= 0), default=len(text))].rstrip()


@cache
def load_prompts(task: str, version: int | None = None) -> TaskPrompts:
    """The prompts of a task that come with the package.

    Raises:
        InputError: there is no such task or version.
    """
    if task not in TASKS:
        raise InputError(f"unknown task {shown(task)!r}", where="--task", hint=f"use {', '.join(TASKS)}")
    version = VERSIONS[task] if version is None else version
    name = f"prompts-{task}.v{version}.json"
    path = files("rh_bench.experiments.qa") / "data" / name
    if not path.is_file():
        raise InputError(f"this rh_bench has no version {version} of the prompts of {task}", where=name)
    data = path.read_bytes()
    document = parse_json(data.decode("utf-8"))
    return TaskPrompts(
        task=task,
        version=document["version"],
        file=name,
        sha256=hashlib.sha256(data).hexdigest(),
        question=document["question"],
        stop=tuple(document["stop"]),
        modes={name: Mode(**mode) for name, mode in document["modes"].items()},
        shots=tuple(_shot(shot, place) for place, shot in enumerate(document["shots"])),
    )


def _shot(shot: Json, place: int) -> Shot:
    question = Question(
        f"shot-{place}", shot["question"], (shot["answer"],), shot.get("passage", ""), tuple(shot.get("choices", ()))
    )
    return Shot(question, shot.get("rationale", ""), shot["answer"])


class AnswerPrompts:
    """Prompts of a task as token ids for one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.
        prompts: of the task.
        template: "plain", "chat" (the tokenizer's own chat template) or "auto" (chat where there is one).
        shots: how many shots stand before the question.
        thinking: what to do about the thoughts of a model that has them; without it, what can be told without asking
            the model.

    Raises:
        InputError: there is no such template, no chat template though one was asked for, one that cannot be used, or
            fewer shots.
    """

    def __init__(
        self, tokenizer: Any, prompts: TaskPrompts, template: str, shots: int, thinking: Thinking | None = None
    ) -> None:
        self.chat = choose_template(tokenizer, template)
        """The chat template that prompts are written with; None for plain text."""
        if not 0 <= shots <= len(prompts.shots):
            raise InputError(f"{prompts.file} has {len(prompts.shots)} shots", where="--shots", hint="give no more")
        self.template_name = PLAIN if self.chat is None else CHAT
        plan = None if self.chat is None or thinking is not None else plan_thinking(self.chat)
        self.thinking = plan.unasked if plan else thinking
        """What prompts do about the thoughts of the model; None if none are known."""
        self.shots = shots
        self._tokenizer, self._prompts = tokenizer, prompts
        self._control = control_tokens(tokenizer)

    def build(self, mode: str, question: Question) -> IntArray:
        """The prompt of a question: int32 [L].

        Raises:
            InputError: the question's text holds a control token of this tokenizer.
        """
        self._refuse_control(question)
        if self.chat is None:
            text = self._prompts.plain(mode, question, self.shots)
        else:
            variables = dict(self.thinking.variables) if self.thinking else {}
            text = self.chat.render(self._prompts.turns(mode, question, self.shots), variables)
            text += self.thinking.appended if self.thinking else ""
        ids = self._encode(text)
        bos = self._tokenizer.bos_token_id
        if uses_bos(self._tokenizer) and (not len(ids) or ids[0] != bos):
            ids = np.concatenate([np.asarray([bos], dtype=np.int32), ids])
        return ids

    def text(self, generated: Sequence[int]) -> str:
        """Generated ids as text, special tokens left out, up to the first stop text."""
        return self._prompts.cut(str(self._tokenizer.decode(list(generated), skip_special_tokens=True)))

    def _refuse_control(self, question: Question) -> None:
        found = self._control.keys() & set(self._encode(self._prompts.asked(question)).tolist())
        if found:
            raise InputError(
                f"its text holds {self._control[min(found)]!r}, a control token of this tokenizer",
                where=question.item_id,
                hint="remove it from the text",
            )

    def _encode(self, text: str) -> IntArray:
        return np.asarray(encode_template(self._tokenizer, text), dtype=np.int32)
