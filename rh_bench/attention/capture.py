"""Where each head looks, without materialising attention weights.

transformers lets a model name its attention function; :func:`capture` registers one under a name of its own for the
duration of a ``with`` block. It leaves the attention itself to the kernel the model would have used and, for the last
query rows only, reduces the scores to one arg-max position a head, on the device. When the block ends, the model's own
implementation is back and the names are gone from transformers' tables.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from rh_bench.attention.fused import causal_attention
from rh_bench.attention.interventions import Call, changed, changes_attention, seen
from rh_bench.errors import InputError
from rh_bench.system.memory import MOST_ROWS, SCORES_BUDGET

_names = itertools.count()
_PREFIX = "rh_bench_attention_"

# Arguments that model code passes to attention functions and that change neither the scores of a row nor their order.
_HARMLESS = frozenset(
    [
        "dropout",
        "scaling",
        "is_causal",
        "sliding_window",
        "position_ids",
        "cache_position",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "position_embeddings",
        "past_key_values",
        "past_key_value",
        "logits_to_keep",
        "cu_seq_lens_q",
        "cu_seq_lens_k",
        "max_length_q",
        "max_length_k",
        "num_items_in_batch",
        "layer_head_mask",
        "head_mask",
        "num_key_value_groups",
        "s_aux",
        "sinks",
        "softcap",
        "position_bias",
        "output_router_logits",
        "seq_idx",
    ]
)
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""What SDPA may dispatch to. Not cuDNN, whose plan for each new shape costs more than a token takes: it is called by
:mod:`rh_bench.attention.fused`, where shapes repeat."""
_ONLY_EAGER = ("softcap", "s_aux", "sinks")
"""Arguments that no fused kernel takes."""
_QUERY_BLOCK = 256
"""Query rows at a time where no fused kernel can compute the attention (soft-capping, sinks)."""


@dataclass
class Recorder:
    """Holds what the attention function sees while a capture is on.

    `targets` is int32 [R, A, H] on the device, preset to -1; the next forward pass writes where its last `count` query
    rows look to the first `count` of them, and -1 where that is an attention sink. `rows` maps a layer's index to its
    place on the A axis.
    """

    rows: dict[int, int] = field(default_factory=dict)
    targets: torch.Tensor | None = None
    count: int = 0
    end: int | None = None
    """Positions of the sequence with the pass's last token. A layer that keeps fewer keys has dropped the first."""
    seen: dict[int, tuple[int, int, int | None]] = field(default_factory=dict)
    """layer index -> (query heads, key/value heads, window) of every layer that called the attention function."""
    calls: Counter[int] = field(default_factory=Counter)
    """layer index -> how often."""

    def observe(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, kwargs: dict[str, Any]
    ) -> None:
        """Called by every layer of scored attention with what its scores are made of; see :func:`row_scores`.

        Recorders of something else than arg-max positions (:mod:`rh_bench.attention.attention_mass`) put theirs here.
        """
        if self.count:
            self.record(layer, _argmax_rows(query, key, mask, kwargs, self.count))

    def record(self, layer: int, keys: torch.Tensor) -> None:
        """Write where the rows look: `keys`, int64 [count, H], indices into the pass's keys."""
        assert self.targets is not None
        self.targets[: len(keys), self.rows[layer], : keys.shape[1]] = keys

    def shift(self, layer: int, heads: int, dropped: int) -> None:
        """Make positions of the indices into the keys of a layer that has dropped the first `dropped`."""
        if dropped and self.targets is not None:
            looks = self.targets[: self.count, self.rows[layer], :heads]
            looks += dropped * (looks >= 0)


@dataclass
class Sinks:
    """Of each layer's last query row in the last pass: which heads give an attention sink more than any position."""

    rows: dict[int, torch.Tensor] = field(default_factory=dict)
    """layer index -> bool [H]; nothing for layers without sinks."""

    def larger(self, layer: int) -> torch.Tensor | None:
        return self.rows.get(layer)


@contextmanager
def capture(model: Any, recorder: Recorder) -> Iterator[Recorder]:
    """Route `model`'s softmax attention through a recording function inside the block; leave no trace after it.

    Args:
        model: a transformers causal language model in evaluation mode, batch size 1 while inside.
        recorder: receives the arg-max positions.
    """
    with attention_function(model, _attention_function(model, recorder), _mask), sdpa_kernel(_KERNELS):
        yield recorder


