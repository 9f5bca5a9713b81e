"""The default engine: shared prefixes, fused attention kernels, verified drafts, one arg-max per head on the device.

Prompts of one haystack differ only from the needle on. They are put in an order in which each shares as much as it can
with the one before (deepest insertion point first), and one cache is cut back to what two neighbours share, so that no
token is processed twice for want of order.

An answer is mostly a copy, so it can be guessed: the guess runs in one pass with the end of the prompt, the tokens that
greedy decoding would have produced are kept, and decoding goes on from the first that differs. Attention is computed by
a fused kernel, and the rows that produce tokens are reduced to a position a head where they are computed (see
:mod:`rh_bench.attention.capture`), so that nothing of size queries × keys exists at any time.
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

from rh_bench.attention.compiled import compiled_arithmetic
from rh_bench.attention.interventions import active, decoding, most_shared
from rh_bench.engines.base import StopRule, Thought, can_crop, new_cache, reads_weights
from rh_bench.engines.drafts import Draft, propose
from rh_bench.engines.runner import Runner
from rh_bench.records import Decoded, IntArray, Layer, Prompt
from rh_bench.system.memory import CHUNK, MOST_ROWS

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
        thought: what the model thinks before it answers; None if it answers at once.
    """

    name = "fast"
    version = 2

    def __init__(
        self,
        model: Any,
        layers: Sequence[Layer],
        stop: StopRule,
        max_new_tokens: int,
        chunk: int | None = None,
        draft: Draft = propose,
        *,
        thought: Thought | None = None,
    ) -> None:
        self._model, self._layers, self._stop, self._max_new = model, tuple(layers), stop, max_new_tokens
        self._thought, self._draft = thought, draft
        self._shares, self._weights = can_crop(layers), reads_weights(layers)
        self._runner = Runner(model, layers, chunk or CHUNK.get(model.device.type, CHUNK["cpu"]))
        self._rope = self._runner.rope

    @property
    def chunk(self) -> int:
        """Prompt tokens in one forward pass: what was given, halved each time the device ran out of memory."""
        return self._runner.chunk

    @property
    def notes(self) -> tuple[str, ...]:
        notes = []
        if any(layer.recurrent for layer in self._layers):
            notes.append(
                "prefixes are not shared and answers not drafted: a recurrent layer's state cannot be cut back"
            )
        elif not self._shares:
            notes.append("prefixes are not shared and answers not drafted: the model's own cache cannot be cut back")
        if self._weights:
            notes.append("attention is read, token by token, from the weights that the model returns")
        if self._rope:
            notes.append("rotary frequencies depend on length: only prompts of equal frequencies share prefixes")
        return tuple(notes)

    def cost(self, prompt: Prompt) -> float:
        return len(prompt.ids) - prompt.insert_at + 100 if self._shares else len(prompt.ids) + 10 * self._max_new

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]] | None = None) -> Iterator[Decoded]:
        done = done or {}
        self._rope.refuse_lost_prompts((len(prompt.ids) for prompt in prompts), self._answer_tokens)
        if not self._shares:
            for prompt in prompts:
                if prompt.sample.sample_id not in done:
                    yield self._decode_alone(prompt)
            return
        longest = max((len(p.ids) for p in prompts), default=0)
        prefix = SharedPrefix(self._runner.fill, new_cache(self._layers, longest + self._answer_tokens))
        order = plan(prompts, lambda one, other: most_shared(self._model, one, other), self._rope.key)
        with compiled_arithmetic(self._model) if self._compiles(order) else nullcontext():
            yield from self._decode_sharing(order, done, prefix)

    @property
    def _answer_tokens(self) -> int:
        return self._max_new + (0 if self._thought is None else self._thought.limit)

    def _decode_sharing(
        self, order: Sequence[Planned], done: Mapping[str, Sequence[int]], prefix: SharedPrefix
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
                with self._runner.of(prompt), decoding(self._model, prompt):
                    kept = prefix.load()
                    thought, generated, targets = self._greedy(prompt, kept, prefix.cache, said)
                seconds = time.perf_counter() - started
                yield Decoded(prompt.sample.sample_id, generated, targets, seconds, thought)
                answer = generated.tolist()
            said[prompt.sample.needle_id] = answer

    def _compiles(self, order: Sequence[Planned]) -> bool:
        """In float32 on a CPU nothing is compiled: there, events are to be those of the reference."""
        if not (self._model.device.type == "cuda" and self._model.dtype in (torch.bfloat16, torch.float16)):
            return False
        tokens = sum(len(planned.prompt.ids) - planned.shared for planned in order)
        parameters: int = sum(p.numel() for p in self._model.parameters())
        return 2.0 * tokens * parameters > _WORTH_COMPILING

    def _decode_alone(self, prompt: Prompt) -> Decoded:
        """Without sharing: a cache that cannot be cut back is good for one prompt, and for no guesses."""
        started = time.perf_counter()
        with self._runner.of(prompt), decoding(self._model, prompt):
            thought, generated, targets = self._greedy(prompt, 0, new_cache(self._layers), None)
        return Decoded(prompt.sample.sample_id, generated, targets, time.perf_counter() - started, thought)

    def _greedy(
        self, prompt: Prompt, kept: int, cache: Any, said: Mapping[str, Sequence[int]] | None
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Greedy decoding of what follows `prompt`, whose first `kept` tokens are in the cache.

        Args:
            said: the last answer to each needle's question; None if guesses cannot be taken back.

        Returns:
            The thought, the answer, and where heads look while the answer is given.
        """
        answer = Answer(self._runner, prompt, kept, cache)
        sources = None if said is None or self._weights else _sources(prompt, said)
        thought = _nothing()
        if self._thought is not None:
            thought = self._think(answer, self._thought)
            if not self._thought.ends(thought.tolist()):
                return thought, _nothing(), self._runner.no_rows()
        generated: list[int] = []
        targets = [self._runner.no_rows()]
        while True:
            guess = self._guess(generated, sources, answer)
            produced, rows = answer.step(guess)
            agreed, stopped = self._accept(produced, guess)
            generated += produced[:agreed]
            targets.append(rows[:agreed])
            if stopped or len(generated) == self._max_new:
                return thought, np.asarray(generated, dtype=np.int32), np.concatenate(targets)
            answer.keep(produced[:agreed])

    def _think(self, answer: Answer, thought: Thought) -> IntArray:
        """What the model says up to the end of its thought; cut off at the limit, or where the model ends its turn."""
        tokens: list[int] = []
        while not thought.ends(tokens) and len(tokens) < thought.limit:
            produced, _ = answer.step(_nothing())
            if self._stop(produced[0]):
                break
            tokens += produced
            answer.keep(produced)
        return np.asarray(tokens, dtype=np.int32)

    def _guess(self, generated: Sequence[int], sources: Sequence[Sequence[int]] | None, answer: Answer) -> IntArray:
        """Tokens to run ahead of what is known; one more than they are is produced, which must fit in the answer."""
        most = min(self._max_new - len(generated), MOST_ROWS) - 1
        room = answer.room_for_guesses
        most = most if room is None else min(most, room)
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


class Answer:
    """An answer in the making: what is in the cache, and what waits to be run.

    Args:
        kept: tokens of the prompt that are in the cache.
        cache: None for a model that makes its own.
    """

    def __init__(self, runner: Runner, prompt: Prompt, kept: int, cache: Any) -> None:
        self._runner, self._cache, self._cached, self._waiting = runner, cache, kept, prompt.ids[kept:]
        self._sequence = prompt.ids
        self._length = len(prompt.ids)
        """The prompt's length, for frequencies that depend on it; that of the sequence where it was started over."""

    @property
    def room_for_guesses(self) -> int | None:
        """Guesses that may be run before the model would start over; None if it does not."""
        return self._runner.rope.room_before_starting_over(len(self._sequence))

    def step(self, guess: IntArray) -> tuple[list[int], IntArray]:
        """Run what waits, and a guess at what follows.

        Returns:
            The tokens that follow the sequence and each token of the guess, and where heads look at these steps.
        """
        if self._cached and self._runner.rope.starts_over(self._cached, len(self._sequence)):
            self._cache, self._cached = self._runner.empty_cache(len(self._sequence) + MOST_ROWS), 0
            self._waiting, self._length = self._sequence, len(self._sequence)
        with self._runner.rope.prompt(self._length):
            ids = np.concatenate([self._waiting, guess])
            produced, rows, self._cache = self._runner.record(ids, self._cache, self._cached, len(guess) + 1)
        self._cached += len(self._waiting)
        return produced, rows

    def keep(self, tokens: Sequence[int]) -> None:
        """Go on after `tokens`: all but the last are in the cache, guesses after them go."""
        self._cached += len(tokens) - 1
        self._runner.cut(self._cache, self._cached)
        self._waiting = np.asarray(tokens[-1:], dtype=np.int32)
        self._sequence = np.concatenate([self._sequence, np.asarray(tokens, dtype=np.int32)])


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
    prompts: Sequence[Prompt],
    most: Callable[[Prompt, Prompt], int | None] = lambda one, other: None,
    rope: Callable[[int], str] = lambda length: "",
) -> list[Planned]:
    """Prompts in the order in which neighbours share most: of a haystack the deepest insertion point first; at one
    point needle by needle, short before long, since a longer one starts with all of a shorter one but its end.

    Args:
        most: how many tokens two neighbours may share at most, or None for as many as are equal.
        rope: of a prompt's length; prompts whose values differ have keys of their own and share nothing.
    """
    ropes = {length: rope(length) for length in sorted({len(prompt.ids) for prompt in prompts})}
    places = {key: place for place, key in enumerate(dict.fromkeys(ropes.values()))}

    def place(p: Prompt) -> tuple[Any, ...]:
        alike = places[ropes[len(p.ids)]]
        return p.sample.haystack_id, alike, -p.insert_at, p.sample.needle_id, len(p.ids), p.sample.sample_id

    def limit(one: Prompt, other: Prompt) -> int | None:
        return most(one, other) if ropes[len(one.ids)] == ropes[len(other.ids)] else 0

    ordered = sorted(prompts, key=place)
    # The last token of a prompt is always run: its row produces the first token of the answer.
    equal = [(common_prefix(a.ids[:-1], b.ids[:-1]), limit(a, b)) for a, b in pairwise(ordered)]
    shared = [0, *(size if bound is None else min(size, bound) for size, bound in equal), 0]
    return [Planned(prompt, shared[i], shared[i + 1]) for i, prompt in enumerate(ordered)]


def common_prefix(a: IntArray, b: IntArray) -> int:
    """How many tokens two sequences share from their start."""
    size = min(len(a), len(b))
    differs = np.flatnonzero(a[:size] != b[:size])
    return int(differs[0]) if len(differs) else size


def _nothing() -> IntArray:
    return np.empty(0, dtype=np.int32)


def _sources(prompt: Prompt, said: Mapping[str, Sequence[int]]) -> list[Sequence[int]]:
    """What an answer is likely to repeat, the likeliest first."""
    span = prompt.span_start
    needle = prompt.ids[prompt.insert_at : prompt.insert_at + prompt.needle_length].tolist()
    earlier = said.get(prompt.sample.needle_id)
    from_answer_on = prompt.ids[span : prompt.insert_at + prompt.needle_length].tolist()
    return [*([earlier] if earlier else []), from_answer_on, needle]
