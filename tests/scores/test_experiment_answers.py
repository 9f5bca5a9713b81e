"""Answers taken from nasty responses, and how right they are."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.scores.answers import (
    exact_match,
    extract_choice,
    extract_number,
    extract_words,
    normalise,
    number_text,
    token_f1,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 18", "18"),
        ("#### 5.", "5"),
        ("####5", "5"),
        ("####\n5", "5"),
        ("6 + 7 = 13\n#### 13\n\nThen 99 more.", "13"),
        ("#### 1,234,567", "1234567"),
        ("#### $70,000.00", "70000"),
        ("#### 3 + 4 = 7", "7"),
        ("#### unknown, though 12 was given", "12"),
        ("There were 12. #### none", None),
        ("The answer is 42.", "42"),
        ("The answer is: 42 dollars and 50 minutes.", "42"),
        ("The answer is $1,000.", "1000"),
        ("The answer is €3.50!", "3.5"),
        ("The answer is -7.", "-7"),
        ("The answer is −7 °C.", "-7"),
        ("The answer is -$7.", "-7"),
        ("The answer is $-7.", "-7"),
        ("The answer is 10-3 = 7.", "7"),
        ("The answer is 5 + 3 = 8 apples.", "8"),
        ("The answer is $5 × 3 = 10 + 5 = $15", "15"),
        ("The answer is 10, since x = 2 doubled five times.", "10"),
        ("The answer is 3/4.", "0.75"),
        ("The answer is 2/6 of it.", "1/3"),
        ("The answer is 2 1/2 hours.", "2.5"),
        ("The answer is 1/0.", None),
        ("The answer is 20%.", "20"),
        ("The answer is .5 litres.", "0.5"),
        ("The answer is 0.50.", "0.5"),
        ("The answer is 007.", "7"),
        ("The answer is 5 km/h.", "5"),
        ("The answer, therefore, is 12.", "12"),
        ("The answer to the question of the 3 ducks is 9 eggs.", "9"),
        ("FINAL ANSWER: **64**", "64"),
        ("Answer: 8", "8"),
        ("Answer: 8 dollars for 3 hours", "8"),
        ("**Answer:** $8 for 3 hours", "8"),
        ("Answer: Mira packs 6 crates of 8 jars, so she has 48 jars", "48"),
        ("Answer: Mira packs 6 * 8 = 48 jars. The answer is 48, not 50.", "48"),
        ("The answer is 5. Wait, no. The answer is 6.", "6"),
        ("The answer is 5. The answer is", "5"),
        ("The answer is between 5 and 6.", "5"),
        ("So \\boxed{18} it is, as 2 would not do.", "18"),
        ("$\\boxed{\\text{18 dollars}}$", "18"),
        ("\\boxed{\\frac{3}{4}}", "0.75"),
        ("It is \\boxed{1{,}000}.", "1000"),
        ("It costs \\$18.", "18"),
        ("Janet has 16 eggs, eats 3, so 13 are left.", "13"),
        ("How many eggs does she sell for $2? She sells 9 eggs and makes 18 dollars", "18"),
        ("She makes $1,200.", "1200"),
        ("5-3", "3"),
        ("- 5 apples", "5"),
        ("version 1.2.3", "3"),
        ("1,2345", "2345"),
        ("On 3/4/2020 it rained.", "2020"),
        ("one two three", None),
        ("I cannot answer this question.", None),
        ("", None),
        ("   \n\n ", None),
        ("The answer is " * 200, None),
        ("The answer is 7. " * 200, "7"),
        ("9" * 500, None),
        ("The answer is 5 and " + "1" * 40, "5"),
        ("The answer is ٣.", "3"),
    ],
)
def test_numbers(text: str, number: str | None) -> None:
    assert extract_number(text) == number


# At most 19 decimal places then, and no more digits in all than are read.
@given(st.fractions(-(10**9), 10**9, max_denominator=10**6))
def test_a_number_is_read_as_it_is_written(value: Fraction) -> None:
    text = number_text(value)
    assert Fraction(text) == value
    if value.denominator == 1 or "/" not in text:
        assert extract_number(f"The answer is {text}.") == text


@given(st.text(alphabet=st.sampled_from("0123456789.,-−$€/ \n#=\\{}boxedfracth answeris:()AB*'")))
def test_any_text_is_read_without_failing(text: str) -> None:
    for found in (extract_number(text), extract_choice(text, 4), extract_words(text)):
        assert found is None or found
    assert extract_choice(text, 4) in {None, "A", "B", "C", "D"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("b)", "B"),
        (" (b) because", "B"),
        ("**C**", "C"),
        ("D: the last one", "D"),
        ("The answer is (B).", "B"),
        ("The answer is B.", "B"),
        ("The answer is: **C**", "C"),
        ("The answer is \\boxed{D}.", "D"),
        ("The answer is $\\text{(D)}$", "D"),
        ("The answer is option D.", "D"),
        ("The correct option is C, not (A).", "C"),
        ("The correct choice is (b).", "B"),
        ("Answer: A", "A"),
        ("Answer: A) the cell", "A"),
        ("(A) is wrong and (B) is wrong, so the answer is (C).", "C"),
        ("The answer is (A). No: the answer is (D).", "D"),
        ("The answer is (A). The answer is", "A"),
        ("A cell has a wall. (A) no, (C) yes", "C"),
        ("A cat is not a dog, so D", "D"),
        ("A good reason speaks for C here", "C"),
        ("It is either B or C", None),
        ("The answer is Berlin.", None),
        ("The answer is a mammal.", None),
        ("The answer is A mammal.", None),
        ("The answer is E.", None),
        ("Because D'Artagnan said so", None),
        ("I don't know.", None),
        ("", None),
        ("B " * 300, "B"),
        ("Vitamin C and vitamin D", None),
    ],
)
def test_letters(text: str, letter: str | None) -> None:
    assert extract_choice(text, 4) == letter


def test_only_the_letters_on_offer_are_read() -> None:
    assert extract_choice("The answer is (F).", 6) == "F" and extract_choice("The answer is (F).", 4) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Paris", "Paris"),
        ("\n Paris.\nQuestion: and then?", "Paris"),
        ('"the tin camel"', "the tin camel"),
        ("“Paris”.", "Paris"),
        ("He was born in Ulm. Ulm is in Germany. So the answer is Germany.", "Germany"),
        ("The answer is: Germany\nMore.", "Germany"),
        ("Answer: **Germany**", "Germany"),
        ("The answer is Rome. The answer is Athens.", "Athens"),
        ("I do not know.", "I do not know"),
        ("The answer is", None),
        ("", None),
        (" . ", None),
    ],
)
def test_words(text: str, words: str | None) -> None:
    assert extract_words(text) == words


def test_normalising_is_that_of_squad() -> None:
    assert normalise(" The  Tin-Camel, a 'pet' of an\tantelope! ") == "tincamel pet of antelope"
    assert normalise("theatre and anthem") == "theatre and anthem"
    assert normalise("the") == "" and normalise("«Ça»") == "«ça»"


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("The tin camel.", ["tin camel"], True, 1.0),
        ("a tin camel", ["the camel"], False, 2 / 3),
        ("camel camel", ["camel"], False, 2 / 3),
        ("a camel of tin", ["ox", "tin camel"], False, 0.8),
        ("horse", ["camel"], False, 0.0),
        ("the", ["an"], True, 1.0),
        ("", ["camel"], False, 0.0),
        ("1912", ["1912", "the year 1912"], True, 1.0),
    ],
)
def test_exact_match_and_f1(answer: str, references: list[str], exact: bool, f1: float) -> None:
    assert exact_match(answer, references) is exact
    assert token_f1(answer, references) == pytest.approx(f1)
