"""Compiled arithmetic gives what plain arithmetic gives, and leaves no trace."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from tiny import random_ids, tiny_model

from rh_bench.attention.compiled import CompiledFunction, compiled_arithmetic

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler on a CPU")


def logits(model: Any) -> torch.Tensor:
    ids = torch.from_numpy(random_ids(40, 1)).long()[None]
    with torch.inference_mode():
        out: torch.Tensor = model(input_ids=ids).logits
    return out


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("llama", {"LlamaRMSNorm", "LlamaMLP", "apply_rotary_pos_emb"}),
        ("gemma3", {"Gemma3RMSNorm", "Gemma3MLP", "apply_rotary_pos_emb"}),
        ("qwen3", {"Qwen3RMSNorm", "Qwen3MLP", "apply_rotary_pos_emb"}),
        ("mixtral", {"MixtralRMSNorm", "apply_rotary_pos_emb"}),
    ],
)
def test_same_logits_and_no_trace(name: str, used: set[str]) -> None:
    model = tiny_model(name)
    plain = logits(model)
    names = {module: dict(vars(module)) for module in model.modules()}
    with compiled_arithmetic(model, smallest=1) as functions:
        torch.testing.assert_close(logits(model), plain, atol=1e-4, rtol=1e-4)
        assert {key.rsplit(".")[-1] for key, function in functions.items() if function.calls} == used
    assert all(vars(module).keys() == before.keys() for module, before in names.items())
    assert torch.equal(logits(model), plain)


def test_small_inputs_are_left_alone() -> None:
    model = tiny_model("llama")
    plain = logits(model)
    with compiled_arithmetic(model) as functions:
        assert torch.equal(logits(model), plain)
    assert functions
    assert not any(function.calls for function in functions.values())


def test_an_architecture_without_such_parts_is_left_alone() -> None:
    model = tiny_model("opt")
    plain = logits(model)
    with compiled_arithmetic(model, smallest=1) as functions:
        assert torch.equal(logits(model), plain)
    assert not functions


def test_what_does_not_compile_runs_as_it_is() -> None:
    def unclear(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x + 1

    function = CompiledFunction(unclear, smallest=1)
    for _ in range(2):
        assert torch.equal(function(torch.ones(4)), torch.full((4,), 2.0))
    assert function.calls == 0


def test_an_error_inside_puts_everything_back() -> None:
    model = tiny_model("llama")
    plain = logits(model)
    with pytest.raises(ZeroDivisionError), compiled_arithmetic(model, smallest=1):
        raise ZeroDivisionError
    assert torch.equal(logits(model), plain)
    assert not any("forward" in vars(module) for module in model.modules())
