"""What layers a model has, found by watching it, and whether what is recorded of them is what the model does.

No list of architectures: a probe shows which layers call transformers' attention interface, or return weights of
their own. Then that is tried on a short random text and compared with one pass of the model without a cache. A model
that cannot be measured correctly is refused with the reason, whoever wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from rh_bench.attention.capture import Recorder, UnsupportedAttention, capture, eager, takes_functions
from rh_bench.engines.trial import Trial, refuse_two_way
from rh_bench.errors import InputError
from rh_bench.records import NO_SOFTMAX, Layer

_WINDOWS = {"sliding": ("sliding_window", "sliding_window_size"), "chunked": ("attention_chunk_size",)}
_PROBE = 4


def find_layers(model: Any) -> tuple[Layer, ...]:
    """Every decoder layer of `model`, and how it can be measured.

    Raises:
        InputError: the model is no decoder, or a layer computes attention in a way that cannot be recorded correctly.
    """
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError("encoder-decoder models are not supported", where=name, hint="use a decoder-only model")
    try:
        refuse_two_way(model)
        layers = (_from_interface(model) if takes_functions(model) else ()) or _from_weights(model)
        return _as_tried(model, layers)
    except UnsupportedAttention as error:
        raise InputError(str(error), where=name, hint="this architecture is not supported") from None


def _as_tried(model: Any, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers with sharing switched off where it does not give what the model does.

    Raises:
        InputError: nor does the model's own cache.
    """
    ways = [layers]
    if all(layer.croppable for layer in layers):
        ways.append(tuple(replace(layer, croppable=False) for layer in layers))
    trial = Trial(model)
    problem = ""
    for way in ways:
        problem = trial.problem(way)
        if not problem:
            return way
    raise InputError(
        f"what is recorded of its attention is not what the model does ({problem})",
        where=type(model).__name__,
        hint="this architecture is not supported",
    )


def _from_interface(model: Any) -> tuple[Layer, ...]:
    """The layers of a model whose attention goes through transformers' attention interface; none if it does not."""
    recorder = Recorder()
    with torch.inference_mode(), capture(model, recorder):
        model(input_ids=_probe(model), use_cache=False)
    if not recorder.seen:
        return ()
    twice = sorted(layer for layer, calls in recorder.calls.items() if calls > 1)
    if twice:
        raise UnsupportedAttention(
            f"layer {twice[0]} computes attention {recorder.calls[twice[0]]} times for a token, so it has no one target"
        )
    config = model.config.get_text_config(decoder=True)
    total = max(len(_kinds(config)), int(getattr(config, "num_hidden_layers", 0) or 0), max(recorder.seen) + 1)
    kinds: list[str | None] = [*_kinds(config), *[None] * total][:total]
    states = _states(model, total)
    return tuple(_layer(i, kinds[i], recorder.seen.get(i), states[i], config) for i in range(total))


def _layer(index: int, kind: str | None, seen: tuple[int, int, int | None] | None, state: _State, config: Any) -> Layer:
    recurrent, croppable = state.recurrent, state.croppable
    if seen is None:
        if kind not in NO_SOFTMAX:
            raise UnsupportedAttention(
                f"layer {index} ({kind or 'of no stated kind'}) has attention that does not go through transformers' "
                "attention interface"
            )
        return Layer(index, str(kind), recurrent=recurrent, croppable=croppable)
    query_heads, kv_heads, window = seen
    name = "chunked" if kind == "chunked_attention" else "sliding"
    if window is None and kind is not None and ("sliding" in kind or "chunked" in kind):
        window = next((size for size in (getattr(config, key, None) for key in _WINDOWS[name]) if size), None)
        if window is None:
            raise UnsupportedAttention(f"layer {index} ({kind}) does not say how far it sees")
    if window is None and state.forgets:
        raise UnsupportedAttention(
            f"layer {index} sees all tokens in one pass, and its cache keeps only the last {state.forgets}"
        )
    return Layer(
        index,
        "full" if window is None else name,
        query_heads,
        kv_heads,
        window,
        recurrent=recurrent,
        croppable=croppable,
    )


def _from_weights(model: Any) -> tuple[Layer, ...]:
    """The layers of a model that computes attention by itself and returns the weights."""
    with torch.inference_mode(), eager(model):
        out = model(input_ids=_probe(model), use_cache=False, output_attentions=True)
    returned = [w for w in getattr(out, "attentions", None) or () if w is not None]
    if not returned or any(w.ndim != 4 or w.shape[2:] != (_PROBE, _PROBE) for w in returned):
        raise UnsupportedAttention(
            "it has no attention that can be seen: none goes through transformers' attention interface, and no weights "
            "over the text are returned"
        )
    config = model.config.get_text_config(decoder=True)
    total = int(getattr(config, "num_hidden_layers", 0) or 0)
    if len(returned) != total:
        raise UnsupportedAttention(f"it returns attention weights of {len(returned)} of {total} layers")
    kinds = _kinds(config) or list(getattr(config, "attention_layers", None) or []) or ["global"] * total
    layers = []
    for index, weights in enumerate(returned):
        heads = weights.shape[1]
        groups = getattr(config, "num_kv_heads", None) or getattr(config, "num_key_value_heads", None) or heads
        if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
            groups = 1
        near = "sliding" in kinds[index] or kinds[index] == "local"
        window = getattr(config, "window_size", None) or getattr(config, "sliding_window", None) if near else None
        layers.append(Layer(index, "sliding" if near else "full", heads, int(groups), window, read_from="weights"))
    return tuple(layers)


def _kinds(config: Any) -> list[str]:
    """What the configuration calls each layer; nothing if it does not."""
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    if kinds:
        return list(kinds)
    crossing = getattr(config, "cross_attention_layers", None)
    if not crossing:
        return []
    return ["cross_attention" if i in crossing else "full_attention" for i in range(config.num_hidden_layers)]


@dataclass(frozen=True, slots=True)
class _State:
    """What transformers' cache for a configuration has for a layer."""

    recurrent: bool
    croppable: bool
    forgets: int | None
    """Tokens after which it forgets the earliest; None if it keeps all."""


def _states(model: Any, total: int) -> list[_State]:
    """Of each layer, from the cache that transformers makes for the model's configuration."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    try:
        own = DynamicCache(config=model.config).layers
    except Exception:  # a configuration for which transformers cannot say; the trial decides
        own = []
    states = []
    for index in range(total):
        layer = own[index] if index < len(own) else None
        recurrent = hasattr(layer, "update_recurrent_state") or hasattr(layer, "update_conv_state")
        plain = layer is None or type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
        # A layer without a cache of its own reads another's, or has no attention.
        forgets = getattr(layer, "sliding_window", None)
        states.append(_State(recurrent, plain or type(layer).__name__ == "DummyLayer", forgets))
    return states


def _probe(model: Any) -> torch.Tensor:
    return torch.zeros((1, _PROBE), dtype=torch.long, device=model.device)
