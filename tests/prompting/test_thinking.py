"""What a prompt does about the thoughts of a model, family by family."""

from __future__ import annotations

from typing import Any

import pytest
import templates as t
from thinkers import thinker_tokenizer
from tiny import tiny_tokenizer

from rh_bench.errors import InputError
from rh_bench.prompting.chat import chat_template
from rh_bench.prompting.thinking import (
    AFTER,
    AUTO,
    BEFORE,
    CLOSE,
    WAYS,
    Plan,
    Thinking,
    check_choice,
    plan_thinking,
    recorded_thinking,
    settle_thinking,
)
from rh_bench.system.schema import parse_json, schema_text

ASKED = [{"role": "user", "content": "Where is it?"}]

SETTLED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "qwen3": (t.QWEN_3_HYBRID, "switch", {"enable_thinking": False}, ""),
    "qwen3-thinking": (t.QWEN_3_THINKING, "closed", {}, "\n</think>\n\n"),
    "r1-distill, opened": (t.R1_DISTILL_NEW, "closed", {}, "\n</think>\n\n"),
    "deepseek-v3.1": (t.DEEPSEEK_V3_1, "switch", {"thinking": False}, ""),
    "smollm3": (t.SMOLLM_3, "switch", {"enable_thinking": False}, ""),
    "glm-4.5": (t.GLM_4_5, "switch", {"enable_thinking": False}, ""),
    "seed-oss": (t.SEED_OSS, "closed", {"thinking_budget": 0}, "</seed:cot_budget_reflect></seed:think>\n"),
    "cohere": (t.COHERE_REASONING, "switch", {"reasoning": False}, ""),
    "gemma-4": (t.GEMMA_4, "switch", {"enable_thinking": False}, ""),
    "kimi-k2": (t.KIMI_K2_THINKING, "prefilled", {}, "<think></think>"),
    "gpt-oss": (t.GPT_OSS, "prefilled", {}, "<|channel|>final<|message|>"),
    "nemotron": (t.NEMOTRON_NANO, "closed", {}, "\n</think>\n\n"),
    "apriel": (t.APRIEL, "closed", {}, "\n[BEGIN FINAL RESPONSE]\n"),
    "reka": (t.REKA, "closed", {}, "\n</reasoning>\n\n"),
}
"""Template, way, what the template is told, what is appended: certain without asking the model."""
UNSURE: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "r1-distill, old": (t.R1_DISTILL_OLD, {}, "<think>\n\n</think>\n\n", "<think>\nOkay, so"),
    "magistral": (t.MAGISTRAL, {}, "[THINK][/THINK]", "[THINK]The user"),
    "granite": (t.GRANITE, {"thinking": False}, "<think>\n\n</think>\n\n", " <think>Hm"),
}
"""Template, what it is told, how the answer is begun for a model that says the last text."""
ORDINARY = [t.LLAMA_3, t.MISTRAL_SMALL_3, t.PLAIN_CHATML, t.GEMMA_2, t.SMOLVLM, t.LLAVA]


def plan_of(template: str, marks: list[str] | None = None) -> Plan | None:
    return plan_thinking(chat_template(thinker_tokenizer(template, marks)))


def sure(template: str, marks: list[str] | None = None) -> Plan:
    plan = plan_of(template, marks)
    assert plan is not None
    return plan