@contextmanager
def eager(model: Any, sinks: Sinks | None = None, *, last_row: bool = False) -> Iterator[None]:
    """Materialised attention weights inside the block, the model's own implementation after it.

    Args:
        sinks: receives which rows look at a sink, which the weights leave out.
        last_row: of the weights only the last query row is kept where the model lets us, so that those of one layer
            exist at a time.
    """
    if changes_attention(model) or (sinks is not None and _has_sinks(model)) or (last_row and takes_functions(model)):
        with intervened(model, "eager", sinks, last_row=last_row):
            yield
        return
    before = _implementations(model)
    try:
        if takes_functions(model):
            model.set_attn_implementation("eager")
        else:  # what such a model reads of its configuration when it makes its masks
            _restore(model, [(config, "eager") for config, _ in before])
        yield
    finally:
        _restore(model, before)


def takes_functions(model: Any) -> bool:
    """Whether transformers can route the model's attention through a function of ours. It warns where it cannot."""
    can = getattr(model, "_can_set_attn_implementation", None)
    return can is None or bool(can())


def _has_sinks(model: Any) -> bool:
    return any(hasattr(module, name) for module in model.modules() for name in ("sinks", "sink_proj"))


@contextmanager
def intervened(
    model: Any, implementation: str | None = None, sinks: Sinks | None = None, *, last_row: bool = False
) -> Iterator[None]:
    """An attention function on which the interventions on `model` have the last word inside the block.

    Args:
        implementation: "eager" for materialised weights, "sdpa" for SDPA; None is the model's own where it is either of
            them, SDPA where it is something else, and nothing at all where it is one of ours, which asks by itself.
        sinks, last_row: see :func:`eager`.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    own = model.config.get_text_config(decoder=True)._attn_implementation
    if implementation is None and str(own).startswith(_PREFIX):
        yield
        return
    base = implementation or ("eager" if own == "eager" else "sdpa")
    with attention_function(model, _asking(model, base, sinks, last_row), ALL_MASK_ATTENTION_FUNCTIONS[base]):
        yield


@contextmanager
def attention_function(
    model: Any, function: Callable[..., tuple[torch.Tensor, torch.Tensor | None]], mask: Callable[..., Any]
) -> Iterator[None]:
    """Route `model`'s attention through `function` inside the block; leave no trace after it.

    Args:
        function: as transformers' AttentionInterface calls it: (module, query, key, value, mask, **kwargs) to the
            output [B, Q, H, D] and the weights or None.
        mask: makes its masks, as transformers' AttentionMaskInterface calls it.
    """
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    name = f"{_PREFIX}{next(_names)}"
    before = _implementations(model)
    # Registered, not set on the shared instance: transformers builds no mask at all for a name that is only there.
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, mask)
    try:
        model.set_attn_implementation(name)
        yield
    finally:
        _restore(model, before)
        # There is no public way to take a registered name back.
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)


def _implementations(model: Any) -> list[tuple[Any, str]]:
    """Every configuration object in the model with the attention implementation it names."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    return [(c, c._attn_implementation) for c in configs.values() if hasattr(c, "_attn_implementation")]


def _restore(model: Any, before: list[tuple[Any, str]]) -> None:
    # Restored attribute by attribute: set_attn_implementation would re-validate, and a failing restore would hide the
    # error that ended the block.
    for config, implementation in before:
        config._attn_implementation_internal = implementation


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    attention_mask: torch.Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **kwargs: Any,
) -> torch.Tensor | None:
    """transformers' SDPA mask, except that a plain causal mask is never built, also for fewer queries than keys.

    Returns:
        bool [B, 1, Q, K], or None if the attention is causal, aligned to the last key.
    """
    from transformers.masking_utils import sdpa_mask

    windowed = local_size is not None and kv_length > local_size
    # The keys must end where the queries end; a preallocated cache is longer and needs its mask.
    aligned = int(q_offset) + q_length == kv_offset + kv_length
    unpadded = attention_mask is None or bool(attention_mask.all())
    if allow_is_causal_skip and aligned and unpadded and not windowed:
        return None
    mask: torch.Tensor | None = sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        attention_mask=attention_mask,
        local_size=local_size,
        allow_is_causal_skip=False,
        **kwargs,
    )
    return mask


