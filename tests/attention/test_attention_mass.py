"""Attention mass against eager weights on every architecture, and against the formula where no model goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import MATRIX, random_ids, tiny_model

from rh_bench.attention import capture as capture_module
from rh_bench.attention.attention_mass import MassRecorder, attention_mass
from rh_bench.attention.capture import capture, eager
from rh_bench.engines.layers import find_layers

ROWS = 9
LENGTH = 70
TOLERANCE = 2e-6
"""Of a share in [0, 1], in float32."""


def positions() -> torch.Tensor:
    """Three positions for each row, twice: the same ones early in the text, and some at a fixed distance. [2, R, 3]."""
    row = torch.arange(LENGTH - ROWS, LENGTH)
    same = torch.tensor([3, 4, 30]).expand(ROWS, 3)
    return torch.stack([same, row[:, None] - torch.tensor([0, 1, 17])])


def eager_masses(model: Any, ids: torch.Tensor, at: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    """float [S, H] of each softmax layer, summed from the model's own materialised weights."""
    with torch.inference_mode(), eager(model):
        weights = [w for w in model(input_ids=ids, use_cache=False, output_attentions=True).attentions if w is not None]
    rows = [w[0, :, -at.shape[1] :].float() for w in weights]
    index = [at[:, None].expand(-1, w.shape[0], -1, -1) for w in rows]
    return [
        w.expand(len(at), -1, -1, -1).gather(-1, i).sum(-1).mean(-1).numpy() for w, i in zip(rows, index, strict=True)
    ]


def captured_masses(model: Any, ids: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    scored = [layer for layer in find_layers(model) if layer.scored]
    recorder = MassRecorder(rows={layer.index: place for place, layer in enumerate(scored)})
    recorder.positions = at
    recorder.masses = torch.zeros(len(at), len(scored), max(layer.query_heads for layer in scored))
    with torch.inference_mode(), capture(model, recorder):
        model(input_ids=ids, use_cache=False)
    return recorder.masses


def ids_of(seed: int) -> torch.Tensor:
    return torch.from_numpy(random_ids(LENGTH, seed).astype(np.int64))[None]


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", MATRIX)
def test_mass_is_that_of_eager_weights(name: str) -> None:
    model, ids, at = tiny_model(name), ids_of(3), positions()
    expected = eager_masses(model, ids, at)
    got = captured_masses(model, ids, at)
    assert len(expected) == got.shape[1]
    for place, layer in enumerate(expected):
        np.testing.assert_allclose(got[:, place, : layer.shape[1]].numpy(), layer, atol=TOLERANCE, rtol=0)
    assert got.std() > 1000 * TOLERANCE, "masses that are all alike would show nothing"


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gpt_oss"])
def test_half_precision_comes_close(name: str) -> None:
    model = tiny_model(name).to(torch.bfloat16)
    got, expected = captured_masses(model, ids_of(5), positions()), eager_masses(model, ids_of(5), positions())
    assert got.dtype == torch.float32
    # bfloat16 has 8 bits, and the eager weights are rounded to them twice.
    np.testing.assert_allclose(got.numpy(), np.stack(expected, axis=1), atol=0.05, rtol=0)


def test_a_sliding_layer_gives_nothing_to_what_its_window_has_left() -> None:
    model = tiny_model("gemma3")
    early = torch.tensor([3, 4, 5]).expand(1, ROWS, 3)
    sliding, _, full = captured_masses(model, ids_of(7), early)[0]
    assert sliding.max() == 0 and full.max() > 0


def test_small_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, at = tiny_model("gemma2"), positions()
    whole = captured_masses(model, ids_of(9), at)
    monkeypatch.setattr(capture_module, "SCORES_BUDGET", 4 * 4 * LENGTH * 2)
    torch.testing.assert_close(captured_masses(model, ids_of(9), at), whole, atol=TOLERANCE, rtol=0)


def formula(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor,
    at: torch.Tensor,
    *,
    sink: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """The softmax written out over heads whose keys are repeated, float64. [S, H]."""
    repeated = key[0].repeat_interleave(query.shape[1] // key.shape[1], dim=0).double()
    scores = query[0].double() @ repeated.transpose(1, 2) * 0.3
    scores = torch.tanh(scores / 2.0) * 2.0 + bias[0].double()
    raised = torch.where(mask[0], scores.exp(), 0.0)
    weights = raised / (raised.sum(-1, keepdim=True) + sink.double().exp()[:, None, None])
    return torch.stack([weights.gather(-1, one.expand(len(weights), -1, -1)).sum(-1).mean(-1) for one in at]).float()


@pytest.mark.parametrize("additive", [False, True])
def test_everything_that_changes_weights_at_once(additive: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, heads, n, 8, generator=generator) for heads, n in ((4, 6), (2, 20)))
    sink, bias = torch.randn(4, generator=generator), torch.randn(1, 4, 6, 20, generator=generator)
    mask = torch.rand(1, 4, 6, 20, generator=generator) < 0.6
    mask[:, :, 2] = False  # a row that sees nothing
    given = torch.zeros(mask.shape).masked_fill(~mask, float("-inf")) if additive else mask
    kwargs = {"scaling": 0.3, "softcap": 2.0, "position_bias": bias, "s_aux": sink}
    at = torch.randint(0, 20, (3, 6, 2), generator=generator)
    at[..., 1] = (at[..., 0] + 7) % 20
    got = attention_mass(query, key, given, kwargs, at)
    torch.testing.assert_close(got, formula(query, key, mask, at, sink=sink, bias=bias), atol=TOLERANCE, rtol=0)


def test_a_row_that_sees_nothing_has_no_mass_without_a_sink_either() -> None:
    query, key = torch.ones(1, 2, 1, 4), torch.ones(1, 2, 3, 4)
    nothing = torch.zeros(1, 1, 1, 3, dtype=torch.bool)
    assert attention_mass(query, key, nothing, {}, torch.zeros(1, 1, 1, dtype=torch.int64)).tolist() == [[0.0, 0.0]]
