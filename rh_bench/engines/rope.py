"""Rotary embeddings whose frequencies depend on how long the sequence is (dynamic NTK, LongRoPE).

transformers computes them from the largest position of each call. A prompt that is run in pieces, or whose beginning
is shared with a shorter one, would get keys of several frequencies. Inside :meth:`LengthRope.prompt` every key of a
prompt has the frequencies of the whole prompt, and every token after it those that ``generate()`` gives it: of the
sequence that ends with itself.

Some models of LongRoPE (Phi-3 and its kin) throw their cache away in ``generate()`` when the sequence outgrows the
original window, and run all of it again: :meth:`LengthRope.starts_over` says when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch

_DEPENDENT = ("dynamic", "longrope")
_STARTS_OVER = ("phi3", "phimoe", "phi4_multimodal")
"""Model types whose `prepare_inputs_for_generation` drops the cache at the switch from short to long factors."""


class LengthRope:
    """The rotary embeddings of one model that depend on length; none for most models, and nothing is done then."""

    def __init__(self, model: Any) -> None:
        self._modules = [module for module in model.modules() if _depends_on_length(module)]
        self._length = 0
        self._original = _original_window(model) if self._modules else None
        self._dtype, self._device = model.dtype, model.device
        self._keys: dict[int, str] = {}

    def __bool__(self) -> bool:
        return bool(self._modules)

    def key(self, length: int) -> str:
        """What prompts must have in common to share keys: the frequencies that a prompt of `length` tokens gets."""
        if not self._modules:
            return ""
        if length not in self._keys:
            with self.prompt(length):
                self._keys[length] = self._fingerprint()
        return self._keys[length]

    @torch.inference_mode()
    def _fingerprint(self) -> str:
        x = torch.ones(1, 1, 1, dtype=torch.float32, device=self._device)
        at = torch.zeros(1, 1, dtype=torch.long, device=self._device)
        digest = hashlib.sha256()
        for module in self._modules:
            kinds = list(module.rope_type) if isinstance(module.rope_type, dict) else [None]
            for kind in kinds:
                # Position 1, unless the prompt is a single token, whose only position turns nothing.
                turned = module.forward(
                    x, at + min(1, self._length - 1), **({} if kind is None else {"layer_type": kind})
                )
                for part in turned if isinstance(turned, tuple) else (turned,):
                    digest.update(
                        torch.view_as_real(part).cpu().numpy().tobytes()
                        if part.is_complex()
                        else part.cpu().numpy().tobytes()
                    )
        return digest.hexdigest()

    def starts_over(self, before: int, length: int) -> bool:
        """Whether ``generate()`` would run everything again to go from `before` cached tokens to `length`."""
        return self._original is not None and before <= self._original < length

    def room_before_starting_over(self, length: int) -> int | None:
        """How many more tokens fit before that, after `length`; None where it does not come."""
        if self._original is None or length > self._original:
            return None
        return self._original - length

    @contextmanager
    def prompt(self, length: int) -> Iterator[None]:
        """Positions before `length` are of one prompt inside the block, and turn as its whole length asks."""
        before, self._length = self._length, length
        try:
            with ExitStack() as undo:
                for module in self._modules if not before else ():
                    undo.callback(_restore, module, module.__dict__.get("forward"))
                    module.__dict__["forward"] = partial(self._turn, module.forward)
                yield
        finally:
            self._length = before

    def _turn(
        self, forward: Callable[..., Any], x: torch.Tensor, position_ids: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """What the module returns, computed for each stretch of positions with the length that it should see."""
        total = position_ids.shape[-1]
        # Positions of a pass ascend; of several rows (multimodal positions, a batch) all are alike here.
        inside = int((position_ids.reshape(-1, total)[0] < self._length).sum())
        parts = []
        if inside:
            last = torch.full_like(position_ids[..., :1], self._length - 1)
            longer = torch.cat([position_ids[..., :inside], last], dim=-1)
            parts.append(_cut(self._fresh(forward, x, longer, *args, **kwargs), inside))
        for place in range(inside, total):
            parts.append(self._fresh(forward, x, position_ids[..., place : place + 1], *args, **kwargs))
        if isinstance(parts[0], tuple):
            return tuple(torch.cat(both, dim=-2) for both in zip(*parts, strict=True))
        return torch.cat(parts, dim=-2)

    @staticmethod
    def _fresh(
        forward: Callable[..., Any], x: torch.Tensor, position_ids: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """The module's own answer, without what it remembers of longer sequences before: position 0 makes it forget."""
        forward(x, torch.zeros_like(position_ids[..., :1]), *args, **kwargs)
        return forward(x, position_ids, *args, **kwargs)


def _depends_on_length(module: Any) -> bool:
    kinds = getattr(module, "rope_type", None)
    named = kinds.values() if isinstance(kinds, dict) else [kinds]
    return any(isinstance(kind, str) and kind in _DEPENDENT for kind in named)


def _original_window(model: Any) -> int | None:
    """The window at which a model of those that start over does so."""
    config = model.config.get_text_config(decoder=True)
    if config.model_type not in _STARTS_OVER:
        return None
    original = getattr(config, "original_max_position_embeddings", None)
    return None if original is None else int(original)


def _cut(out: Any, count: int) -> Any:
    if isinstance(out, tuple):
        return tuple(part[..., :count, :] for part in out)
    return out[..., :count, :]


def _restore(module: Any, before: Any) -> None:
    if before is None:
        module.__dict__.pop("forward", None)
    else:
        module.__dict__["forward"] = before
