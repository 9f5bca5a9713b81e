"""Guesses change how fast an answer is found, never which answer it is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from engine_prompts import NEVER, decode_all, make_prompts
from hypothesis import given
from hypothesis import strategies as st
from tiny import VOCABULARY, matrix, tiny_model

from rh_bench.engines import make_engine
from rh_bench.engines.base import StopRule
from rh_bench.engines.drafts import Draft, propose
from rh_bench.engines.fast import FastEngine, common_prefix, plan
from rh_bench.engines.layers import find_layers
from rh_bench.scores.events import copy_events

Tokens = st.lists(st.integers(0, 9), max_size=30)


@given(Tokens, st.lists(Tokens, max_size=3), st.integers(-1, 20))
def test_a_guess_is_short_enough_and_follows_a_match(generated: list[int], sources: list[list[int]], most: int) -> None:
    guess = propose(generated, sources, most)
    assert len(guess) <= max(most, 0)
    if guess and generated:
        joined = [generated[-1], *guess]
        assert any(joined == source[i : i + len(joined)] for source in sources for i in range(len(source)))


def test_the_longest_match_wins_then_the_earlier_source() -> None:
    assert propose([1, 2], [[9, 2, 5], [1, 2, 7]], 9) == [7]
    assert propose([4], [[4, 5], [4, 6]], 9) == [5]
    assert propose([], [[3, 4], [5]], 1) == [3]
    assert propose([8], [[1, 2]], 9) == []


def adversaries(answers: dict[str, list[int]], stop: int) -> dict[str, Draft]:
    """Guessers that do their worst. `answers` are the right ones, by what they begin with."""
    chance = random.Random(0)
    truth = list(answers.values())

    def right(generated: Sequence[int]) -> list[int]:
        return next((a[len(generated) :] for a in truth if a[: len(generated)] == list(generated)), [])

    return {
        "empty": lambda g, s, m: [],
        "wrong": lambda g, s, m: [(t + 1) % VOCABULARY for t in right(g)] or [0] * 9,
        "random": lambda g, s, m: [chance.randrange(VOCABULARY) for _ in range(chance.randrange(12))],
        "too long": lambda g, s, m: right(g) + [3] * 200,
        "past the stop": lambda g, s, m: [*right(g), stop, stop, *right(g)],
        "right then wrong": lambda g, s, m: [*right(g)[:3], 0, 0, 0],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", matrix("llama", "gemma3"))
def test_no_guess_changes_an_answer(name: str) -> None:
    """Against token-by-token greedy decoding, without a stop token and with one."""
    model = tiny_model(name)
    layers = find_layers(model)
    prompts = make_prompts(seed=11)[::2]
    free = decode_all(make_engine("reference", model, layers, NEVER, max_new_tokens=12), prompts)
    token = int(next(iter(free.values())).generated[5])
    for stop in (NEVER, StopRule(frozenset({token}))):
        expected = decode_all(make_engine("reference", model, layers, stop, max_new_tokens=12), prompts)
        answers = {name: decoded.generated.tolist() for name, decoded in free.items()}
        for kind, draft in adversaries(answers, token).items():
            got = decode_all(FastEngine(model, layers, stop, 12, draft=draft), prompts)
            for prompt in prompts:
                one, other = expected[prompt.sample.sample_id], got[prompt.sample.sample_id]
                assert other.generated.tolist() == one.generated.tolist(), kind
                np.testing.assert_array_equal(other.targets, one.targets, err_msg=kind)
                np.testing.assert_array_equal(copy_events(prompt, other, layers), copy_events(prompt, one, layers))


@pytest.mark.slow
def test_right_guesses_save_passes() -> None:
    model = tiny_model("llama")
    layers = find_layers(model)
    prompts = make_prompts(seed=11)
    answers = {k: d.generated.tolist() for k, d in decode_all(FastEngine(model, layers, NEVER, 12), prompts).items()}

    def passes(draft: Draft) -> int:
        count = 0

        def hook(*_: object) -> None:
            nonlocal count
            count += 1

        handle = model.register_forward_hook(hook)
        decode_all(FastEngine(model, layers, NEVER, 12, draft=draft), prompts)
        handle.remove()
        return count

    none, all_right = passes(lambda g, s, m: []), passes(adversaries(answers, 2)["too long"])
    assert none - all_right >= 11 * len(prompts) - 11


def test_the_plan_shares_what_neighbours_share() -> None:
    prompts = make_prompts(seed=3)
    planned = plan(prompts)
    assert {p.prompt.sample.sample_id for p in planned} == {p.sample.sample_id for p in prompts}
    for one, other in pairwise(planned):
        assert one.after == other.shared == common_prefix(one.prompt.ids[:-1], other.prompt.ids[:-1])
    # At depth 0 the longer prompt begins with the shorter one but for its end.
    shared = [p.shared for p in planned if p.prompt.insert_at == 0]
    assert max(shared) >= 12 + 30


@pytest.mark.slow
def test_every_interruption_gives_the_same_tokens_in_the_same_pieces() -> None:
    """Bitwise: the logits of a sample do not depend on which samples an earlier session had measured."""
    model = tiny_model("llama")
    layers = find_layers(model)
    prompts = make_prompts(seed=7, haystack_length=90)
    order = [p.prompt.sample.sample_id for p in plan(prompts)]

    def logits_by_sample(done: dict[str, list[int]]) -> tuple[dict[str, list[int]], dict[str, list[bytes]]]:
        seen: list[bytes] = []
        handle = model.register_forward_hook(lambda m, a, out: seen.append(out.logits.numpy().tobytes()))
        answers, found = {}, {}
        for decoded in FastEngine(model, layers, NEVER, 6, chunk=16).decode(prompts, done):
            answers[decoded.sample_id] = decoded.generated.tolist()
            found[decoded.sample_id], seen = list(seen), []
        handle.remove()
        return answers, found

    answers, whole = logits_by_sample({})
    for first in range(1, len(order)):
        _, rest = logits_by_sample({name: answers[name] for name in order[:first]})
        for name in order[first:]:
            size = min(len(rest[name]), len(whole[name]))
            assert rest[name][-1] == whole[name][-1]
            assert size >= 1
