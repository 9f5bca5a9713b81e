"""What engines share: the layers of a model, its cache, the rule that ends an answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from rh_bench.capture import Recorder, UnsupportedAttention, capture
from rh_bench.errors import InputError
from rh_bench.records import Decoded, Layer, Prompt

MAX_NEW_TOKENS = 50
NO_SOFTMAX = ("linear_attention", "mamba", "mamba2", "conv", "recurrent", "ssm", "moe", "mlp", "deltanet")
"""Layer types, as configurations name them, that have no softmax attention to score."""


class Engine(Protocol):
    """Decodes prompts greedily and records, for every token, where each head looked."""

    name: str
    version: int

    def decode(self, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]] | None = None) -> Iterator[Decoded]:
        """Yield one :class:`Decoded` for each prompt whose sample id is not in `done`, in an order of the engine's own.

        `prompts` is always the whole run, and `done` has the tokens generated for each sample that an earlier sitting
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
class StopRule:
    """Ends an answer at an end-of-sequence token and, for plain prompts, at the first token that contains a newline."""

    eos_ids: frozenset[int]
    decode: Callable[[list[int]], str] | None = None
    """Ids to text where newlines stop the answer; None where they do not."""
    _known: dict[int, bool] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, token: int) -> bool:
        if token in self.eos_ids:
            return True
        if self.decode is None:
            return False
        if token not in self._known:
            self._known[token] = "\n" in self.decode([token])
        return self._known[token]

    @property
    def names(self) -> list[str]:
        return ["eos"] if self.decode is None else ["eos", "newline"]


def stop_rule(model: Any, tokenizer: Any, decode: Callable[[list[int]], str] | None) -> StopRule:
    """The rule for a model: every end-of-sequence token that its configurations or its tokenizer name.

    Args:
        decode: see :class:`StopRule`.
    """
    generation = getattr(model, "generation_config", None)
    named = [getattr(source, "eos_token_id", None) for source in (generation, model.config, tokenizer)]
    ids = {int(i) for one in named if one is not None for i in (one if isinstance(one, list | tuple) else [one])}
    return StopRule(frozenset(ids), decode)


def find_layers(model: Any) -> tuple[Layer, ...]:
    """Every decoder layer of `model`, found by watching which ones call the attention interface.

    Raises:
        InputError: the model is an encoder-decoder, or a layer computes attention in a way that cannot be recorded.
    """
    config = model.config.get_text_config(decoder=True)
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError("encoder-decoder models are not supported", where=name, mend="use a decoder-only model")
    recorder = Recorder()
    probe = torch.zeros((1, 4), dtype=torch.long, device=model.device)
    try:
        with torch.inference_mode(), capture(model, recorder):
            model(input_ids=probe, use_cache=False)
    except UnsupportedAttention as error:
        raise InputError(str(error), where=name, mend="this architecture is not supported") from None
    total = int(getattr(config, "num_hidden_layers", 0)) or (max(recorder.seen, default=-1) + 1)
    types = getattr(config, "layer_types", None) or [None] * total
    layers = tuple(_layer(i, types[i], recorder.seen.get(i), config, name) for i in range(total))
    if not any(layer.scored for layer in layers):
        raise InputError(
            "its attention does not go through transformers' attention interface", where=name, mend="not supported"
        )
    return layers


def _layer(index: int, kind: str | None, seen: tuple[int, int, int | None] | None, config: Any, name: str) -> Layer:
    if seen is not None:
        query_heads, kv_heads, window = seen
        if window is None and kind == "sliding_attention":
            window = getattr(config, "sliding_window", None)
        return Layer(index, "full" if window is None else "sliding", query_heads, kv_heads, window)
    if kind is not None and kind not in ("full_attention", "sliding_attention", "chunked_attention"):
        return Layer(index, kind)
    raise InputError(
        f"layer {index} has attention that does not go through transformers' attention interface",
        where=name,
        mend="this architecture is not supported",
    )


def can_crop(layers: Sequence[Layer]) -> bool:
    """Whether a cache can be cut back to an earlier position: recurrent states cannot."""
    return all(layer.scored for layer in layers)


def new_cache(model: Any, layers: Sequence[Layer], capacity: int | None = None) -> Any:
    """An empty key/value cache that keeps every position of every softmax layer, so that positions are absolute.

    Sliding layers keep all their keys, too: the window is in the mask. Recurrent layers keep their own kind of state.

    Args:
        capacity: positions to reserve memory for at once, in a cache that can be cut back; None for one that grows.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    if can_crop(layers):
        if capacity is None:
            return DynamicCache()
        from rh_bench.engines.cache import BufferCache

        return BufferCache(len(layers), capacity)
    cache = DynamicCache(config=model.config)
    cache.layers = [
        DynamicLayer() if layer.scored else state for layer, state in zip(layers, cache.layers, strict=True)
    ]
    return cache


def logits_argument(model: Any) -> Callable[[int], dict[str, int]]:
    """Gives the argument that spares the logits of all rows but the last few, for models that know it."""
    known = "logits_to_keep" in inspect.signature(model.forward).parameters
    return lambda rows: {"logits_to_keep": rows} if known else {}
