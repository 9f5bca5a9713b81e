"""ROUGE-1 recall: worked cases, any script, and what must always hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.scores.rouge import rouge1_recall, succeeds, words

TEXT = st.text(max_size=40)


@pytest.mark.parametrize(
    ("answer", "response", "recall"),
    [
        ("eat a sandwich", "Eat a SANDWICH and sit.", 1.0),
        ("eat a sandwich", "a sandwich", 2 / 3),
        ("eat a sandwich", "", 0.0),
        ("the cat and the dog", "the the the", 2 / 5),  # clipped: the answer has two
        ("the", "the the the", 1.0),
        ("sandwiches", "sandwich", 0.0),  # no stemmer
        ("well-known, isn't it?", "well known isn t it", 1.0),
        ("snake_case", "snake case", 1.0),
        ("STRASSE", "straße", 1.0),
        ("cafe\u0301", "café", 1.0),
        ("１２ ﬁne", "12 fine", 1.0),  # full-width digits and a ligature
    ],
)
def test_worked_cases(answer: str, response: str, recall: float) -> None:
    assert rouge1_recall(answer, response) == pytest.approx(recall, abs=1e-15)


def test_words_of_other_scripts_stay_whole() -> None:
    assert words("हिन्दी, Ελλάς; مُدَرِّس 東京 42") == ["हिन्दी", "ελλάσ", "مُدَرِّس", "東京", "42"]


@pytest.mark.parametrize("answer", ["", "  ", "?!", "_"])
def test_answer_without_words_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="no words"):
        rouge1_recall(answer, "something")


@given(TEXT.filter(words), TEXT)
def test_within_bounds(answer: str, response: str) -> None:
    assert 0.0 <= rouge1_recall(answer, response) <= 1.0


@given(TEXT.filter(words), TEXT)
def test_response_that_holds_the_answer_recalls_it_all(answer: str, rest: str) -> None:
    assert rouge1_recall(answer, f"{rest} {answer}") == 1.0


@given(TEXT.filter(words), TEXT, TEXT)
def test_saying_more_never_lowers_recall(answer: str, response: str, more: str) -> None:
    assert rouge1_recall(answer, f"{response} {more}") >= rouge1_recall(answer, response)


@given(st.lists(st.sampled_from("abcd"), min_size=1), st.lists(st.sampled_from("abcd")))
def test_order_of_words_does_not_matter(answer: list[str], response: list[str]) -> None:
    shuffled = sorted(response)
    assert rouge1_recall(" ".join(answer), " ".join(response)) == rouge1_recall(" ".join(answer), " ".join(shuffled))


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_short_way_for_ascii_gives_the_words_of_the_long_one(text: str) -> None:
    # A letter outside ASCII, a word of its own, takes the whole text the long way.
    assert [*words(text), "é"] == words(text + " é")


@pytest.mark.parametrize(("recall", "counts"), [(0.0, False), (0.5, False), (0.5 + 2**-50, True), (1.0, True)])
def test_half_of_the_words_is_not_enough(recall: float, counts: bool) -> None:
    assert succeeds(recall) is counts
    assert succeeds(recall, 0.5) is counts
