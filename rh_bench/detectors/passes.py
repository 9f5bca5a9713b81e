"""Passes over prompts that decode nothing: how much attention their last rows pay to chosen positions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rh_bench.attention.attention_mass import MassRecorder
from rh_bench.attention.capture import capture
from rh_bench.engines.base import Forward, can_crop, new_cache, not_finite, reads_weights
from rh_bench.engines.fast import Planned, SharedPrefix, plan
from rh_bench.engines.rope import LengthRope
from rh_bench.errors import InputError
from rh_bench.records import IntArray, Layer, Prompt
from rh_bench.system.memory import CHUNK

Positions = npt.NDArray[np.int64]
"""int64 [S, R, P]: S sets of P key positions for each of the last R rows of a prompt."""
Masses = npt.NDArray[np.float64]
"""float64 [S, H]: attention on each set, added over its positions, averaged over the rows."""


class Passes:
    """Runs prompts, in pieces where they are long, with a cache that neighbours share where it can be cut back.

    Args:
        sets: S, how many sets of positions there are.
        chunk: prompt tokens in one forward pass.
    """

    def __init__(self, model: Any, layers: Sequence[Layer], sets: int, chunk: int | None = None) -> None:
        scored = [layer for layer in layers if layer.scored]
        most = max(layer.query_heads for layer in scored)
        self._model, self._layers, self._heads = model, layers, [layer.query_heads for layer in scored]
        self._chunk = chunk or CHUNK.get(model.device.type, CHUNK["cpu"])
        self._shares, self._rope, self._forward = (
            can_crop(layers),
            LengthRope(model),
            Forward(model),
        )
        if reads_weights(layers):
            raise InputError(
                "its attention does not go through transformers' attention interface",
                where=type(model).__name__,
                hint="only the copy detector measures this architecture",
            )
        self._recorder = MassRecorder(rows={layer.index: place for place, layer in enumerate(scored)})
        self._recorder.masses = torch.zeros(sets, len(scored), most, device=model.device)

    @torch.inference_mode()
    def alone(self, ids: IntArray, positions: Positions) -> Masses:
        """The masses of one prompt that shares nothing."""
        cache = new_cache(self._layers, len(ids))
        with capture(self._model, self._recorder), self._rope.prompt(len(ids)):
            return self._observe(ids, cache, 0, positions)

    @torch.inference_mode()
    def sharing(
        self, prompts: Sequence[Prompt], positions: Callable[[Prompt], Positions], done: Mapping[str, object]
    ) -> Iterator[tuple[str, Masses, float]]:
        """(sample id, masses, seconds) of each prompt that is not in `done`.

        Args:
            prompts: all of an experiment, done or not: their order, and what neighbours share, depends on all of them.
            positions: of a prompt.
        """
        if not self._shares:
            for prompt in prompts:
                if prompt.sample.sample_id not in done:
                    started = time.perf_counter()
                    masses = self.alone(prompt.ids, positions(prompt))
                    yield prompt.sample.sample_id, masses, time.perf_counter() - started
            return
        capacity = max((len(prompt.ids) for prompt in prompts), default=0)
        prefix = SharedPrefix(self._run, new_cache(self._layers, capacity))
        for planned in _before_rows(plan(prompts, rope=self._rope.key), lambda prompt: positions(prompt).shape[1]):
            prompt = planned.prompt
            started = time.perf_counter()
            prefix.enter(planned)
            if prompt.sample.sample_id in done:
                continue
            with capture(self._model, self._recorder), self._rope.prompt(len(prompt.ids)):
                kept = prefix.load()
                masses = self._observe(prompt.ids[kept:], prefix.cache, kept, positions(prompt))
            yield prompt.sample.sample_id, masses, time.perf_counter() - started

    def _observe(self, ids: IntArray, cache: Any, cached: int, positions: Positions) -> Masses:
        assert self._recorder.masses is not None
        self._recorder.masses.zero_()
        self._run(ids, cache, cached, torch.from_numpy(positions).to(self._model.device))
        by_layer = self._recorder.masses.double().cpu().numpy()
        return np.concatenate([by_layer[:, place, :heads] for place, heads in enumerate(self._heads)], axis=1)

    def _run(self, ids: IntArray, cache: Any, cached: int, positions: torch.Tensor | None = None) -> None:
        """Run `ids` after the `cached` tokens of the cache, in pieces; the last piece holds all recorded rows.

        Without a cache they run at once.
        """
        tokens = torch.from_numpy(ids.astype(np.int64)).to(self._model.device)[None]
        rows = 0 if positions is None else positions.shape[1]
        first, last = 0, len(ids)
        try:
            while first < last:
                end = first + self._chunk if cache is not None and last - first - rows >= self._chunk else last
                self._recorder.positions = positions if end == last else None
                out = self._forward(tokens[:, first:end], cache, cached + first, use_cache=cache is not None)
                first = end
            if rows and not bool(torch.isfinite(out.logits[0, -1].amax())):
                raise not_finite(self._model)
        except torch.OutOfMemoryError:
            raise InputError(
                "the device has too little memory for this model at this length",
                hint="give shorter --lengths, a smaller --dtype or another --device",
            ) from None
        finally:
            self._recorder.positions = None


def _before_rows(order: Sequence[Planned], rows: Callable[[Prompt], int]) -> list[Planned]:
    """The order, with no more shared between neighbours than what stands before the recorded rows of both."""
    free = [len(planned.prompt.ids) - rows(planned.prompt) for planned in order]
    links = [0, *(min(one.after, *ends) for one, ends in zip(order[:-1], pairwise(free), strict=True)), 0]
    return [replace(planned, shared=links[i], after=links[i + 1]) for i, planned in enumerate(order)]
