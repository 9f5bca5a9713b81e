"""Causal attention for fewer queries than keys: what it gives is what plain arithmetic gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.attention.fused import causal_attention, split, split_causal


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1).double() for x in (key, value))
    scores = query.double() @ key.transpose(2, 3) * scale
    hidden = torch.ones(query.shape[2], key.shape[2]).triu(key.shape[2] - query.shape[2] + 1).bool()
    return scores.masked_fill(hidden.to(scores.device), -torch.inf).softmax(-1) @ value


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 9), (5, 5), (5, 40), (64, 300)])
def test_queries_stand_at_the_end_of_the_keys(groups: int, queries: int, keys: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(1, 4, queries, 8)
    key, value = (torch.randn(1, 4 // groups, keys, 8) for _ in range(2))
    got = causal_attention(query, key, value, 0.3)
    torch.testing.assert_close(got.double(), plain(query, key, value, 0.3), atol=1e-5, rtol=1e-5)


@given(st.integers(1, 9000), st.integers(0, 100_000))
def test_parts_cover_each_key_once_in_few_shapes(queries: int, earlier: int) -> None:
    parts = list(split(queries, queries + earlier))
    assert [first for first, _, _ in parts] == [0, *(last for _, last, _ in parts[:-1])]
    assert parts[-1] == (earlier, queries + earlier, True)
    assert not any(causal for _, _, causal in parts[:-1])
    assert len(parts) <= 4
    sizes = [last - first for first, last, _ in parts[:-1]]
    assert all(size % 8192 == 0 or (size < 8192 and size % 1024 == 0) or size < 1024 for size in sizes)


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0), reason="needs a Hopper GPU"
)
@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize(
    ("queries", "keys"), [(1024, 1024), (1024, 3500), (2048, 9300), (1024, 10_500), (700, 6000), (1000, 9192)]
)
def test_the_split_is_exact(kv_heads: int, queries: int, keys: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(1, 8, queries, 128, device="cuda", dtype=torch.bfloat16)
    key, value = (torch.randn(1, kv_heads, keys, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    got = split_causal(query, key, value, 0.1)
    torch.testing.assert_close(got.double(), plain(query, key, value, 0.1), atol=2e-2, rtol=2e-2)
