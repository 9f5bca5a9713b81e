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
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from rh_bench.attention.capture import UnsupportedAttention

_DEPENDENT = ("dynamic", "longrope")
_FAR = 1 << 24
"""A position beyond every window."""


class LengthRope:
    """The rotary embeddings of one model that depend on length; none for most models, and nothing is done then."""

    def __init__(self, model: Any) -> None:
        self._modules = [module for module in _rotary(model) if _depends_on_length(module, model.device)]
        self._length = 0
        self._switch = _switch(model) if self._modules else None
        self._device = model.device
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
        # Position 1, unless the prompt is a single token, whose only position turns nothing.
        at = min(1, self._length - 1)
        digest = hashlib.sha256()
        for module in self._modules:
            for part in _turns(module, [at], self._device):
                digest.update(part.cpu().numpy().tobytes())
        return digest.hexdigest()

    def starts_over(self, before: int, length: int) -> bool:
        """Whether ``generate()`` would run everything again to go from `before` cached tokens to `length`."""
        return self._switch is not None and before <= self._switch.after < length

    def room_before_starting_over(self, length: int) -> int | None:
        """How many more tokens fit before that, after `length`; None if it does not come."""
        if self._switch is None or length > self._switch.after:
            return None
        return self._switch.after - length

    def refuse_lost_prompts(self, lengths: Iterable[int], new_tokens: int) -> None:
        """Refuse prompts whose answers would outgrow the window where ``generate()`` loses the prompt: transformers
        before 5.23 drops the cache there and runs only the last token, and so does Phi-4-multimodal since.

        Raises:
            UnsupportedAttention: names the length and the window.
        """
        if self._switch is None or not self._switch.loses_prompt:
            return
        after = self._switch.after
        crossing = [length for length in lengths if length <= after < length + new_tokens]
        if crossing:
            raise UnsupportedAttention(
                f"its answers to prompts of {crossing[0]} tokens outgrow the {after} of its original window, where "
                "generate() of this version of transformers loses the prompt",
                hint="give other --lengths, or install a newer transformers",
            )

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
        if x.ndim == 3 and x.shape[1] != total:
            raise UnsupportedAttention(
                "its rotary embedding depends on length, and is asked for other positions than those of its tokens"
            )
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


def _rotary(model: Any) -> list[Any]:
    """The rotary embeddings of transformers' own kind, which say which kind they are."""
    return [module for module in model.modules() if hasattr(module, "rope_type") and hasattr(module, "forward")]


@torch.inference_mode()
def _depends_on_length(module: Any, device: Any) -> bool:
    """Whether position 1 turns otherwise in a long sequence. Asked, not read off the kind: some models scale by length
    whatever their kind is (PhiMoE)."""
    try:
        before = _turns(module, [1], device)
        far = _turns(module, [1, _FAR], device)
        _turns(module, [0], device)  # forget the long sequence
    except Exception as error:  # called in some other way, as those of vision towers are
        kinds = module.rope_type.values() if isinstance(module.rope_type, dict) else [module.rope_type]
        if any(kind in _DEPENDENT for kind in kinds):
            raise UnsupportedAttention(
                f"its rotary embedding depends on length and takes positions in a way that is not understood ({error})"
            ) from None
        return False
    return any(not torch.equal(one, other[..., :1, :]) for one, other in zip(before, far, strict=True))


def _turns(module: Any, positions: list[int], device: Any) -> list[torch.Tensor]:
    """What a rotary embedding gives for these positions of one sequence: its parts, for each kind of layer."""
    x = torch.ones(1, 1, 1, dtype=torch.float32, device=device)
    at = torch.tensor([positions], dtype=torch.long, device=device)
    kinds = list(module.rope_type) if isinstance(module.rope_type, dict) else [None]
    parts = []
    for kind in kinds:
        turned = module.forward(x, at, **({} if kind is None else {"layer_type": kind}))
        for part in turned if isinstance(turned, tuple) else (turned,):
            parts.append(torch.view_as_real(part).flatten(-2) if part.is_complex() else part)
    return parts


@dataclass(frozen=True, slots=True)
class _Switch:
    """Where a model changes its factors for all tokens, and what ``generate()`` does then."""

    after: int
    """The longest sequence before that."""
    loses_prompt: bool
    """It drops the cache and runs only the last token, instead of everything again."""


def _switch(model: Any) -> _Switch | None:
    """Where `generate()` drops the cache of a model, asked of what prepares its inputs; None if it does not."""
    from transformers import DynamicCache

    after = getattr(model.config.get_text_config(decoder=True), "original_max_position_embeddings", None)
    if after is None:
        return None
    size = int(after)

    class Full(DynamicCache):  # type: ignore[misc]
        """As if it were full of `after` tokens."""

        def get_seq_length(self, *_: Any, **__: Any) -> int:
            return size

        def __bool__(self) -> bool:
            return True

    ids = torch.zeros((1, size + 1), dtype=torch.long, device=model.device)
    try:
        prepared = model.prepare_inputs_for_generation(
            ids,
            past_key_values=Full(),
            attention_mask=torch.ones_like(ids),
            use_cache=True,
            next_sequence_length=1,
        )
    except Exception as error:
        raise UnsupportedAttention(
            f"its rotary embedding depends on length, and what generate() does about it cannot be asked ({error})"
        ) from None
    if prepared.get("past_key_values") is not None:
        return None
    return _Switch(size, loses_prompt=prepared["input_ids"].shape[1] == 1)


def _cut(out: Any, count: int) -> Any:
    if isinstance(out, tuple):
        return tuple(part[..., :count, :] for part in out)
    return out[..., :count, :]


def _restore(module: Any, before: Any) -> None:
    if before is None:
        module.__dict__.pop("forward", None)
    else:
        module.__dict__["forward"] = before
