"""The default engine: shared prefixes, fused attention kernels, verified drafts, one arg-max per head on the device.

Prompts of one haystack differ only from the needle on. They are put in an order in which each shares as much as it can
with the one before (deepest insertion point first), and one cache is cut back to what two neighbours share, so that no
token is processed twice for want of order.

An answer is mostly a copy, so it can be guessed: the guess runs in one pass with the end of the prompt, the tokens that
greedy decoding would have produced are kept, and decoding goes on from the first that differs. Attention is computed by
a fused kernel, and the rows that produce tokens are reduced to a position a head where they are computed (see
:mod:`rh_bench.capture`), so that nothing of size queries × keys exists at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from rh_bench.capture import Recorder, capture
from rh_bench.compiled import compiled_arithmetic
from rh_bench.engines.base import StopRule, can_crop, logits_argument, new_cache
from rh_bench.engines.drafts import Draft, propose
from rh_bench.errors import InputError
from rh_bench.fused import QUERY_STEP
from rh_bench.interventions import active, decoding, most_shared
from rh_bench.memory import CHUNK, MOST_ROWS, SMALLEST_CHUNK
from rh_bench.records import Decoded, IntArray, Layer, Prompt

_WORTH_COMPILING = 1e16
"""Arithmetic of a run, in floating-point operations, from which compiling takes less time than it saves."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A prompt in the order of the engine: it shares `shared` tokens with the one before, `after` with the next."""

    prompt: Prompt
    shared: int
    after: int


