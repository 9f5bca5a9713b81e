"""Answers that can be had without the needle are refused wherever needles come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.needles import RawNeedle, builtin_needles
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.records import Needle
from rh_bench.sets.grids import Grid
from rh_bench.sets.leaks import question_problem, refuse_given_away


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("the brass key", "Where is the brass key hidden?"),
        ("the brass key", "Is it THE\nBrass   KEY?"),  # neither case nor line breaks matter
        ("half past six", "Is it at half-past-six?"),  # nor punctuation
        ("a 1", "Which is right, A) 1 or B) 2?"),
        ("Straße", "Liegt es an der STRASSE?"),
        ("第三级台阶", "罗盘在第三级台阶下面吗？"),  # writing without spaces
    ],
)
def test_an_answer_that_stands_in_the_question_is_told(answer: str, question: str) -> None:
    assert "is in the question" in (question_problem(question, answer) or "")


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("Rome", "Which of Romeo's homes was the last?"),  # a part of a word is no word
        ("7", "In which month of 2007?"),
        ("brass key", "Which key is of brass?"),
    ],
)
def test_words_are_compared_whole_and_in_their_order(answer: str, question: str) -> None:
    assert "is in the question" not in (question_problem(question, answer) or "")


def test_a_question_that_would_count_as_its_own_answer_is_told() -> None:
    """A response that repeats the question has a ROUGE-1 recall of 2/3, of 1/2, of nothing."""
    assert "more than half" in (question_problem("Which door has the key?", "the red door") or "")
    assert question_problem("Which door?", "red door") is None
    assert question_problem("What is it?", "seven walnuts") is None


def test_no_needle_of_ours_gives_its_answer_away() -> None:
    assert [n.needle_id for n in builtin_needles() if question_problem(n.question, n.answer)] == []


def needle(question: str, answer: str = "seven walnuts") -> Needle:
    text = f"The tin box holds {answer}."
    return Needle("box", "d", text, question, text.index(answer), text.index(answer) + len(answer), "h")


def test_both_places_are_looked_at() -> None:
    refuse_given_away({"h": "Plain text."}, {"box": needle("What is in the box?")})
    with pytest.raises(InputError, match="box: the answer 'seven walnuts' is already in haystack 'h'"):
        refuse_given_away({"h": "He had Seven\n Walnuts."}, {"box": needle("What is in the box?")})
    with pytest.raises(InputError, match="box: the answer 'seven walnuts' is in the question; ask without"):
        refuse_given_away({"h": "Plain text."}, {"box": needle("Are there seven walnuts in it?")})


def test_build_refuses_it_however_the_needles_came(tmp_path: Path) -> None:
    given = needle("Are there seven walnuts in it?")
    raw = RawNeedle("box", "d", given.needle, given.question, given.answer_start, given.answer_end)
    recipe = Recipe(parse_source("synthetic"), Grid("custom", (300,), (0.0,), needles=1, haystacks=1), needles=(raw,))
    with pytest.raises(InputError, match="box: the answer 'seven walnuts' is in the question"):
        build_set(recipe, tmp_path / "set")
    assert not (tmp_path / "set").exists()
