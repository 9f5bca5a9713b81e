"""What ends an answer: the tokens that a model names, and the one that its template shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import templates as t
from thinkers import thinker_tokenizer
from tiny import tiny_tokenizer

from rh_bench.engines.base import StopRule as StopRuleOfEngines
from rh_bench.prompting.chat import chat_template
from rh_bench.prompting.stopping import StopRule, stop_rule, turn_token

TURNS = {
    "llama": (t.LLAMA_3, "<|eot_id|>"),
    "gemma-2": (t.GEMMA_2, "<end_of_turn>"),
    "gemma-4": (t.GEMMA_4, "<turn|>"),
    "chatml": (t.PLAIN_CHATML, "<|im_end|>"),
    "qwen3": (t.QWEN_3_HYBRID, "<|im_end|>"),
    "smolvlm": (t.SMOLVLM, "<end_of_utterance>"),
    "granite": (t.GRANITE, "<|end_of_text|>"),
    "deepseek": (t.DEEPSEEK_V3_1, "<｜end▁of▁sentence｜>"),
    "gpt-oss": (t.GPT_OSS, "<|return|>"),  # which ends the last turn; those before it end in another way
    "apriel": (t.APRIEL, "<|end|>"),  # which stands after turns but the last
    "nemotron": (t.NEMOTRON_NANO, "<SPECIAL_12>"),
    "reka": (t.REKA, "<sep>"),
    "glm": (t.GLM_4_5, "<|user|>"),  # nothing ends a turn: the next one begins
    "mistral": (t.MISTRAL_SMALL_3, None),  # </s>, the tokenizer's own
    "magistral": (t.MAGISTRAL, None),
    "llava": (t.LLAVA, None),  # no token at all
}


def of_turn(template: str, eos: frozenset[int] = frozenset({2})) -> Any:
    found = turn_token(chat_template(thinker_tokenizer(template)), eos)
    return found and found[1]


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", TURNS)
def test_the_token_that_ends_a_turn_is_read_off_the_template(name: str) -> None:
    template, expected = TURNS[name]
    assert of_turn(template) == expected


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", [name for name, (_, expected) in TURNS.items() if expected])
def test_where_an_end_of_sequence_token_ends_turns_nothing_is_added(name: str) -> None:
    template, expected = TURNS[name]
    tokenizer = thinker_tokenizer(template)
    assert of_turn(template, frozenset({2, tokenizer.convert_tokens_to_ids(expected)})) is None


def test_an_end_that_stands_behind_another_mark_counts() -> None:
    """<|END_RESPONSE|><|END_OF_TURN_TOKEN|>: the second is an end-of-sequence token, the first ends no turn."""
    end = thinker_tokenizer(t.COHERE_REASONING).convert_tokens_to_ids("<|END_OF_TURN_TOKEN|>")
    assert of_turn(t.COHERE_REASONING, frozenset({end})) is None
    assert of_turn(t.COHERE_REASONING) == "<|END_RESPONSE|>"


def test_a_template_that_takes_no_answers_shows_nothing() -> None:
    assert of_turn("{% if messages | length > 1 %}{{ raise_exception('no') }}{% endif %}" + t.PLAIN_CHATML) is None


def model(generation: Any, config: Any) -> Any:
    return SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=generation), config=SimpleNamespace(eos_token_id=config)
    )


def test_all_that_end_an_answer() -> None:
    tokenizer = thinker_tokenizer(t.PLAIN_CHATML)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    rule = stop_rule(model([5, 6], 7), tokenizer, None, chat_template(tokenizer))
    assert rule.eos_ids == {2, 5, 6, 7} and rule.turn == (end, "<|im_end|>") and rule.ends == {2, 5, 6, 7, end}
    assert rule.names == ["eos", "turn"] and "'<|im_end|>'" in rule.notes[0]
    assert [token for token in range(len(tokenizer)) if rule(token)] == sorted(rule.ends)
    named = stop_rule(model([5, end], None), tokenizer, None, chat_template(tokenizer))
    assert named.turn is None and named.names == ["eos"] and named.notes == ()


def test_plain_answers_end_at_a_newline() -> None:
    tokenizer = tiny_tokenizer()
    rule = stop_rule(model(None, None), tokenizer, tokenizer.decode)
    newline = tokenizer("\n")["input_ids"][0]
    assert rule.names == ["eos", "newline"] and rule(newline) and rule(2) and not rule(newline + 1)
    assert StopRuleOfEngines is StopRule
