"""Remove attention heads from a model inside a ``with`` block, and nothing else, and for no longer.

Heads are apart until the output projection mixes them, so a head is removed at the *input* of that projection: its
columns become zero, or the mean they have on a reference sample. Two further ways act on attention itself. Each can be
confined to the rows before the answer (the cache that a prompt leaves behind) or to the rows that produce the answer.
`docs/ablation.md` says which question each of them asks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from rh_bench.attention.capture import UnsupportedAttention, attention_function, intervened
from rh_bench.attention.interventions import Call, Place, intervene
from rh_bench.attention.modes import evaluation_mode
from rh_bench.errors import InputError
from rh_bench.records import Prompt
from rh_bench.system.memory import SCORES_BUDGET

Head = tuple[int, int]
"""(layer, query head)."""
How = Literal["zero", "mean", "span", "uniform"]
Phase = Literal["both", "prefill", "decode"]
HOW: tuple[How, ...] = ("zero", "mean", "span", "uniform")
PHASES: tuple[Phase, ...] = ("both", "prefill", "decode")


@dataclass(frozen=True, slots=True)
class Projection:
    """The output projection of one layer's attention, whose input has the heads side by side."""

    layer: int
    module: nn.Module = field(repr=False)
    heads: int
    width: int
    """Columns of one head."""


@dataclass(frozen=True, slots=True)
class MeanInputs:
    """Means of the inputs of the output projections over the tokens of a reference sample."""

    tokens: int
    values: Mapping[int, torch.Tensor] = field(repr=False)
    """Layer index to float32 [H, D], on the CPU."""


def find_projections(model: Any) -> dict[int, Projection]:
    """The output projection of every softmax-attention layer of `model`, by layer index.

    Found by what it gets, not by what it is called: four tokens run through the model with attention outputs that are
    one everywhere and zero in the last head, and the projection is the last matrix within an attention module whose
    input is zero in the last head's columns and nowhere else. A gate on the way does not hide it; of modules within one
    another (an adapter around a matrix) the outer one counts.

    Raises:
        InputError: a layer's attention has no such input; names the layer.
    """
    probe = _Probe(model)
    tokens = torch.zeros((1, 4), dtype=torch.long, device=model.device)
    modules = [m for m in model.modules() if _is_matrix(m)]
    with ExitStack() as undo:
        undo.enter_context(evaluation_mode(model))
        for module in modules:
            # Before the hooks of an ablation that is in force; and `forward`, so that it takes no note of this pass.
            undo.callback(module.register_forward_pre_hook(probe.enter, prepend=True).remove)
        with torch.no_grad(), attention_function(model, probe.attention, _no_mask):
            model.forward(input_ids=tokens, use_cache=False)
    missing = sorted(probe.layers.keys() - probe.found.keys())
    shared = len({id(p.module) for p in probe.found.values()}) < len(probe.found)
    if missing or shared or not probe.layers:
        which = f"layer {missing[0]}" if missing else "its attention" if not shared else "one layer for all"
        raise InputError(
            f"{which} has no output projection whose input keeps heads separate",
            where=type(model).__name__,
            hint="heads of this architecture cannot be removed",
        )
    return probe.found


