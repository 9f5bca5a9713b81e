"""The oracle: one sample at a time, one token at a time, eager attention with materialised weights.

Slow and obvious on purpose. Nothing is shared between samples, and every arg-max is read off the weights that the
model's own eager attention returned.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rh_bench.attention.capture import Sinks, eager
from rh_bench.attention.interventions import decoding
from rh_bench.engines.base import Forward, StopRule, Thought, can_crop, most_likely, new_cache, scored_weights
from rh_bench.engines.rope import LengthRope
from rh_bench.records import Decoded, IntArray, Layer, Prompt

_WEIGHTS_BUDGET = 1 << 30
"""Bytes of attention weights of one layer that may exist at once while a long prompt is processed in pieces."""


class ReferenceEngine:
    """See the module. `version` changes whenever the events it gives could change.

    Args:
        thought: what the model thinks before it answers; None if it answers at once.
    """

    name = "reference"
    version = 2

    def __init__(
        self,
        model: Any,
        layers: Sequence[Layer],
        stop: StopRule,
        max_new_tokens: int,
        *,
        thought: Thought | None = None,
    ) -> None:
        self._model, self._layers, self._stop, self._max_new = model, tuple(layers), stop, max_new_tokens
        self._scored = [layer for layer in layers if layer.scored]
        self._forward, self._rope, self._thought = Forward(model), LengthRope(model), thought

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def cost(self, prompt: Prompt) -> float:
        return len(prompt.ids) + 10 * self._max_new

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]] | None = None) -> Iterator[Decoded]:
        limit = 0 if self._thought is None else self._thought.limit
        self._rope.refuse_lost_prompts((len(prompt.ids) for prompt in prompts), self._max_new + limit)
        for prompt in prompts:
            if prompt.sample.sample_id not in (done or {}):
                started = time.perf_counter()
                sinks = Sinks()
                whole = not can_crop(self._layers)
                with (
                    eager(self._model, sinks, last_row=whole),
                    decoding(self._model, prompt),
                    self._rope.prompt(len(prompt.ids)),
                ):
                    thought, generated, targets = self._decode(prompt, sinks)
                seconds = time.perf_counter() - started
                yield Decoded(prompt.sample.sample_id, generated, targets, seconds, thought)

    def _decode(self, prompt: Prompt, sinks: Sinks) -> tuple[IntArray, IntArray, IntArray]:
        """The thought, the answer, and where heads look while it is given."""
        sequence = [int(token) for token in prompt.ids]
        # What a recurrent layer makes of a token alone differs from what it makes of it in a row of others by more than
        # rounding. generate() runs a prompt at once.
        cache = self._fill(sequence[:-1]) if can_crop(self._layers) else None
        thought: list[int] = []
        while self._thought is not None and not self._thought.ends(thought):
            produced, _, cache = self._step(sequence, cache, sinks)
            if self._stop(produced) or len(thought) == self._thought.limit:
                return _ids(thought), _ids([]), self._stack([])
            thought.append(produced)
            sequence.append(produced)
        generated: list[int] = []
        rows: list[IntArray] = []
        for _ in range(self._max_new):
            produced, row, cache = self._step(sequence, cache, sinks)
            if self._stop(produced):
                break
            generated.append(produced)
            rows.append(row)
            sequence.append(produced)
        return _ids(thought), _ids(generated), self._stack(rows)

    def _step(self, sequence: Sequence[int], cache: Any, sinks: Sinks) -> tuple[int, IntArray, Any]:
        """The token that follows `sequence`, all of which but the last is in the cache, and where heads look."""
        if self._rope.starts_over(len(sequence) - 1, len(sequence)):
            with self._rope.prompt(len(sequence)):
                cache = self._fill(sequence[:-1])
                return self._last(sequence, cache, sinks)
        return self._last(sequence, cache, sinks)

    def _last(self, sequence: Sequence[int], cache: Any, sinks: Sinks) -> tuple[int, IntArray, Any]:
        waiting = sequence if cache is None else sequence[-1:]
        out = self._forward(self._tensor(waiting), cache, len(sequence) - len(waiting), weights=True)
        produced = int(most_likely(out.logits[0, -1:], self._model)[0])
        return produced, self._targets(out.attentions, len(sequence), sinks), out.past_key_values

    def _fill(self, tokens: Sequence[int]) -> Any:
        """A cache of these tokens, run in pieces."""
        cache = new_cache(self._layers)
        for first, last in self._pieces(len(tokens)):
            cache = self._forward(self._tensor(tokens[first:last]), cache, first).past_key_values
        return cache

    def _tensor(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(tokens)], dtype=torch.long, device=self._model.device)

    def _pieces(self, length: int) -> list[tuple[int, int]]:
        """Ranges in which to process `length` prompt tokens."""
        if length == 0:
            return []
        heads = max(layer.query_heads for layer in self._scored)
        size = max(16, _WEIGHTS_BUDGET // (8 * heads * length))
        return [(first, min(first + size, length)) for first in range(0, length, size)]

    def _targets(self, attentions: Sequence[torch.Tensor | None], positions: int, sinks: Sinks) -> IntArray:
        """int32 [A, H] from the weights ([1, H, 1, K] each) of the softmax layers, in order.

        Args:
            positions: of the sequence so far. A layer that keeps fewer keys has dropped the first.
        """
        weights = scored_weights(attentions, self._layers)
        row = np.full((len(weights), max(layer.query_heads for layer in self._scored)), -1, dtype=np.int32)
        for place, (layer, w) in enumerate(zip(self._scored, weights, strict=True)):
            last = w[0, :, -1]
            looks = last.argmax(dim=-1) + (positions - last.shape[-1])
            sunk = sinks.larger(layer.index)
            row[place, : w.shape[1]] = (looks if sunk is None else looks.masked_fill(sunk, -1)).cpu().numpy()
        return row

    def _stack(self, rows: Sequence[IntArray]) -> IntArray:
        heads = max(layer.query_heads for layer in self._scored)
        return np.stack(rows) if rows else np.empty((0, len(self._scored), heads), dtype=np.int32)


def _ids(tokens: Sequence[int]) -> IntArray:
    return np.asarray(tokens, dtype=np.int32)
