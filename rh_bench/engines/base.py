"""What engines share: the layers of a model, its cache, the rule that ends an answer, the thought before it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from rh_bench.attention.capture import UnsupportedAttention
from rh_bench.errors import InputError
from rh_bench.prompting.stopping import StopRule as StopRule
from rh_bench.prompting.stopping import stop_rule as stop_rule
from rh_bench.records import Decoded, Layer, Prompt


class Engine(Protocol):
    """Decodes prompts greedily and records, for every token, where each head looked."""

    name: str
    version: int

    def decode(self, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]] | None = None) -> Iterator[Decoded]:
        """Yield one :class:`Decoded` for each prompt whose sample id is not in `done`, in an order of the engine's own.

        `prompts` is always the whole run, and `done` has the tokens generated for each sample that an earlier session
        measured, so that what is shared between samples is computed in the same way whether or not the run was
        interrupted.
        """
        ...

    def cost(self, prompt: Prompt) -> float:
        """How much work a sample is, next to others of the same run: for the time left."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the run should know, for example that prefixes could not be shared."""
        ...


@dataclass(frozen=True)
class Thought:
    """What a model thinks before it answers: up to and including the tokens `closing`, at most `limit` tokens."""

    closing: tuple[int, ...]
    limit: int

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether `tokens` end with the closing ones."""
        return tuple(tokens[-len(self.closing) :]) == self.closing


def can_crop(layers: Sequence[Layer]) -> bool:
    """Whether a cache can be cut back to an earlier position: recurrent states cannot."""
    return all(layer.croppable for layer in layers)


def reads_weights(layers: Sequence[Layer]) -> bool:
    """Whether the model computes attention by itself, so that where heads look is read from the weights it returns."""
    return any(layer.read_from == "weights" for layer in layers)


def scored_weights(attentions: Sequence[torch.Tensor | None] | None, layers: Sequence[Layer]) -> list[torch.Tensor]:
    """The attention weights of the scored layers, in order, of what a model returned.

    Some models return something for every layer, also for those without softmax attention; most only what there is.

    Raises:
        UnsupportedAttention: it is neither.
    """
    returned = list(attentions or ())
    if len(returned) == len(layers):
        returned = [one for one, layer in zip(returned, layers, strict=True) if layer.scored]
    there = [one for one in returned if one is not None]
    scored = sum(layer.scored for layer in layers)
    if len(there) != scored:
        raise UnsupportedAttention(f"{scored} layers are scored, and it shows the attention of {len(there)}")
    return there


def new_cache(layers: Sequence[Layer], capacity: int | None = None) -> Any:
    """An empty key/value cache that keeps every position of every layer and can be cut back; None for a model whose
    cache cannot be: it makes its own.

    Sliding layers keep all their keys, too: the window is in the mask.

    Args:
        capacity: positions to reserve memory for at once; None for a cache that grows.
    """
    from transformers import DynamicCache

    if not can_crop(layers):
        return None
    if capacity is None:
        return DynamicCache()
    from rh_bench.engines.cache import BufferCache

    return BufferCache(len(layers), capacity)


class Forward:
    """Calls a model on the next tokens of a sequence, in the way that it takes them.

    Positions are always said where a model takes them: some count from zero in every call (Bamba).
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        known = inspect.signature(model.forward).parameters
        self._positions, self._keep = "position_ids" in known, "logits_to_keep" in known

    def __call__(
        self,
        tokens: torch.Tensor,
        cache: Any,
        first: int,
        rows: int = 1,
        *,
        weights: bool = False,
        use_cache: bool = True,
    ) -> Any:
        """The model's output for `tokens` (int64 [B, n]), which stand after `first` others.

        Args:
            cache: holds those others; None for none, or for a model that makes its own.
            rows: logits of how many of the last rows are wanted; models that know no such thing give all.
            weights: return attention weights.
        """
        arguments: dict[str, Any] = {"input_ids": tokens, "past_key_values": cache, "use_cache": use_cache}
        if self._positions:
            at = torch.arange(first, first + tokens.shape[1], device=tokens.device)
            arguments["position_ids"] = at[None].expand(tokens.shape[0], -1)
        if self._keep:
            arguments["logits_to_keep"] = rows
        if weights:
            arguments["output_attentions"] = True
        out = self._model(**arguments)
        if use_cache and getattr(out, "past_key_values", None) is None:
            raise UnsupportedAttention("it does not pass a key/value cache from one call to the next")
        return out


def most_likely(logits: torch.Tensor, model: Any) -> torch.Tensor:
    """The token of the largest logit in each row: int64 [...] of float [..., V].

    Raises:
        InputError: a row has no largest logit, because the type of the weights cannot hold the model's numbers.
    """
    largest, tokens = logits.max(dim=-1)
    if not bool(torch.isfinite(largest).all()):
        raise not_finite(model)
    return tokens


def not_finite(model: Any) -> InputError:
    """The refusal of a model whose logits are no numbers."""
    dtype = str(model.dtype).removeprefix("torch.")
    other = "bfloat16 or float32" if dtype == "float16" else "float32"
    return InputError(
        f"its logits are NaN or infinite in {dtype}, so its answers are meaningless",
        where=type(model).__name__,
        hint=f"give --dtype {other}" if dtype != "float32" else "the weights themselves may be broken",
    )