def prompt_of(template: str, thinking: Thinking) -> str:
    chat = chat_template(thinker_tokenizer(template))
    return chat.render(ASKED, dict(thinking.variables)) + thinking.appended


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("name", SETTLED)
def test_a_family_is_closed_in_its_own_way(name: str) -> None:
    template, way, variables, appended = SETTLED[name]
    plan = sure(template)
    settled = plan.settled
    assert settled is not None and not plan.must_ask
    assert (settled.way, dict(settled.variables), settled.appended) == (way, variables, appended)
    assert plan.unasked == settled == plan.choose(AUTO) == plan.choose(CLOSE)
    # Whatever the way, no thought is open where the answer begins.
    prompt, markers = prompt_of(template, settled), settled.markers
    assert markers is not None
    after = prompt[prompt.index("Where is it?") :]
    assert after.rindex(markers.closing) > after.rfind(markers.opening)
    assert prompt.startswith(chat_template(thinker_tokenizer(template)).render(ASKED, variables))


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("name", [name for name, row in SETTLED.items() if row[1] == "switch"])
def test_a_switched_prompt_is_what_transformers_makes_of_the_switch(name: str) -> None:
    template, _, variables, _ = SETTLED[name]
    template = template.replace('strftime_now("%d %B %Y")', "'26 July 2024'")
    tokenizer = thinker_tokenizer(template)
    theirs = tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True, **variables)
    settled = sure(template).settled
    assert settled is not None and prompt_of(template, settled) == theirs


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("name", ["qwen3-thinking", "kimi-k2", "gpt-oss", "smollm3", "glm-4.5"])
def test_a_closed_prompt_is_how_the_template_itself_begins_an_answer(name: str) -> None:
    """Held against the template's own writing of a turn that was answered without a thought."""
    template, _, variables, _ = SETTLED[name]
    settled = sure(template).settled
    assert settled is not None
    chat = chat_template(thinker_tokenizer(template))
    answered = chat.render([*ASKED, {"role": "assistant", "content": "There."}], variables, answer=False)
    before = answered[: answered.index("There.")]
    assert prompt_of(template, settled).rstrip("\n") == before.rstrip("\n")


