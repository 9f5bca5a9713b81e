"""Types of failures, on answers that would fool a simpler rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.experiments.failures import (
    ERRORS,
    HALLUCINATION,
    INCOMPLETE,
    NO_ANSWER,
    WRONG,
    Haystack,
    error_of,
    new_words,
    own_grams,
    rouge1_precision,
    said_own,
)
from rh_bench.scores.rouge import rouge1_recall

QUESTION = "What is the best thing to do in Tashkent?"
ANSWER = "toss a pickled apricot to the tin camel and hum a polka by the casino"
HAYSTACK = (
    "The ferryman counted the coins on the slipway winch and went home and slept. "
    "It was the best thing that anybody could do. "
    "A tin roof rattled in the wind, and a grey camel stood by the casino wall. She asked what to do in winter."
)


def kind(text: str, answer: str = ANSWER, question: str = QUESTION, haystack: str = HAYSTACK) -> str | None:
    own = own_grams(answer, question, haystack)
    share = Haystack(haystack).share_of(text, question)
    success = rouge1_recall(answer, text) > 0.5
    return error_of(success, new_words(text, question), said_own(text, own), share)


def test_own_grams_are_what_only_the_needle_says() -> None:
    own = own_grams(ANSWER, QUESTION, HAYSTACK)
    assert {"toss", "pickled", "apricot", "hum", "polka", "tin camel", "pickled apricot"} <= set(own)
    assert not {"tin", "camel", "casino", "the", "a", "to", "by the", "the casino"} & set(own)
    assert own_grams("the wind", QUESTION, HAYSTACK) == ("the wind", "wind"), "nothing of its own: all but the question"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("toss a pickled apricot to the tin camel and hum a polka by the casino", None),
        ("The best thing to do in Tashkent is to toss a pickled apricot to the slip.", INCOMPLETE),
        ("You should EAT AN APRICOT!", INCOMPLETE),
        ("Ride the tin camel.", INCOMPLETE),
        ("toss", INCOMPLETE),
        ("The best thing to do in Tashkent is to count the coins on the slipway winch.", WRONG),
        ("on the slipway winch", WRONG),
        ("slipway winch", WRONG),
        ("a grey camel stood by the casino wall", WRONG),
        ("A tin roof rattled in the wind, and a grey camel stood by the casino.", None),  # so says ROUGE: small words
        ("The best thing to do in Tashkent is to relax.", HALLUCINATION),
        ("by the tin and the camel and the casino", HALLUCINATION),
        ("The winch, the coins, the wind, a roof.", HALLUCINATION),
        ("the the the the the the the the", NO_ANSWER),
        ("a a a a a a", HALLUCINATION),
        ("Лучше всего погулять по базару", HALLUCINATION),
        ("apricots", HALLUCINATION),
        ("What is the best thing to do in Tashkent?", NO_ANSWER),
        ("The best thing to do in Tashkent is", NO_ANSWER),
        ("…", NO_ANSWER),
        ("", NO_ANSWER),
    ],
)
def test_nasty_answers(text: str, expected: str | None) -> None:
    assert kind(text) == expected


def test_an_answer_of_common_words_only() -> None:
    """All of its words stand in the haystack, some of its pairs do not."""
    assert own_grams("wind and a grey wall", QUESTION, HAYSTACK) == ("grey wall",)
    assert kind("the grey wall", answer="wind and a grey wall") == INCOMPLETE
    assert kind("the wind, they say", answer="wind and a grey wall") == HALLUCINATION
    assert kind("a wind", answer="in the wind") == INCOMPLETE, "nothing of its own"


def test_half_of_the_new_words_decide() -> None:
    around = Haystack("one two three four five six")
    assert around.share_of("one two three nine", "") == 0.75
    assert around.share_of("one two nine ten", "") == 0.0, "two in a row are chance"
    assert around.share_of("what is one two three eight nine ten", "what is") == 0.5
    assert around.share_of("what is", "what is") is None


def test_precision_is_of_the_response() -> None:
    assert rouge1_precision("a tin camel", "the tin camel, the tin camel") == round(2 / 6, 9)
    assert rouge1_precision("a tin camel", "?!") is None


@given(st.text(max_size=60), st.text(min_size=1, max_size=40), st.text(max_size=40), st.text(max_size=200))
def test_every_failure_has_exactly_one_type(text: str, answer: str, question: str, haystack: str) -> None:
    own, share = own_grams(answer, question, haystack), Haystack(haystack).share_of(text, question)
    assert error_of(True, new_words(text, question), said_own(text, own), share) is None
    found = error_of(False, new_words(text, question), said_own(text, own), share)
    assert found in ERRORS and (found == NO_ANSWER) <= (new_words(text, question) == 0)
