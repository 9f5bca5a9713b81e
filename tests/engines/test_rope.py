"""Rotary embeddings that depend on length: what prompts may share, and when a model starts over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.architectures.check import scaled_rope
from benchmarks.architectures.prompts import NEW_TOKENS, ORIGINAL, make_prompts
from benchmarks.architectures.tiny_configs import tiny_config
from benchmarks.architectures.tiny_configs import tiny_model as tiny_of
from rh_bench.attention.capture import UnsupportedAttention
from rh_bench.attention.interventions import active
from rh_bench.detectors.passes import Passes
from rh_bench.engines.base import StopRule
from rh_bench.engines.batched import BatchedEngine
from rh_bench.engines.fast import FastEngine
from rh_bench.engines.layers import find_layers
from rh_bench.engines.rope import LengthRope
from rh_bench.errors import InputError

NEVER = StopRule(frozenset())


def model_of(model_type: str, rope: str = "") -> Any:
    return tiny_of(scaled_rope(model_type, rope) if rope else tiny_config(model_type))


@pytest.mark.parametrize("rope", ["", "linear", "yarn", "llama3"])
def test_most_models_have_none(rope: str) -> None:
    found = LengthRope(model_of("llama", rope))
    assert not found and found.key(10) == found.key(10_000)


def test_which_lengths_have_equal_frequencies() -> None:
    short, long = (LengthRope(model_of("llama", rope)) for rope in ("longrope", "dynamic"))
    assert short and long
    assert short.key(10) == short.key(ORIGINAL) != short.key(ORIGINAL + 1) == short.key(400)
    assert len({long.key(length) for length in (10, ORIGINAL)}) == 1
    assert len({long.key(length) for length in (ORIGINAL, ORIGINAL + 1, ORIGINAL + 2, 400)}) == 4


def test_a_model_that_scales_by_length_whatever_its_kind_is_found() -> None:
    assert LengthRope(model_of("phimoe", "linear")) and not LengthRope(model_of("phimoe"))


def test_asking_leaves_no_trace() -> None:
    model = model_of("llama", "dynamic")
    ids = torch.from_numpy(make_prompts(3)[0].ids.astype(np.int64))[None]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        rope = LengthRope(model)
        assert rope.key(400)
        with pytest.raises(KeyboardInterrupt), rope.prompt(300):
            raise KeyboardInterrupt
        assert torch.equal(model(input_ids=ids).logits, before)
    assert "forward" not in vars(model.model.rotary_emb)


def test_a_rotary_embedding_that_cannot_be_asked_is_refused_if_its_kind_depends_on_length() -> None:
    model = model_of("llama", "dynamic")
    model.model.rotary_emb.forward = lambda hidden_states, seq_len: None
    with pytest.raises(UnsupportedAttention, match="not understood"):
        LengthRope(model)
    model.model.rotary_emb.rope_type = "default"
    assert not LengthRope(model)


@pytest.mark.slow
@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_a_model_that_asks_for_other_positions_than_its_tokens_have_is_refused(rope: str) -> None:
    with pytest.raises(InputError, match="depends on length, and is asked for other positions"):
        find_layers(model_of("qwen4_exp_text", rope))
    assert find_layers(model_of("qwen4_exp_text", "yarn"))


@pytest.mark.parametrize(
    ("drops", "feeds", "expected"), [(True, "all", "starts over"), (True, "one", "refused"), (False, "one", "goes on")]
)
def test_what_generate_does_at_the_switch_is_asked_of_the_model(drops: bool, feeds: str, expected: str) -> None:
    """As transformers 5.23 has it for Phi-3, as 5.17 has it, and as most models do."""
    model = model_of("phi3", "longrope")

    def prepare(ids: torch.Tensor, past_key_values: Any = None, **_: Any) -> dict[str, Any]:
        return {
            "input_ids": ids if feeds == "all" else ids[:, -1:],
            "past_key_values": None if drops else past_key_values,
        }

    model.prepare_inputs_for_generation = prepare
    rope = LengthRope(model)
    assert rope.starts_over(ORIGINAL, ORIGINAL + 1) == drops
    assert not rope.starts_over(ORIGINAL + 1, ORIGINAL + 2)
    if expected == "refused":
        with pytest.raises(
            InputError, match=rf"prompts of 50 tokens outgrow the {ORIGINAL}.*loses the prompt.*--lengths"
        ):
            rope.refuse_lost_prompts([10, 50, 400], NEW_TOKENS)
    rope.refuse_lost_prompts([10, 400], NEW_TOKENS)


@pytest.mark.slow
@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_attention_mass_is_that_of_a_prompt_alone(rope: str) -> None:
    model, prompts = model_of("llama", rope), make_prompts(3)
    layers = find_layers(model)

    def where(prompt: Any) -> Any:
        return np.arange(prompt.span_start, prompt.span_start + 4)[None, None]

    together = {name: mass for name, mass, _ in Passes(model, layers, 1, chunk=7).sharing(prompts, where, {})}
    for prompt in prompts:
        with torch.inference_mode():
            model.set_attn_implementation("eager")
            out = model(input_ids=torch.from_numpy(prompt.ids.astype(np.int64))[None], output_attentions=True)
        expected = np.concatenate([w[0, :, -1, where(prompt)[0, 0]].sum(-1).numpy() for w in out.attentions])
        np.testing.assert_allclose(together[prompt.sample.sample_id][0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_a_batch_of_ablations_answers_as_the_engine_does(rope: str) -> None:
    model, prompts = model_of("llama", rope), make_prompts(3)
    layers = find_layers(model)
    fast = {d.sample_id: d.generated.tolist() for d in FastEngine(model, layers, NEVER, NEW_TOKENS).decode(prompts)}
    engine = BatchedEngine(model, layers, NEVER, NEW_TOKENS, rows=2, chunk=14)
    for phase in ("both", "decode"):
        for one in engine.answer(prompts, [[], []], how="zero", phase=phase):
            assert [list(row) for row in one.generated] == [fast[one.sample_id]] * 2
    assert not active(model)


def test_a_batch_refuses_answers_that_would_start_over() -> None:
    model = model_of("phi3", "longrope")
    engine = BatchedEngine(model, find_layers(model), NEVER, NEW_TOKENS, rows=2)
    with pytest.raises(InputError, match=r"prompt of 50 tokens.*changes its rotary factors.*--lengths"):
        list(engine.answer(make_prompts(3), [[]], how="zero", phase="both"))