class FastEngine:
    """See the module. `version` changes whenever the events it gives could change.

    Args:
        chunk: prompt tokens in one forward pass.
        draft: guesses what comes next; see :mod:`rh_bench.engines.drafts`.
    """

    name = "fast"
    version = 1

    def __init__(
        self,
        model: Any,
        layers: Sequence[Layer],
        stop: StopRule,
        max_new_tokens: int,
        chunk: int | None = None,
        draft: Draft = propose,
    ) -> None:
        self._model, self._layers, self._stop, self._max_new = model, tuple(layers), stop, max_new_tokens
        self._chunk, self._draft = chunk or CHUNK.get(model.device.type, CHUNK["cpu"]), draft
        self._halves = model.device.type == "cuda"
        scored = [layer for layer in layers if layer.scored]
        self._shares = can_crop(layers)
        self._shape = (MOST_ROWS, len(scored), max(layer.query_heads for layer in scored))
        self._rows = {layer.index: place for place, layer in enumerate(scored)}
        self._logits_argument = logits_argument(model)

    @property
    def chunk(self) -> int:
        """Prompt tokens in one forward pass: what was given, halved each time the device ran out of memory."""
        return self._chunk

    @property
    def notes(self) -> tuple[str, ...]:
        if self._shares:
            return ()
        return ("prefixes are not shared and answers not drafted: a recurrent layer's state cannot be cut back",)

    def cost(self, prompt: Prompt) -> float:
        return len(prompt.ids) - prompt.insert_at + 100 if self._shares else len(prompt.ids) + 10 * self._max_new

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]] | None = None) -> Iterator[Decoded]:
        done = done or {}
        recorder = Recorder(rows=self._rows)
        if not self._shares:
            for prompt in prompts:
                if prompt.sample.sample_id not in done:
                    yield self._decode_alone(prompt, recorder)
            return
        capacity = max((len(p.ids) for p in prompts), default=0) + self._max_new
        prefix = SharedPrefix(self._forward, new_cache(self._model, self._layers, capacity))
        order = plan(prompts, lambda one, other: most_shared(self._model, one, other))
        with compiled_arithmetic(self._model) if self._compiles(order) else nullcontext():
            yield from self._decode_sharing(order, done, prefix, recorder)

    def _decode_sharing(
        self, order: Sequence[Planned], done: Mapping[str, Sequence[int]], prefix: SharedPrefix, recorder: Recorder
    ) -> Iterator[Decoded]:
        said: dict[str, Sequence[int]] = {}
        begun_with = active(self._model)
        for planned in order:
            prompt = planned.prompt
            if active(self._model) != begun_with:
                raise RuntimeError("heads were removed or put back between two prompts that share a cache")
            started = time.perf_counter()
            prefix.enter(planned)
            if prompt.sample.sample_id in done:
                answer = done[prompt.sample.sample_id]
            else:
                with capture(self._model, recorder), decoding(self._model, prompt):
                    kept = prefix.load()
                    generated, targets = self._greedy(prompt, kept, prefix.cache, recorder, said)
                yield Decoded(prompt.sample.sample_id, generated, targets, time.perf_counter() - started)
                answer = generated.tolist()
            said[prompt.sample.needle_id] = answer

    def _compiles(self, order: Sequence[Planned]) -> bool:
        """In float32 on a CPU nothing is compiled: there, events are to be those of the reference."""
        if not (self._halves and self._model.dtype in (torch.bfloat16, torch.float16)):
            return False
        tokens = sum(len(planned.prompt.ids) - planned.shared for planned in order)
        parameters: int = sum(p.numel() for p in self._model.parameters())
        return 2.0 * tokens * parameters > _WORTH_COMPILING

    def _decode_alone(self, prompt: Prompt, recorder: Recorder) -> Decoded:
        """Without sharing: a cache that cannot be cut back is good for one prompt, and for no guesses."""
        started = time.perf_counter()
        with capture(self._model, recorder), decoding(self._model, prompt):
            generated, targets = self._greedy(prompt, 0, new_cache(self._model, self._layers), recorder, None)
        return Decoded(prompt.sample.sample_id, generated, targets, time.perf_counter() - started)

    def _greedy(
        self, prompt: Prompt, kept: int, cache: Any, recorder: Recorder, said: Mapping[str, Sequence[int]] | None
    ) -> tuple[IntArray, IntArray]:
        """Greedy decoding of what follows `prompt`, whose first `kept` tokens are in the cache.

        Args:
            said: the last answer to each needle's question; None where guesses cannot be taken back.
        """
        if recorder.targets is None:
            recorder.targets = torch.full(self._shape, -1, dtype=torch.int32, device=self._model.device)
        sources = None if said is None else _sources(prompt, said)
        generated: list[int] = []
        targets = [np.empty((0, *self._shape[1:]), dtype=np.int32)]
        waiting, cached = prompt.ids[kept:], kept
        while True:
            guess = self._guess(generated, sources)
            produced, rows = self._forward(np.concatenate([waiting, guess]), cache, cached, recorder, len(guess) + 1)
            cached += len(waiting)
            agreed, stopped = self._accept(produced, guess)
            generated += produced[:agreed]
            targets.append(rows[:agreed])
            if stopped or len(generated) == self._max_new:
                break
            # The last token produced is not in the cache yet; the guesses before it are, and those after it go.
            cached += agreed - 1
            if self._shares:
                cache.cut(cached)
            waiting = np.asarray(generated[-1:], dtype=np.int32)
        return np.asarray(generated, dtype=np.int32), np.concatenate(targets)

    def _guess(self, generated: Sequence[int], sources: Sequence[Sequence[int]] | None) -> IntArray:
        """Tokens to run ahead of what is known; one more than they are is produced, which must fit in the answer."""
        most = min(self._max_new - len(generated), MOST_ROWS) - 1
        guess = [] if sources is None else self._draft(generated, sources, most)[: max(most, 0)]
        return np.asarray(guess, dtype=np.int32)

    def _accept(self, produced: Sequence[int], guess: IntArray) -> tuple[int, bool]:
        """How many of the tokens produced greedy decoding would have produced, and whether the next one ends it.

        Row 0 follows the prompt; row i follows guess i - 1, and means something while all guesses so far were right.
        """
        for row, token in enumerate(produced):
            if self._stop(token):
                return row, True
            if row == len(guess) or guess[row] != token:
                return row + 1, False
        raise AssertionError("there is one row more than there are guesses")

    def _forward(
        self, ids: IntArray, cache: Any, cached: int, recorder: Recorder | None = None, rows: int = 0
    ) -> tuple[list[int], IntArray]:
        """Run `ids` after the `cached` tokens of the cache, in pieces; record the last `rows` rows.

        Returns:
            The tokens that the last `rows` rows produce, and int32 [rows, A, H], where their heads look. They leave the
            device together: one transfer for an answer whose guess was right.
        """
        tokens = torch.from_numpy(ids.astype(np.int64)).to(self._model.device)[None]
        first, last = 0, tokens.shape[1]
        logits = None
        while first < last:
            end = self._piece_end(first, last, rows)
            final = recorder is not None and end == last
            if recorder is not None:
                recorder.count = rows if final else 0
            try:
                logits = self._model(
                    input_ids=tokens[:, first:end],
                    past_key_values=cache,
                    use_cache=True,
                    **self._logits_argument(rows if final else 1),
                ).logits
            except torch.OutOfMemoryError:
                self._halve_chunk()
                cache.cut(cached + first)
                continue
            first = end
        if recorder is None or recorder.targets is None or logits is None:
            return [], np.empty((0, *self._shape[1:]), dtype=np.int32)
        recorder.count = 0
        produced = logits[0, -rows:].argmax(dim=-1).to(torch.int32)
        both = torch.cat([produced[:, None], recorder.targets[:rows].flatten(1)], dim=1).cpu().numpy()
        return both[:, 0].tolist(), both[:, 1:].reshape(rows, *self._shape[1:])

    def _piece_end(self, first: int, last: int, rows: int) -> int:
        """Where the piece that begins at `first` ends; the last piece holds all recorded rows.

        On a GPU a rest goes in halves of the chunk, down to what `rh_bench.fused` splits: new shapes cost it a plan.
        """
        if not self._shares:
            return last
        size, rest = self._chunk, last - first - rows
        while self._halves and size > max(rest, QUERY_STEP):
            size //= 2
        return first + size if rest >= size else last

    def _halve_chunk(self) -> None:
        """After the device ran out of memory."""
        self._chunk //= 2
        if not self._shares or self._chunk < SMALLEST_CHUNK:
            raise InputError(
                "the device has too little memory for this model at this length",
                mend="give shorter --lengths, a smaller --dtype or another --device",
            )
        torch.cuda.empty_cache()


