"""Questions of a task from wherever the user has them: a file, a data set of the Hub at a revision, or made here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from rh_bench.data_builders.qa_pairs import synthetic_pairs
from rh_bench.errors import InputError
from rh_bench.sets.tasks import MAX_QUESTIONS, Question, TaskData, gather, read_task, row_question
from rh_bench.system.files import shown

PLACES = {
    "gsm8k": ("main", "test"),
    "mmlu": ("all", "test"),
    "musique": (None, "validation"),
    "extractive": (None, "validation"),
}
"""Configuration and split of each task's usual data set: openai/gsm8k, cais/mmlu, mirrors of MuSiQue, SQuAD's."""

_HUB = re.compile(
    r"(?P<repo>[^@#\s]+/[^@#\s]+)@(?P<revision>[^@#\s]+)(?:#(?P<config>[^/#\s]+)(?:/(?P<split>[^/#\s]+))?)?"
)
_SYNTHETIC = re.compile(r"synthetic(?::(?P<seed>[0-9]{1,15}))?")


def load_task(task: str, text: str) -> TaskData:
    """The questions that `text` names.

    Args:
        task: one of `rh_bench.sets.tasks.TASKS`.
        text: a file (or folder of CSV files, for mmlu), ``REPO@REVISION[#CONFIG[/SPLIT]]`` on the Hub, or, for
            extractive QA, ``synthetic[:SEED]``.

    Raises:
        InputError: it names nothing, or what it names is not acceptable.
    """
    made = _SYNTHETIC.fullmatch(text)
    if made is not None:
        if task != "extractive":
            raise InputError("there are no synthetic questions for this task", where=f"--task {shown(task)}")
        return synthetic_pairs(int(made["seed"] or 0))
    path = Path(text).expanduser()
    match = _HUB.fullmatch(text)
    if path.exists() or match is None:
        return read_task(task, path)
    if task not in PLACES:
        raise InputError(f"unknown task {shown(task)!r}", where="--task", hint=f"use {', '.join(PLACES)}")
    config, split = PLACES[task]
    return _from_hub(task, match["repo"], match["revision"], match["config"] or config, match["split"] or split)


def _from_hub(task: str, repo: str, revision: str, config: str | None, split: str) -> TaskData:
    from rh_bench.hub.download import repo_commit
    from rh_bench.hub.refs import parse_repo

    commit = repo_commit(parse_repo(f"{repo}@{revision}"), "dataset")
    rows = list(_rows(task, repo, commit, config, split))
    hashes = "".join(question.sha256 for _, question in rows if question is not None)
    name = f"{repo}#{config or 'default'}/{split}"
    source = {"kind": "hub", "name": name, "revision": commit, "sha256": hashlib.sha256(hashes.encode()).hexdigest()}
    return gather(task, rows, f"hub:{name}", source)


def _rows(task: str, repo: str, commit: str, config: str | None, split: str) -> Iterator[tuple[str, Question | None]]:
    from datasets import load_dataset

    where = f"hub:{repo}"
    try:
        stream = load_dataset(repo, config, split=split, revision=commit, streaming=True)
        for number, row in enumerate(stream):
            if number == MAX_QUESTIONS:
                raise InputError(f"has more than {MAX_QUESTIONS} questions", where=where, hint="choose a smaller split")
            place = f"{where}, row {number}"
            yield place, row_question(task, row, number, place)
    except (ValueError, OSError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"cannot be streamed ({first[:200]})", where=where) from None
