"""Question files in the official formats, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rh_bench.sets.tasks as tasks
from rh_bench.errors import InputError
from rh_bench.scores.answers import extract_number
from rh_bench.sets.tasks import TASKS, Question, choose_questions, read_task, row_question

GSM8K = {"question": "Two and three?", "answer": "2+3=<<2+3=5>>5\n#### 5"}
MMLU = {"question": "Which?", "choices": ["w", "x", "y", "z"], "answer": 2, "subject": "virology"}
PARAGRAPHS = [
    {"idx": 0, "title": "Ulm", "paragraph_text": "Ulm is on the Danube.", "is_supporting": True},
    {"idx": 1, "title": "Rome", "paragraph_text": "Rome is old.", "is_supporting": False},
]
MUSIQUE = {
    "id": "2hop__1_2",
    "paragraphs": PARAGRAPHS,
    "question": "On which river?",
    "answer": "Danube",
    "answer_aliases": ["the Danube", "Danube"],
    "answerable": True,
}
OWN = {"question": "What river?", "passage": "Ulm is on the Danube.", "answers": ["Danube"]}
SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Ulm",
            "paragraphs": [
                {
                    "context": "Ulm is on the Danube.",
                    "qas": [
                        {"id": "q1", "question": "Where?", "answers": [{"text": "on the Danube", "answer_start": 7}]},
                        {"id": "q2", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}
ROWS: dict[str, dict[str, Any]] = {"gsm8k": GSM8K, "mmlu": MMLU, "musique": MUSIQUE, "extractive": OWN}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_gsm8k(tmp_path: Path) -> None:
    big = {"question": "How much?", "answer": "much\n#### 70,000"}
    data = read_task("gsm8k", lines(tmp_path / "test.jsonl", GSM8K, big))
    assert data.questions == (
        Question("gsm8k-0", "Two and three?", ("5",)),
        Question("gsm8k-1", "How much?", ("70000",)),
    )
    assert data.source["kind"] == "file" and data.source["name"] == "test.jsonl" and len(data.source["sha256"]) == 64
    assert data.source["left_out"] == 0 and data.source["revision"] is None


def test_mmlu_as_lines_csv_and_folder(tmp_path: Path) -> None:
    expected = Question("virology-0", "Which?", ("C",), "", ("w", "x", "y", "z"), "virology")
    assert read_task("mmlu", lines(tmp_path / "rows.jsonl", MMLU)).questions == (expected,)
    folder = tmp_path / "test"
    folder.mkdir()
    (folder / "virology_test.csv").write_text('Which?,w,x,y,z,C\n\n"Why, oh\n""why""?",1,"2,5",3,4,A\n')
    (folder / "anatomy_test.csv").write_text("Where?,w,x,y,z,B\n")
    one = read_task("mmlu", folder / "virology_test.csv").questions
    assert one[0] == expected
    assert (
        one[1].question == 'Why, oh\n"why"?' and one[1].choices == ("1", "2,5", "3", "4") and one[1].answers == ("A",)
    )
    assert [q.item_id for q in read_task("mmlu", folder).questions] == ["anatomy-0", "virology-0", "virology-1"]


def test_musique_leaves_out_what_has_no_answer(tmp_path: Path) -> None:
    data = read_task("musique", lines(tmp_path / "dev.jsonl", MUSIQUE, {**MUSIQUE, "id": "x", "answerable": False}))
    (question,) = data.questions
    assert question.answers == ("Danube", "the Danube") and question.group == "2hop"
    assert question.passage == "Ulm: Ulm is on the Danube.\n\nRome: Rome is old."
    assert data.source["left_out"] == 1


def test_squad_and_our_own_form(tmp_path: Path) -> None:
    (tmp_path / "dev-v2.0.json").write_text(json.dumps(SQUAD))
    data = read_task("extractive", tmp_path / "dev-v2.0.json")
    assert data.questions == (Question("q1", "Where?", ("on the Danube",), "Ulm is on the Danube.", (), "Ulm"),)
    assert data.source["left_out"] == 1
    hub = {"id": "q9", "title": "Ulm", "context": OWN["passage"], "question": "?", "answers": {"text": ["Danube"]}}
    own = read_task("extractive", lines(tmp_path / "own.jsonl", OWN, hub)).questions
    assert [q.item_id for q in own] == ["extractive-0", "q9"] and own[1].passage == own[0].passage
    nothing = row_question("extractive", {**hub, "answers": {"text": [], "answer_start": []}}, 0, "row 0")
    assert nothing is None


def without(task: str, field: str) -> dict[str, Any]:
    return {key: value for key, value in ROWS[task].items() if key != field}


@pytest.mark.parametrize(
    ("task", "row", "said"),
    [
        ("gsm8k", [], "is not a JSON object"),
        ("gsm8k", without("gsm8k", "question"), "field 'question' is missing"),
        ("gsm8k", {**GSM8K, "question": 3}, "field 'question' must be a string"),
        ("gsm8k", {**GSM8K, "question": "  "}, "field 'question' must be a string"),
        ("gsm8k", {**GSM8K, "question": "x" * 20_001}, "more than 20000 characters"),
        ("gsm8k", {**GSM8K, "question": "a\x1b[2Jb"}, "control character"),
        ("gsm8k", {**GSM8K, "answer": "five"}, "does not end with '#### N'"),
        ("gsm8k", {**GSM8K, "answer": "so\n#### five"}, "does not end with '#### N'"),
        ("mmlu", {**MMLU, "choices": ["a"]}, "a list of 2 to 8 strings"),
        ("mmlu", {**MMLU, "choices": "abcd"}, "a list of 2 to 8 strings"),
        ("mmlu", {**MMLU, "choices": ["a", 2]}, "field 'choices' must be a string"),
        ("mmlu", {**MMLU, "answer": 4}, "must be one of A, B, C, D"),
        ("mmlu", {**MMLU, "answer": True}, "must be one of A, B, C, D"),
        ("mmlu", {**MMLU, "answer": "AB"}, "must be one of A, B, C, D"),
        ("mmlu", {**MMLU, "answer": ""}, "must be one of A, B, C, D"),
        ("musique", {**MUSIQUE, "paragraphs": []}, "a list of 1 to 200 objects"),
        ("musique", {**MUSIQUE, "paragraphs": ["x"]}, "must contain objects"),
        ("musique", {**MUSIQUE, "paragraphs": [{"title": "x"}]}, "field 'paragraph_text' is missing"),
        ("musique", {**MUSIQUE, "answer_aliases": 5}, "field 'answer_aliases'"),
        ("musique", {**MUSIQUE, "answer": None}, "field 'answers' must be a string"),
        ("musique", {**MUSIQUE, "answer_aliases": ["x"] * 200}, "more than 100 answers"),
        ("musique", {**MUSIQUE, "id": "a\nb"}, "an id must be one line"),
        ("extractive", {**OWN, "answers": "Danube"}, "field 'answers' must be a list"),
        ("extractive", {**OWN, "answers": ["the"]}, "have no words"),
        ("extractive", {**OWN, "answers": ["Rhine"]}, "is in its passage"),
        ("extractive", without("extractive", "passage"), "field 'passage' is missing"),
    ],
)
def test_a_bad_row_is_one_line_with_file_and_line(tmp_path: Path, task: str, row: object, said: str) -> None:
    path = lines(tmp_path / "bad.jsonl", ROWS[task], row)
    with pytest.raises(InputError, match=r"bad\.jsonl:2: .*" + said.replace("(", r"\(")) as caught:
        read_task(task, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.jsonl", b"", "has no questions"),
        ("x.jsonl", b"\n\n", "has no questions"),
        ("x.jsonl", b"{\n", "x.jsonl:1: is not acceptable JSON"),
        ("x.jsonl", b'{"a": 1, "a": 2}\n', "duplicate key"),
        ("x.jsonl", b"\xff\n", "x.jsonl:1: is not UTF-8"),
        ("x.jsonl", b"[" * 100_000, "x.jsonl:1: is not acceptable JSON"),
        ("x.csv", b"a,b,c\n", "x.csv:1: has 3 columns"),
        ("x.csv", b'q,1,2,3,4,A\n"q,1,2,3,4,A\n', "x.csv:2: is not acceptable CSV"),
        ("x.csv", b"q,1,2,3,4,F\n", "x.csv:1: field 'answer'"),
        ("x.csv", b"q,1,2,3,,A\n", "x.csv:1: field 'choices' must be a string"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        read_task("mmlu", tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "field 'data' must be a list"),
        ({"data": [3]}, "/data/0: field 'paragraphs' must be a list"),
        ({"data": [{"paragraphs": [{"qas": [3]}]}]}, "/data/0/paragraphs/0/qas/0: is not a JSON object"),
        ({"data": [{"paragraphs": [{"qas": [{"answers": 3}]}]}]}, "field 'answers' must be a list of objects"),
        ({"data": [{"paragraphs": [{"qas": [{"answers": [{"text": "x"}]}]}]}]}, "field 'context' must be a string"),
    ],
)
def test_a_bad_squad_file_says_where(tmp_path: Path, document: object, said: str) -> None:
    (tmp_path / "squad.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=said):
        read_task("extractive", tmp_path / "squad.json")


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "many.jsonl", *[GSM8K] * 30)
    monkeypatch.setattr(tasks, "MAX_QUESTIONS", 20)
    with pytest.raises(InputError, match="more than 20 questions"):
        read_task("gsm8k", path)
    monkeypatch.setattr(tasks, "MAX_LINE", 50)
    with pytest.raises(InputError, match=r"many\.jsonl:1: is longer than 50 bytes"):
        read_task("gsm8k", path)


def test_ids_are_unique_and_files_are_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"twice\.jsonl:2: the id '2hop__1_2' occurs twice"):
        read_task("musique", lines(tmp_path / "twice.jsonl", MUSIQUE, MUSIQUE))
    with pytest.raises(InputError, match="there is no such file"):
        read_task("gsm8k", tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="no such file"):
        read_task("gsm8k", tmp_path)
    with pytest.raises(InputError, match=r"no \*\.csv files"):
        read_task("mmlu", tmp_path)
    with pytest.raises(InputError, match="unknown task 'poetry'"):
        read_task("poetry", tmp_path)


@given(
    st.sampled_from(TASKS),
    st.dictionaries(
        st.sampled_from(
            ["question", "answer", "answers", "choices", "paragraphs", "passage", "context", "id", "title"]
        ),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.none() | st.text(max_size=3)),
    ),
)
def test_any_row_is_a_question_or_refused(task: str, changes: dict[str, Any]) -> None:
    try:
        question = row_question(task, {**ROWS[task], **changes}, 0, "row 0")
    except InputError as error:
        assert str(error).startswith("row 0: ")
    else:
        assert question is None or (question.question and question.answers)


def test_questions_are_chosen_at_even_distances() -> None:
    questions = [Question(str(i), "?", ("1",)) for i in range(10)]
    assert [q.item_id for q in choose_questions(questions, 4)] == ["0", "2", "5", "7"]
    assert choose_questions(questions, None) == choose_questions(questions, 99) == tuple(questions)
    with pytest.raises(InputError, match="--limit"):
        choose_questions(questions, 0)


def test_the_real_gsm8k_is_read(shared_data: Path) -> None:
    path = shared_data / "gsm8k" / "test.jsonl"
    if not path.is_file():
        pytest.skip("no gsm8k/test.jsonl in the shared data")
    data = read_task("gsm8k", path)
    assert len(data.questions) == 1319 and data.source["left_out"] == 0
    # The official solutions are responses, too: their answers are found in them.
    solutions = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert [extract_number(text) for text in solutions] == [q.answers[0] for q in data.questions]
