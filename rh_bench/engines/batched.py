"""Many ablations of one model at once: a batch has one row for each set of heads, all rows with the same prompt.

Nothing is drafted and nothing recorded: this answers what a model says without some heads, not where its heads look. A
step of decoding costs a model that fits in no cache nearly as much for one row as for many, so that dozens of sets cost
little more than one. As in the fast engine, prompts share their prefixes, each row its own: a row's cache is of its own
ablation. Where only the rows that produce the answer are changed, all sets share the prompt itself.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rh_bench.attention.ablation import Head, How, MeanInputs, Phase, ablate_rows
from rh_bench.attention.capture import Recorder, capture
from rh_bench.attention.interventions import decoding, most_shared
from rh_bench.engines.base import Forward, StopRule, can_crop, most_likely, new_cache, reads_weights
from rh_bench.engines.fast import Planned, SharedPrefix, plan
from rh_bench.engines.rope import LengthRope
from rh_bench.errors import InputError
from rh_bench.records import IntArray, Layer, Prompt
from rh_bench.system.memory import CHUNK

CACHE_BUDGET = {"cuda": 16 << 30, "cpu": 2 << 30}
"""Bytes that the caches of one batch may take."""
MOST_ROWS = 128


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says to one prompt without each of some sets of heads."""

    batch: int
    sample_id: str
    generated: tuple[tuple[int, ...], ...]
    """The tokens of greedy decoding for each set of the batch, the stop token left out."""
    seconds: float


