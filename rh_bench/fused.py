"""Causal attention for queries that are fewer than their keys, by the fastest fused kernel there is.

Queries stand at the end of the keys (aligned lower-right), as when a prompt is processed in pieces. On Hopper GPUs
cuDNN's kernel is nearly twice as fast as FlashAttention-2, which SDPA dispatches to, but it aligns a causal mask to the
upper left, and builds a plan (some 65 ms) for every new shape. So the attention is split: the keys before the queries'
own, rounded down to a multiple of 1,024 so that shapes repeat, go to cuDNN without a mask; the rest goes to
FlashAttention with one; and the two are merged by their log-sum-exps, which is exact. Measured by
`benchmarks/attention_kernels.py`.
"""

from __future__ import annotations

from functools import cache

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

KEY_STEP = 1024
QUERY_STEP = 1024
"""A split pays, and shapes repeat, for this many queries or a multiple."""
_MOST_DIM = 128


def causal_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Causal attention, aligned to the last key.

    Args:
        query: [1, H, Q, D]; key, value: [1, G, K, D] with H a multiple of G and Q at most K.
        scale: of the scores; None is 1/√D.

    Returns:
        [1, H, Q, D].
    """
    earlier = (key.shape[2] - query.shape[2]) // KEY_STEP * KEY_STEP
    if earlier and query.shape[2] % QUERY_STEP == 0 and _splits(query):
        return split_causal(query, key, value, scale, earlier)
    return lower_right(query, key, value, scale)


def lower_right(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """SDPA with a lower-right causal bias, which dispatches to FlashAttention on a GPU. As `causal_attention`."""
    key, value = _for_each_head(query, key, value)
    bias = causal_lower_right(query.shape[2], key.shape[2])
    out: torch.Tensor = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    return out


def split_causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, earlier: int
) -> torch.Tensor:
    """The first `earlier` keys, which every query may look at, on cuDNN; the others on FlashAttention; merged.

    As `causal_attention`, with `earlier` at most K - Q.
    """
    past, past_lse = torch.ops.aten._scaled_dot_product_cudnn_attention(
        query, key[:, :, :earlier], value[:, :, :earlier], None, True, 0.0, False, False, scale=scale
    )[:2]
    own_key, own_value = _for_each_head(query, key[:, :, earlier:], value[:, :, earlier:])
    own, own_lse = torch.ops.aten._scaled_dot_product_flash_attention(
        query, own_key, own_value, 0.0, True, False, scale=scale
    )[:2]
    weight = torch.sigmoid(past_lse.reshape(own_lse.shape) - own_lse).to(own.dtype)[..., None]
    return torch.lerp(own, past, weight)


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
