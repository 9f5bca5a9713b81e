"""Needles: the package's own, files of both forms, and everything that must be refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.data_builders.needles import (
    MAX_FILE_BYTES,
    MAX_TEXT,
    RawNeedle,
    builtin_needles,
    locate_answer,
    read_needles,
)
from rh_bench.errors import InputError
from rh_bench.scores.rouge import words

ROW = {
    "needle_id": "tea-time",
    "domain": "travel",
    "needle": "Tea in Oban is best with two old stamps.",
    "question": "What is tea in Oban best with?",
    "answer": "two old stamps",
}
RELEASED = {"needle": ROW["needle"], "question": ROW["question"], "real_needle": ROW["answer"]}


def own(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "needles.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def released(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "needles.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def changed(**fields: Any) -> dict[str, Any]:
    return {**ROW, **fields}


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_needles(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert path.name in message
    return message


# --- the package's own ------------------------------------------------------------------------------------------------


def test_there_are_many_over_many_domains() -> None:
    needles = builtin_needles()
    assert len(needles) >= 18
    assert len({needle.domain for needle in needles}) >= 6
    assert len({needle.needle_id for needle in needles}) == len(needles)


@pytest.mark.parametrize("needle", builtin_needles(), ids=lambda needle: needle.needle_id)
def test_own_needle_is_fit_to_hide(needle: RawNeedle) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", needle.needle_id)
    assert needle.needle.isascii()
    assert needle.needle.count(needle.answer) == 1
    assert 8 <= len(needle.answer.split()) <= 20
    assert needle.needle.endswith(f"{needle.answer}."), "nothing after the answer but the full stop"
    assert needle.needle.count(".") == 1, "one sentence"
    assert needle.question.endswith("?")
    asked, told = set(words(needle.question)), set(words(needle.needle[: needle.answer_start]))
    assert len(asked & told) >= 0.5 * len(told), "the question restates how the needle begins"
    assert not {word for word in words(needle.answer) if len(word) > 3} & asked, "and gives nothing away"


def test_answers_share_hardly_a_word() -> None:
    """So that a head that copies one answer cannot score on another."""
    needles = builtin_needles()
    contents = [{word for word in words(needle.answer) if len(word) > 3} for needle in needles]
    for number, one in enumerate(contents):
        assert all(len(one & other) <= 1 for other in contents[:number]), needles[number].needle_id


# --- files ------------------------------------------------------------------------------------------------------------


def test_own_form(tmp_path: Path) -> None:
    (needle,) = read_needles(own(tmp_path, ROW))
    assert needle == RawNeedle("tea-time", "travel", ROW["needle"], ROW["question"], 25, 39)
    assert needle.answer == "two old stamps"


def test_own_form_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [
        {"needle_id": n.needle_id, "domain": n.domain, "needle": n.needle, "question": n.question, "answer": n.answer}
        for n in builtin_needles()
    ]
    assert read_needles(own(tmp_path, *rows)) == builtin_needles()


def test_released_form(tmp_path: Path) -> None:
    row = {**RELEASED, "arg1": ["anything"], "answer": "not looked at", "needle_id": 7}
    path = released(tmp_path, row, {**RELEASED, "real_needle": "TWO old STAMPS"})
    path.write_text("\n" + path.read_text() + "\n\n")
    first, second = read_needles(path)
    assert (first.needle_id, second.needle_id) == ("paper-1", "paper-2")
    assert first.answer == second.answer == "two old stamps"


def test_the_released_file_itself(shared_data: Path) -> None:
    first, second, third = read_needles(shared_data / "seed" / "needles.jsonl")
    assert [needle.needle_id for needle in (first, second, third)] == ["paper-1", "paper-2", "paper-3"]
    assert first.answer.startswith("records were once again broken")
    assert second.answer == "take a walk in Chaoyang Park and have a cup of Espresso in the evening"
    assert third.answer == "because he is a mean person and also he can't ride a horse or dive a car."


# --- where the answer is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needle", "answer", "span"),
    [
        ("An Owl and an owl.", "owl", (14, 17)),  # as it is, before without regard to case
        ("An owl.", "OWL", (3, 6)),
        ("a.b a+b", "a+b", (4, 7)),  # no pattern
        ("Straße, STRASSE: weiß", "WEIß", (17, 21)),  # folding would change the length of what stands before
    ],
)
def test_located(needle: str, answer: str, span: tuple[int, int]) -> None:
    assert locate_answer(needle, answer) == span


@pytest.mark.parametrize(
    ("needle", "answer", "why"),
    [
        ("An owl and an owl.", "owl", "2 times"),
        ("An Owl and an Owl.", "owl", "2 times"),
        ("banana", "ana", "2 times"),  # occurrences that overlap count
        ("An owl.", "hawk", "does not occur"),
    ],
)
def test_not_located(needle: str, answer: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        locate_answer(needle, answer)


@given(st.text(max_size=30), st.text(min_size=1, max_size=20), st.text(max_size=30))
def test_a_located_answer_reads_the_same(before: str, answer: str, after: str) -> None:
    try:
        start, end = locate_answer(before + answer + after, answer)
    except ValueError as error:
        assert "times" in str(error)
    else:
        assert (start, end) == (len(before), len(before) + len(answer))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (changed(needle_id="Tea"), "needle_id Tea is not a valid id"),
        (changed(needle_id="tea-"), "is not a valid id"),
        (changed(needle_id="../tea"), "is not a valid id"),
        (changed(needle_id="tea\n"), "needle_id contains a control character"),
        (changed(needle_id="a" * 65), "needle_id is longer than 64"),
        (changed(needle=7), "needle is not a string"),
        (changed(question=None), "question is not a string"),
        (changed(question=" "), "question is empty"),
        (changed(answer=""), "answer is empty"),
        (changed(answer="?"), "answer has no words"),
        (changed(answer="three new stamps"), "answer does not occur in the needle"),
        (changed(answer="a"), "answer occurs 3 times"),
        (changed(answer=" two old"), "answer starts or ends with white space"),
        (changed(question="Are two OLD stamps in it?"), "the answer 'two old stamps' is in the question"),
        (changed(question="Which old stamps?"), "more than half of the words of the answer 'two old stamps' are in"),
        (changed(domain="a\x1b[31m"), "domain contains a control character"),
        (changed(needle="One\u2028two old stamps"), "needle contains a control character"),
        (changed(needle=ROW["needle"] + "x" * MAX_TEXT), "needle is longer than 2000"),
        (changed(colour="red"), "unknown field colour"),
        ({key: ROW[key] for key in ROW if key != "domain"}, "has no field domain"),
        (["needle"], "is not an object"),
        (None, "is not an object"),
    ],
)
def test_bad_row_is_refused_by_number(tmp_path: Path, row: object, why: str) -> None:
    message = refusal(own(tmp_path, changed(needle_id="good"), row))
    assert "row 2" in message
    assert why in message


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"needle": "x", "question": "y"}, "has no field real_needle"),
        ({**RELEASED, "real_needle": "three"}, "answer does not occur"),
        ({**RELEASED, "question": "Two old stamps?"}, "is in the question"),
        ({**RELEASED, "real_needle": ["two"]}, "answer is not a string"),
        ("text", "is not an object"),
        (ROW, "has no field real_needle"),
    ],
)
def test_bad_released_row_is_refused_by_line(tmp_path: Path, row: object, why: str) -> None:
    message = refusal(released(tmp_path, RELEASED, row))
    assert "line 2" in message
    assert why in message


def test_an_id_given_twice_is_refused(tmp_path: Path) -> None:
    assert "tea-time occurs twice" in refusal(own(tmp_path, ROW, ROW))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "has no needles"),
        (b"[]", "has no needles"),
        (b" \n\n", "has no needles"),
        (b"[", "not acceptable JSON"),
        (b"needle,question\n", "not acceptable JSON"),
        (b"[" * 100_000, "not acceptable JSON"),
        (b'[{"needle": "a", "needle": "b"}]', "duplicate key"),
        (b"[NaN]", "not acceptable JSON"),
        (b'{"needle": "\\ud800"}', "not acceptable JSON"),
        (b"\xff\xfe[]", "not UTF-8"),
        (b" " * (MAX_FILE_BYTES + 1), "is larger than"),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "needles.json"
    path.write_bytes(data)
    assert why in refusal(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.json")
    assert "no such file" in refusal(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "needles.json"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_needles(path)
