"""Every architecture, both engines, and a third way: one forward pass without a cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engine_prompts import NEVER, decode_all, make_prompts
from tiny import ARCHITECTURES, MATRIX, random_ids, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rh_bench.attention.capture import Recorder, capture, eager
from rh_bench.engines import make_engine
from rh_bench.engines.base import StopRule
from rh_bench.engines.fast import FastEngine
from rh_bench.engines.layers import find_layers
from rh_bench.errors import InputError
from rh_bench.records import Layer, Prompt
from rh_bench.scores.events import copy_events


def without_cache(model: Any, prompt: Prompt, generated: np.ndarray[Any, Any], scored: int) -> np.ndarray[Any, Any]:
    """Arg-max positions [T, A, H] from one eager pass over prompt and continuation, with no cache at all."""
    ids = torch.from_numpy(np.concatenate([prompt.ids, generated]).astype(np.int64))[None]
    with torch.inference_mode(), eager(model):
        weights = [w for w in model(input_ids=ids, use_cache=False, output_attentions=True).attentions if w is not None]
    assert len(weights) == scored
    first = len(prompt.ids) - 1
    return np.stack([w[0, :, first : first + len(generated)].argmax(-1).T.numpy() for w in weights], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRIX)
def test_engines_agree_on_every_architecture(name: str) -> None:
    model = tiny_model(name)
    layers = find_layers(model)
    prompts = make_prompts(seed=3)
    reference = decode_all(make_engine("reference", model, layers, NEVER, max_new_tokens=16), prompts)
    fast = decode_all(make_engine("fast", model, layers, NEVER, max_new_tokens=16), prompts)
    scored = [layer for layer in layers if layer.scored]
    events = 0
    assert reference.keys() == fast.keys() == {p.sample.sample_id for p in prompts}
    for prompt in prompts:
        expected, got = reference[prompt.sample.sample_id], fast[prompt.sample.sample_id]
        assert got.generated.tolist() == expected.generated.tolist()
        np.testing.assert_array_equal(got.targets, expected.targets)
        np.testing.assert_array_equal(expected.targets, without_cache(model, prompt, expected.generated, len(scored)))
        expected_events = copy_events(prompt, expected, layers)
        np.testing.assert_array_equal(copy_events(prompt, got, layers), expected_events)
        events += len(expected_events)
    assert events > 0, "a matrix without copy events would show nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gpt2"])
def test_prompt_in_small_pieces_gives_the_same(name: str) -> None:
    model = tiny_model(name)
    layers = find_layers(model)
    prompts = make_prompts(seed=5)
    whole = decode_all(FastEngine(model, layers, NEVER, 6), prompts)
    pieces = decode_all(FastEngine(model, layers, NEVER, 6, chunk=7), prompts)
    for sample_id, expected in whole.items():
        assert pieces[sample_id].generated.tolist() == expected.generated.tolist()
        np.testing.assert_array_equal(pieces[sample_id].targets, expected.targets)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_out_of_memory_halves_the_pieces_and_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(name)
    layers = find_layers(model)
    prompts = make_prompts(seed=9, haystack_length=300)
    expected = decode_all(FastEngine(model, layers, NEVER, 6), prompts)
    middle, refused = model.model.layers[1].mlp, []

    def forward(x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > 100:
            refused.append(x.shape[1])
            raise torch.OutOfMemoryError("out of memory, for a test")
        out: torch.Tensor = type(middle).forward(middle, x)
        return out

    monkeypatch.setattr(middle, "forward", forward)
    got = decode_all(FastEngine(model, layers, NEVER, 6, chunk=256), prompts)
    assert len(refused) == 2, "256, then 128; pieces stay small after that"
    for sample_id, one in expected.items():
        assert got[sample_id].generated.tolist() == one.generated.tolist()
        np.testing.assert_array_equal(got[sample_id].targets, one.targets)


def test_memory_too_small_for_any_piece_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")

    def forward(**_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory, for a test")

    engine = FastEngine(model, find_layers(model), NEVER, 6)
    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(InputError, match="too little memory"):
        list(engine.decode(make_prompts(seed=9)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, whose memory runs out for real")
def test_a_gpu_that_runs_out_of_memory_goes_on_in_smaller_pieces() -> None:
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(_wide(), dtype=torch.float32).eval()
    layers, prompts = find_layers(model), make_prompts(seed=5, haystack_length=16_000)[-1:]
    torch.cuda.reset_peak_memory_stats()
    expected = decode_all(FastEngine(model, layers, NEVER, 4, chunk=8192), prompts)
    peak, held = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(
        (held + 0.6 * (peak - held)) / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        engine = FastEngine(model, layers, NEVER, 4, chunk=8192)
        got = decode_all(engine, prompts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.chunk < 8192
    for sample_id, one in expected.items():
        assert got[sample_id].generated.tolist() == one.generated.tolist()


def _wide() -> AutoConfig:
    """Little to compute, and much memory for each token of a piece."""
    options = {**ARCHITECTURES["llama"][1], "hidden_size": 512, "intermediate_size": 16_384, "num_hidden_layers": 2}
    return AutoConfig.for_model("llama", **{**options, "max_position_embeddings": 32_768})


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_going_on_after_an_interruption_gives_the_same(engine: str) -> None:
    model = tiny_model("llama")
    layers = find_layers(model)
    prompts = make_prompts(seed=7)
    whole = decode_all(make_engine(engine, model, layers, NEVER, max_new_tokens=6), prompts)
    done = {name: whole[name].generated.tolist() for name in list(whole)[:3]}
    rest = list(make_engine(engine, model, layers, NEVER, max_new_tokens=6).decode(prompts, done))
    assert {d.sample_id for d in rest} == set(whole) - set(done)
    for decoded in rest:
        np.testing.assert_array_equal(decoded.targets, whole[decoded.sample_id].targets)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_stop_token_is_left_out_and_ends_the_answer(engine: str) -> None:
    model = tiny_model("llama")
    layers = find_layers(model)
    prompts = make_prompts(seed=3)[:1]
    free = next(iter(decode_all(make_engine(engine, model, layers, NEVER, max_new_tokens=8), prompts).values()))
    assert len(free.generated) == 8
    token = int(free.generated[3])
    first = free.generated.tolist().index(token)
    for stop in (StopRule(frozenset({token})), StopRule(frozenset(), lambda ids: "\n" if ids == [token] else "x")):
        stopped = next(iter(decode_all(make_engine(engine, model, layers, stop, max_new_tokens=8), prompts).values()))
        assert stopped.generated.tolist() == free.generated.tolist()[:first]
        np.testing.assert_array_equal(stopped.targets, free.targets[:first])


@pytest.mark.slow
def test_layers_say_their_heads_windows_and_kinds() -> None:
    assert find_layers(tiny_model("llama")) == tuple(Layer(i, "full", 4, 2) for i in range(3))
    gemma = find_layers(tiny_model("gemma3"))
    assert [(x.kind, x.window) for x in gemma] == [("sliding", 32), ("sliding", 32), ("full", None)]
    hybrid = find_layers(tiny_model("qwen3_next"))
    assert [x.kind for x in hybrid] == ["linear_attention", "full", "linear_attention", "full"]
    assert [x.query_heads for x in hybrid] == [0, 4, 0, 4]


def test_hybrid_says_that_it_does_not_share_prefixes() -> None:
    model = tiny_model("qwen3_next")
    assert "not shared" in make_engine("fast", model, find_layers(model), NEVER).notes[0]


def test_capture_leaves_no_trace() -> None:
    model = tiny_model("gemma2")
    names, own = (set(ALL_ATTENTION_FUNCTIONS), set(ALL_MASK_ATTENTION_FUNCTIONS)), model.config._attn_implementation
    ids = torch.from_numpy(random_ids(20, 0).astype(np.int64))[None]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        with pytest.raises(KeyboardInterrupt), capture(model, Recorder()):
            assert model.config._attn_implementation.startswith("rh_bench")
            raise KeyboardInterrupt
        assert model.config._attn_implementation == own
        assert torch.equal(model(input_ids=ids).logits, before)
    assert (set(ALL_ATTENTION_FUNCTIONS), set(ALL_MASK_ATTENTION_FUNCTIONS)) == names


def test_encoder_decoder_is_refused_by_name() -> None:
    config = AutoConfig.for_model("t5", d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, vocab_size=30)
    with pytest.raises(InputError, match=r"T5.*encoder-decoder"):
        find_layers(AutoModelForSeq2SeqLM.from_config(config))


def test_attention_without_the_interface_is_refused_by_name() -> None:
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=1, state_size=4, vocab_size=30)
    with pytest.raises(InputError, match=r"MambaForCausalLM: it has no attention .*not supported"):
        find_layers(AutoModelForCausalLM.from_config(config))


def test_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="--engine"):
        make_engine("slow", None, (), NEVER)
