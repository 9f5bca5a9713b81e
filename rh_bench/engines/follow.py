"""Answers that are given, not found: runs each claimed answer through the model and records how far the model is from
giving it, token by token, and how far each head is from looking where it is said to look.

Greedy decoding goes another way after one near tie, and everything after it differs. Along a given answer every step
can be compared, and a step that differs says by how much: by rounding, or by more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rh_bench.attention.interventions import decoding, most_shared
from rh_bench.attention.leads import LeadRecorder, leads
from rh_bench.engines.base import can_crop, new_cache, not_finite, reads_weights, scored_weights
from rh_bench.engines.fast import Answer, SharedPrefix, plan
from rh_bench.engines.runner import Runner
from rh_bench.prompting.stopping import StopRule
from rh_bench.records import IntArray, Layer, Prompt
from rh_bench.system.memory import CHUNK, MOST_ROWS

FloatArray = npt.NDArray[np.float32]

_LIKELY = 64
"""Tokens among which one that ends the answer is looked for; where there is none, the last of them stands for it."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What is said to follow a prompt."""

    thought: tuple[int, ...]
    answer: tuple[int, ...]
    ends: bool
    """Whether the model is said to have ended it there, rather than to have been cut off."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What the model does along a claimed answer of T tokens to a prompt."""

    sample_id: str
    gaps: FloatArray
    """float32 [S]: for each token of the thought, of the answer and, where it ends, for its end: how far the claimed
    one's logit is below the largest. 0: it is what the model says."""
    margins: FloatArray
    """float32 [S]: how far the second largest logit is below the largest."""
    produced: IntArray
    """int32 [S]: what the model says there."""
    offsets: IntArray
    """int32 [T, P]: at each step of the answer, the positions of the span (from its start) that hold the step's token;
    -1 where there are fewer than P."""
    inside: FloatArray
    """float32 [T, P, A, H]: the score of each of these positions, less the head's best score of all at this step."""
    outside: FloatArray
    """float32 [T, A, H]: the best score among all other positions, less the best of all."""


class Follower:
    """Follows claimed answers, in the order and with the shared prefixes of the fast engine.

    Args:
        chunk: prompt tokens in one forward pass.
    """

    def __init__(self, model: Any, layers: Sequence[Layer], stop: StopRule, chunk: int | None = None) -> None:
        self._model, self._layers = model, tuple(layers)
        self._shares, self._weights = can_crop(layers), reads_weights(layers)
        self._runner = _Watching(model, layers, stop, chunk or CHUNK.get(model.device.type, CHUNK["cpu"]))

    @torch.inference_mode()
    def follow(self, prompts: Sequence[Prompt], claims: Mapping[str, Claimed]) -> Iterator[Followed]:
        """What the model does along the claimed answer to each prompt.

        Args:
            claims: by sample id.

        Raises:
            InputError: the logits are not numbers, or the device has too little memory.
        """
        following = {name: len(one.thought) + len(one.answer) + 1 for name, one in claims.items()}
        self._runner.rope.refuse_lost_prompts((len(p.ids) for p in prompts), max(following.values(), default=1))
        if not self._shares:
            for prompt in prompts:
                with self._runner.of(prompt), decoding(self._model, prompt):
                    yield self._along(prompt, 0, new_cache(self._layers), claims[prompt.sample.sample_id])
            return
        capacity = max((len(p.ids) + following[p.sample.sample_id] for p in prompts), default=0)
        prefix = SharedPrefix(self._runner.fill, new_cache(self._layers, capacity))
        for planned in plan(prompts, lambda one, other: most_shared(self._model, one, other), self._runner.rope.key):
            prompt = planned.prompt
            prefix.enter(planned)
            with self._runner.of(prompt), decoding(self._model, prompt):
                yield self._along(prompt, prefix.load(), prefix.cache, claims[prompt.sample.sample_id])

    def _along(self, prompt: Prompt, kept: int, cache: Any, claim: Claimed) -> Followed:
        offsets = span_offsets(prompt, claim.answer)
        tokens = [*claim.thought, *claim.answer, *([_END] if claim.ends else [])]
        padding = np.full((len(tokens), offsets.shape[1]), -1, dtype=np.int64)
        first = len(claim.thought)
        padding[first : first + len(offsets)] = np.where(offsets < 0, -1, offsets + prompt.span_start)
        answer = Answer(self._runner, prompt, kept, cache)
        found: list[_Rows] = []
        at = 0
        while at < len(tokens):
            guess = np.asarray(tokens[at : at + self._room(answer, len(tokens) - at)], dtype=np.int32)
            end = at + len(guess) + 1
            self._runner.claim(np.asarray(tokens[at:end], dtype=np.int64), padding[at:end])
            answer.step(guess)
            found.append(self._runner.rows())
            if end < len(tokens):
                answer.keep(tokens[at:end])
            at = end
        return _joined(prompt.sample.sample_id, found, offsets, first, self._runner.no_leads(offsets.shape[1]))

    def _room(self, answer: Answer, rows: int) -> int:
        """Claimed tokens that may be run at once with the one that waits: none where the cache cannot be cut back."""
        if not self._shares or self._weights:
            return 0
        room = answer.room_for_guesses
        most = min(rows, MOST_ROWS) - 1
        return max(most if room is None else min(most, room), 0)


