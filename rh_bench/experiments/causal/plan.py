"""What the causal experiment measures: sets of heads to remove, and needles that did not find them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rh_bench.artifacts.run import Run
from rh_bench.errors import InputError
from rh_bench.experiments.causal.derive import CONTROLS
from rh_bench.experiments.failures import own_grams
from rh_bench.experiments.heads import Head, Ranking
from rh_bench.experiments.heads import draws as draw_heads
from rh_bench.records import Json, Needle, Prompt
from rh_bench.scores.rouge import words
from rh_bench.sets.dataset import HaystackSet
from rh_bench.system.files import shown

REFERENCE_TOKENS = 2048
"""Tokens that means are taken over, for heads that are replaced by their mean."""


def make_conditions(
    grid: Sequence[Head], ranking: Ranking, top: Sequence[int], draws: int, seed: int
) -> tuple[list[Json], list[Json]]:
    """The conditions in their order, and what was asked for and left out, with reasons.

    K beyond the model's heads are left out; so are random heads where too few are neither removed nor retrieval heads.
    Random heads from all layers are drawn with the seeds from `seed` on, those from the layers of the strongest with as
    many seeds after these, whatever K is: a larger set from all layers has the smaller one in it.

    Args:
        grid: every head of the model.
        top: K to remove; 0 is always there.

    Raises:
        InputError: K are no numbers of heads, there are no draws, or nothing would be removed.
    """
    if any(k < 0 for k in top) or len(set(top)) < len(top):
        raise InputError("must be different numbers from 0 on", where="--top", hint="write them as in 0,2,5,10")
    if draws < 1:
        raise InputError("must be at least 1", where="--draws")
    conditions = [_condition(0, "none", 0, ())]
    left_out: list[Json] = []
    for k in sorted(set(top) - {0}):
        if k > len(grid):
            left_out.append({"k": k, "kind": "top", "reason": f"the model has {len(grid)} heads"})
            continue
        strongest = ranking.top(k)
        conditions.append(_condition(len(conditions), "top", k, sorted(strongest)))
        for place, kind in enumerate(CONTROLS):
            seeds = [seed + place * draws + draw for draw in range(draws)]
            try:
                found = draw_heads(grid, ranking.retrieval, strongest, seeds, matched=kind == "matched")
            except InputError as error:
                left_out.append({"k": k, "kind": kind, "reason": error.problem})
                continue
            for number, draw in enumerate(found):
                conditions.append(_condition(len(conditions), kind, k, draw.heads, number, draw.seed, draw.moved))
    if len(conditions) == 1:
        raise InputError("nothing is removed", where="--top", hint=f"give a K from 1 to {len(grid)}")
    return conditions, left_out


def _condition(
    number: int, kind: str, k: int, heads: Sequence[Head], draw: int = 0, seed: int | None = None, moved: int = 0
) -> Json:
    return {
        "condition": number,
        "kind": kind,
        "k": k,
        "draw": draw,
        "seed": seed,
        "moved": moved,
        "heads": [list(head) for head in heads],
    }


def unseen_needles(haystacks: HaystackSet, run: Run, wanted: Sequence[str] | None) -> tuple[Needle, ...]:
    """The needles of a set that a run was not measured on, by their ids and by the words of their answers.

    Raises:
        InputError: there are none, or one that was asked for is none.
    """
    ids = {result.sample.needle_id for result in run.results}
    answers = {tuple(words(result.answer)) for result in run.results}
    unseen = tuple(n for n in haystacks.needles if n.needle_id not in ids and tuple(words(n.answer)) not in answers)
    if wanted is not None:
        known = haystacks.needles_by_id
        seen = [name for name in wanted if name in known and known[name] not in unseen]
        if seen:
            raise InputError(
                f"the run was measured on the needle {shown(seen[0])!r}",
                where="--needles",
                hint="heads must be tested on needles that did not find them"
                + (f": {', '.join(n.needle_id for n in unseen[:8])}" if unseen else ""),
            )
        return unseen
    if not unseen:
        raise InputError(
            f"the run was measured on all {len(haystacks.needles)} needles of this set",
            where=haystacks.folder,
            hint=f"build a set with others: rh-bench build --needle-count {len(ids) + 8} --out …",
        )
    return unseen


def reference_sequences(tokenizer: Any, texts: Mapping[str, str]) -> dict[str, list[int]]:
    """Beginnings of haystacks, which hold no needle, as ids by the haystack's name: what means are taken over."""
    each = REFERENCE_TOKENS // len(texts)
    return {name: tokenizer(texts[name])["input_ids"][:each] for name in sorted(texts)}


def describe_reference(sequences: Mapping[str, Sequence[int]]) -> Json:
    """What means are taken over, as the settings record it."""
    flat = np.concatenate([np.asarray(ids, dtype="<u4") for ids in sequences.values()])
    return {"tokens": len(flat), "haystacks": list(sequences), "sha256": hashlib.sha256(flat.tobytes()).hexdigest()}


def sample_row(prompt: Prompt, question: str, haystack: str) -> Json:
    """A row of samples.parquet.

    Args:
        haystack: the text around the needle in this prompt.
    """
    sample = prompt.sample
    return {
        "sample_id": sample.sample_id,
        "needle_id": sample.needle_id,
        "haystack_id": sample.haystack_id,
        "length": sample.length,
        "depth": sample.depth,
        "prompt_sha256": prompt.sha256,
        "span_start": prompt.span_start,
        "span_length": prompt.span_length,
        "question": question,
        "answer": prompt.answer,
        "own_grams": list(own_grams(prompt.answer, question, haystack)),
    }
