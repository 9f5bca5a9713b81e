"""Questions of the question-answering experiments, read without trust from files in the official formats.

* gsm8k: JSON lines with question and answer, which ends with ``#### N``.
* mmlu: CSV without a header (question, A, B, C, D, letter), a folder of such files, or JSON lines with question,
  choices and answer.
* musique: JSON lines with id, paragraphs (title, paragraph_text, is_supporting), question, answer, answer_aliases.
* extractive: SQuAD's ``.json`` (1.1 or 2.0), or JSON lines with question, passage, answers.

Questions without an answer in their text (of SQuAD 2.0 and MuSiQue-Full) are left out and counted: there is nothing to
copy. Rows of the same data sets on the Hub are read by the same functions (`rh_bench.data_builders.tasks`).
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.scores.answers import LETTERS, extract_number, normalise
from rh_bench.system.files import sha256_file, shown
from rh_bench.system.schema import load_json, parse_json

TASKS = ("gsm8k", "mmlu", "musique", "extractive")
MAX_QUESTIONS = 200_000
MAX_LINE = 4 << 20
"""Bytes of a line."""
MAX_TEXT = 200_000
"""Characters of a passage."""
MAX_SHORT = 20_000
"""Characters of a question, a choice or an answer."""
MAX_ID = 128
_MOST_ANSWERS = 100
_MOST_FILES = 1000

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Question:
    """One question, and what counts as a right answer to it."""

    item_id: str
    question: str
    answers: tuple[str, ...]
    """gsm8k: the number in canonical form; mmlu: the letter; else texts, any of which will do."""
    passage: str = ""
    """What is to be read first; empty if a task has nothing."""
    choices: tuple[str, ...] = ()
    group: str = ""
    """Subject, number of hops or title: questions of a group are resampled together."""

    @property
    def sha256(self) -> str:
        """Of all that is asked."""
        parts = [self.question, self.passage, list(self.choices), list(self.answers)]
        return hashlib.sha256(json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TaskData:
    """The questions of a task, and where they are from."""

    task: str
    questions: tuple[Question, ...]
    source: Json
    """`kind` (file, hub or synthetic), `name`, `revision`, `sha256` of the file, `left_out` (questions without an
    answer)."""


def choose_questions(questions: Sequence[Question], limit: int | None) -> tuple[Question, ...]:
    """`limit` of the questions, at even distances, so that every part of a file has its share.

    Raises:
        InputError: `limit` is not positive.
    """
    if limit is not None and limit < 1:
        raise InputError("must be at least 1", where="--limit")
    total = len(questions)
    wanted = total if limit is None else min(limit, total)
    return tuple(questions[place * total // wanted] for place in range(wanted))


def read_task(task: str, path: Path) -> TaskData:
    """The questions of a file (for mmlu also of a folder of CSV files), in its order.

    Raises:
        InputError: the file cannot be read, or a row of it is not acceptable: it names file, line and field.
    """
    if task not in TASKS:
        raise InputError(f"unknown task {shown(task)!r}", where="--task", hint=f"use {', '.join(TASKS)}")
    files = _files(task, path)
    rows: list[tuple[str, Question | None]] = []
    for file in files:
        for place, question in _FORMATS[task](file):
            rows.append((place, question))
            if len(rows) > MAX_QUESTIONS:
                raise InputError(f"has more than {MAX_QUESTIONS} questions", where=shown(path), hint="split it")
    digests = [sha256_file(file) for file in files]
    digest = digests[0] if len(files) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return gather(task, rows, shown(path), {"kind": "file", "name": path.name, "revision": None, "sha256": digest})


def gather(task: str, rows: Iterable[tuple[str, Question | None]], where: str, source: Json) -> TaskData:
    """Questions, each with its place, as the data of a task; None stands for one that is left out.

    Raises:
        InputError: none is left, or an id stands twice.
    """
    kept: dict[str, Question] = {}
    left_out = 0
    for place, question in rows:
        if question is None:
            left_out += 1
            continue
        if question.item_id in kept:
            raise InputError(
                f"the id {question.item_id!r} occurs twice", where=place, hint="give each question its own"
            )
        kept[question.item_id] = question
    if not kept:
        raise InputError("has no questions with an answer", where=where)
    return TaskData(task, tuple(kept.values()), {**source, "left_out": left_out})


def row_question(task: str, row: object, number: int, where: str) -> Question | None:
    """The question in a row of a data set, of a JSON line or of the Hub.

    Args:
        row: fields by name, as the official data sets call them.
        number: of the row, from 0.
        where: file and line, for errors.

    Returns:
        None if the text has no answer.

    Raises:
        InputError: a field is missing or holds what it must not.
    """
    if not isinstance(row, dict):
        raise InputError("is not a JSON object", where=where)
    return _ROWS[task](row, number, where)


# --- rows ---


def _gsm8k(row: Json, number: int, where: str) -> Question:
    answer = _text(row, "answer", where)
    before, marked, after = answer.rpartition("####")
    value = extract_number(f"####{after}") if marked and before.strip() else None
    if value is None:
        raise InputError("field 'answer' does not end with '#### N'", where=where)
    return Question(f"gsm8k-{number}", _text(row, "question", where), (value,))


def _mmlu(row: Json, number: int, where: str) -> Question:
    choices = row.get("choices")
    if choices is None and all(letter in row for letter in "ABCD"):
        choices = [row[letter] for letter in "ABCD"]
    if not isinstance(choices, list | tuple) or not 2 <= len(choices) <= len(LETTERS):
        raise InputError(f"field 'choices' must be a list of 2 to {len(LETTERS)} strings", where=where)
    texts = tuple(_checked(choice, "choices", where, MAX_SHORT) for choice in choices)
    given, letters = row.get("answer"), LETTERS[: len(texts)]
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(letters):
        given = letters[given]
    if not isinstance(given, str) or given.strip() not in tuple(letters):
        raise InputError(f"field 'answer' must be one of {', '.join(letters)} or a place from 0", where=where)
    subject = _text(row, "subject", where) if row.get("subject") else "mmlu"
    return Question(
        f"{_id(subject, where)}-{number}", _text(row, "question", where), (given.strip(),), "", texts, subject
    )


def _musique(row: Json, number: int, where: str) -> Question | None:
    if row.get("answerable") is False:
        return None
    paragraphs = row.get("paragraphs")
    if not isinstance(paragraphs, list) or not 1 <= len(paragraphs) <= 200:
        raise InputError("field 'paragraphs' must be a list of 1 to 200 objects", where=where)
    parts = []
    for paragraph in paragraphs:
        if not isinstance(paragraph, dict):
            raise InputError("field 'paragraphs' must contain objects", where=where)
        parts.append(f"{_text(paragraph, 'title', where)}: {_text(paragraph, 'paragraph_text', where, MAX_TEXT)}")
    name = _id(_text(row, "id", where), where) if "id" in row else f"musique-{number}"
    aliases = row.get("answer_aliases") or []
    if not isinstance(aliases, list):
        raise InputError("field 'answer_aliases' must be a list of strings", where=where)
    answers = _answers([row.get("answer"), *aliases], where)
    group = name.split("__")[0] if "__" in name else ""
    return Question(name, _text(row, "question", where), answers, "\n\n".join(parts), (), group)


def _extractive(row: Json, number: int, where: str) -> Question | None:
    """A row of SQuAD on the Hub (context; answers as an object of lists), or of our own form (passage; a list)."""
    field = "context" if "context" in row else "passage"
    given = row.get("answers")
    if isinstance(given, dict):
        given = given.get("text")
    if given is None and "answer" in row:
        given = [row["answer"]]
    if not isinstance(given, list):
        raise InputError("field 'answers' must be a list of strings", where=where)
    if not given:
        return None
    passage = _text(row, field, where, MAX_TEXT)
    answers = _answers(given, where)
    if not any(answer.casefold() in passage.casefold() for answer in answers):
        raise InputError("none of its answers is in its passage", where=where, hint="only answers in it can be copied")
    name = _id(_text(row, "id", where), where) if "id" in row else f"extractive-{number}"
    title = _text(row, "title", where) if row.get("title") else ""
    return Question(name, _text(row, "question", where), answers, passage, (), title)


_ROWS: dict[str, Callable[[Json, int, str], Question | None]] = {
    "gsm8k": _gsm8k,
    "mmlu": _mmlu,
    "musique": _musique,
    "extractive": _extractive,
}


def _answers(given: Sequence[object], where: str) -> tuple[str, ...]:
    texts = tuple(dict.fromkeys(_checked(text, "answers", where, MAX_SHORT) for text in given[: _MOST_ANSWERS + 1]))
    if len(given) > _MOST_ANSWERS:
        raise InputError(f"has more than {_MOST_ANSWERS} answers", where=where)
    if not any(normalise(text) for text in texts):
        raise InputError("its answers have no words", where=where)
    return texts


def _text(row: Json, field: str, where: str, most: int = MAX_SHORT) -> str:
    if field not in row:
        raise InputError(f"field {field!r} is missing", where=where)
    return _checked(row[field], field, where, most)


def _checked(value: object, field: str, where: str, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"field {field!r} must be a string", where=where)
    if len(value) > most:
        raise InputError(f"field {field!r} has more than {most} characters", where=where)
    if _UNPRINTABLE.search(value):
        raise InputError(f"field {field!r} contains a control character", where=where)
    return value.replace("\r\n", "\n").strip()


def _id(text: str, where: str) -> str:
    if len(text) > MAX_ID or not text.isprintable():
        raise InputError(f"an id must be one line of at most {MAX_ID} characters", where=where)
    return text


# --- files ---

Rows = Iterator[tuple[str, Question | None]]


def _files(task: str, path: Path) -> list[Path]:
    if task == "mmlu" and path.is_dir():
        files = sorted(path.glob("*.csv"), key=lambda file: file.name.encode())
        if not files:
            raise InputError("there are no *.csv files in it", where=shown(path))
        if len(files) > _MOST_FILES:
            raise InputError(f"has more than {_MOST_FILES} files", where=shown(path))
        return files
    if not path.is_file():
        raise InputError("there is no such file", where=shown(path), hint="give a file or REPO@REVISION")
    return [path]


def _json_lines(task: str) -> Callable[[Path], Rows]:
    def rows(path: Path) -> Rows:
        lines = ((place, line) for place, line in _lines(path) if line.strip())
        for number, (place, line) in enumerate(lines):
            try:
                row = parse_json(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"is not acceptable JSON ({shown(error)})", where=place) from None
            yield place, row_question(task, row, number, place)

    return rows


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file, each with its place."""
    try:
        with path.open("rb") as file:
            for number in range(1, 2 * MAX_QUESTIONS):
                data = file.readline(MAX_LINE + 1)
                place = f"{shown(path)}:{number}"
                if not data:
                    return
                if len(data) > MAX_LINE:
                    raise InputError(f"is longer than {MAX_LINE} bytes", where=place)
                yield place, data.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text (byte {error.start})", where=place) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=shown(path)) from None
    raise InputError(f"has more than {2 * MAX_QUESTIONS} lines", where=shown(path), hint="split it")