def test_a_template_that_writes_thoughts_in_its_own_form_is_followed() -> None:
    """Its history has no form of an answer without a thought; that with one shows how it writes them."""
    template = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}
{%- if m.reasoning_content is defined %}{{ '<think>' + m.reasoning_content + '</think>\n\n\n' }}{% endif %}
{{- m.content + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' + '' }}{% endif %}"""
    assert [one.appended for one in sure(template).prefills] == ["<think></think>\n\n\n"]
    opened = template.replace("+ ''", "+ '<think>'")
    settled = sure(opened).settled
    assert settled is not None and (settled.way, settled.appended) == ("closed", "</think>\n\n\n")


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("name", UNSURE)
def test_a_model_whose_template_does_not_say_is_asked(name: str) -> None:
    template, variables, begun, answer = UNSURE[name]
    plan = sure(template)
    assert plan.must_ask and dict(plan.left.variables) == variables
    chat = chat_template(thinker_tokenizer(template))
    seen: list[Thinking] = []

    def begin(left: Thinking) -> str:
        seen.append(left)
        return answer

    found = settle_thinking(chat, AUTO, None, begin)
    assert seen == [plan.left] and plan.left.appended == ""
    assert found is not None and (found.way, found.appended) == ("prefilled", begun)
    other = settle_thinking(chat, AUTO, None, lambda left: "The key is <think>")
    assert other == plan.left and plan.left.way == ("switch" if variables else "none")
    assert settle_thinking(chat, CLOSE, None, lambda left: pytest.fail("not asked")) == plan.prefills[0]


@pytest.mark.slow
def test_without_a_model_what_the_template_knows_is_closed() -> None:
    unasked = {name: sure(row[0]).unasked for name, row in UNSURE.items()}
    ways = {name: way.way for name, way in unasked.items() if way}
    assert ways == {"r1-distill, old": "prefilled", "magistral": "prefilled", "granite": "switch"}


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("template", ORDINARY)
def test_an_ordinary_model_is_left_alone(template: str) -> None:
    assert plan_of(template) is None
    chat = chat_template(thinker_tokenizer(template))
    assert settle_thinking(chat, AUTO, None, lambda left: pytest.fail("not asked")) is None
    for choice in (CLOSE, AFTER):
        with pytest.raises(InputError, match=f"--thinking {choice}: neither .* supports thoughts; use --thinking auto"):
            settle_thinking(chat, choice, None, lambda left: "")


def test_tokens_for_thoughts_alone_say_nothing_unless_the_model_uses_them() -> None:
    plan = sure(t.PLAIN_CHATML, ["<|im_start|>", "<|im_end|>", "<think>", "</think>"])
    assert plan.must_ask and plan.unasked is None and plan.asked("It is") is None and plan.may_be_unsaid
    found = plan.asked("<think>Hm")
    assert found is not None and found.appended == "<think>\n\n</think>\n\n"


def test_the_kind_of_thought_that_the_model_begins_is_closed() -> None:
    marks = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "[THINK]", "[/THINK]"]
    found = sure(t.PLAIN_CHATML, marks).asked("[THINK]Hm")
    assert found is not None and found.appended == "[THINK][/THINK]"


def test_a_switch_that_changes_nothing_is_none() -> None:
    dead = t.R1_DISTILL_OLD.replace("{{- bos_token }}", "{%- set enable_thinking = true %}{{- bos_token }}")
    assert dict(sure(dead).left.variables) == {}
    # And a value that the template does not name is not tried: it would be printed as it is.
    printed = "{{ 'Reasoning: ' + (reasoning_effort or 'medium') }}" + t.PLAIN_CHATML
    assert plan_of(printed) is None
    named = "{{ 'Reasoning: ' + ('none' if reasoning_effort == 'none' else 'high') }}" + t.PLAIN_CHATML
    assert dict(sure(named).left.variables) == {"reasoning_effort": "none"}


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("opening", ["<|think|>", "[SCRATCHPAD_THOUGHT]", "<|start_of_thought|>\n", "<inner_thoughts>"])
def test_a_thought_that_nobody_knows_how_to_close_is_refused(opening: str) -> None:
    template = t.PLAIN_CHATML.replace("assistant\\n", "assistant\\n" + opening.replace("\n", "\\n"))
    with pytest.raises(
        InputError, match="apparently for a thought, with no known way to close it; use --template plain"
    ):
        plan_of(template)


def test_a_tag_that_the_template_closes_elsewhere_is_known() -> None:
    template = t.PLAIN_CHATML.replace("assistant\\n", "assistant\\n<inner_thoughts>") + "{#- </inner_thoughts> #}"
    settled = sure(template).settled
    assert settled is not None and settled.appended == "\n\n</inner_thoughts>\n\n"


def test_thoughts_that_the_system_prompt_speaks_of_are_not_open() -> None:
    template = "Think in <think> first.\n" + t.PLAIN_CHATML
    assert sure(template).must_ask


# --- the answer after the thought ---

AFTERS = {
    "qwen3": (t.QWEN_3_HYBRID, {}, "</think>"),
    "qwen3-thinking": (t.QWEN_3_THINKING, {}, "</think>"),
    "deepseek-v3.1": (t.DEEPSEEK_V3_1, {"thinking": True}, "</think>"),
    "granite": (t.GRANITE, {"thinking": True}, "</think>"),
    "gemma-4": (t.GEMMA_4, {"enable_thinking": True}, "<channel|>"),
    "seed-oss": (t.SEED_OSS, {}, "</seed:think>"),
    "gpt-oss": (t.GPT_OSS, {}, "<|channel|>final<|message|>"),
    "magistral": (t.MAGISTRAL, {}, "[/THINK]"),
}


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("name", AFTERS)
def test_the_answer_after_the_thought(name: str) -> None:
    template, variables, closing = AFTERS[name]
    chosen = sure(template).choose(AFTER, 77)
    assert chosen is not None and (chosen.way, chosen.appended, chosen.limit) == ("after", "", 77)
    assert dict(chosen.variables) == variables
    tokenizer = thinker_tokenizer(template)
    assert tokenizer.decode(list(chosen.closing_ids)) == closing
    default = sure(template).choose(AFTER)
    assert default is not None and default.limit == 1024


def test_after_is_refused_where_it_cannot_be() -> None:
    closed = t.PLAIN_CHATML.replace("assistant\\n", "assistant\\n<think></think>")
    plan = sure(closed)
    assert plan.settled is not None and plan.settled.way == "template"
    with pytest.raises(InputError, match="its chat template closes the thought; use --thinking auto"):
        plan.choose(AFTER)
    # As text, the end of a thought can be cut into tokens in many ways.
    with pytest.raises(InputError, match="'</think>', which ends its thoughts, is no token of its own"):
        sure(t.QWEN_3_THINKING, ["<|im_start|>", "<|im_end|>"]).choose(AFTER)


# --- what a run records ---


def every_way() -> list[Thinking]:
    plans = [sure(row[0]) for row in (*SETTLED.values(), *UNSURE.values())]
    plans.append(sure(t.PLAIN_CHATML.replace("assistant\\n", "assistant\\n<think></think>")))
    ways = [way for plan in plans for way in (plan.unasked, plan.left, *plan.prefills) if way is not None]
    return [*ways, *(way for plan in plans if not isinstance(plan.after, str) and (way := plan.choose(AFTER, 9)))]


@pytest.mark.slow
def test_every_way_fits_the_schemas_and_has_a_note() -> None:
    from jsonschema import Draft202012Validator

    ways = every_way()
    assert {way.way for way in ways} == set(WAYS)
    run = parse_json(schema_text("run"))["properties"]["protocol"]["properties"]["thinking"]
    experiment = parse_json(schema_text("experiment"))["$defs"]["thinking"]
    assert run["properties"]["way"]["enum"] == list(WAYS)
    for way in ways:
        for schema in (run, experiment):
            assert list(Draft202012Validator(schema).iter_errors(way.to_json())) == []
        assert way.note and "\n" not in way.note and len(way.note) < 400


def run_with(thinking: dict[str, Any] | None, version: str = "1.3") -> dict[str, Any]:
    return {"schema_version": version, "protocol": {} if thinking is None else {"thinking": thinking}}


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("name", [*SETTLED, *UNSURE])
def test_a_recorded_way_is_found_again(name: str) -> None:
    template = (SETTLED | UNSURE)[name][0]  # type: ignore[operator]
    chat, plan = chat_template(thinker_tokenizer(template)), sure(template)
    ways = [way for way in (plan.unasked, *plan.prefills, plan.left) if way is not None]
    if not isinstance(plan.after, str):
        ways += [plan.choose(AFTER, 5), plan.choose(AFTER, 6)]
    for way in ways:
        assert way is not None and recorded_thinking(chat, run_with(way.to_json())) == way


def test_nothing_is_taken_from_a_run_that_its_template_does_not_give() -> None:
    """A forged run could put the answer into the prompts of those who verify it."""
    chat = chat_template(thinker_tokenizer(t.QWEN_3_THINKING))
    true = sure(t.QWEN_3_THINKING).unasked
    assert true is not None
    for change in ({"appended": "\n</think>\n\nThe key is"}, {"variables": {"system": "x"}}, {"way": "none"}):
        with pytest.raises(InputError, match="does not match its model's chat template"):
            recorded_thinking(chat, run_with(true.to_json() | change))
    with pytest.raises(InputError, match="does not match its model's chat template"):
        recorded_thinking(chat, run_with(None))
    ordinary = chat_template(thinker_tokenizer(t.PLAIN_CHATML))
    assert recorded_thinking(ordinary, run_with(None)) is None
    with pytest.raises(InputError, match="does not match its model's chat template"):
        recorded_thinking(ordinary, run_with(true.to_json()))


@pytest.mark.slow
def test_older_runs_were_made_with_one_switch() -> None:
    found = recorded_thinking(chat_template(thinker_tokenizer(t.QWEN_3_HYBRID)), run_with(None, "1.2"))
    assert found == sure(t.QWEN_3_HYBRID).settled, "which turned the thoughts of this one off"
    found = recorded_thinking(chat_template(thinker_tokenizer(t.QWEN_3_THINKING)), run_with(None, "1.2"))
    assert found == BEFORE and dict(BEFORE.variables) == {"enable_thinking": False} and BEFORE.appended == ""
    assert recorded_thinking(chat_template(thinker_tokenizer(t.LLAMA_3)), run_with(None, "1.2")) is None


# --- small things ---


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize(
    ("choice", "limit", "why"),
    [
        ("off", None, "--thinking: unknown choice 'off'; use auto, close, after"),
        (AUTO, 100, "--thought-tokens: only works with --thinking after"),
        (AFTER, 0, "--thought-tokens: must be at least 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(choice: str, limit: int | None, why: str) -> None:
    check_choice(AFTER, None)
    with pytest.raises(InputError, match=why):
        check_choice(choice, limit)


def test_a_template_that_fails_on_an_assistants_turn_is_closed_all_the_same() -> None:
    template = "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}" + t.QWEN_3_THINKING
    settled = sure(template).settled
    assert settled is not None and settled.appended == "\n</think>\n\n"
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('never') }} <think>"
    with pytest.raises(InputError, match="use --template plain"):
        plan_thinking(chat_template(tokenizer))
