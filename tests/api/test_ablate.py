"""`rh.ablate`: whatever names the heads, whatever is around the model, and nothing left behind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from fake_runs import make_run
from test_in_memory import quantised
from tiny import random_ids, tiny_model

import rh_bench as rh
from rh_bench.attention.ablation import find_projections

HEADS = [(0, 1), (2, 3)]


def ids() -> torch.Tensor:
    return torch.from_numpy(random_ids(20, 0).astype(np.int64))[None]


def adapted(model: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(
            model, peft.LoraConfig(r=4, target_modules=["q_proj", "o_proj"], init_lora_weights=False)
        )
    return wrapped.eval()


def traces(model: Any) -> list[Any]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]


WAYS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda model: model,
    "PEFT": adapted,
    "quantised": quantised,
}


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_the_heads_are_gone_for_as_long_as_the_block(way: str) -> None:
    """What is left is what the model says when the heads' inputs to the whole output projection are zero."""
    model = WAYS[way](tiny_model("llama"))
    before, there = model(input_ids=ids()).logits, traces(model)
    with rh.ablate(model, HEADS):
        without = model(input_ids=ids()).logits
    assert not torch.allclose(without, before, atol=1e-3)
    expected = by_hand(model)
    torch.testing.assert_close(without, expected, rtol=1e-5, atol=1e-5)
    assert traces(model) == there and torch.equal(model(input_ids=ids()).logits, before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_compiled_code_keeps_its_heads_and_is_refused() -> None:
    """torch calls no hook in code that it has compiled, and says nothing."""
    wrapped = torch.compile(tiny_model("llama"), backend="eager")
    inside = tiny_model("llama")
    inside.compile(backend="eager")
    for model in (wrapped, inside):
        with pytest.raises(rh.InputError, match="heads cannot be removed from compiled code"), rh.ablate(model, HEADS):
            pass
    before = wrapped(input_ids=ids()).logits
    with rh.ablate(wrapped._orig_mod, HEADS):
        without = wrapped._orig_mod(input_ids=ids()).logits
    assert not torch.allclose(without, before, atol=1e-3)


def by_hand(model: Any) -> torch.Tensor:
    """Logits with the heads' columns zero, by hooks on the outermost module called o_proj."""

    def zero(layer: int) -> Any:
        def hook(module: Any, args: Any) -> Any:
            x = args[0].clone()
            for at, head in HEADS:
                if at == layer:
                    x[..., head * 8 : (head + 1) * 8] = 0
            return (x, *args[1:])

        return hook

    handles = [
        module.register_forward_pre_hook(zero(int(name.split("layers.")[1].split(".")[0])))
        for name, module in model.named_modules()
        if name.endswith("self_attn.o_proj")
    ]
    try:
        found: torch.Tensor = model(input_ids=ids()).logits
        return found
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.slow
@torch.no_grad()
def test_whatever_names_the_heads(tmp_path: Path) -> None:
    model = tiny_model("llama")
    run = rh.load_run(make_run(tmp_path, layers=3, heads=4))
    assert isinstance(run, rh.Run)
    top = run.top(2)
    with rh.ablate(model, top):
        expected = model(input_ids=ids()).logits
    for heads in (
        [list(head) for head in top],
        np.array(top),
        set(top),
        iter(top),
        run.heads.by_rank()[:2],
        torch.tensor(top).tolist(),
    ):
        with rh.ablate(model, heads) as ablation:
            assert torch.equal(model(input_ids=ids()).logits, expected)
        assert ablation.layers == tuple(sorted({layer for layer, _ in top}))


@pytest.mark.parametrize("heads", [[3], ["02"], [(1, 2, 3)], [(0.5, 1)], [None], [("0", "1")]])
def test_what_is_no_head_is_a_line(heads: Any) -> None:
    with pytest.raises(rh.InputError, match=r"is not a \(layer, head\) pair"), rh.ablate(tiny_model("llama"), heads):
        pass


def test_a_head_that_there_is_not() -> None:
    with pytest.raises(rh.InputError, match=r"there is no head \(7, 0\)"), rh.ablate(tiny_model("llama"), [(7, 0)]):
        pass


def test_a_model_in_training_is_ablated_and_goes_on_training() -> None:
    model = tiny_model("gpt2")
    model.train()
    there = traces(model)
    with rh.ablate(model, [(1, 2)]):
        model(input_ids=ids(), labels=ids()).loss.backward()
    assert traces(model) == there


def test_an_adapter_is_within_the_projection() -> None:
    """The adapter's own matrices get the same input as the matrix that they change: the module around all is meant."""
    model = adapted(tiny_model("llama")).get_base_model()
    for layer, projection in find_projections(model).items():
        assert projection.module is model.model.layers[layer].self_attn.o_proj
        assert isinstance(projection.module, peft.tuners.lora.Linear)
