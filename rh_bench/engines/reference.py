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

from rh_bench.capture import eager
from rh_bench.engines.base import StopRule, can_crop, logits_argument, new_cache
from rh_bench.interventions import decoding
from rh_bench.records import Decoded, IntArray, Layer, Prompt

_WEIGHTS_BUDGET = 1 << 30
"""Bytes of attention weights of one layer that may exist at once while a long prompt is processed in pieces."""


class ReferenceEngine:
    """See the module. `version` changes whenever the events it gives could change."""

    name = "reference"
    version = 1

    def __init__(self, model: Any, layers: Sequence[Layer], stop: StopRule, max_new_tokens: int) -> None:
        self._model, self._layers, self._stop, self._max_new = model, tuple(layers), stop, max_new_tokens
        self._scored = [layer for layer in layers if layer.scored]

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def cost(self, prompt: Prompt) -> float:
        return len(prompt.ids) + 10 * self._max_new

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]] | None = None) -> Iterator[Decoded]:
        for prompt in prompts:
            if prompt.sample.sample_id not in (done or {}):
                started = time.perf_counter()
                with eager(self._model), decoding(self._model, prompt):
                    generated, targets = self._greedy(prompt)
                yield Decoded(prompt.sample.sample_id, generated, targets, time.perf_counter() - started)

    def _greedy(self, prompt: Prompt) -> tuple[IntArray, IntArray]:
        ids = torch.from_numpy(prompt.ids.astype(np.int64)).to(self._model.device)[None]
        cache = new_cache(self._model, self._layers)
        for first, last in self._pieces(ids.shape[1] - 1):
            self._model(
                input_ids=ids[:, first:last], past_key_values=cache, use_cache=True, **logits_argument(self._model)(1)
            )
        token, generated, rows = ids[:, -1:], [], []
        for _ in range(self._max_new):
            out = self._model(input_ids=token, past_key_values=cache, use_cache=True, output_attentions=True)
            produced = int(out.logits[0, -1].argmax())
            if self._stop(produced):
                break
            generated.append(produced)
            rows.append(self._targets(out.attentions))
            token = torch.tensor([[produced]], device=ids.device)
        heads = max(layer.query_heads for layer in self._scored)
        targets = np.stack(rows) if rows else np.empty((0, len(self._scored), heads), dtype=np.int32)
        return np.asarray(generated, dtype=np.int32), targets

    def _pieces(self, length: int) -> list[tuple[int, int]]:
        """Ranges in which to process `length` prompt tokens. Recurrent layers get theirs whole."""
        if length == 0:
            return []
        heads = max(layer.query_heads for layer in self._scored)
        size = max(16, _WEIGHTS_BUDGET // (8 * heads * length)) if can_crop(self._layers) else length
        return [(first, min(first + size, length)) for first in range(0, length, size)]

    def _targets(self, attentions: Sequence[torch.Tensor | None]) -> IntArray:
        """int32 [A, H] from the weights ([1, H, 1, K] each) of the softmax layers, in order."""
        weights = [w for w in attentions if w is not None]
        assert len(weights) == len(self._scored), "one tensor of weights for each softmax layer"
        row = np.full((len(weights), max(layer.query_heads for layer in self._scored)), -1, dtype=np.int32)
        for place, w in enumerate(weights):
            row[place, : w.shape[1]] = w[0, :, -1].argmax(dim=-1).cpu().numpy()
        return row