def _mmlu_rows(path: Path) -> Rows:
    if path.suffix.lower() != ".csv":
        yield from _json_lines("mmlu")(path)
        return
    subject = re.sub(r"_(?:test|val|dev)$", "", path.stem)
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    try:
        for number, cells in enumerate(cells for cells in reader if cells):
            place = f"{shown(path)}:{reader.line_num}"
            if len(cells) != 6:
                raise InputError(f"has {len(cells)} columns, expected question, A, B, C, D, answer", where=place)
            row = {"question": cells[0], "choices": cells[1:5], "answer": cells[5], "subject": subject}
            yield place, row_question("mmlu", row, number, place)
    except csv.Error as error:
        raise InputError(f"is not acceptable CSV ({shown(error)})", where=f"{shown(path)}:{reader.line_num}") from None


def _squad_rows(path: Path) -> Rows:
    if path.suffix.lower() != ".json":
        yield from _json_lines("extractive")(path)
        return
    document, number = load_json(path), 0
    for at, article in enumerate(_list(document, "data", f"{shown(path)}#")):
        pointer = f"{shown(path)}#/data/{at}"
        title = article.get("title") if isinstance(article, dict) else None
        for below, paragraph in enumerate(_list(article, "paragraphs", pointer)):
            place = f"{pointer}/paragraphs/{below}"
            for last, asked in enumerate(_list(paragraph, "qas", place)):
                if not isinstance(asked, dict):
                    raise InputError("is not a JSON object", where=f"{place}/qas/{last}")
                yield f"{place}/qas/{last}", _squad(asked, paragraph, title, number, f"{place}/qas/{last}")
                number += 1


def _squad(asked: Json, paragraph: Json, title: object, number: int, where: str) -> Question | None:
    answers = asked.get("answers")
    if asked.get("is_impossible") is True:
        return None
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise InputError("field 'answers' must be a list of objects", where=where)
    texts = [answer.get("text") for answer in answers]
    row = {"id": asked.get("id"), "question": asked.get("question"), "answers": texts}
    return row_question("extractive", {**row, "context": paragraph.get("context"), "title": title}, number, where)


def _list(holder: object, field: str, where: str) -> list[Any]:
    found = holder.get(field) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        raise InputError(f"field {field!r} must be a list", where=where)
    return found


_FORMATS: dict[str, Callable[[Path], Rows]] = {
    "gsm8k": _json_lines("gsm8k"),
    "mmlu": _mmlu_rows,
    "musique": _json_lines("musique"),
    "extractive": _squad_rows,
}
