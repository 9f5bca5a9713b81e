"""Following a given answer, on every small architecture: nothing differs from what the engines found, scores are those
of one pass without a cache, and what was not said is seen where it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engine_prompts import NEVER, decode_all, make_prompts
from tiny import MATRIX, tiny_model

from rh_bench.attention.capture import eager
from rh_bench.attention.leads import leads
from rh_bench.engines import make_engine
from rh_bench.engines.base import StopRule
from rh_bench.engines.follow import Claimed, Followed, Follower, span_offsets
from rh_bench.engines.layers import find_layers
from rh_bench.records import Prompt
from rh_bench.scores.events import copy_events

TOKENS = 16


def follow(model: Any, prompt: Prompt, claim: Claimed, stop: StopRule = NEVER, chunk: int | None = None) -> Followed:
    (found,) = Follower(model, find_layers(model), stop, chunk).follow([prompt], {prompt.sample.sample_id: claim})
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRIX)
def test_what_the_engine_found_is_found_along_its_answer(name: str) -> None:
    model = tiny_model(name)
    layers, prompts = find_layers(model), make_prompts(seed=3)
    decoded = decode_all(make_engine("fast", model, layers, NEVER, max_new_tokens=TOKENS), prompts)
    claims = {key: Claimed((), tuple(one.generated.tolist()), ends=False) for key, one in decoded.items()}
    places = {layer.index: place for place, layer in enumerate(layer for layer in layers if layer.scored)}
    events = 0
    for prompt, one in zip(
        prompts, sorted_by(prompts, Follower(model, layers, NEVER, 7).follow(prompts, claims)), strict=True
    ):
        assert one.gaps.tolist() == pytest.approx([0.0] * TOKENS, abs=1e-4)
        assert one.produced.tolist() == decoded[one.sample_id].generated.tolist()
        expected = np.zeros(one.outside.shape, dtype=bool)
        for layer, head, step, _ in copy_events(prompt, decoded[one.sample_id], layers).tolist():
            expected[step, places[layer], head] = True
        has = (one.offsets >= 0).any(axis=1)[:, None, None]
        np.testing.assert_array_equal((one.inside.max(axis=1) > one.outside) & has, expected)
        events += int(expected.sum())
    assert events > 0


def sorted_by(prompts: list[Prompt], found: Any) -> list[Followed]:
    by_id = {one.sample_id: one for one in found}
    return [by_id[prompt.sample.sample_id] for prompt in prompts]


@pytest.mark.slow
def test_scores_are_those_of_one_pass_without_a_cache() -> None:
    """The logarithms of the weights differ as the scores do."""
    model, prompt = tiny_model("llama"), make_prompts(seed=3)[1]
    answer = tuple(int(token) for token in prompt.span_ids)
    one = follow(model, prompt, Claimed((), answer, ends=False), chunk=11)
    ids = torch.from_numpy(np.concatenate([prompt.ids, np.array(answer)]).astype(np.int64))[None]
    with torch.inference_mode(), eager(model):
        out = model(input_ids=ids, use_cache=False, output_attentions=True)
    first = len(prompt.ids) - 1
    logits = out.logits[0, first : first + len(answer)]
    gaps = logits.amax(-1) - logits.gather(1, ids[0, first + 1 :, None])[:, 0]
    np.testing.assert_allclose(one.gaps, gaps.numpy(), atol=1e-4)
    assert one.gaps.max() > 0.1, "a random model does not give the needle back"
    for place, weights in enumerate(out.attentions):
        rows = weights[0, :, first : first + len(answer)].log()
        for step in range(len(answer)):
            at = [prompt.span_start + offset for offset in one.offsets[step].tolist() if offset >= 0]
            expected = (rows[:, step, at] - rows[:, step].amax(-1, keepdim=True)).numpy()
            np.testing.assert_allclose(one.inside[step, : len(at), place].T, expected, atol=1e-3, rtol=1e-4)


def test_a_token_that_was_not_said_is_seen_where_it_stands_and_the_rest_is_compared() -> None:
    model, prompt = tiny_model("llama"), make_prompts(seed=3)[0]
    engine = make_engine("fast", model, find_layers(model), NEVER, max_new_tokens=TOKENS)
    (decoded,) = engine.decode([prompt])
    said = decoded.generated.tolist()
    said[5] = (said[5] + 1) % 64
    one = follow(model, prompt, Claimed((), tuple(said), ends=False))
    assert one.gaps[:5].max() <= 1e-4
    assert one.gaps[5] > 0
    assert one.produced[5] == decoded.generated[5]
    assert len(one.gaps) == TOKENS
    assert np.isfinite(one.gaps).all()


def test_the_end_of_an_answer_is_a_claim_like_another() -> None:
    model, prompt = tiny_model("llama"), make_prompts(seed=3)[0]
    engine = make_engine("fast", model, find_layers(model), NEVER, max_new_tokens=TOKENS)
    (decoded,) = engine.decode([prompt])
    said = tuple(decoded.generated.tolist())
    stop = StopRule(frozenset({said[4]}))
    ended = follow(model, prompt, Claimed((), said[:4], ends=True), stop)
    assert ended.gaps.tolist() == pytest.approx([0.0] * 5, abs=1e-4)
    too_early = follow(model, prompt, Claimed((), said[:3], ends=True), stop)
    assert too_early.gaps[:3].max() <= 1e-4
    assert too_early.gaps[3] > 0.01
    assert len(follow(model, prompt, Claimed((), said[:4], ends=False), stop).gaps) == 4


def test_a_thought_comes_first_and_has_no_events() -> None:
    model, prompt = tiny_model("llama"), make_prompts(seed=3)[0]
    engine = make_engine("fast", model, find_layers(model), NEVER, max_new_tokens=TOKENS)
    (decoded,) = engine.decode([prompt])
    said = tuple(decoded.generated.tolist())
    one = follow(model, prompt, Claimed(said[:6], said[6:], ends=False))
    assert one.gaps.tolist() == pytest.approx([0.0] * TOKENS, abs=1e-4)
    assert len(one.inside) == len(one.outside) == len(one.offsets) == TOKENS - 6
    whole = follow(model, prompt, Claimed((), said, ends=False))
    np.testing.assert_allclose(one.outside, whole.outside[6:], atol=1e-4)


def test_nothing_said_and_nothing_to_follow() -> None:
    model, prompt = tiny_model("llama"), make_prompts(seed=3)[0]
    one = follow(model, prompt, Claimed((), (), ends=False))
    assert (len(one.gaps), len(one.inside), len(one.outside)) == (0, 0, 0)


def test_leads_of_chosen_positions_and_a_sink() -> None:
    scores = torch.tensor([[[1.0, 5.0, 3.0, 4.0]]])
    inside, outside = leads(scores, torch.tensor([[2, -1]]), None)
    assert inside[0, 0, 0].item() == -2.0
    assert inside[0, 0, 1].item() < -1e8
    assert outside.item() == 0.0
    inside, outside = leads(scores, torch.tensor([[1, 3]]), None)
    assert (inside.flatten().tolist(), outside.item()) == ([0.0, -1.0], -2.0)
    inside, outside = leads(scores, torch.tensor([[1, -1]]), torch.tensor([[7.0]]))
    assert (inside[0, 0, 0].item(), outside.item()) == (-2.0, 0.0)


def test_offsets_of_a_token_that_stands_twice() -> None:
    prompt = make_prompts(seed=3)[0]
    token = int(prompt.span_ids[2])
    expected = np.flatnonzero(prompt.span_ids == token).tolist()
    found = span_offsets(prompt, [token, -5])
    assert [offset for offset in found[0].tolist() if offset >= 0] == expected
    assert (found[1] == -1).all()
