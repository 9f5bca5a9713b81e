"""Runs tokens through a model behind a cache, in pieces that fit in memory, and records where the last rows look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from rh_bench.attention.capture import Recorder, Sinks, capture, eager
from rh_bench.attention.fused import QUERY_STEP
from rh_bench.engines.base import Forward, can_crop, new_cache, not_finite, reads_weights, scored_weights
from rh_bench.engines.rope import LengthRope
from rh_bench.errors import InputError
from rh_bench.records import IntArray, Layer, Prompt
from rh_bench.system.memory import MOST_ROWS, SCORES_BUDGET, SMALLEST_CHUNK


class Runner:
    """One model, and how it is run.

    Args:
        chunk: tokens of one forward pass.
    """

    def __init__(self, model: Any, layers: Sequence[Layer], chunk: int) -> None:
        self.chunk = chunk
        """Halved each time the device runs out of memory."""
        self.rope = LengthRope(model)
        self._model, self._layers = model, tuple(layers)
        self._scored = [layer for layer in layers if layer.scored]
        self._shares, self._weights = can_crop(layers), reads_weights(layers)
        self._forward = Forward(model)
        self._shape = (MOST_ROWS, len(self._scored), max(layer.query_heads for layer in self._scored))
        self._recorder = Recorder(rows={layer.index: place for place, layer in enumerate(self._scored)})
        self._on_gpu = model.device.type == "cuda"

    def no_rows(self) -> IntArray:
        """int32 [0, A, H]."""
        return np.empty((0, *self._shape[1:]), dtype=np.int32)

    def empty_cache(self, capacity: int) -> Any:
        return new_cache(self._layers, capacity)

    @contextmanager
    def of(self, prompt: Prompt) -> Iterator[None]:
        """Tokens are those of `prompt` and its answer inside the block, and can be recorded."""
        recording = eager(self._model, Sinks()) if self._weights else capture(self._model, self._recorder)
        with recording, self.rope.prompt(len(prompt.ids)):
            yield

    def cut(self, cache: Any, length: int) -> None:
        """Keep the first `length` tokens of a cache that can be cut back; one that cannot has no more."""
        if self._shares:
            cache.cut(length)

    def fill(self, ids: IntArray, cache: Any, cached: int) -> Any:
        """Run `ids` (int32 [n]) after the `cached` tokens of `cache`; record nothing. Returns the cache."""
        _, cache = self._run(self._tensor(ids), cache, cached, 0)
        return cache

    def record(self, ids: IntArray, cache: Any, cached: int, rows: int) -> tuple[list[int], IntArray, Any]:
        """Run `ids` after the `cached` tokens of `cache`, and record the last `rows` rows.

        Returns:
            The tokens that these rows produce, int32 [rows, A, H] where their heads look, and the cache.

        Raises:
            InputError: the logits are not numbers, or the device has too little memory.
        """
        if self._weights:
            assert rows == 1, "weights are read one token at a time"
            return self._read(ids, cache, cached)
        if self._recorder.targets is None:
            self._recorder.targets = torch.full(self._shape, -1, dtype=torch.int32, device=self._model.device)
        logits, cache = self._run(self._tensor(ids), cache, cached, rows)
        largest, produced = logits[0, -rows:].max(dim=-1)
        finite = torch.isfinite(largest).to(torch.int32)
        looks = self._recorder.targets[:rows].flatten(1)
        # They leave the device together: one transfer for an answer whose guess was right.
        both = torch.cat([produced.to(torch.int32)[:, None], finite[:, None], looks], dim=1).cpu().numpy()
        if not both[:, 1].all():
            raise not_finite(self._model)
        return both[:, 0].tolist(), both[:, 2:].reshape(rows, *self._shape[1:]), cache

    def _read(self, ids: IntArray, cache: Any, cached: int) -> tuple[list[int], IntArray, Any]:
        """As `record`, for one row, from the weights that the model returns for its last token."""
        tokens = self._tensor(ids)
        if len(ids) > 1:
            _, cache = self._run(tokens[:, :-1], cache, cached, 0)
        out = self._forward(tokens[:, -1:], cache, cached + len(ids) - 1, weights=True)
        largest, produced = out.logits[0, -1].max(dim=-1)
        if not bool(torch.isfinite(largest)):
            raise not_finite(self._model)
        looks = np.full((1, *self._shape[1:]), -1, dtype=np.int32)
        for place, weights in enumerate(scored_weights(out.attentions, self._layers)):
            looks[0, place, : weights.shape[1]] = weights[0, :, -1].argmax(dim=-1).cpu().numpy()
        return [int(produced)], looks, out.past_key_values

    def _tensor(self, ids: IntArray) -> torch.Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(self._model.device)[None]

    def _run(self, tokens: torch.Tensor, cache: Any, cached: int, rows: int) -> tuple[Any, Any]:
        """Run `tokens` (int64 [1, n]) in pieces; the last piece holds all recorded rows.

        Returns:
            The logits of the last piece, and the cache.
        """
        first, last, logits = 0, tokens.shape[1], None
        while first < last:
            end = self._piece_end(first, last, rows, cached)
            final = end == last
            self._recorder.count = rows if final else 0
            self._recorder.end = cached + end
            try:
                out = self._forward(tokens[:, first:end], cache, cached + first, rows if final and rows else 1)
            except torch.OutOfMemoryError:
                self._halve()
                cache.cut(cached + first)
                continue
            finally:
                self._recorder.count = 0
            logits, cache, first = out.logits, out.past_key_values, end
        return logits, cache

    def _piece_end(self, first: int, last: int, rows: int, cached: int) -> int:
        """Where the piece that begins at `first` ends; the last piece holds all recorded rows.

        On a GPU a rest goes in halves of the chunk, down to what `rh_bench.attention.fused` splits: new shapes cost it
        a plan.
        """
        if not self._shares:
            return last
        size, rest = self.chunk, last - first - rows
        if self._weights:  # every row's weights exist at once
            heads = self._shape[2]
            size = max(16, min(size, SCORES_BUDGET // (8 * heads * (cached + last))))
        while self._on_gpu and size > max(rest, QUERY_STEP):
            size //= 2
        return first + size if rest >= size else last

    def _halve(self) -> None:
        """After the device ran out of memory."""
        self.chunk //= 2
        if not self._shares or self.chunk < SMALLEST_CHUNK:
            raise InputError(
                "the device has too little memory for this model at this length",
                hint="give shorter --lengths, a smaller --dtype or another --device",
            )
        torch.cuda.empty_cache()
