"""Removing heads, on every architecture: the head is gone, nothing else is, and nothing stays behind."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
import torch
from engine_prompts import NEVER, decode_all, make_prompts
from tiny import MATRIX, random_ids, tiny_model
from torch import nn
from transformers import DynamicCache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.pytorch_utils import Conv1D

from rh_bench.attention.ablation import HOW, PHASES, Head, ablate, ablate_rows, find_projections, mean_inputs
from rh_bench.attention.capture import Recorder, capture, eager
from rh_bench.attention.compiled import compiled_arithmetic
from rh_bench.attention.interventions import active, most_shared
from rh_bench.engines import make_engine
from rh_bench.engines.base import new_cache
from rh_bench.engines.fast import FastEngine, plan
from rh_bench.engines.layers import find_layers
from rh_bench.errors import InputError
from rh_bench.records import Decoded, Layer, Prompt, Sample, head_grid
from rh_bench.scores.events import copy_events
from rh_bench.sets.prompts import prompt_sha256


def tokens(length: int = 20, seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.stack([torch.from_numpy(random_ids(length, seed + i).astype(np.int64)) for i in range(batch)])


def some_heads(layers: Collection[Layer]) -> list[Head]:
    """Two heads of the first layer that has any (which share keys and values where heads do), one of the last."""
    scored = [layer.index for layer in layers if layer.scored]
    return [(scored[0], 0), (scored[0], 1), (scored[-1], 3)]


def without_columns(model: Any, heads: Collection[Head]) -> Any:
    """A copy of `model` whose output projections have no weights for `heads`: what removing them means."""
    bare = copy.deepcopy(model)
    for layer, projection in find_projections(bare).items():
        weight = (
            projection.module.weight.data.T if isinstance(projection.module, Conv1D) else projection.module.weight.data
        )  # type: ignore[union-attr]
        for head in (head for at, head in heads if at == layer):
            weight[:, head * projection.width : (head + 1) * projection.width] = 0
    return bare


def projection_inputs(model: Any, ids: torch.Tensor) -> dict[int, torch.Tensor]:
    """[B, Q, H, D] of every layer. Its hooks come after those of an ablation that is in force."""
    seen: dict[int, torch.Tensor] = {}
    projections = find_projections(model)
    hooks = [
        p.module.register_forward_pre_hook(
            lambda _, args, p=p: seen.update({p.layer: args[0].unflatten(-1, (p.heads, p.width)).clone()})
        )
        for p in projections.values()
    ]
    model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    return seen


def traces(model: Any) -> Any:
    """All that an ablation could leave behind."""
    hooks = [(len(m._forward_pre_hooks), len(m._forward_hooks), "forward" in m.__dict__) for m in model.modules()]
    implementations = [m.config._attn_implementation for m in model.modules() if hasattr(m, "config")]
    return hooks, implementations, set(ALL_ATTENTION_FUNCTIONS), set(ALL_MASK_ATTENTION_FUNCTIONS), active(model)


def options(how: str, model: Any) -> dict[str, Any]:
    means = mean_inputs(model, [random_ids(30, 5).tolist()]) if how == "mean" else None
    return {"how": how, "means": means}


@pytest.mark.parametrize("name", MATRIX)
@torch.no_grad()
def test_a_removed_head_contributes_nothing(name: str) -> None:
    model = tiny_model(name)
    heads = some_heads(find_layers(model))
    bare, ids = without_columns(model, heads), tokens()
    with ablate(model, heads):
        got = model(input_ids=ids).logits
    torch.testing.assert_close(got, bare(input_ids=ids).logits, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(got, model(input_ids=ids).logits, atol=1e-3)


@pytest.mark.parametrize("name", MATRIX)
@torch.no_grad()
def test_nothing_but_the_heads_changes_where_they_are_removed(name: str) -> None:
    model = tiny_model(name)
    layers, ids = find_layers(model), tokens(24, batch=2)
    last = head_grid(layers)[-1][0]
    before = projection_inputs(model, ids)
    means = mean_inputs(model, ids.tolist())
    for how, means_of in (("zero", None), ("mean", means)):
        with ablate(model, [(last, 1), (last, 2)], how=how, means=means_of):  # type: ignore[arg-type]
            after = projection_inputs(model, ids)
        for layer in after.keys() - {last}:
            assert torch.equal(after[layer], before[layer])
        assert torch.equal(after[last][:, :, [0, 3]], before[last][:, :, [0, 3]])
        expected = torch.zeros(8) if means_of is None else means.values[last][1]
        assert torch.equal(after[last][:, :, 1], expected.expand(2, 24, 8))
    torch.testing.assert_close(means.values[last], before[last].mean((0, 1)), rtol=1e-5, atol=1e-6)
    assert means.tokens == 48


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "qwen3_next"])
@pytest.mark.parametrize("how", HOW)
@torch.no_grad()
def test_nothing_remains_after_the_block(name: str, how: str) -> None:
    model = tiny_model(name)
    heads, ids = some_heads(find_layers(model)), tokens()
    given = {**options(how, model), "span": (3, 7) if how == "span" else None}
    before, logits = traces(model), model(input_ids=ids).logits
    with ablate(model, heads, **given):
        assert not torch.equal(model(input_ids=ids).logits, logits)
        assert active(model)
    with pytest.raises(KeyboardInterrupt), ablate(model, heads, **given):
        model(input_ids=ids)
        raise KeyboardInterrupt
    with pytest.raises(InputError, match=r"no head \(1, 99\)"), ablate(model, [*heads, (1, 99)], **given):
        pass
    assert traces(model) == before
    assert torch.equal(model(input_ids=ids).logits, logits)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", MATRIX)
def test_engines_agree_under_every_ablation(name: str, how: str) -> None:
    model = tiny_model(name)
    layers, prompts = find_layers(model), make_prompts(seed=3, haystack_length=44)[1:5]
    given = options(how, model)
    plain = decode_all(make_engine("fast", model, layers, NEVER, max_new_tokens=10), prompts)
    events, changed = 0, 0
    for phase in PHASES:
        both: list[dict[str, Decoded]] = []
        with ablate(model, some_heads(layers), phase=phase, **given):
            for engine in ("reference", "fast"):
                both.append(decode_all(make_engine(engine, model, layers, NEVER, max_new_tokens=10), prompts))
        for prompt in prompts:
            expected, got = (found[prompt.sample.sample_id] for found in both)
            assert got.generated.tolist() == expected.generated.tolist()
            np.testing.assert_array_equal(got.targets, expected.targets)
            events += len(copy_events(prompt, got, layers))
            before = plain[prompt.sample.sample_id]
            changed += not np.array_equal(got.targets, before.targets) or bool(
                (got.generated != before.generated).any()
            )
    assert events > 0 and changed > 0, "an ablation that changes nothing would show nothing"


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_neox", "qwen3_next"])
@torch.no_grad()
def test_phases_divide_the_rows_at_the_first_that_produces_an_answer(name: str) -> None:
    """Weights without the head run one phase, the whole model the other: no hook is involved in what is expected."""
    model = tiny_model(name)
    layers = find_layers(model)
    heads = some_heads(layers)
    bare, ids, prompt = without_columns(model, heads), tokens(30), 24
    for phase, before, after in (("prefill", bare, model), ("decode", model, bare), ("both", bare, bare)):
        cache = new_cache(layers)
        cache = DynamicCache(config=model.config) if cache is None else cache
        first = before(input_ids=ids[:, : prompt - 1], past_key_values=cache, use_cache=True).logits
        rows = [
            after(input_ids=ids[:, i : i + 1], past_key_values=cache, use_cache=True).logits
            for i in range(prompt - 1, 30)
        ]
        with ablate(model, heads, phase=phase, prompt_length=prompt):  # type: ignore[arg-type]
            got = model(input_ids=ids).logits
        torch.testing.assert_close(got, torch.cat([first, *rows], 1), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_decode_leaves_the_prompts_cache_as_it_was() -> None:
    model, ids = tiny_model("qwen2"), tokens(20)
    caches = {}
    for phase in ("decode", "prefill", None):
        caches[phase] = new_cache(find_layers(model))
        if phase is None:
            model(input_ids=ids, past_key_values=caches[phase])
            continue
        with ablate(model, [(0, 1)], phase=phase):
            model(input_ids=ids, past_key_values=caches[phase])
    keys = {phase: cache.layers[2].keys[:, :, :-1] for phase, cache in caches.items()}
    assert torch.equal(keys["decode"], keys[None])
    assert not torch.allclose(keys["prefill"], keys[None], atol=1e-4)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", ["zero", "mean", "uniform"])
@pytest.mark.parametrize(
    "name", ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma3", "gpt2"))]
)
@torch.no_grad()
def test_batches_padded_on_the_left_generate_what_their_rows_generate_alone(name: str, how: str, phase: str) -> None:
    model = tiny_model(name)
    heads, given = some_heads(find_layers(model)), options(how, model)
    texts = [random_ids(size, size).tolist() for size in (12, 20, 7)]
    ids = torch.tensor([[0] * (20 - len(text)) + text for text in texts])
    mask = torch.tensor([[0] * (20 - len(text)) + [1] * len(text) for text in texts])
    more = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with ablate(model, heads, phase=phase, **given):  # type: ignore[arg-type]
        together = model.generate(input_ids=ids, attention_mask=mask, **more)[:, 20:]
        alone = [model.generate(input_ids=torch.tensor([text]), **more)[0, len(text) :] for text in texts]
    assert together.tolist() == [row.tolist() for row in alone]


@pytest.mark.parametrize("how", HOW)
@torch.no_grad()
def test_rows_of_a_batch_can_lack_different_heads(how: str) -> None:
    model, sets = tiny_model("llama"), [[(0, 1)], [], [(0, 3), (2, 0), (2, 1)]]
    given = {**options(how, model), "span": (4, 9) if how == "span" else None}
    ids = tokens(22).expand(3, -1)
    with ablate_rows(model, sets, **given) as ablation:
        together = model(input_ids=ids).logits
        ablation.keep(torch.tensor([2]))
        torch.testing.assert_close(model(input_ids=ids[:1]).logits[0], together[2])
    for heads, logits in zip(sets, together, strict=True):
        with ablate(model, heads, **given):
            torch.testing.assert_close(model(input_ids=ids[:1]).logits[0], logits)
    with ablate_rows(model, sets, **given), pytest.raises(ValueError, match="batch of 2"):
        model(input_ids=ids[:2])


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "qwen3_next"])
@torch.no_grad()
def test_weights_through_attention_are_what_the_way_says(name: str) -> None:
    model = tiny_model(name)
    layer, ids = head_grid(find_layers(model))[0][0], tokens(40)
    place = [p.index for p in find_layers(model) if p.scored].index(layer)
    with eager(model):
        before = model(input_ids=ids, output_attentions=True).attentions[place][0]
    found = {}
    for how, span in (("uniform", None), ("span", (5, 12))):
        with ablate(model, [(layer, 2)], how=how, span=span), eager(model):  # type: ignore[arg-type]
            found[how] = model(input_ids=ids, output_attentions=True).attentions[place][0]
        assert torch.equal(found[how][[0, 1, 3]], before[[0, 1, 3]])
    seen = (before[2] > 0).float()
    torch.testing.assert_close(found["uniform"][2], seen / seen.sum(-1, keepdim=True))
    rest = before[2].clone()
    rest[:, 5:12] = 0
    rest = (rest / rest.sum(-1, keepdim=True)).nan_to_num(0.0)
    torch.testing.assert_close(found["span"][2], rest, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_a_row_that_sees_nothing_but_the_span_gives_zero() -> None:
    model = tiny_model("llama")
    with ablate(model, [(0, 2)], how="span", span=(0, 4)):
        inputs = projection_inputs(model, tokens())[0]
    assert torch.equal(inputs[0, :4, 2], torch.zeros(4, 8))
    assert bool(inputs[0, 4:, 2].abs().sum(-1).gt(0).all()) and bool(inputs.isfinite().all())


@pytest.mark.slow
def test_no_prefix_is_shared_beyond_where_spans_differ() -> None:
    ids, prompts = random_ids(40, 0), []
    for place, span in enumerate((8, 20)):
        own = np.concatenate([ids, [3 + place], random_ids(4, 10)]).astype(np.int32)
        sample = Sample(f"n{place}", f"n{place}", "h", len(own), 0.0)
        prompts.append(Prompt(sample, own, 4, 24, span, 6, "answer", prompt_sha256(own)))
    model = tiny_model("llama")
    layers = find_layers(model)
    for how, phase, shared in (("zero", "both", 40), ("span", "decode", 40), ("span", "both", 8)):
        with ablate(model, some_heads(layers), how=how, phase=phase):  # type: ignore[arg-type]
            limit = most_shared(model, *prompts)
            assert plan(prompts, lambda a, b, limit=limit: limit)[1].shared == shared
            both = [
                decode_all(make_engine(e, model, layers, NEVER, max_new_tokens=8), prompts)
                for e in ("reference", "fast")
            ]
        for prompt in prompts:
            expected, got = (found[prompt.sample.sample_id] for found in both)
            assert got.generated.tolist() == expected.generated.tolist()
            np.testing.assert_array_equal(got.targets, expected.targets)


def test_a_cache_is_never_carried_from_one_ablation_to_another() -> None:
    model = tiny_model("llama")
    layers = find_layers(model)
    decoding = FastEngine(model, layers, NEVER, 4).decode(make_prompts(seed=3))
    next(decoding)
    with ablate(model, [(0, 0)]), pytest.raises(RuntimeError, match="share a cache"):
        next(decoding)


@pytest.mark.parametrize("inner", ["zero", "span"])
@torch.no_grad()
def test_composes_with_a_capture_that_was_there_first_and_with_another_ablation(inner: str) -> None:
    model, ids = tiny_model("gemma2"), tokens()
    given: dict[str, Any] = {"how": inner, "span": (3, 9) if inner == "span" else None}
    with ablate(model, [(0, 1)]), ablate(model, [(1, 2)], **given):
        expected = model(input_ids=ids).logits
    with capture(model, Recorder()), ablate(model, [(0, 1)]), ablate(model, [(1, 2)], **given):
        torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["zero", "uniform"])
@torch.no_grad()
def test_composes_with_replaced_arithmetic(how: str) -> None:
    model, ids = tiny_model("llama"), tokens()
    with ablate(model, [(0, 1), (2, 0)], how=how):  # type: ignore[arg-type]
        expected = model(input_ids=ids).logits
        with compiled_arithmetic(model) as functions:
            torch.testing.assert_close(model(input_ids=ids).logits, expected)
    with compiled_arithmetic(model), ablate(model, [(0, 1), (2, 0)], how=how):  # type: ignore[arg-type]
        torch.testing.assert_close(model(input_ids=ids).logits, expected)
    assert functions


class Shuffled(nn.Module):
    """A projection of columns in another order."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inside(x[..., torch.arange(x.shape[-1]).reshape(4, -1).T.flatten()])
        return out


