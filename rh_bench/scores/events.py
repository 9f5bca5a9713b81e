"""Copy events: a head attended to an answer token while the model produced that very token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rh_bench.errors import InputError
from rh_bench.records import Decoded, IntArray, Layer, Prompt


def copy_events(prompt: Prompt, decoded: Decoded, layers: Sequence[Layer]) -> IntArray:
    """The copy events of one decoded sample.

    A head has an event at a step when its largest attention weight lies on a position of the answer's span and the
    token there is the one that the step produced.

    Args:
        prompt: ids int32 [L] and the span.
        decoded: generated int32 [T] and targets int32 [T, A, H]; axis 1 is the scored layers in order, -1 is padding.
        layers: the model's layers, in order; those without softmax attention are not on axis 1.

    Returns:
        int32 [E, 4], columns `records.EVENT_FIELDS`, sorted by (step, layer, head). The layer is the model's own index.

    Raises:
        ValueError: the arrays do not match.
    """
    scored = np.array([layer.index for layer in layers if layer.scored], dtype=np.int32)
    targets, generated = decoded.targets, decoded.generated
    if targets.ndim != 3 or targets.shape[:2] != (len(generated), len(scored)):
        raise ValueError(f"targets {targets.shape} do not fit {len(generated)} tokens and {len(scored)} scored layers")
    offsets = targets - prompt.span_start
    inside = (targets >= 0) & (offsets >= 0) & (offsets < prompt.span_length)
    # nonzero walks the array in C order, which is the order of the events.
    step, place, head = np.nonzero(inside)
    offset = offsets[step, place, head]
    copied = prompt.span_ids[offset] == generated[step]
    columns = (scored[place], head, step, offset)
    return np.stack([column[copied] for column in columns], axis=1).astype(np.int32)


def head_places(layers: Sequence[Layer]) -> IntArray:
    """The place of each head in `records.head_grid(layers)`.

    Returns:
        int32 [largest layer index + 1, most query heads]; -1 where there is no scored head.
    """
    scored = [layer for layer in layers if layer.scored]
    shape = (max((x.index for x in scored), default=-1) + 1, max((x.query_heads for x in scored), default=0))
    places = np.full(shape, -1, dtype=np.int32)
    first = 0
    for layer in scored:
        places[layer.index, : layer.query_heads] = np.arange(first, first + layer.query_heads)
        first += layer.query_heads
    return places


def count_copies(events: IntArray, span_length: int, places: IntArray, heads: int) -> tuple[IntArray, IntArray]:
    """What each head copied in one sample.

    Args:
        events: int32 [E, 4], columns `records.EVENT_FIELDS`.
        span_length: tokens of the answer.
        places: from `head_places`.
        heads: number of heads.

    Returns:
        Two arrays int32 [heads]: distinct span positions copied, and number of events.

    Raises:
        InputError: an event names a head or a span position that does not exist.
    """
    layer, head, offset = events[:, 0], events[:, 1], events[:, 3]
    known = (layer >= 0) & (layer < places.shape[0]) & (head >= 0) & (head < places.shape[1])
    place = np.full(len(events), -1, dtype=np.int64)
    place[known] = places[layer[known], head[known]]
    if (place < 0).any():
        wrong = events[int(np.argmax(place < 0))]
        raise InputError(f"layer {wrong[0]} head {wrong[1]} is not a scored head of this model", where="field head")
    outside = (offset < 0) | (offset >= span_length)
    if outside.any():
        wrong = events[int(np.argmax(outside))]
        raise InputError(f"{wrong[3]} lies outside the span of {span_length} tokens", where="field span_offset")
    distinct = np.unique(place * span_length + offset) // max(span_length, 1)
    return (
        np.bincount(distinct, minlength=heads).astype(np.int32),
        np.bincount(place, minlength=heads).astype(np.int32),
    )