class SharedPrefix:
    """The cache's tokens that the prompts to come share, in segments that are run when a prompt needs them.

    Which segments there are depends on the plan alone, not on which prompts are done: what is shared is computed in
    the same pieces whether or not a run was interrupted.
    """

    def __init__(self, run: Callable[[IntArray, Any, int], object], cache: Any) -> None:
        """
        Args:
            run: runs tokens after those, so many of them, that are in the cache.
            cache: empty; it can be cut back.
        """
        self.cache = cache
        self._run = run
        self._waiting: list[tuple[int, IntArray]] = []
        """(tokens kept of it, tokens) of the segments that are not in the cache yet."""
        self._length = 0
        """Tokens shared, waiting segments included."""
        self._loaded = 0
        """Tokens of them in the cache."""

    def enter(self, planned: Planned) -> None:
        """Go to a prompt: drop what it does not share, add what the next one shares of it."""
        self._length, self._loaded = planned.shared, min(self._loaded, planned.shared)
        kept: list[tuple[int, IntArray]] = []
        for length, ids in self._waiting:
            first = self._loaded + sum(size for size, _ in kept)
            if first < self._length:
                kept.append((min(length, self._length - first), ids))
        self._waiting = kept
        if planned.after > self._length:
            ids = planned.prompt.ids[self._length : planned.after]
            self._waiting.append((len(ids), ids))
            self._length = planned.after

    def load(self) -> int:
        """Bring the shared tokens into the cache, and it to their length. Returns that length."""
        self.cache.cut(self._loaded)
        for length, ids in self._waiting:
            self._run(ids, self.cache, self._loaded)
            self._loaded += length
            self.cache.cut(self._loaded)
        self._waiting = []
        return self._loaded


def plan(
    prompts: Sequence[Prompt], most: Callable[[Prompt, Prompt], int | None] = lambda one, other: None
) -> list[Planned]:
    """Prompts in the order in which neighbours share most: of a haystack the deepest insertion point first; at one
    point needle by needle, short before long, since a longer one begins with all of a shorter one but its end.

    Args:
        most: how many tokens two neighbours may share at most, or None for as many as are equal.
    """
    ordered = sorted(
        prompts, key=lambda p: (p.sample.haystack_id, -p.insert_at, p.sample.needle_id, len(p.ids), p.sample.sample_id)
    )
    # The last token of a prompt is always run: its row produces the first token of the answer.
    equal = [(common_prefix(a.ids[:-1], b.ids[:-1]), most(a, b)) for a, b in pairwise(ordered)]
    shared = [0, *(size if limit is None else min(size, limit) for size, limit in equal), 0]
    return [Planned(prompt, shared[i], shared[i + 1]) for i, prompt in enumerate(ordered)]


def common_prefix(a: IntArray, b: IntArray) -> int:
    """How many tokens two sequences share from their start."""
    size = min(len(a), len(b))
    differs = np.flatnonzero(a[:size] != b[:size])
    return int(differs[0]) if len(differs) else size


def _sources(prompt: Prompt, said: Mapping[str, Sequence[int]]) -> list[Sequence[int]]:
    """What an answer is likely to repeat, the likeliest first."""
    span = prompt.span_start
    needle = prompt.ids[prompt.insert_at : prompt.insert_at + prompt.needle_length].tolist()
    earlier = said.get(prompt.sample.needle_id)
    from_answer_on = prompt.ids[span : prompt.insert_at + prompt.needle_length].tolist()
    return [*([earlier] if earlier else []), from_answer_on, needle]