def _attention_function(model: Any, recorder: Recorder) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
    def rh_bench_attention(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        unknown = {k for k, v in kwargs.items() if v is not None and k not in _HARMLESS}
        if unknown:
            raise UnsupportedAttention(f"attention argument {', '.join(sorted(unknown))} is not understood")
        layer = _index(module)
        recorder.seen[layer] = (query.shape[1], key.shape[1], kwargs.get("sliding_window"))
        recorder.calls[layer] += 1
        recorder.observe(layer, query, key, attention_mask, kwargs)
        call = Call(layer, query, key, value, attention_mask, kwargs)
        if recorder.count and recorder.targets is not None:
            keys = recorder.targets[: recorder.count, recorder.rows[layer], : query.shape[1]]
            recorder.record(layer, seen(model, call, keys))
            recorder.shift(layer, query.shape[1], 0 if recorder.end is None else recorder.end - key.shape[2])
        return changed(model, call, _attend(module, query, key, value, attention_mask, kwargs), None)

    return rh_bench_attention


def _index(module: Any) -> int:
    index = getattr(module, "layer_idx", None)
    if not isinstance(index, int):
        raise UnsupportedAttention(f"attention of {type(module).__name__} does not say which layer it is of")
    return index


def _asking(
    model: Any, base: str, sinks: Sinks | None = None, last_row: bool = False
) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
    """The attention of `base` ("eager" or "sdpa"), changed by the interventions on `model`."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attention(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        function = own_eager(module) if base == "eager" else sdpa_attention_forward
        out, weights = function(module, query, key, value, attention_mask, **kwargs)
        layer = _index(module)
        sink = sink_scores(kwargs, 0, 1)
        if sinks is not None and sink is not None:
            scores = row_scores(query, key, attention_mask, kwargs, 0, 1).flatten(0, 1)
            sinks.rows[layer] = (sink > scores.amax(dim=-1))[:, 0]
        out, weights = changed(model, Call(layer, query, key, value, attention_mask, kwargs), out, weights)
        return out, weights[:, :, -1:].clone() if last_row and weights is not None else weights

    return attention


def own_eager(module: Any) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
    """The eager attention function of an attention module's own model code."""
    function = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if function is None:
        raise UnsupportedAttention(f"{type(module).__name__} has no eager attention to compare with")
    found: Callable[..., tuple[torch.Tensor, torch.Tensor | None]] = function
    return found


class UnsupportedAttention(InputError):
    """The model's attention does something that the capture does not understand: the model cannot be measured."""


def _argmax_rows(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, kwargs: dict[str, Any], rows: int
) -> torch.Tensor:
    """The key with the largest attention weight, of each head, for the last few query rows; ties: the lowest.

    Softmax keeps the order of the scores, so the weights themselves are not needed. A row that gives an attention sink
    more than any key looks nowhere.

    Args:
        query: [1, H, Q, D]; key: [1, G, K, D] with H a multiple of G; mask: bool or additive [1, 1 or H, Q, K] or None.
        rows: how many of the last query rows.

    Returns:
        int64 [rows, H]; -1 where it is a sink.
    """
    blocks = []
    for near, far in row_blocks(query, key, rows):
        sink = sink_scores(kwargs, near, far)
        scores = row_scores(query, key, mask, kwargs, near, far, order_only=sink is None)
        if sink is None:
            looks = scores.argmax(dim=-1).flatten(0, 1)
        else:
            by_head = scores.flatten(0, 1)
            looks = by_head.argmax(dim=-1).masked_fill(sink > by_head.amax(dim=-1), -1)
        blocks.append(looks.T)
    return torch.cat(blocks)


def sink_scores(kwargs: dict[str, Any], near: int, far: int) -> torch.Tensor | None:
    """Scores of attention sinks beside the keys', for one block of :func:`row_blocks`: float32 [H, 1 or far - near].

    A sink is one number per head (`s_aux`, as in gpt-oss) or one per head and query (`sinks` [1, H, Q, 1]); None if a
    model has neither.
    """
    for_heads, for_rows = kwargs.get("s_aux"), kwargs.get("sinks")
    if for_rows is not None:
        queries = for_rows.shape[2]
        rows: torch.Tensor = for_rows[0, :, queries - far : queries - near, 0].float()
        return rows
    return None if for_heads is None else for_heads.float().reshape(-1, 1)


def row_blocks(query: torch.Tensor, key: torch.Tensor, rows: int) -> list[tuple[int, int]]:
    """The last `rows` query rows, in order, in blocks whose scores fit in SCORES_BUDGET: a block (near, far) begins
    `far` rows before the end and ends `near` rows before it."""
    together = max(1, min(MOST_ROWS, SCORES_BUDGET // (4 * query.shape[1] * key.shape[2])))
    return [(first, min(first + together, rows)) for first in range(0, rows, together)][::-1]


def row_scores(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict[str, Any],
    near: int,
    far: int,
    *,
    order_only: bool = False,
) -> torch.Tensor:
    """Attention scores of one block of :func:`row_blocks`, as they go into the softmax.

    Args:
        query, key, mask: as :func:`_argmax_rows` takes them; kwargs: what the model passed to its attention.
        order_only: a positive factor may be left out where that leaves the order of the scores as it is.

    Returns:
        float32 [G, H / G, far - near, K]; what a row may not see is -inf, or as low as the mask makes it.
    """
    heads, groups, queries, keys = query.shape[1], key.shape[1], query.shape[2], key.shape[2]
    rows, chosen = far - near, slice(queries - far, queries - near)
    by_group = (groups, heads // groups, rows, keys)
    scores = _dot_products(query[0, :, chosen].reshape(groups, -1, query.shape[3]), key[0])
    scores = torch.unflatten(scores, 1, by_group[1:3])
    scaling, softcap, bias = kwargs.get("scaling"), kwargs.get("softcap"), kwargs.get("position_bias")
    scaling = query.shape[3] ** -0.5 if scaling is None else scaling
    added = softcap is not None or bias is not None or (mask is not None and mask.dtype != torch.bool)
    if added or scaling <= 0 or not order_only:
        scores = scores * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if bias is not None:
        scores = scores + bias[0, :, chosen].expand(heads, rows, keys).reshape(by_group)
    if mask is not None:
        allowed = mask[0, :, chosen, :keys].expand(heads, rows, keys).reshape(by_group)
        scores = scores.masked_fill(~allowed, float("-inf")) if allowed.dtype == torch.bool else scores + allowed
    elif far > 1:  # causal, aligned to the last key: a row sees what is as far from the end as itself, or farther
        hidden = torch.ones(rows, far, dtype=torch.bool, device=key.device).triu(1)
        scores[..., keys - far :].masked_fill_(hidden, float("-inf"))
    return scores


def _dot_products(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """query [G, N, D] times key [G, K, D], float32 [G, N, K]: half types would round different scores to ties."""
    if query.dtype == torch.float32:
        return torch.bmm(query, key.transpose(1, 2))
    if query.is_cuda:
        # Keys first, and a multiple of 8 queries: the fast kernels need rows of the result that are aligned.
        queries = query.shape[1]
        padded = torch.nn.functional.pad(query, (0, 0, 0, -queries % 8))
        return torch.bmm(key, padded.transpose(1, 2), out_dtype=torch.float32)[:, :, :queries].transpose(1, 2)
    return torch.bmm(query.float(), key.transpose(1, 2).float())


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict[str, Any],
) -> torch.Tensor:
    """The attention itself. Returns [1, Q, H, D]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    queries = query.shape[2]
    if any(kwargs.get(name) is not None for name in _ONLY_EAGER):
        return _attend_in_blocks(module, query, key, value, mask, kwargs)
    if mask is None and queries > 1 and kwargs.get("position_bias") is None:
        return causal_attention(query, key, value, kwargs.get("scaling")).transpose(1, 2).contiguous()
    out: torch.Tensor = sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0]
    return out


def _attend_in_blocks(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict[str, Any],
) -> torch.Tensor:
    """The model's own eager attention on a few query rows at a time, for what fused kernels cannot do."""
    function = own_eager(module)
    queries, keys = query.shape[2], key.shape[2]
    floor = torch.finfo(query.dtype).min
    by_query = {name: kwargs[name] for name in ("position_bias", "sinks") if kwargs.get(name) is not None}
    blocks = []
    for first in range(0, queries, _QUERY_BLOCK):
        last = min(first + _QUERY_BLOCK, queries)
        if mask is None:
            rows = torch.arange(first, last, device=query.device) + (keys - queries)
            allowed = (torch.arange(keys, device=query.device)[None, :] <= rows[:, None])[None, None]
        else:
            allowed = mask[:, :, first:last, :keys]
        if allowed.dtype == torch.bool:
            hidden = torch.zeros(allowed.shape, dtype=query.dtype, device=query.device).masked_fill(~allowed, floor)
        else:
            hidden = allowed
        own = {**kwargs, **{name: value[:, :, first:last] for name, value in by_query.items()}}
        blocks.append(function(module, query[:, :, first:last], key, value, hidden, **own)[0])
    return torch.cat(blocks, dim=1)