class BatchedEngine:
    """See the module. `version` changes whenever the answers it gives could change.

    Args:
        rows: sets in one batch; the last batch may have fewer.
        chunk: tokens in one forward pass, of all rows together.
    """

    name = "batched"
    version = 2

    def __init__(
        self,
        model: Any,
        layers: Sequence[Layer],
        stop: StopRule,
        max_new_tokens: int,
        *,
        rows: int,
        chunk: int | None = None,
    ) -> None:
        self._model, self._layers, self._stop, self._max_new = model, tuple(layers), stop, max_new_tokens
        self._rows, self._chunk = rows, chunk or CHUNK.get(model.device.type, CHUNK["cpu"])
        self._shares, self._rope = can_crop(layers), LengthRope(model)
        self._run = Forward(model)
        if reads_weights(layers):
            raise InputError(
                "its attention does not go through transformers' attention interface",
                where=type(model).__name__,
                hint="heads of this architecture cannot be removed",
            )

    @property
    def notes(self) -> tuple[str, ...]:
        rows = f"up to {self._rows} conditions in one batch"
        return (rows,) if self._shares else (rows, "prefixes are not shared: a recurrent layer's state cannot be cut")

    def batches(self, sets: Sequence[Collection[Head]]) -> list[Sequence[Collection[Head]]]:
        """`sets` in the batches in which they are run."""
        return [sets[first : first + self._rows] for first in range(0, len(sets), self._rows)]

    @torch.inference_mode()
    def answer(
        self,
        prompts: Sequence[Prompt],
        sets: Sequence[Collection[Head]],
        *,
        how: How,
        phase: Phase,
        means: MeanInputs | None = None,
        done: Collection[tuple[int, str]] = (),
    ) -> Iterator[Answers]:
        """Answers to every prompt without every set of heads, in an order of the engine's own.

        Args:
            how, phase, means: as :func:`rh_bench.attention.ablation.ablate` takes them. An empty set is the model as
                it is.
            done: (batch, sample id) of what an earlier session answered. The batches stay the same.

        Raises:
            InputError: the device has too little memory for so many rows.
        """
        batches = self.batches(sets)
        self._refuse_starting_over(prompts)
        try:
            if phase == "decode" and self._shares:
                yield from self._with_one_prompt(prompts, batches, how, means, done)
                return
            for number, batch in enumerate(batches):
                if any((number, prompt.sample.sample_id) not in done for prompt in prompts):
                    with ablate_rows(self._model, batch, how=how, phase=phase, means=means):
                        yield from self._batch(number, len(batch), prompts, done)
        except torch.OutOfMemoryError:
            raise InputError(
                f"the device has too little memory for {self._rows} conditions at once",
                hint=f"give --rows {max(1, self._rows // 2)} or shorter --lengths",
            ) from None

    def _refuse_starting_over(self, prompts: Sequence[Prompt]) -> None:
        for prompt in prompts:
            if self._rope.starts_over(len(prompt.ids), len(prompt.ids) + self._max_new):
                raise InputError(
                    f"a prompt of {len(prompt.ids)} tokens and its answer straddle the window at which "
                    "this model changes its rotary factors",
                    where=type(self._model).__name__,
                    hint="give other --lengths",
                )

    def _batch(
        self, number: int, rows: int, prompts: Sequence[Prompt], done: Collection[tuple[int, str]]
    ) -> Iterator[Answers]:
        """One batch, every row with a cache of its own ablation."""
        order = self._plan(prompts)
        prefix = self._prefix(prompts, rows)
        for planned in order:
            prompt, started = planned.prompt, time.perf_counter()
            if prefix is not None:
                prefix.enter(planned)
            if (number, prompt.sample.sample_id) in done:
                continue
            with capture(self._model, Recorder()), decoding(self._model, prompt), self._rope.prompt(len(prompt.ids)):
                cache = new_cache(self._layers) if prefix is None else prefix.cache
                kept = 0 if prefix is None else prefix.load()
                generated = self._greedy(prompt.ids[kept:], cache, kept, rows)
            yield Answers(number, prompt.sample.sample_id, generated, time.perf_counter() - started)

    def _with_one_prompt(
        self,
        prompts: Sequence[Prompt],
        batches: Sequence[Sequence[Collection[Head]]],
        how: How,
        means: MeanInputs | None,
        done: Collection[tuple[int, str]],
    ) -> Iterator[Answers]:
        """Every prompt once, by the model as it is; then its answers, each row with a copy of that cache."""
        prefix = self._prefix(prompts, 1)
        assert prefix is not None, "asked for only where caches can be cut back"
        for planned in self._plan(prompts):
            prompt = planned.prompt
            prefix.enter(planned)
            waiting = [n for n in range(len(batches)) if (n, prompt.sample.sample_id) not in done]
            if not waiting:
                continue
            started = time.perf_counter()
            with capture(self._model, Recorder()), self._rope.prompt(len(prompt.ids)):
                kept = prefix.load()
                if kept < len(prompt.ids) - 1:
                    self._forward(prompt.ids[kept:-1], prefix.cache, kept, 1)
            for number in waiting:
                rows = len(batches[number])
                with (
                    ablate_rows(self._model, batches[number], how=how, phase="decode", means=means),
                    capture(self._model, Recorder()),
                    decoding(self._model, prompt),
                    self._rope.prompt(len(prompt.ids)),
                ):
                    cache = prefix.cache.repeated(rows, len(prompt.ids) + self._max_new)
                    generated = self._greedy(prompt.ids[-1:], cache, len(prompt.ids) - 1, rows)
                yield Answers(number, prompt.sample.sample_id, generated, time.perf_counter() - started)
                started = time.perf_counter()

    def _plan(self, prompts: Sequence[Prompt]) -> list[Planned]:
        return plan(prompts, lambda one, other: most_shared(self._model, one, other), self._rope.key)

    def _prefix(self, prompts: Sequence[Prompt], rows: int) -> SharedPrefix | None:
        if not self._shares:
            return None
        capacity = max((len(p.ids) for p in prompts), default=0) + self._max_new
        cache = new_cache(self._layers, capacity)
        return SharedPrefix(lambda ids, into, cached: self._forward(ids, into, cached, rows), cache)

    def _greedy(self, waiting: IntArray, cache: Any, cached: int, rows: int) -> tuple[tuple[int, ...], ...]:
        """Greedy decoding of every row after `waiting` tokens that the cache, of `cached` tokens, does not have yet."""
        logits, cache = self._forward(waiting, cache, cached, rows)
        cached += len(waiting)
        answers: list[list[int]] = [[] for _ in range(rows)]
        going = set(range(rows))
        for step in range(self._max_new):
            tokens = most_likely(logits[:, -1], self._model)
            for row, token in enumerate(tokens.tolist()):
                if row in going and self._stop(token):
                    going.discard(row)
                elif row in going:
                    answers[row].append(token)
            if not going or step + 1 == self._max_new:
                break
            out = self._run(tokens[:, None], cache, cached)
            logits, cache, cached = out.logits, out.past_key_values, cached + 1
        return tuple(tuple(answer) for answer in answers)

    def _forward(self, ids: IntArray, cache: Any, cached: int, rows: int) -> tuple[torch.Tensor, Any]:
        """Run `ids` in every row, in pieces, after `cached` tokens. Returns the logits of the last position,
        [rows, 1, V], and the cache."""
        tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(self._model.device).expand(rows, -1)
        size = max(1, self._chunk // rows) if self._shares else tokens.shape[1]
        for first in range(0, tokens.shape[1], size):
            out = self._run(tokens[:, first : first + size], cache, cached + first)
            cache = out.past_key_values
        last: torch.Tensor = out.logits[:, -1:]
        return last, cache


def rows_that_fit(layers: Sequence[Layer], head_dim: int, width: int, positions: int, device: str) -> int:
    """How many rows of a batch have caches that fit in the budget: at least 1, at most MOST_ROWS. It depends on the
    model and the lengths only, not on what else is in memory, so that the same work is always batched alike.

    Args:
        width: bytes of a number.
        positions: tokens of the longest prompt with its answer.
    """
    one = sum(2 * layer.kv_heads * head_dim * width * positions for layer in layers)
    return max(1, min(MOST_ROWS, CACHE_BUDGET.get(device, CACHE_BUDGET["cpu"]) // max(one, 1)))