_END = -1
"""Stands for any token that ends the answer."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """What was seen of R rows: gaps and margins [R], tokens produced [R], inside [R, P, A, H], outside [R, A, H]."""

    gaps: FloatArray
    margins: FloatArray
    produced: IntArray
    inside: FloatArray
    outside: FloatArray


def span_offsets(prompt: Prompt, answer: Sequence[int]) -> IntArray:
    """At each token of an answer, the offsets in the span that hold the same token: int32 [T, P], -1 is padding."""
    places = [np.flatnonzero(prompt.span_ids == token) for token in answer]
    most = max((len(one) for one in places), default=0)
    offsets = np.full((len(answer), max(most, 1)), -1, dtype=np.int32)
    for row, one in enumerate(places):
        offsets[row, : len(one)] = one
    return offsets


class _Watching(Runner):
    """A runner that is told what the next rows are claimed to give, and keeps how far they are from it."""

    def __init__(self, model: Any, layers: Sequence[Layer], stop: StopRule, chunk: int) -> None:
        super().__init__(model, layers, chunk)
        self._stop = stop
        self._leads = LeadRecorder(rows=self._recorder.rows)
        self._recorder = self._leads
        self._tokens = np.empty(0, dtype=np.int64)
        self._seen: _Rows | None = None

    def no_leads(self, positions: int) -> tuple[FloatArray, FloatArray]:
        """`inside` and `outside` of no rows."""
        return (
            np.empty((0, positions, *self._shape[1:]), dtype=np.float32),
            np.empty((0, *self._shape[1:]), dtype=np.float32),
        )

    def claim(self, tokens: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> None:
        """Say what the next recorded rows are claimed to give.

        Args:
            tokens: [R]; `_END` for any that ends the answer.
            positions: [R, P], of the sequence, -1 where there are fewer.
        """
        device, (rows, size) = self._model.device, positions.shape
        self._tokens = tokens
        self._leads.positions = torch.from_numpy(positions).to(device)
        self._leads.inside = torch.zeros(rows, size, *self._shape[1:], device=device)
        self._leads.outside = torch.zeros(rows, *self._shape[1:], device=device)

    def rows(self) -> _Rows:
        """What was seen of them."""
        assert self._seen is not None
        return self._seen

    def record(self, ids: IntArray, cache: Any, cached: int, rows: int) -> tuple[list[int], IntArray, Any]:
        if self._weights:
            logits, cache = self._with_weights(ids, cache, cached)
        else:
            out, cache = self._run(self._tensor(ids), cache, cached, rows)
            logits = out[0, -rows:].float()
        gaps, margins, produced = self._gaps(logits)
        assert self._leads.inside is not None and self._leads.outside is not None
        inside, outside = self._leads.inside.cpu().numpy(), self._leads.outside.cpu().numpy()
        self._seen = _Rows(gaps, margins, produced, inside, outside)
        return produced.tolist(), self.no_rows(), cache

    def _with_weights(self, ids: IntArray, cache: Any, cached: int) -> tuple[torch.Tensor, Any]:
        """As `Runner._read`: one row, from the weights that the model returns. Their logarithms differ as scores do."""
        tokens = self._tensor(ids)
        if len(ids) > 1:
            _, cache = self._run(tokens[:, :-1], cache, cached, 0)
        out = self._forward(tokens[:, -1:], cache, cached + len(ids) - 1, weights=True)
        assert self._leads.positions is not None and self._leads.inside is not None and self._leads.outside is not None
        for place, weights in enumerate(scored_weights(out.attentions, self._layers)):
            row = weights[0, :, -1:].float()
            dropped = cached + len(ids) - row.shape[2]
            inside, outside = leads(row.clamp_min(1e-30).log(), self._leads.positions - dropped, None)
            self._leads.inside[:, :, place, : len(row)] = inside.permute(1, 2, 0)
            self._leads.outside[:, place, : len(row)] = outside.T
        return out.logits[0, -1:].float(), out.past_key_values

    def _gaps(self, logits: torch.Tensor) -> tuple[FloatArray, FloatArray, IntArray]:
        """Of logits [R, V]: how far the claimed tokens' and the second largest are below the largest, and its token."""
        best = logits.topk(2)
        (largest, second), tokens = best.values.unbind(1), best.indices
        if not bool(torch.isfinite(largest).all()):
            raise not_finite(self._model)
        claimed = torch.from_numpy(self._tokens).to(logits.device)
        said = logits.gather(1, claimed.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
        gaps, margins = ((largest - other).cpu().numpy().astype(np.float32) for other in (said, second))
        for row in np.flatnonzero(self._tokens == _END):
            gaps[row] = self._gap_of_end(logits[row])
        return gaps, margins, tokens[:, 0].to(torch.int32).cpu().numpy()

    def _gap_of_end(self, logits: torch.Tensor) -> float:
        values, tokens = logits.topk(min(_LIKELY, len(logits)))
        ends = [self._stop(int(token)) for token in tokens.tolist()]
        return float(values[0] - values[ends.index(True) if True in ends else -1])


def _joined(
    sample_id: str, found: Sequence[_Rows], offsets: IntArray, first: int, nothing: tuple[FloatArray, FloatArray]
) -> Followed:
    """
    Args:
        first: rows of the thought, which come first and have no leads.
    """
    rows = slice(first, first + len(offsets))
    none = np.empty(0, dtype=np.float32)
    return Followed(
        sample_id,
        np.concatenate([none, *(one.gaps for one in found)]),
        np.concatenate([none, *(one.margins for one in found)]),
        np.concatenate([none.astype(np.int32), *(one.produced for one in found)]),
        offsets,
        np.concatenate([nothing[0], *(one.inside for one in found)])[rows],
        np.concatenate([nothing[1], *(one.outside for one in found)])[rows],
    )
