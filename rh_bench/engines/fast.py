"""The default engine: shared prefixes, fused attention kernels, one arg-max per head on the device.

The samples of a haystack differ only from the needle on. Its tokens up to the deepest insertion point are processed
once; then, deepest needle first, each sample crops the cache to its own insertion point and runs what follows. The
prompt's attention is computed by a fused kernel, and the weights of a row are reduced to a position a head where they
are computed (see :mod:`rh_bench.capture`), so that nothing of size queries × keys exists at any time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from rh_bench.capture import Recorder, capture
from rh_bench.engines.base import StopRule, can_crop, last_logits, new_cache
from rh_bench.records import Decoded, IntArray, Layer, Prompt

_CHUNK = 2048
"""Prompt tokens in one forward pass: bounds the memory of activations."""


class FastEngine:
    """See the module. `version` changes whenever the events it gives could change."""

    name = "fast"
    version = 1

    def __init__(
        self, model: Any, layers: Sequence[Layer], stop: StopRule, max_new_tokens: int, chunk: int = _CHUNK
    ) -> None:
        self._model, self._layers, self._stop, self._max_new = model, tuple(layers), stop, max_new_tokens
        self._chunk = chunk
        scored = [layer for layer in layers if layer.scored]
        self._shares = can_crop(layers)
        self._shape = (max_new_tokens, len(scored), max(layer.query_heads for layer in scored))
        self._rows = {layer.index: place for place, layer in enumerate(scored)}
        self._last_logits = last_logits(model)

    @property
    def notes(self) -> tuple[str, ...]:
        return () if self._shares else ("prefixes are not shared: a recurrent layer's state cannot be cut back",)

    def cost(self, prompt: Prompt) -> float:
        return len(prompt.ids) - (prompt.insert_at if self._shares else 0) + 10 * self._max_new

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt], done: frozenset[str] = frozenset()) -> Iterator[Decoded]:
        recorder = Recorder(rows=self._rows)
        for group in _groups(prompts) if self._shares else [[p] for p in prompts]:
            waiting = [prompt for prompt in group if prompt.sample.sample_id not in done]
            if waiting:
                yield from self._decode_group(group[0], waiting, recorder)

    def _decode_group(self, deepest: Prompt, waiting: list[Prompt], recorder: Recorder) -> Iterator[Decoded]:
        """Samples that share their tokens up to their insertion points, deepest first."""
        started = time.perf_counter()
        cache = new_cache(self._model, self._layers)
        if self._shares:
            with capture(self._model, recorder):
                self._process(deepest.ids[: deepest.insert_at], cache)
        for prompt in waiting:
            with capture(self._model, recorder):
                generated, targets = self._greedy(prompt, cache, recorder)
            seconds, started = time.perf_counter() - started, time.perf_counter()
            yield Decoded(prompt.sample.sample_id, generated, targets, seconds)
            started = time.perf_counter()

    def _greedy(self, prompt: Prompt, cache: Any, recorder: Recorder) -> tuple[IntArray, IntArray]:
        recorder.targets = torch.full(self._shape, -1, dtype=torch.int32, device=self._model.device)
        recorder.step = 0
        kept = prompt.insert_at if self._shares else 0
        if self._shares:
            _crop(cache, kept)
        generated: list[int] = []
        produced = self._process(prompt.ids[kept:], cache, recorder)
        while not self._stop(produced):
            generated.append(produced)
            if len(generated) == self._max_new:
                break
            recorder.step += 1
            produced = self._process(np.asarray([produced]), cache, recorder)
        targets = recorder.targets[: len(generated)].cpu().numpy()
        return np.asarray(generated, dtype=np.int32), targets

    def _process(self, ids: IntArray | np.ndarray[Any, Any], cache: Any, recorder: Recorder | None = None) -> int:
        """Run `ids` after what the cache holds; record the last row if a recorder is given; return the next token."""
        tokens = torch.from_numpy(ids.astype(np.int64)).to(self._model.device)[None]
        size = self._chunk if self._shares else max(1, tokens.shape[1])
        logits = None
        for first in range(0, tokens.shape[1], size):
            piece = tokens[:, first : first + size]
            if recorder is not None:
                recorder.active = first + size >= tokens.shape[1]
            logits = self._model(input_ids=piece, past_key_values=cache, use_cache=True, **self._last_logits).logits
        if recorder is None or logits is None:
            return -1
        recorder.active = False
        return int(logits[0, -1].argmax())


def _crop(cache: Any, length: int) -> None:
    """Cut a cache of softmax layers back to `length` positions."""
    for layer in cache.layers:
        if layer.is_initialized:
            layer.keys = layer.keys[..., :length, :]
            layer.values = layer.values[..., :length, :]


def _groups(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Prompts with the same tokens before the needle, up to the shorter of the two; deepest insertion first."""
    by_haystack: dict[tuple[str, bytes], list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda p: (p.sample.haystack_id, -p.insert_at, p.sample.sample_id)):
        by_haystack[(prompt.sample.haystack_id, prompt.ids[: min(4, prompt.insert_at)].tobytes())].append(prompt)
    for group in by_haystack.values():
        for prompt in group:
            assert np.array_equal(prompt.ids[: prompt.insert_at], group[0].ids[: prompt.insert_at]), "a shared prefix"
    return list(by_haystack.values())
