"""Causal attention for queries that are fewer than their keys, by the fastest fused kernels there are.

Queries stand at the end of the keys (aligned lower-right), as when a prompt is processed in pieces. On Hopper GPUs
cuDNN's kernel is nearly twice as fast as FlashAttention-2, which SDPA dispatches to, but it aligns a causal mask to the
upper left, and builds a plan (some 60 ms) for every new shape. So the attention is split by keys: those before the
queries' own go to cuDNN without a mask, in two parts whose sizes repeat (multiples of 8,192, then of 1,024), and what
is left of them (fewer than 1,024) to FlashAttention; the queries' own keys go to cuDNN with its mask, which fits there.
The parts are merged by their log-sum-exps, which is exact. Measured by `benchmarks/attention_kernels.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import pad, scaled_dot_product_attention

QUERY_STEP = 1024
"""Shapes repeat where queries come in multiples of this many."""
_KEY_STEPS = (8192, 1024)
_MOST_DIM = 128

_Part = tuple[torch.Tensor, torch.Tensor]
"""An attention output [1, H, Q, D] and the log-sum-exp of its scores, float32 [1, H, Q]."""


def causal_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Causal attention, aligned to the last key.

    Args:
        query: [1, H, Q, D]; key, value: [1, G, K, D] with H a multiple of G and Q at most K.
        scale: of the scores; None is 1/√D.

    Returns:
        [1, H, Q, D].
    """
    queries, keys = query.shape[2], key.shape[2]
    whole_steps = queries % QUERY_STEP == 0
    # A rest of more than half a step is worth filling up with rows that are thrown away.
    if _splits(query) and (whole_steps or (queries > QUERY_STEP // 2 and keys - queries >= 4 * _KEY_STEPS[-1])):
        return split_causal(query, key, value, scale)
    return lower_right(query, key, value, scale)


def lower_right(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """SDPA with a lower-right causal bias, which dispatches to FlashAttention on a GPU. As `causal_attention`."""
    key, value = _for_each_head(query, key, value)
    bias = causal_lower_right(query.shape[2], key.shape[2])
    out: torch.Tensor = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    return out


def split_causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """See the module. As `causal_attention`, on a Hopper GPU and in a half type."""
    merged: _Part | None = None
    for first, last, causal in split(query.shape[2], key.shape[2]):
        kernel = _flash if (last - first) % _KEY_STEPS[-1] else _cudnn
        part = kernel(query, key[:, :, first:last], value[:, :, first:last], scale, causal)
        merged = part if merged is None else _merge(merged, part)
    assert merged is not None, "a query has its own key at least"
    return merged[0]


def split(queries: int, keys: int) -> Iterator[tuple[int, int, bool]]:
    """(first key, end, whether its mask is causal) of the parts into which `keys` go for `queries` at their end."""
    first, earlier = 0, keys - queries
    for step in (*_KEY_STEPS, 1):
        last = first + (earlier - first) // step * step
        if last > first:
            yield first, last, False
        first = last
    yield earlier, keys, True


def _cudnn(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, causal: bool) -> _Part:
    queries = query.shape[2]
    padded = pad(query, (0, 0, 0, -queries % QUERY_STEP))
    out, lse = torch.ops.aten._scaled_dot_product_cudnn_attention(
        padded, key, value, None, True, 0.0, causal, False, scale=scale
    )[:2]
    return out[:, :, :queries], lse.reshape(padded.shape[:3])[:, :, :queries]


def _flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, causal: bool) -> _Part:
    key, value = _for_each_head(query, key, value)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)[
        :2
    ]
    return out, lse


def _merge(one: _Part, other: _Part) -> _Part:
    """The attention over both parts' keys."""
    weight = torch.sigmoid(other[1] - one[1]).to(one[0].dtype)[..., None]
    return torch.lerp(one[0], other[0], weight), torch.logaddexp(one[1], other[1])


def _for_each_head(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values repeated for the query heads that share them."""
    groups = query.shape[1] // key.shape[1]
    if groups == 1:
        return key, value
    return key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)


def _splits(query: torch.Tensor) -> bool:
    """Whether the split's two kernels take these queries, on a GPU on which it was seen to win."""
    fits = query.dtype in (torch.bfloat16, torch.float16) and query.shape[3] <= _MOST_DIM and query.shape[3] % 8 == 0
    return fits and query.is_cuda and _is_hopper(query.device.index)


@cache
def _is_hopper(index: int) -> bool:
    return torch.cuda.get_device_capability(index) == (9, 0) and bool(torch.backends.cudnn.is_available())  # type: ignore[no-untyped-call]
