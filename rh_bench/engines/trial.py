"""A short random text, measured by the fast engine and compared with one pass of the model without a cache.

It shows what no name of an architecture says: that positions reach the model, that its cache goes on where it was cut,
that attention is what the recorder takes it for. In half types only gross differences count: what is close falls
otherwise there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rh_bench.attention.capture import UnsupportedAttention, eager
from rh_bench.engines.base import Forward, StopRule, not_finite, scored_weights
from rh_bench.records import Decoded, IntArray, Layer, Prompt, Sample

_SHARED, _OWN, _NEW, _PIECE = 15, 8, 3, 5
"""Tokens that the two prompts share, tokens of their own, tokens that are decoded, tokens of a piece."""
_ROUNDING = {torch.float32: (1e-3, 1.0), torch.float64: (1e-3, 1.0)}
_ROUNDING_HALF = (0.1, 0.9)
"""How far the weight at a recorded position may lie below the largest, and for which share of rows it must not."""


def refuse_two_way(model: Any) -> None:
    """Refuse a model in which a token sees those after it.

    Raises:
        UnsupportedAttention: it does, so it does not continue texts from left to right.
    """
    ids = _random_ids(model, 8, seed=0)
    other = ids.copy()
    other[-1] = _random_ids(model, 64, seed=1)[_random_ids(model, 64, seed=1) != ids[-1]][0]
    with torch.inference_mode(), eager(model):
        both = [model(input_ids=_tensor(model, one), use_cache=False).logits[0, :-1].float() for one in (ids, other)]
    spread = float(both[0].std())
    if not torch.isfinite(both[0]).all():
        raise not_finite(model)
    if float((both[0] - both[1]).abs().max()) > 0.05 * spread + 1e-6:
        raise UnsupportedAttention("a token sees the ones after it (an encoder), so it does not continue a text")


@dataclass(frozen=True)
class _Expected:
    """One pass without a cache over prompt and answer: logits [n, V] and weights [H, n, n] of each scored layer."""

    logits: torch.Tensor
    weights: list[torch.Tensor]


class Trial:
    """Tries ways of measuring one model. Changes nothing in it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        shared = _random_ids(model, _SHARED, seed=2)
        self._prompts = [
            _prompt(np.concatenate([shared, _random_ids(model, _OWN, seed=seed)]), seed) for seed in (3, 4)
        ]

    def problem(self, layers: Sequence[Layer]) -> str:
        """What differs from the model's own pass when it is measured as `layers` say; nothing if it agrees."""
        from rh_bench.engines.fast import FastEngine

        if self._counts_otherwise():
            return "it counts positions otherwise than from 0 on, as generate() does for it"
        engine = FastEngine(self._model, layers, StopRule(frozenset()), _NEW, chunk=_PIECE)
        try:
            found = {decoded.sample_id: decoded for decoded in engine.decode(self._prompts)}
        except (torch.OutOfMemoryError, UnsupportedAttention):
            raise
        except Exception as error:  # a cache of another kind than the model's can fail in any way
            return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        for prompt in self._prompts:
            decoded = found[prompt.sample.sample_id]
            problem = self._differing(prompt, decoded, layers)
            if problem:
                return problem
        return ""

    def _counts_otherwise(self) -> bool:
        tokens, forward = _tensor(self._model, self._prompts[0].ids), Forward(self._model)
        with torch.inference_mode(), eager(self._model):
            said = forward(tokens, None, 0, use_cache=False).logits[0, -1].float()
            own = self._model(input_ids=tokens, use_cache=False).logits[0, -1].float()
        below, _ = _ROUNDING.get(self._model.dtype, _ROUNDING_HALF)
        return float((said - own).abs().max()) > below * (float(own.std()) + 1e-6) * 10

    def _differing(self, prompt: Prompt, decoded: Decoded, layers: Sequence[Layer]) -> str:
        expected = self._expected(prompt, decoded.generated, layers)
        scored = [layer for layer in layers if layer.scored]
        below, share = _ROUNDING.get(self._model.dtype, _ROUNDING_HALF)
        rows = slice(len(prompt.ids) - 1, len(prompt.ids) - 1 + len(decoded.generated))
        logits = expected.logits[rows].float()
        spread = float(logits.std()) + 1e-6
        chosen = logits.gather(1, torch.from_numpy(decoded.generated.astype(np.int64))[:, None])[:, 0]
        if float((logits.max(dim=-1).values - chosen).max()) > below * spread * (1 if share == 1 else 10):
            return "another token follows"
        close = total = 0
        for place, (layer, weights) in enumerate(zip(scored, expected.weights, strict=True)):
            looks = torch.from_numpy(decoded.targets[:, place, : layer.query_heads].astype(np.int64)).T
            own = weights[:, rows].float()
            if own.shape[:2] != looks.shape or own.shape[2] != expected.logits.shape[0]:
                return f"layer {layer.index} shows weights of another shape"
            known = looks >= 0  # elsewhere a sink has more
            there = own.gather(2, looks.clamp(min=0)[..., None])[..., 0]
            near = (own.amax(dim=-1) - there <= below) | ~known
            close, total = close + int(near.sum()), total + near.numel()
            if share == 1 and not near.all():
                return f"heads of layer {layer.index} look elsewhere"
        return "" if close >= share * total else f"{total - close} of {total} rows look elsewhere"

    def _expected(self, prompt: Prompt, generated: IntArray, layers: Sequence[Layer]) -> _Expected:
        ids = np.concatenate([prompt.ids, generated])
        with torch.inference_mode(), eager(self._model):
            out = self._model(input_ids=_tensor(self._model, ids), use_cache=False, output_attentions=True)
        weights = scored_weights(getattr(out, "attentions", None), layers)
        return _Expected(out.logits[0].cpu(), [one[0].cpu() for one in weights])


def _prompt(ids: IntArray, seed: int) -> Prompt:
    digest = hashlib.sha256(ids.tobytes()).hexdigest()
    sample = Sample(f"trial-{seed}", f"needle-{seed}", "trial", len(ids), 0.0)
    return Prompt(sample, ids, _SHARED, _OWN, _SHARED, 4, "", digest)


def _random_ids(model: Any, count: int, seed: int) -> IntArray:
    """Ids that the model knows, the first three left out, which are often special."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    return np.random.RandomState(seed).randint(min(3, rows - 1), rows, size=count).astype(np.int32)


def _tensor(model: Any, ids: IntArray) -> torch.Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(model.device)[None]
