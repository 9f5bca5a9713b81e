"""Question-answering experiments with made-up responses, written without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from fake_runs import make_run

from rh_bench.artifacts.run import read_run
from rh_bench.experiments.artifact import keep_experiment
from rh_bench.experiments.document import new_document, run_reference
from rh_bench.experiments.heads import draw_random_heads, run_ranking
from rh_bench.experiments.qa.derive import ITEMS, RESPONSES, grade
from rh_bench.experiments.qa.kind import CHAIN_OF_THOUGHT, EXTRACTIVE_QA
from rh_bench.protocol import BOOTSTRAP
from rh_bench.records import Layer, head_grid
from rh_bench.scores.answers import RULES_VERSION
from rh_bench.sets.tasks import Question

TOP = 2
Responder = Callable[[str, str, int], str]
"""From kind of condition, mode and number of the question to a response."""


def make_questions(task: str, count: int) -> list[Question]:
    if task == "mmlu":
        return [Question(f"q{i}", f"Which {i}?", ("ABCD"[i % 4],), "", ("w", "x", "y", "z"), "s") for i in range(count)]
    if task == "gsm8k":
        return [Question(f"q{i}", f"How many are {i}?", (str(i),)) for i in range(count)]
    return [Question(f"q{i}", f"Which animal {i}?", (f"tin camel {i}",), f"A tin camel {i}.") for i in range(count)]


def make_parts(
    run: Path, task: str, questions: Sequence[Question], respond: Responder, *, draws: int = 2
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """Document and tables of an experiment in which `respond` speaks for the model."""
    measured, ranking = read_run(run), run_ranking(run)
    kind = EXTRACTIVE_QA if task == "extractive" else CHAIN_OF_THOUGHT
    modes = ["direct"] if task == "extractive" else ["direct", "cot"]
    top = ranking.top(TOP)
    conditions = [("none", "none", (), None, 0), ("top", "top", top, None, 0)]
    grid = head_grid([Layer(**layer) for layer in measured.document["model"]["layers"]])
    for name, matched in (("random", False), ("matched", True)):
        for seed in range(draws):
            draw = draw_random_heads(grid, ranking.retrieval, top, seed, matched=matched)
            conditions.append((f"{name}-{seed}", name, draw.heads, seed, draw.moved))
    settings = {
        "task": task,
        "modes": modes,
        "questions": len(questions),
        "limit": None,
        "left_out": 0,
        "shots": 2,
        "template": "plain",
        "stop": ["\nQuestion:"],
        "max_new_tokens": dict.fromkeys(modes, 100),
        "dtype": "float32",
        "how": "zero",
        "phase": "both",
        "top": TOP,
        "retrieval_heads": [list(head) for head in ranking.retrieval],
        "conditions": [
            {"name": n, "kind": k, "heads": [list(h) for h in heads], "seed": seed, "moved": moved}
            for n, k, heads, seed, moved in conditions
        ],
        "rules_version": RULES_VERSION,
        "bootstrap": dict(BOOTSTRAP),
    }
    data = {
        "source": "made up",
        "revision": None,
        "sha256": "a" * 64,
        "prompts": f"prompts-{task}.v1.json",
        "prompts_sha256": "b" * 64,
    }
    document = new_document(
        kind,
        model=measured.document["model"],
        runs=[run_reference(run)],
        settings=settings,
        data=data,
        engine={"name": "generate", "version": 1, "notes": []},
        environment=measured.document["environment"],
    )
    document["timings"] = measured.document["timings"]
    items = [
        {
            "item_id": q.item_id, "question_sha256": q.sha256, "group": q.group, "choices": len(q.choices),
            "answers": list(q.answers),
        }
        for q in questions
    ]  # fmt: skip
    rows = []
    for name, kind_of, _, _, _ in conditions:
        for mode in modes:
            for number, question in enumerate(questions):
                text = respond(kind_of, mode, number)
                graded = grade(task, text, question.answers, len(question.choices))
                rows.append(
                    {
                        "condition": name, "mode": mode, "item_id": question.item_id, "prompt_sha256": "c" * 64,
                        "prompt_tokens": 50, "tokens": min(100, len(text)), "finished": True, "text": text,
                        "answer": graded.answer, "correct": graded.correct, "f1": graded.f1,
                    }
                )  # fmt: skip
    tables = {
        "items": pa.Table.from_pylist(items, schema=ITEMS),
        "responses": pa.Table.from_pylist(rows, schema=RESPONSES),
    }
    return document, tables


def make_answers(root: Path, task: str, count: int, respond: Responder, *, draws: int = 2) -> Path:
    """The experiment on disk, with a run of its own; returns its folder."""
    runs = root / "runs"
    run = next(iter(runs.glob("*/*")), None) or make_run(runs, layers=4, heads=4, kv_heads=2)
    document, tables = make_parts(run, task, make_questions(task, count), respond, draws=draws)
    return keep_experiment(root / "experiments", document, tables)[0]


def make_small_answers(task: str) -> Callable[[Path], Path]:
    """With responses that are right now and then."""
    return lambda root: make_answers(
        root, task, 4, lambda kind, mode, i: f"The answer is {i}." if i % 2 else "no", draws=1
    )


SMALL = {"chain_of_thought": make_small_answers("gsm8k"), "extractive_qa": make_small_answers("extractive")}
