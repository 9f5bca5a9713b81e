"""The memory plan: what it adds up, how it adapts, when it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import MATRIX, tiny_model
from transformers import LlamaConfig

from rh_bench.engines.layers import find_layers
from rh_bench.errors import InputError
from rh_bench.records import NO_SOFTMAX
from rh_bench.system.memory import CHUNK, SMALLEST_CHUNK, _cgroup, _meminfo, available_memory, model_shape, plan_memory

LLAMA = model_shape(
    LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000
    ),
    6_738_415_616,
)


def test_llama_7b_at_50k_in_bfloat16() -> None:
    plan = plan_memory(LLAMA, 2, 50_000, "cuda", 80_000_000_000)
    assert plan.weights == 13_476_831_232
    assert plan.cache == 2 * 32 * 4096 * 50_000 * 2
    assert plan.chunk == CHUNK["cuda"]
    assert 1e9 < plan.workspace < 4 * 2**30
    assert str(plan).startswith("13.5 GB weights + 26.2 GB cache + ")


@given(st.integers(1, 10**12), st.integers(100, 200_000))
def test_a_plan_fits_or_is_refused(available: int, positions: int) -> None:
    try:
        plan = plan_memory(LLAMA, 2, positions, "cuda", available)
    except InputError as error:
        assert "GB" in str(error)
        smallest = plan_memory(LLAMA, 2, positions, "cuda", None)
        assert smallest.weights + smallest.cache < smallest.needed
        assert available < smallest.needed
        return
    assert plan.needed <= available
    assert min(SMALLEST_CHUNK, positions) <= plan.chunk <= CHUNK["cuda"]


def test_short_memory_makes_smaller_pieces() -> None:
    plenty = plan_memory(LLAMA, 2, 50_000, "cuda", None)
    tight = plan_memory(LLAMA, 2, 50_000, "cuda", plenty.needed - 1)
    assert tight.chunk == plenty.chunk // 2
    assert tight.workspace < plenty.workspace


@pytest.mark.parametrize("name", MATRIX)
def test_shapes_say_what_the_model_has(name: str) -> None:
    model = tiny_model(name)
    shape, layers = model_shape(model.config, 1), [layer for layer in find_layers(model) if layer.scored]
    assert shape.query_heads == max(layer.query_heads for layer in layers)
    assert shape.whole == (name == "qwen3_next")
    if not shape.whole and name != "opt":  # whose tiny configuration names key/value heads that the model ignores
        assert shape.cached == sum(2 * layer.kv_heads * shape.head_dim for layer in layers if layer.kv_heads)


@pytest.mark.parametrize("kind", NO_SOFTMAX)
def test_layers_without_softmax_attention_keep_no_keys(kind: str) -> None:
    config = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    both = model_shape(config, 1).cached
    config.layer_types = ["full_attention", kind]
    assert both > 0 and model_shape(config, 1).cached == both // 2


def test_memory_of_this_machine(tmp_path: Path) -> None:
    free = available_memory(torch.device("cpu"))
    assert free is None or 0 < free < 2**50
    assert _meminfo(tmp_path / "none") is None
    assert _cgroup(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 250\nactive_file 100\n")
    assert _cgroup(tmp_path) == 650
    (tmp_path / "memory.max").write_text("max\n")
    assert _cgroup(tmp_path) is None
