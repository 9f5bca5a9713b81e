"""Question–passage pairs from a seed: the embedded data of extractive QA, licence CC0, without a network.

A passage is a few paragraphs of synthetic prose (:mod:`rh_bench.data_builders.prose`) in which facts are told. One of
them is asked about; the others are of the same kind but about someone else, so that the question must be read, too.
The answer stands in the passage once and verbatim. The facts are put together from `data/qa_facts.json`.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rh_bench.data_builders.prose import PROSE_VERSION, synthetic_text
from rh_bench.errors import InputError
from rh_bench.sets.prompts import sentence_ends
from rh_bench.sets.tasks import Question, TaskData, gather

QA_VERSION = 1
"""Goes up whenever a seed begins to give other pairs."""
COUNT = 300
"""Pairs of a set."""
CHARACTERS = 400
"""Of the prose of a passage, at least."""
FACTS = 3
"""Facts in a passage: one is asked about."""
MAX_SEED = 10**15

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Fact:
    """A template of facts: the sentence, the question about it, and the part of the sentence that answers it."""

    fact: str
    question: str
    answer: str
    key: str
    """The slot that tells facts of one kind apart."""


def synthetic_pairs(seed: int, count: int = COUNT) -> TaskData:
    """`count` questions with their passages. The same arguments give the same pairs on every machine.

    Args:
        seed: from 0 to MAX_SEED.
        count: from 1 to 10000.

    Raises:
        InputError: an argument is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"{seed} is out of range", where="seed", hint=f"use 0 to {MAX_SEED}")
    if not 1 <= count <= 10_000:
        raise InputError(f"{count} is out of range", where="count", hint="use 1 to 10000")
    questions = [_pair(seed, number) for number in range(count)]
    digest = hashlib.sha256("".join(question.sha256 for question in questions).encode()).hexdigest()
    name = f"synthetic-pairs:{seed} v{QA_VERSION}.{PROSE_VERSION}"
    rows = [(question.item_id, question) for question in questions]
    return gather("extractive", rows, name, {"kind": "synthetic", "name": name, "revision": None, "sha256": digest})


def _pair(seed: int, number: int) -> Question:
    rng = random.Random(f"{QA_VERSION}/{seed}/{number}")
    facts, slots = _stock()
    template = facts[number % len(facts)]
    prose = synthetic_text(1_000_000 + 20_000 * (seed % 40_000) + number, CHARACTERS)
    told = _told(template, slots, rng)
    # No answer stands in the prose, and facts of one kind differ in all their slots: each answer is there once.
    passage = _inserted(prose, [_fill(template.fact, values) for values in told], rng)
    asked = told[_below(rng, len(told))]
    answer = _fill(template.answer, asked)
    assert passage.count(answer) == 1, f"{answer!r} stands once in its passage"
    question = _fill(template.question, asked)
    return Question(f"pair-{seed}-{number}", question, (answer,), passage, (), f"kind-{number % len(facts)}")


def _told(template: Fact, slots: Mapping[str, Sequence[str]], rng: random.Random) -> list[dict[str, str]]:
    """What the facts of a passage say: FACTS different words for each slot."""
    names = list(dict.fromkeys(_SLOT.findall(template.fact)))
    chosen = {name: _sample(slots[name], FACTS, rng) for name in names}
    return [{name: chosen[name][place] for name in names} for place in range(FACTS)]


def _inserted(prose: str, sentences: Sequence[str], rng: random.Random) -> str:
    """The prose with each sentence after one of its own, all in different places."""
    places = sorted(_sample(sentence_ends(prose), len(sentences), rng), reverse=True)
    for place, sentence in zip(places, sentences, strict=True):
        prose = f"{prose[:place]} {sentence}{prose[place:]}"
    return prose


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _SLOT.sub(lambda match: values[match[1]], template)


def _sample(items: Sequence[str] | Sequence[int], count: int, rng: random.Random) -> list:  # type: ignore[type-arg]
    """`count` different items. Only ``random()`` is called, whose stream Python keeps from version to version."""
    left = list(items)
    return [left.pop(_below(rng, len(left))) for _ in range(count)]


def _below(rng: random.Random, limit: int) -> int:
    return int(rng.random() * limit)


@cache
def _stock() -> tuple[tuple[Fact, ...], Mapping[str, tuple[str, ...]]]:
    document = json.loads((files("rh_bench.data_builders") / "data" / "qa_facts.json").read_text(encoding="utf-8"))
    slots = {name: tuple(words) for name, words in document["slots"].items()}
    return tuple(Fact(**fact) for fact in document["facts"]), slots
