"""What must hold of the tables of question answering."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from rh_bench.artifacts.table_checks import MOST
from rh_bench.experiments.heads import Head
from rh_bench.experiments.kind import Tables
from rh_bench.experiments.qa.derive import MATCHED, NONE, RANDOM, TOP, cells_of, grade
from rh_bench.records import Json, Layer, Problem, head_grid
from rh_bench.scores.answers import (
    LETTERS,
    RULES_VERSION,
    extract_number,
)
from rh_bench.sets.tasks import MAX_ID
from rh_bench.system.files import shown

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_CELLS = 1 << 24
"""Questions × replicates: what computing the results again holds in memory at a time."""
_LONGEST = 20_000
"""Characters of a response."""


def check(document: Json, tables: Tables) -> Iterator[Problem]:
    """What is wrong with an experiment of either kind; see `rh_bench.experiments.kind.Check`."""
    settings = document["settings"]
    layers = [Layer(**layer) for layer in document["model"]["layers"]]
    wrong = list(islice(_settings_problems(document["kind"], settings, frozenset(head_grid(layers))), MOST))
    yield from (Problem("experiment.json", f"/settings{pointer}", message) for pointer, message in wrong)
    if wrong:
        return
    for file, found in (
        ("items.parquet", _item_problems(settings, tables["items"])),
        ("responses.parquet", _response_problems(settings, tables)),
    ):
        problems = [Problem(file, pointer, message) for pointer, message in islice(found, MOST)]
        yield from problems
        if problems:
            return


def _settings_problems(kind: str, settings: Json, grid: frozenset[Head]) -> Iterator[tuple[str, str]]:
    if (kind == "extractive_qa") != (settings["task"] == "extractive"):
        yield "/task", f"is {settings['task']}, which is not of kind {kind}"
    if settings["rules_version"] != RULES_VERSION:
        yield (
            "/rules_version",
            f"is {settings['rules_version']}; this rh_bench reads answers by version {RULES_VERSION}",
        )
    modes, known = settings["modes"], ["direct"] if kind == "extractive_qa" else ["direct", "cot"]
    if modes not in (known, known[-1:]):
        yield "/modes", f"must be {' and '.join(known)}, or {known[-1]} alone"
    replicates = settings["bootstrap"]["replicates"]
    if replicates * settings["questions"] > _MOST_CELLS:
        yield (
            "/bootstrap/replicates",
            f"is {replicates}: at most {_MOST_CELLS // settings['questions']} can be verified",
        )
    if set(settings["max_new_tokens"]) != set(modes):
        yield "/max_new_tokens", "must name every mode and no other"
    conditions = settings["conditions"]
    names, kinds = [one["name"] for one in conditions], [one["kind"] for one in conditions]
    if len(set(names)) != len(names):
        yield "/conditions", "a name stands twice"
    if kinds.count(NONE) != 1 or kinds.count(TOP) != 1 or not {RANDOM, MATCHED} & set(kinds):
        yield "/conditions", "must have one of kind none, one of kind top, and at least one of kind random or matched"
        return
    yield from _head_problems(settings, grid)


def _head_problems(settings: Json, grid: frozenset[Head]) -> Iterator[tuple[str, str]]:
    """The sets of heads: their sizes, that the model has them, and that random ones are none of those compared with."""
    conditions = settings["conditions"]
    top = {tuple(head) for one in conditions if one["kind"] == TOP for head in one["heads"]}
    excluded = top | {tuple(head) for head in settings["retrieval_heads"]}
    for place, one in enumerate(conditions):
        heads = [tuple(head) for head in one["heads"]]
        wanted = 0 if one["kind"] == NONE else settings["top"]
        if len(set(heads)) != len(heads) or len(heads) != wanted:
            yield f"/conditions/{place}/heads", f"must be {wanted} different heads"
        if not set(heads) <= grid:
            yield f"/conditions/{place}/heads", "has a head that the model does not have"
        if one["kind"] in (RANDOM, MATCHED) and set(heads) & excluded:
            yield f"/conditions/{place}/heads", "has a head that is removed or a retrieval head"


def _item_problems(settings: Json, items: pa.Table) -> Iterator[tuple[str, str]]:
    task = settings["task"]
    if len(items) != settings["questions"]:
        yield "", f"has {len(items)} questions, the settings say {settings['questions']}"
    seen: set[str] = set()
    for place, row in enumerate(items.to_pylist()):
        if row["item_id"] in seen or not 0 < len(row["item_id"]) <= MAX_ID or not row["item_id"].isprintable():
            yield f"/{place}/item_id", f"must be unique, printable and of at most {MAX_ID} characters"
        seen.add(row["item_id"])
        if not _SHA256.fullmatch(row["question_sha256"]):
            yield f"/{place}/question_sha256", "is no SHA-256"
        if not (2 <= row["choices"] <= len(LETTERS) if task == "mmlu" else row["choices"] == 0):
            yield f"/{place}/choices", f"is {row['choices']}, which does not go with {task}"
        elif not _answers_fit(task, row):
            yield f"/{place}/answers", f"is no answer of {task}"


def _answers_fit(task: str, row: Json) -> bool:
    answers = row["answers"]
    if task == "mmlu":
        return len(answers) == 1 and answers[0] in tuple(LETTERS[: row["choices"]])
    if task == "gsm8k":
        return len(answers) == 1 and len(answers[0]) < 100 and extract_number(f"#### {answers[0]}") == answers[0]
    return 0 < len(answers) <= 101 and all(answer.strip() and len(answer) <= _LONGEST for answer in answers)


def _response_problems(settings: Json, tables: Tables) -> Iterator[tuple[str, str]]:
    """Whether every question has one response under each condition and in each mode, in order, all judged right."""
    items, responses = tables["items"].to_pylist(), tables["responses"]
    cells = cells_of(settings)
    if len(responses) != len(cells) * len(items):
        yield "", f"has {len(responses)} rows; {len(cells)} conditions and modes of {len(items)} questions give another"
        return
    rows = (row for batch in responses.to_batches(max_chunksize=4096) for row in batch.to_pylist())
    for place, row in enumerate(rows):
        (condition, _, mode), item = cells[place // len(items)], items[place % len(items)]
        if (row["condition"], row["mode"], row["item_id"]) != (condition, mode, item["item_id"]):
            yield (
                f"/{place}",
                f"must be of {condition}, {mode}, {item['item_id']}: conditions, modes, questions in order",
            )
            return
        yield from ((f"/{place}/{name}", words) for name, words in _row_problems(settings, mode, item, row))


def _row_problems(settings: Json, mode: str, item: Json, row: Json) -> Iterator[tuple[str, str]]:
    if not _SHA256.fullmatch(row["prompt_sha256"]):
        yield "prompt_sha256", "is no SHA-256"
    if not 0 <= row["tokens"] <= settings["max_new_tokens"][mode] or row["prompt_tokens"] < 1:
        yield "tokens", "is not within what the settings allow"
    if len(row["text"]) > _LONGEST:
        yield "text", f"has more than {_LONGEST} characters"
        return
    graded = grade(settings["task"], row["text"], item["answers"], item["choices"])
    for name, found in (("answer", graded.answer), ("correct", graded.correct), ("f1", graded.f1)):
        if row[name] != found:
            yield name, shown(f"is {str(row[name])[:60]!r}, the text gives {str(found)[:60]!r}")