def _is_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies by a matrix; quantised ones keep theirs in a form of their own."""
    weight = getattr(module, "weight", None)
    return getattr(weight, "ndim", 0) == 2 or (hasattr(module, "in_features") and hasattr(module, "out_features"))


class _Probe:
    """Watches a forward pass, see :func:`find_projections`."""

    def __init__(self, model: Any) -> None:
        self.layers: dict[int, tuple[int, int]] = {}
        """Layer index to (query heads, width of a head)."""
        self.found: dict[int, Projection] = {}
        self._layer: int | None = None
        self._inside: set[int] = set()

    def attention(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None]:
        self._layer, self._inside = int(module.layer_idx), {id(m) for m in module.modules()}
        heads, width = query.shape[1], value.shape[3]
        self.layers[self._layer] = (heads, width)
        out = value.new_ones(query.shape[0], query.shape[2], heads, width)
        out[:, :, -1] = 0
        return out, None

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._layer is None or id(module) not in self._inside or not args:
            return
        heads, width = self.layers[self._layer]
        x = args[0]
        if not isinstance(x, torch.Tensor) or x.ndim != 3 or x.shape[2] != heads * width:
            return
        zero = torch.unflatten((x == 0).flatten(0, 1).all(0), 0, (heads, width))
        known = self.found.get(self._layer)
        if known is not None and module is not known.module and any(module is one for one in known.module.modules()):
            return
        if bool(zero[-1].all()) and not bool(zero[:-1].any()):
            self.found[self._layer] = Projection(self._layer, module, heads, width)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def mean_inputs(model: Any, sequences: Sequence[Sequence[int]]) -> MeanInputs:
    """What the heads give to their output projections on average: the reference of ``how="mean"``.

    Args:
        sequences: token ids of reference texts. Every token counts alike, whatever its sequence and position.

    Raises:
        InputError: there are no tokens, or an output projection cannot be found.
    """
    tokens = sum(len(ids) for ids in sequences)
    if not tokens:
        raise InputError("has no tokens to average over", where="reference sample")
    projections = find_projections(model)
    sums = {layer: torch.zeros(p.heads, p.width, dtype=torch.float64) for layer, p in projections.items()}

    def add(layer: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            total = args[0].flatten(0, 1).sum(0, dtype=torch.float64)
            sums[layer] += total.cpu().reshape(sums[layer].shape)

        return hook

    with ExitStack() as undo, torch.no_grad():
        for layer, projection in projections.items():
            undo.callback(projection.module.register_forward_pre_hook(add(layer)).remove)
        for ids in sequences:
            if len(ids):
                model(input_ids=torch.tensor([list(map(int, ids))], device=model.device), use_cache=False)
    return MeanInputs(tokens, {layer: (total / tokens).float() for layer, total in sums.items()})


class Ablation:
    """An ablation in force; what :func:`ablate` yields. See there for what the arguments mean."""

    def __init__(
        self,
        model: Any,
        sets: Sequence[Collection[Head]],
        *,
        how: How,
        phase: Phase,
        means: MeanInputs | None = None,
        place: Place | None = None,
        given_span: bool = False,
    ) -> None:
        self.how, self.phase = how, phase
        self.in_attention = how in ("span", "uniform")
        self.place: Place | None = None
        self._given, self._given_span = place, given_span
        self._begun: int | None = None
        """Tokens of the prompt that began on an empty cache, for calls outside an engine that say nothing."""
        self._first, self._queries = 0, 0
        self.projections = find_projections(model)
        self._masks = _masks(sets, self.projections, model)
        self._fills = {layer: _fill(self.projections[layer], means, how) for layer in self._masks}

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of which heads are removed, in order."""
        return tuple(self._masks)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some rows of the batch (int64 [n], indices into the present ones), for :func:`ablate_rows`."""
        self._masks = {layer: mask[rows.to(mask.device)] for layer, mask in self._masks.items()}

    # What hooks and attention functions call

    def before_forward(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note which positions the model's next pass is about."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        ids = kwargs.get("inputs_embeds") if ids is None else ids
        cache = kwargs.get("past_key_values")
        self._first = 0 if cache is None else int(cache.get_seq_length())
        self._queries = 0 if ids is None else int(ids.shape[1])
        if self._first == 0:
            self._begun = self._queries

    def projection_input(self, layer: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        """The hook of one layer's output projection."""
        projection = self.projections[layer]

        def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            x: torch.Tensor = args[0]
            rows, mask = self._rows(x.shape[1]), self._masks[layer]
            if rows.start >= rows.stop:
                return None
            _refuse_other_batch(mask, x)
            fill = self._fills[layer] = self._fills[layer].to(x.device, x.dtype)
            heads = torch.unflatten(x, -1, (projection.heads, projection.width))
            if rows.stop - rows.start == x.shape[1]:
                return (torch.where(mask[:, None, :, None], fill, heads).flatten(-2), *args[1:])
            out = heads.clone()
            out[:, rows] = torch.where(mask[:, None, :, None], fill, heads[:, rows])
            return (out.flatten(-2), *args[1:])

        return hook

    def most_shared(self, one: Prompt, other: Prompt) -> int | None:
        """All of a common prefix, unless what its rows do depends on where the needle lies."""
        if self.how != "span" or self.phase == "decode":
            return None
        spans = [(p.span_start, p.span_start + p.span_length) for p in (one, other)]
        return None if spans[0] == spans[1] else min(spans[0][0], spans[1][0])

    def attend(
        self, call: Call, out: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See :class:`rh_bench.attention.interventions.Intervention`."""
        mask = self._masks.get(call.layer)
        rows = self._rows(out.shape[1])
        if mask is None or rows.start >= rows.stop:
            return out, weights
        _refuse_other_batch(mask, out)
        heads = mask.any(0).nonzero()[:, 0]
        chosen = mask[:, heads]
        out = out.clone()
        weights = None if weights is None else weights.clone()
        for block in _blocks(rows, len(heads) * out.shape[0] * call.key.shape[2]):
            own = self._weights(call, heads, block)
            values = _of_heads(call.value, call.query, heads)
            mixed = (own.to(values.dtype) @ values).transpose(1, 2)
            out[:, block, heads] = torch.where(chosen[:, None, :, None], mixed, out[:, block, heads])
            if weights is not None:
                before = weights[:, heads, block]
                weights[:, heads, block] = torch.where(chosen[:, :, None, None], own.to(before.dtype), before)
        return out, weights

    def look(self, call: Call, positions: torch.Tensor) -> torch.Tensor:
        """See :class:`rh_bench.attention.interventions.Intervention`."""
        mask = self._masks.get(call.layer)
        queries, count = call.query.shape[2], len(positions)
        rows = self._rows(queries)
        rows = slice(max(rows.start, queries - count), rows.stop)
        if mask is None or rows.start >= rows.stop:
            return positions
        heads = mask.any(0).nonzero()[:, 0]
        positions = positions.clone()
        for block in _blocks(rows, len(heads) * call.key.shape[2]):
            own = self._weights(call, heads, block)[0].argmax(-1).T
            first = block.start - (queries - count)
            positions[first : first + len(own), heads] = own.to(positions.dtype)
        return positions

    # Where and what

    def _rows(self, queries: int) -> slice:
        """Which of the pass's last `queries` query rows are changed: row i stands at position first + i, and produces
        an answer token from the prompt's last position on."""
        if self.phase == "both":
            return slice(0, queries)
        place = self.place or self._given
        length = self._begun if place is None else place.length
        if length is None:
            raise ValueError("give prompt_length: this pass continues a cache whose beginning was not seen")
        answering = min(max(length - 1 - self._first, 0), queries)
        return slice(0, answering) if self.phase == "prefill" else slice(answering, queries)

    def _weights(self, call: Call, heads: torch.Tensor, rows: slice) -> torch.Tensor:
        """Attention weights of some heads and rows under the ablation, float32 [B, h, q, K]. A row that is left with
        nothing to look at is zero everywhere."""
        visible = _visible(call, heads, rows)
        if self.how == "uniform":
            return torch.div(visible.float(), visible.sum(-1, keepdim=True).clamp(min=1))
        if call.kwargs.get("position_bias") is not None:
            raise UnsupportedAttention('how="span" does not support a position bias; use how="zero"')
        first, last = self._span()
        allowed = visible.clone()
        allowed[..., first:last] = False
        query = call.query[:, heads, rows].float()
        scaling, softcap, sinks = (call.kwargs.get(name) for name in ("scaling", "softcap", "s_aux"))
        scores = query @ _of_heads(call.key, call.query, heads).float().transpose(2, 3)
        scores = scores * (query.shape[3] ** -0.5 if scaling is None else scaling)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.masked_fill(~allowed, float("-inf"))
        if sinks is not None:  # what a head may look at instead of any position
            sink = sinks[heads].float()[None, :, None, None].expand(*scores.shape[:-1], 1)
            scores = torch.cat([scores, sink], -1)
        left = allowed.any(-1, keepdim=True)
        return scores.softmax(-1)[..., : allowed.shape[-1]].masked_fill(~left, 0.0)

    def _span(self) -> tuple[int, int]:
        place = self.place or (self._given if self._given_span else None)
        if place is None:
            raise ValueError('how="span" needs the positions of the span: give span, or use an engine')
        return place.span


@contextmanager
def ablate(
    model: Any,
    heads: Collection[Head],
    *,
    how: How = "zero",
    phase: Phase = "both",
    means: MeanInputs | None = None,
    span: tuple[int, int] | None = None,
    prompt_length: int | None = None,
) -> Iterator[Ablation]:
    """Remove `heads` from `model` inside the block: in plain calls, in ``generate``, and in both engines.

    Args:
        model: a transformers causal language model in evaluation mode. Batches are fine, padded on the left.
        heads: (layer, query head) pairs; key/value heads that others share stay as they are.
        how: "zero" makes a head's input to the output projection zero; "mean" makes it what it is on average (`means`);
            "span" hides the positions of the needle's answer from it, so that its weights renormalise over the rest (a
            row that sees nothing else gives zero); "uniform" makes it look alike at every position it can see. The
            last is what the paper's released code does when it zeroes scores before the softmax (there in decoding
            only): it does not remove a head, it blurs it, and is here to compare with.
        phase: "decode" changes the query rows that produce answer tokens, which are the prompt's last and all after it;
            "prefill" changes the rows before, and so the keys and values of later layers; "both" changes every row.
        means: from :func:`mean_inputs`, for "mean".
        span: first position and one past the last, for "span" outside an engine.
        prompt_length: tokens of the prompt, padding included, where it is not run in one call on an empty cache. Inside
            an engine, span and length are those of the prompt that it decodes, whatever is given here.

    Raises:
        InputError: a head does not exist, or the model's output projections cannot be found.
        ValueError: "mean" without means, another `how` with them, or a name that is not known.
    """
    with ablate_rows(
        model, [heads], how=how, phase=phase, means=means, span=span, prompt_length=prompt_length
    ) as ablation:
        yield ablation


@contextmanager
def ablate_rows(
    model: Any,
    sets: Sequence[Collection[Head]],
    *,
    how: How = "zero",
    phase: Phase = "both",
    means: MeanInputs | None = None,
    span: tuple[int, int] | None = None,
    prompt_length: int | None = None,
) -> Iterator[Ablation]:
    """As :func:`ablate`, with one set of heads for each row of a batch. A single set is for all rows."""
    if how not in HOW or phase not in PHASES:
        raise ValueError(f"how must be one of {', '.join(HOW)}, phase one of {', '.join(PHASES)}")
    if (how == "mean") != (means is not None):
        raise ValueError("give means with how='mean', and only then")
    if not sets:
        raise ValueError("give at least one set of heads")
    known = prompt_length is not None or span is not None
    place = Place(prompt_length if prompt_length is not None else 0, span or (0, 0)) if known else None
    if span is not None and prompt_length is None and phase != "both":
        raise ValueError("give prompt_length with span, or use phase='both'")
    ablation = Ablation(model, sets, how=how, phase=phase, means=means, place=place, given_span=span is not None)
    with ExitStack() as undo:
        undo.callback(model.register_forward_pre_hook(ablation.before_forward, with_kwargs=True).remove)
        if ablation.in_attention:
            undo.enter_context(intervene(model, ablation))
            undo.enter_context(intervened(model))
        else:
            for layer in ablation.layers:
                hook = ablation.projection_input(layer)
                undo.callback(ablation.projections[layer].module.register_forward_pre_hook(hook).remove)
            undo.enter_context(intervene(model, ablation))
        yield ablation


def _masks(
    sets: Sequence[Collection[Head]], projections: Mapping[int, Projection], model: Any
) -> dict[int, torch.Tensor]:
    """Layer index to bool [sets, H], for layers of which a set has a head."""
    masks: dict[int, torch.Tensor] = {}
    for place, heads in enumerate(sets):
        for layer, head in heads:
            projection = projections.get(layer)
            if projection is None or not 0 <= head < projection.heads:
                held = (
                    f"layer {layer} has {projection.heads} query heads" if projection else f"there is no layer {layer}"
                )
                raise InputError(f"there is no head ({layer}, {head})", where=type(model).__name__, hint=held)
            if layer not in masks:
                masks[layer] = torch.zeros(len(sets), projection.heads, dtype=torch.bool)
            masks[layer][place, head] = True
    return {layer: mask.to(_device_of(projections[layer].module, model)) for layer, mask in sorted(masks.items())}


def _device_of(module: nn.Module, model: Any) -> torch.device:
    held = next((value for value in (*module.parameters(), *module.buffers())), None)
    device: torch.device = model.device if held is None else held.device
    return device


def _fill(projection: Projection, means: MeanInputs | None, how: How) -> torch.Tensor:
    """What the columns of a removed head become: [H, D]."""
    if means is None:
        return torch.zeros(projection.heads, projection.width)
    value = means.values.get(projection.layer)
    if value is None or value.shape != (projection.heads, projection.width):
        raise ValueError(f"the means belong to another model: layer {projection.layer} differs")
    return value


def _refuse_other_batch(mask: torch.Tensor, x: torch.Tensor) -> None:
    if len(mask) not in (1, x.shape[0]):
        raise ValueError(f"{len(mask)} sets of heads do not match a batch of {x.shape[0]}")


def _blocks(rows: slice, per_row: int) -> Iterator[slice]:
    """`rows` in ranges whose float32 scores fit in the budget; `per_row` numbers each."""
    size = max(1, SCORES_BUDGET // (4 * max(per_row, 1)))
    for first in range(rows.start, rows.stop, size):
        yield slice(first, min(first + size, rows.stop))


def _of_heads(grouped: torch.Tensor, query: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
    """Keys or values [B, G, K, D] of some query heads: [B, h, K, D]."""
    return grouped[:, heads // (query.shape[1] // grouped.shape[1])]


def _visible(call: Call, heads: torch.Tensor, rows: slice) -> torch.Tensor:
    """Which keys some query heads and rows see: bool [B, h, q, K]."""
    queries, keys, batch = call.query.shape[2], call.key.shape[2], call.query.shape[0]
    shape = (batch, len(heads), rows.stop - rows.start, keys)
    if call.mask is None:
        at = torch.arange(rows.start, rows.stop, device=call.key.device) + (keys - queries)
        return (torch.arange(keys, device=call.key.device)[None] <= at[:, None]).expand(shape)
    mask = call.mask[:, :, rows, :keys]
    mask = mask[:, heads] if mask.shape[1] > 1 else mask
    # Additive masks hide by the least number there is, or by minus infinity.
    allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return allowed.expand(shape)
