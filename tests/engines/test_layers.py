"""What a model's layers are, and which models are refused: in one line that names the cause."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import random_ids, tiny_model
from torch import nn

from benchmarks.architectures.tiny_configs import tiny_config
from benchmarks.architectures.tiny_configs import tiny_model as tiny_of
from rh_bench.engines import make_engine
from rh_bench.engines.base import StopRule
from rh_bench.engines.layers import find_layers
from rh_bench.errors import InputError
from rh_bench.records import Layer, Prompt, Sample


def model_of(model_type: str, **changes: Any) -> Any:
    return tiny_of(tiny_config(model_type, **changes))


def test_attention_and_recurrence_are_stated_apart() -> None:
    both = find_layers(model_of("falcon_h1"))
    assert all(layer.scored and layer.recurrent and not layer.croppable for layer in both)
    mixed = find_layers(model_of("bamba"))
    assert [(x.kind, x.recurrent, x.scored) for x in mixed[:2]] == [
        ("linear_attention", True, False),
        ("full", False, True),
    ]


def test_chunked_attention_has_a_kind_and_a_size() -> None:
    layers = find_layers(model_of("llama4_text"))
    assert {(x.kind, x.window) for x in layers} == {("chunked", 24), ("full", None)}


def test_attention_of_a_model_s_own_is_read_from_its_weights() -> None:
    layers = find_layers(model_of("gpt_neo"))
    assert [(x.kind, x.window, x.read_from) for x in layers[:2]] == [
        ("full", None, "weights"),
        ("sliding", 24, "weights"),
    ]
    assert "token by token" in make_engine("fast", model_of("gpt_neo"), layers, StopRule(frozenset())).notes[0]


def test_key_value_heads_of_multi_query_attention() -> None:
    assert {x.kv_heads for x in find_layers(model_of("falcon", num_kv_heads=4, multi_query=True))} == {1}


class _Blind(nn.Module):
    """Attention that nobody can see into."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        return self.inner.o_proj(self.inner.q_proj(hidden_states)), None  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["full_attention", "wibble", "sliding_attention"])
def test_a_layer_that_is_not_seen_is_not_dropped_whatever_it_is_called(kind: str) -> None:
    model = tiny_model("llama")
    model.model.layers[1].self_attn = _Blind(model.model.layers[1].self_attn)
    # Set past the check of transformers, as a configuration with code of its own would have it.
    object.__setattr__(model.config, "layer_types", ["full_attention", kind, "full_attention"])
    with pytest.raises(InputError, match=rf"layer 1 \({kind}\) has attention that does not go through"):
        find_layers(model)


def test_a_layer_without_attention_is_listed_by_its_name() -> None:
    kinds = [layer.kind for layer in find_layers(model_of("lfm2"))]
    assert set(kinds) == {"conv", "full"}


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra"])
def test_an_encoder_is_refused(model_type: str) -> None:
    with pytest.raises(InputError, match="a token sees the ones after it"):
        find_layers(model_of(model_type))


def test_the_same_code_as_a_decoder_is_measured_unless_it_counts_positions_otherwise() -> None:
    assert all(layer.scored for layer in find_layers(model_of("bert", is_decoder=True)))
    with pytest.raises(InputError, match="counts positions otherwise than"):
        find_layers(model_of("roberta", is_decoder=True))


def test_attention_that_looks_elsewhere_than_recorded_is_refused() -> None:
    """A score that nobody told the interface of: the recorder sees queries and keys, the model uses more."""
    model = tiny_model("llama")
    attention = model.model.layers[0].self_attn
    plain = type(attention).forward

    def shifted(*args: Any, **kwargs: Any) -> Any:
        out, weights = plain(attention, *args, **kwargs)
        return out, None if weights is None else weights.flip(-1).tril()

    attention.forward = shifted
    with pytest.raises(InputError, match="heads of layer 0 look elsewhere"):
        find_layers(model)


def test_a_cache_that_goes_on_wrongly_is_not_shared() -> None:
    """Positions that start again in every call: right in one pass only, and the model's own cache does no better."""
    model = tiny_model("llama")
    rotary = model.model.rotary_emb
    plain = type(rotary).forward
    rotary.forward = lambda x, position_ids: plain(rotary, x, position_ids - position_ids.min())
    with pytest.raises(InputError, match="is not what the model does"):
        find_layers(model)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_logits_that_are_no_numbers_are_refused(engine: str) -> None:
    model = tiny_model("llama")
    layers = find_layers(model)
    with torch.no_grad():
        model.lm_head.weight[0] = float("nan")
    ids = random_ids(20, 0)
    prompt = Prompt(Sample("n", "n", "h", 20, 0.0), ids, 2, 6, 3, 4, "", "")
    with pytest.raises(InputError, match=r"NaN or infinite in float32.*broken"):
        list(make_engine(engine, model, layers, StopRule(frozenset())).decode([prompt]))
    with pytest.raises(InputError, match="NaN or infinite in float32"):
        find_layers(model)


def test_half_type_that_overflows_names_the_types_that_do_not() -> None:
    model = tiny_model("llama").half()
    with torch.no_grad():
        model.model.norm.weight.fill_(60_000)
    with pytest.raises(InputError, match=r"infinite in float16.*--dtype bfloat16 or float32"):
        find_layers(model)


def test_ordinary_layers_are_as_before() -> None:
    assert find_layers(tiny_model("llama")) == tuple(Layer(i, "full", 4, 2) for i in range(3))
