"""Where a row looks: ties, attention sinks, keys that a layer has dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import random_ids, tiny_model

from rh_bench.attention.capture import Recorder, _argmax_rows, sink_scores
from rh_bench.engines import make_engine
from rh_bench.engines.base import StopRule
from rh_bench.engines.layers import find_layers
from rh_bench.records import Decoded, Prompt, Sample

NEVER = StopRule(frozenset())
LENGTH, WINDOW, NEW = 50, 32, 4


def prompt() -> Prompt:
    return Prompt(Sample("n", "n", "h", LENGTH, 0.0), random_ids(LENGTH, 0), 5, 12, 8, 6, "", "")


def decoded(model: Any, engine: str) -> Decoded:
    return next(iter(make_engine(engine, model, find_layers(model), NEVER, max_new_tokens=NEW).decode([prompt()])))


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize(("name", "window"), [("llama", None), ("mistral", WINDOW), ("gpt_oss", WINDOW)])
def test_of_equal_weights_the_lowest_position_is_the_target(name: str, window: int | None, engine: str) -> None:
    """Without queries all scores are equal: the target is the first position that a row sees."""
    model = tiny_model(name)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.zero_()
            if layer.self_attn.q_proj.bias is not None:
                layer.self_attn.q_proj.bias.zero_()
            if hasattr(layer.self_attn, "sinks"):
                layer.self_attn.sinks.fill_(-50.0)
    layers, one = find_layers(model), decoded(model, engine)
    for place, layer in enumerate(layers):
        for step in range(NEW):
            first = 0 if layer.window is None else LENGTH + step - WINDOW
            assert set(one.targets[step, place].tolist()) == {first}
    assert {layer.window for layer in layers} == ({None, window} if name == "gpt_oss" else {window})


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("sink", [-50.0, 50.0])
def test_a_row_whose_largest_weight_is_a_sink_has_no_target(sink: float, engine: str) -> None:
    model = tiny_model("gpt_oss")
    with torch.no_grad():
        model.model.layers[1].self_attn.sinks.fill_(sink)
        for layer in (0, 2):
            model.model.layers[layer].self_attn.sinks.fill_(-50.0)
    one = decoded(model, engine)
    assert (one.targets[:, 1] == -1).all() == (sink > 0) == (one.targets[:, 1] == -1).any()
    assert (one.targets[:, [0, 2]] >= 0).all()


@given(st.integers(1, 5), st.integers(1, 12), st.booleans(), st.integers(0, 2**16))
def test_sinks_are_compared_with_scores_that_are_scaled(rows: int, keys: int, by_row: bool, seed: int) -> None:
    """Against the plain softmax over keys and sink together."""
    generator, heads, width = torch.Generator().manual_seed(seed), 4, 8
    keys = max(keys, rows)
    query = torch.randn(1, heads, rows, width, generator=generator) * 2
    key = torch.randn(1, 2, keys, width, generator=generator) * 2
    sink = torch.randn(1, heads, rows if by_row else 1, 1, generator=generator) * 2
    kwargs = {"scaling": 0.4, ("sinks" if by_row else "s_aux"): sink if by_row else sink[0, :, 0, 0]}
    scores = query @ key.repeat_interleave(2, dim=1).transpose(2, 3) * 0.4
    hidden = torch.ones(rows, keys, dtype=torch.bool).triu(keys - rows + 1)
    scores = torch.cat([scores.masked_fill(hidden, float("-inf")), sink.expand(1, heads, rows, 1)], dim=-1)
    expected = scores.softmax(-1)[0].argmax(-1)
    expected = torch.where(expected == keys, -1, expected).T
    assert torch.equal(_argmax_rows(query, key, None, kwargs, rows), expected)


def test_no_sink_is_no_score() -> None:
    assert sink_scores({"s_aux": None}, 0, 1) is None


def test_keys_that_a_layer_dropped_shift_positions_and_not_what_is_none() -> None:
    recorder = Recorder(rows={7: 0}, targets=torch.full((4, 1, 3), -1, dtype=torch.int32), count=2)
    recorder.record(7, torch.tensor([[0, -1, 2], [1, 1, -1]]))
    recorder.shift(7, 3, 10)
    assert recorder.targets is not None
    np.testing.assert_array_equal(recorder.targets[:2, 0].numpy(), [[10, -1, 12], [11, 11, -1]])