def test_a_projection_whose_input_mixes_heads_is_refused_by_name() -> None:
    model = tiny_model("llama")
    attention = model.model.layers[1].self_attn
    attention.o_proj = Shuffled(attention.o_proj)
    with pytest.raises(InputError, match=r"LlamaForCausalLM: layer 1 has no output projection"):
        find_projections(model)


def test_one_projection_for_two_layers_is_refused() -> None:
    model = tiny_model("llama")
    model.model.layers[1].self_attn.o_proj = model.model.layers[0].self_attn.o_proj
    with pytest.raises(InputError, match="one layer for all"):
        find_projections(model)


def test_wrong_arguments_are_refused() -> None:
    model = tiny_model("llama")
    means = mean_inputs(model, [[3, 4]])
    for wrong in ({"how": "mean"}, {"means": means}, {"how": "none"}, {"phase": "all"}):
        with pytest.raises(ValueError), ablate(model, [(0, 0)], **wrong):  # type: ignore[arg-type]
            pass
    with ablate(model, [(0, 0)], how="span"), pytest.raises(ValueError, match="needs the positions"):
        model(input_ids=tokens())
    with pytest.raises(InputError, match="no tokens"):
        mean_inputs(model, [[]])
    with (
        pytest.raises(ValueError, match="belong to another model"),
        ablate(tiny_model("qwen3_next"), [(3, 0)], how="mean", means=means),
    ):
        pass
