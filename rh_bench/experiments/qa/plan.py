"""What question answering with heads removed asks: sets of heads to remove, modes, and questions as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.experiments.heads import Head, Ranking, draw_random_heads
from rh_bench.experiments.qa.derive import MATCHED, NONE, RANDOM, TOP
from rh_bench.experiments.qa.task_prompts import COT, DIRECT
from rh_bench.records import Json
from rh_bench.sets.tasks import Question


@dataclass(frozen=True, slots=True)
class Condition:
    """Heads that are removed, and how they were chosen."""

    name: str
    kind: str
    heads: tuple[Head, ...]
    seed: int | None = None
    moved: int = 0

    def describe(self) -> Json:
        """One of the `conditions` of the settings."""
        heads = [list(head) for head in self.heads]
        return {"name": self.name, "kind": self.kind, "heads": heads, "seed": self.seed, "moved": self.moved}


def choose_conditions(
    grid: Sequence[Head], ranking: Ranking, top: int | None, draws: int, seed: int, run: Path
) -> tuple[Condition, ...]:
    """Nothing removed, the strongest heads, and random draws of as many.

    Args:
        grid: every head of the model.
        top: how many; as many as there are retrieval heads without it.
        seed: of the first draw; each next one has the next seed.
        run: that the ranking is of, to be named.

    Raises:
        InputError: there are not as many heads, or no retrieval heads and no number was given.
    """
    k = len(ranking.retrieval) if top is None else top
    if k < 1 or draws < 1:
        if top is None and draws >= 1:
            raise InputError("no head of this run is a retrieval head", where=run, hint="give --top K")
        raise InputError("must be at least 1", where="--top" if k < 1 else "--draws")
    strongest = ranking.top(k)
    conditions = [Condition(NONE, NONE, ()), Condition(TOP, TOP, strongest)]
    for kind, matched in ((RANDOM, False), (MATCHED, True)):
        for number in range(seed, seed + draws):
            draw = draw_random_heads(grid, ranking.retrieval, strongest, number, matched=matched)
            conditions.append(Condition(f"{kind}-{number}", kind, draw.heads, number, draw.moved))
    return tuple(conditions)


def choose_modes(known: Mapping[str, object], wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """Modes to ask in, direct answers first.

    Raises:
        InputError: the task's prompts have no such mode.
    """
    for mode in wanted or ():
        if mode not in known:
            raise InputError(f"unknown mode {mode!r}", where="--modes", hint=f"use {', '.join(known)}")
    return tuple(mode for mode in (DIRECT, COT) if mode in (wanted or known))


def item_row(question: Question) -> Json:
    """A question's row of the table of items."""
    return {
        "item_id": question.item_id,
        "question_sha256": question.sha256,
        "group": question.group,
        "choices": len(question.choices),
        "answers": list(question.answers),
    }
