"""Chat templates: the same bytes on every day, and all of the text or one line that says so."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import transformers.utils.chat_template_utils as transformers_templates
from templates import DATED, GEMMA_2, LLAVA, MAGISTRAL, MISTRAL_SMALL_3, PLAIN_CHATML, SMOLVLM
from thinkers import thinker_tokenizer
from tiny import tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from rh_bench.errors import InputError
from rh_bench.prompting.chat import DATE, chat_template, choose_template

ASKED = [{"role": "user", "content": "What is\n <b>it</b>?"}]
TALK = [*ASKED, {"role": "assistant", "content": "A stone."}, {"role": "user", "content": "And that?"}]
DAY = datetime(2024, 7, 26)


def on_day(patch: pytest.MonkeyPatch, day: datetime) -> None:
    """Let transformers believe that it is another day."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return day

    patch.setattr(transformers_templates, "datetime", Clock)


def as_transformers(tokenizer: Any, messages: Any, **variables: Any) -> str:
    """What the template's users get, without any help of ours."""
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables))


# --- dates ---


@pytest.mark.parametrize("directive", DATE)
def test_the_fixed_moment_is_what_strftime_writes(directive: str) -> None:
    if directive == "%s":  # seconds since 1970, of the machine's own time zone in strftime
        assert datetime.fromtimestamp(int(DATE["%s"])).date() in (DAY.date(), datetime(2024, 7, 25).date())
    else:
        assert DATE[directive] == DAY.strftime(directive)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", DATED)
@pytest.mark.parametrize("messages", [ASKED, TALK], ids=["one", "three"])
def test_a_template_prints_the_fixed_day_on_every_day(
    name: str, messages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = thinker_tokenizer(DATED[name])
    texts = set()
    for day in (datetime(2023, 1, 2, 3, 4), datetime(2031, 12, 30, 23, 59)):
        on_day(monkeypatch, day)
        texts.add(chat_template(tokenizer).render(messages))
    (text,) = texts
    # Byte for byte what transformers makes of it on that day: nothing but the clock was changed.
    on_day(monkeypatch, DAY)
    assert text == as_transformers(tokenizer, messages)
    on_day(monkeypatch, datetime(2031, 12, 30))
    assert text != as_transformers(tokenizer, messages), "the template does print the date"


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    ("asked", "printed"),
    [
        ("{{ strftime_now('%d %B %Y') }}", "26 July 2024"),
        ("{{ strftime_now(format='%A, %-d.%-m.') }}", "Friday, 26.7."),
        ("{{ strftime_now('100%%d at %H:%M %p') }}", "100%d at 00:00 AM"),
        ("{{ strftime_now('%Y-%m-%d').split('-')[0] }}", "2024"),
        ("{% if strftime_now is defined %}{{ strftime_now('%F') }}{% endif %}", "2024-07-26"),
        ("{% set when = strftime_now %}{{ when('%x') }}", "07/26/24"),
        ("{% macro head() %}{{ strftime_now('%b') }}{% endmacro %}{{ head() }}", "Jul"),
        ("{% for m in messages %}{{ strftime_now('%j') }}{% endfor %}", "208"),
        ("{{ date_string }}", "26 Jul 2024"),
        ("{{ date_string | default(strftime_now('%d')) }}", "26 Jul 2024"),
        ("{{ today | default(strftime_now('%d %b')) }}", "26 Jul"),
        ("{{ strftime_now('no directive') }}", "no directive"),
    ],
)
def test_every_way_to_ask_for_the_date(asked: str, printed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = asked + " {{ messages[0]['content'] }}"
    on_day(monkeypatch, datetime(1999, 1, 1))
    assert chat_template(tokenizer).render([{"role": "user", "content": "Hi"}]) == f"{printed} Hi"


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    "start", ["\n  {%- if true %}", "  {% if true %}", "\n\n{% if true %}", "x\n{% if true %}", "{# c #}\n  "]
)
def test_a_templates_own_white_space_is_kept(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    end = "{% endif %}" if "if" in start else ""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = start + "\n {{ strftime_now('%Y') }}\n  {{ messages[0]['content'] }}" + end
    on_day(monkeypatch, DAY)
    assert chat_template(tokenizer).render(ASKED) == as_transformers(tokenizer, ASKED)


def test_a_special_token_of_that_name_does_not_take_the_clocks_place() -> None:
    taken = {"strftime_now": "<pad>", "date_string": "<pad>"}
    backend = tiny_tokenizer().backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=taken)
    assert tokenizer.special_tokens_map["strftime_now"] == "<pad>"
    tokenizer.chat_template = "{{ strftime_now('%Y') }} {{ date_string }} {{ messages[0]['content'] }}"
    assert chat_template(tokenizer).render([{"role": "user", "content": "Hi"}]) == "2024 26 Jul 2024 Hi"


