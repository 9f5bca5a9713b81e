"""Needles: the sentences to hide, read from the package's own stock, from a file of its form, or from the paper's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.scores.rouge import words
from rh_bench.sets.leaks import question_problem
from rh_bench.system.files import shown
from rh_bench.system.schema import parse_json

MAX_FILE_BYTES = 1 << 20
MAX_TEXT = 2000
"""Characters of a needle, a question or an answer."""
MAX_NAME = 64
"""Characters of an id or a domain."""

_FIELDS = ("needle_id", "domain", "needle", "question", "answer")
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that no one-line text holds: controls, half characters, line and paragraph separators."""


@dataclass(frozen=True, slots=True)
class RawNeedle:
    """A needle that no haystack is assigned to yet; otherwise as :class:`rh_bench.records.Needle`."""

    needle_id: str
    domain: str
    needle: str
    question: str
    answer_start: int
    """First character of the answer in `needle`."""
    answer_end: int
    """One past the last character of the answer in `needle`."""

    @property
    def answer(self) -> str:
        return self.needle[self.answer_start : self.answer_end]


def builtin_needles() -> tuple[RawNeedle, ...]:
    """The needles that come with the package: original, CC0, none of whose answers' words stand in the embedded prose
    (:func:`rh_bench.data_builders.prose.synthetic_text`)."""
    data = (files("rh_bench.data_builders") / "data" / "needles.json").read_bytes()
    return _parse(data, "needles.json")


def read_needles(path: Path) -> tuple[RawNeedle, ...]:
    """The needles of a file, in its order.

    Two forms are read. A JSON list of objects with the fields needle_id, domain, needle, question and answer; or the
    release form of Wu et al. (2024): one JSON object a line with needle, question and real_needle (the answer), whose
    ids become ``paper-1``, ``paper-2``, … and whose other fields are not looked at.

    Raises:
        InputError: the file cannot be read, or a row is not acceptable: it says which row and field.
    """
    try:
        if not path.is_file():
            raise InputError("there is no such file", where=shown(path))
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=shown(path)) from None
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"is larger than {MAX_FILE_BYTES} bytes", where=shown(path), hint="split it")
    return _parse(data, shown(path))


def locate_answer(needle: str, answer: str) -> tuple[int, int]:
    """The character range of `answer` in `needle`, without regard to case only where it does not stand there as it is.

    Raises:
        ValueError: it does not occur, or more than once, so that nobody could say which occurrence is meant.
    """
    for flags in (re.NOFLAG, re.IGNORECASE):
        # A lookahead, so that occurrences that overlap count.
        found = [match.span(1) for match in re.finditer(f"(?=({re.escape(answer)}))", needle, flags)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"occurs {len(found)} times in the needle")
    raise ValueError("does not occur in the needle")


def _parse(data: bytes, where: str) -> tuple[RawNeedle, ...]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text (byte {error.start})", where=where) from None
    rows = _own_rows(text, where) if text.lstrip().startswith("[") else _released_rows(text, where)
    needles = tuple(_needle(row, place) for place, row in rows)
    if not needles:
        raise InputError("has no needles", where=where, hint="give at least one")
    _refuse_twins(needles, where)
    return needles


def _own_rows(text: str, where: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, row in enumerate(_json(text, where), start=1):
        place = f"{where}, row {number}"
        yield place, _object(row, _FIELDS, place)
        unknown = [key for key in row if key not in _FIELDS]
        if unknown:
            raise InputError(
                f"unknown field {shown(unknown[0])}", where=place, hint=f"the fields are {', '.join(_FIELDS)}"
            )


def _released_rows(text: str, where: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Rows of the paper's release in the package's own form."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for order, (number, line) in enumerate(lines, start=1):
        place = f"{where}, line {number}"
        row = _object(_json(line, place), ("needle", "question", "real_needle"), place)
        texts = {"needle": row["needle"], "question": row["question"], "answer": row["real_needle"]}
        yield place, {"needle_id": f"paper-{order}", "domain": "paper", **texts}


def _json(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not acceptable JSON ({shown(error)})", where=where) from None


def _object(row: object, fields: Iterable[str], place: str) -> Mapping[str, object]:
    if not isinstance(row, dict):
        raise InputError("is not an object", where=place, hint=f"a row has the fields {', '.join(fields)}")
    for name in fields:
        if name not in row:
            raise InputError(f"has no field {name}", where=place, hint=f"a row has the fields {', '.join(fields)}")
    return row


def _needle(row: Mapping[str, object], place: str) -> RawNeedle:
    needle, question, answer = (_text(row, field, MAX_TEXT, place) for field in ("needle", "question", "answer"))
    needle_id, domain = _text(row, "needle_id", MAX_NAME, place), _text(row, "domain", MAX_NAME, place)
    if not _ID.fullmatch(needle_id):
        raise InputError(
            f"needle_id {shown(needle_id)} is not a valid id",
            where=place,
            hint="use lower-case letters, digits and hyphens",
        )
    if not words(answer):
        raise InputError("answer has no words", where=place, hint="ROUGE-1 recall compares words")
    try:
        start, end = locate_answer(needle, answer)
    except ValueError as error:
        raise InputError(f"answer {error}", where=place, hint="it must be in the needle exactly once") from None
    given_away = question_problem(question, needle[start:end])
    if given_away:
        raise InputError(given_away, where=place, hint="ask without them, or choose another answer")
    return RawNeedle(needle_id, domain, needle, question, start, end)


def _text(row: Mapping[str, object], field: str, longest: int, place: str) -> str:
    value = row[field]
    if not isinstance(value, str):
        raise InputError(f"{field} is not a string", where=place)
    if not value.strip():
        raise InputError(f"{field} is empty", where=place)
    if len(value) > longest:
        raise InputError(f"{field} is longer than {longest} characters", where=place)
    if any(unicodedata.category(character) in _UNPRINTABLE for character in value):
        raise InputError(
            f"{field} contains a control character", where=place, hint="write it as one line of plain text"
        )
    if value != value.strip():
        raise InputError(f"{field} starts or ends with white space", where=place, hint="remove it")
    return value


def _refuse_twins(needles: Iterable[RawNeedle], where: str) -> None:
    seen: set[str] = set()
    for needle in needles:
        if needle.needle_id in seen:
            raise InputError(f"needle_id {needle.needle_id} occurs twice", where=where, hint="give each needle its own")
        seen.add(needle.needle_id)
