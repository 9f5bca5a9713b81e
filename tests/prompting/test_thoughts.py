"""How thoughts are written: where they begin and end, and which a template shows."""

from __future__ import annotations

import pytest

from rh_bench.prompting.thoughts import (
    FAMILIES,
    Markers,
    begins_thought,
    begun_notes,
    ends_with,
    mostly_thoughts,
    opens_unknown,
    tags_in,
)


@pytest.mark.parametrize("markers", FAMILIES)
def test_an_answer_that_begins_with_a_thought_is_seen(markers: Markers) -> None:
    assert begins_thought(f"\n {markers.opening}\nOkay")
    assert not begins_thought(f"The key {markers.opening}") and not begins_thought("") and not begins_thought("Think")


@pytest.mark.parametrize(
    "answer", ["<Thought>Hm", "<THINK>", " <|im_start|>think\n", "<analysis>\n", "<|inner_reasoning|>", "[Analysis]"]
)
def test_a_thought_of_an_unknown_kind_is_seen_by_its_name(answer: str) -> None:
    assert begins_thought(answer)


@pytest.mark.parametrize(
    "answer", ["<b>think</b>", "[1] reason", "The <think>", "</think>", "<|im_start|>user", "<think"]
)
def test_what_only_looks_like_one_is_not(answer: str) -> None:
    assert not begins_thought(answer)


def test_most_answers_with_thoughts_are_too_many() -> None:
    assert mostly_thoughts(["<think>", "<think>", "a"])
    assert not mostly_thoughts(["<think>", "a"]) and not mostly_thoughts([])


def test_where_a_thought_ends() -> None:
    assert ends_with((1, 2, 3), (2, 3)) and ends_with([3], [3])
    assert not ends_with((1, 2), (2, 3)) and not ends_with((), (3,)) and not ends_with((3,), (2, 3))
    assert not ends_with((1,), ())


def test_answers_that_begin_with_a_thought_are_counted() -> None:
    assert begun_notes([]) == begun_notes(["It is <think>"]) == []
    assert begun_notes(["<think>Hm", "It is", " [THINK]So"]) == [
        "2 of 3 answers begin with a thought, and count as they are"
    ]


@pytest.mark.parametrize("markers", FAMILIES)
def test_an_opened_thought_is_closed_at_once(markers: Markers) -> None:
    opened = "<|im_start|>assistant\n" + markers.opening
    assert (opened + markers.close(opened)).endswith(markers.empty)
    begun = opened + markers.lead
    assert not markers.lead or (begun + markers.close(begun)).endswith(markers.empty)
    assert markers.close(opened + "Well") == markers.tail + markers.closing + markers.gap


def test_what_is_opened_inside_a_thought_is_closed_first() -> None:
    think = Markers("<think>", "</think>", "", "", "")
    assert think.close("<b>Q <think><plan><a>x</a><step>") == "</step></plan></think>"


def test_tags_are_read_off_a_template() -> None:
    source = "<my_reasoning> </my_reasoning> [DEEP_THOUGHT] [/DEEP_THOUGHT] <thinker> <b> </b> [THE] [/THE]"
    assert [(one.opening, one.closing) for one in tags_in(source)] == [
        ("<my_reasoning>", "</my_reasoning>"),
        ("[DEEP_THOUGHT]", "[/DEEP_THOUGHT]"),
    ]


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("assistant\n<|think|>", "<|think|>"),
        ("<scratchpad>\n", "<scratchpad>"),
        ("[REASON]", "[REASON]"),
        ("<|im_start|>assistant\n", None),
        ("</think>\n", None),
        ("[/THINK]", None),
        ("think", None),
        ("<think> so", None),
    ],
)
def test_what_looks_like_the_beginning_of_a_thought(prompt: str, found: str | None) -> None:
    assert opens_unknown(prompt) == found