@pytest.mark.parametrize(
    "chance", ["{{ ['a', 'b'] | random }}", "{{ [[1, 2]] | map('random') | join }}", "{{ lipsum() }}"]
)
def test_a_template_that_prints_at_random_is_refused(chance: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = chance + "{{ messages[0]['content'] }}"
    with pytest.raises(InputError, match="at random; use --template plain"):
        chat_template(tokenizer)


# --- the form of messages ---


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("template", [SMOLVLM, LLAVA], ids=["fails on text", "drops text"])
@pytest.mark.parametrize("messages", [ASKED, TALK], ids=["one", "three"])
def test_typed_parts_are_given_to_a_template_that_wants_them(template: str, messages: Any) -> None:
    tokenizer = thinker_tokenizer(template)
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    text = chat_template(tokenizer).render(messages)
    assert text == as_transformers(tokenizer, parts)
    assert all(message["content"] in text for message in messages)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("template", [PLAIN_CHATML, MAGISTRAL, GEMMA_2, MISTRAL_SMALL_3])
def test_text_is_given_as_text_where_that_works(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on_day(monkeypatch, DAY)
    tokenizer = thinker_tokenizer(template)
    assert chat_template(tokenizer).render(ASKED) == as_transformers(tokenizer, ASKED)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ messages[0]['content'] | upper }}", "drops or changes the text of the user"),
        ("{{ messages[0]['content'] | replace('\\n', ' ') }}", "drops or changes"),
        ("{{ messages[0]['content'] | e }}", "drops or changes"),
        ("{{ messages[0]['content'] | tojson }}", "drops or changes"),
        ("{{ messages[0]['content'][:5] }}", "drops or changes"),
        ("{{ messages }}", "drops or changes"),
        ("Hello!", "drops or changes"),
        ("{{ messages[0]['content'] * 2 }}", "exactly once"),
        ("{{ messages[0].content }}{% for m in messages %}{{ m.content }}{% endfor %}", "exactly once"),
        ("{{ nothing.at.all }}", "fails on one message of the user"),
        ("{{ raise_exception('no\nway') }}", r"TemplateError: no\\u000away"),
        ("{% if %}", "fails on one message of the user"),
    ],
)
def test_a_template_that_does_not_print_the_text_is_refused(template: str, why: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=why + ".*use --template plain") as caught:
        chat_template(tokenizer).render(ASKED)
    assert str(caught.value).isprintable()


def test_a_turn_that_is_left_out_or_moved_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    for template in ("{{ messages[-1].content }}", "{% for m in messages | reverse %}{{ m.content }}{% endfor %}"):
        tokenizer.chat_template = template
        with pytest.raises(InputError, match="drops or changes"):
            chat_template(tokenizer).render(TALK)


def test_outer_white_space_may_go_and_equal_turns_may_come_twice() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"
    twice = [{"role": "user", "content": " Why? "}, {"role": "assistant", "content": "So."}] * 2
    assert chat_template(tokenizer).render(twice) == "[Why?][So.][Why?][So.]"


# --- which template ---


def test_of_several_templates_the_default_one_is_used() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = {"default": PLAIN_CHATML, "tool_use": "tools only"}
    assert chat_template(tokenizer).source == PLAIN_CHATML
    tokenizer.chat_template = {"rag": PLAIN_CHATML, "tool_use": "tools only"}
    with pytest.raises(InputError, match="cannot be loaded.*use --template plain"):
        choose_template(tokenizer, "auto")
    assert choose_template(tokenizer, "plain") is None


def test_which_template_is_chosen() -> None:
    assert choose_template(tiny_tokenizer(), "auto") is None
    assert choose_template(tiny_tokenizer(chat=True), "auto") is not None
    assert choose_template(tiny_tokenizer(chat=True), "plain") is None
    with pytest.raises(InputError, match="no chat template"):
        choose_template(tiny_tokenizer(), "chat")
    with pytest.raises(InputError, match="unknown template 'poem'"):
        choose_template(tiny_tokenizer(chat=True), "poem")
