"""Question-answering experiments: scores, comparisons, claims, and tables that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_answers import Responder, make_answers, make_parts, make_questions
from fake_runs import make_run

from rh_bench.experiments.artifact import DOCUMENT, read_experiment, recompute
from rh_bench.experiments.qa.check import check
from rh_bench.experiments.qa.derive import FLOOR, MARGIN, MIN_QUESTIONS, derive, grade
from rh_bench.system.schema import dump_json, load_json
from rh_bench.verification.checks import check_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("qa"), layers=4, heads=4, kv_heads=2)


def results_of(run: Path, task: str, count: int, respond: Responder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results, and claims by name."""
    document, tables = make_parts(run, task, make_questions(task, count), respond)
    assert list(check(document, tables)) == []
    results, claims = derive(document, tables)
    return results, {claim["claim"]: claim for claim in claims}


def right(number: int) -> str:
    return f"So it goes. The answer is {number}."


def only_cot_suffers(kind: str, mode: str, number: int) -> str:
    """Direct answers are right half of the time; with chain of thought all are, unless the top heads are removed."""
    if mode == "direct":
        return right(number) if number % 2 else "The answer is 999."
    return "I think" if kind == "top" and number % 4 else right(number)


def test_scores_comparisons_and_claims_of_reasoning(run: Path) -> None:
    results, claims = results_of(run, "gsm8k", 40, only_cot_suffers)
    assert results["measure"] == "accuracy" and results["questions"] == 40
    scores = {(row["condition"], row["mode"]): row for row in results["scores"]}
    assert len(scores) == 6 * 2
    assert scores["none", "cot"]["accuracy"]["value"] == 1.0 and scores["none", "direct"]["accuracy"]["value"] == 0.5
    assert scores["top", "cot"]["accuracy"]["value"] == 0.25 and scores["top", "cot"]["answered"]["value"] == 0.25
    assert scores["top", "cot"]["f1"] is None and scores["random-1", "cot"]["kind"] == "random"
    losses = {(row["mode"], row["control"]): row for row in results["comparisons"]}
    assert set(losses) == {(m, c) for m in ("direct", "cot") for c in ("none", "random", "matched")}
    assert losses["cot", "matched"]["loss"]["value"] == 0.75 and losses["cot", "matched"]["p_value"] < 0.001
    assert losses["cot", "random"]["draws"] == losses["cot", "random"]["draws_better"] == 2
    assert losses["direct", "none"]["loss"]["value"] == 0 and losses["direct", "none"]["p_value"] == 1
    more = results["chain_of_thought"]
    assert more["gain"]["value"] == 0.5 and more["extra_loss"]["value"] == 0.75
    assert claims["reasoning"]["verdict"] == claims["reasoning_more_than_direct"]["verdict"] == "holds"
    assert claims["reasoning"]["effect"]["value"] == 0.75 and claims["reasoning"]["n"] == 40
    assert claims["reasoning"]["reason"] is None


def test_random_heads_that_cost_as_much_refute_the_claim(run: Path) -> None:
    def any_removal(kind: str, mode: str, number: int) -> str:
        return right(number) if kind == "none" or number % 4 == 0 else "no"

    _, claims = results_of(run, "gsm8k", 200, any_removal)
    assert claims["reasoning"]["verdict"] == "does_not_hold" and claims["reasoning"]["effect"]["value"] == 0
    more = claims["reasoning_more_than_direct"]
    assert more["verdict"] == "does_not_hold" and more["effect"]["high"] < MARGIN

    def like_one_draw(kind: str, mode: str, number: int) -> str:
        """Matched heads cost nearly as much; the interval says neither."""
        broken = {"none": 0, "top": 5, "random": 1, "matched": 4}[kind]
        return "no" if number % 10 < broken else right(number)

    _, claims = results_of(run, "gsm8k", 40, like_one_draw)
    assert claims["reasoning"]["verdict"] == "not_enough_evidence"
    assert "matched heads lies between" in claims["reasoning"]["reason"]


def test_a_model_that_cannot_do_the_task_has_nothing_to_lose(run: Path) -> None:
    def hopeless(kind: str, mode: str, number: int) -> str:
        return right(number) if number == 7 and kind != "top" else "The answer is 999."

    results, claims = results_of(run, "gsm8k", 60, hopeless)
    for claim in claims.values():
        assert claim["verdict"] == "not_enough_evidence"
        assert "it has nothing to lose" in claim["reason"] and f"not above {FLOOR['gsm8k']}" in claim["reason"]
    assert "with chain of thought" in claims["reasoning"]["reason"]
    assert results["comparisons"][3]["loss"]["value"] == pytest.approx(1 / 60, abs=1e-9)

    def guesses(kind: str, mode: str, number: int) -> str:
        return "(A)"

    _, claims = results_of(run, "mmlu", 60, guesses)
    assert claims["reasoning"]["verdict"] == "not_enough_evidence" and "not above 0.25" in claims["reasoning"]["reason"]


def test_few_questions_say_nothing(run: Path) -> None:
    _, claims = results_of(run, "gsm8k", MIN_QUESTIONS - 1, only_cot_suffers)
    assert claims["reasoning"]["reason"] == f"Needs {MIN_QUESTIONS} questions, there are {MIN_QUESTIONS - 1}."
    results, claims = results_of(run, "gsm8k", 1, only_cot_suffers)
    assert claims["reasoning"]["verdict"] == "not_enough_evidence" and results["questions"] == 1


def test_words_are_compared_by_f1(run: Path) -> None:
    def forgets(kind: str, mode: str, number: int) -> str:
        return "a camel" if kind == "top" and number % 5 else f"The tin camel {number}."

    results, claims = results_of(run, "extractive", 40, forgets)
    assert results["measure"] == "f1" and results["chain_of_thought"] is None
    top = next(row for row in results["scores"] if row["condition"] == "top")
    assert top["accuracy"]["value"] == 0.2 and top["f1"]["value"] == pytest.approx(0.2 + 0.8 * 0.5)
    none = next(row for row in results["scores"] if row["condition"] == "none")
    assert none["f1"]["value"] == none["f1"]["high"] == 1 and none["f1"]["low"] < 0.95, "not known exactly"
    alike, _ = results_of(run, "extractive", 40, lambda kind, mode, number: "a camel")
    assert (
        alike["scores"][0]["f1"]["value"] == 0.5 and "all questions score alike" in alike["scores"][0]["f1"]["reason"]
    )
    assert set(claims) == {"extractive_qa"} and claims["extractive_qa"]["verdict"] == "holds"
    assert claims["extractive_qa"]["effect"]["value"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("task", "text", "answers", "expected"),
    [
        ("gsm8k", "The answer is $1,200.", ["1200"], ("1200", True, 1.0)),
        ("gsm8k", "I do not know.", ["1200"], (None, False, 0.0)),
        ("mmlu", "The answer is (B).", ["B"], ("B", True, 1.0)),
        ("mmlu", "Nothing fits.", ["B"], (None, False, 0.0)),
        ("musique", "It is so. The answer is the Esk.", ["Esk"], ("the Esk", True, 1.0)),
        ("extractive", "", ["Esk"], (None, False, 0.0)),
    ],
)
def test_grading(task: str, text: str, answers: list[str], expected: tuple[str | None, bool, float]) -> None:
    graded = grade(task, text, answers, 4)
    assert (graded.answer, graded.correct, graded.f1) == expected


@pytest.mark.parametrize("task", ["gsm8k", "mmlu", "musique", "extractive"])
def test_an_experiment_is_valid_and_recomputes(tmp_path: Path, task: str) -> None:
    answers = {question.item_id: question.answers[0] for question in make_questions(task, 12)}
    folder = make_answers(tmp_path, task, 12, lambda kind, mode, i: f"The answer is {answers[f'q{i}']}.")
    assert check_folder(folder) == []
    assert recompute(folder) == []
    experiment = read_experiment(folder)
    assert {row["accuracy"]["value"] for row in experiment.document["results"]["scores"]} == {1.0}
    document = load_json(folder / DOCUMENT)
    document["claims"][0]["verdict"] = "holds"
    document["claims"][0]["reason"] = None
    (folder / DOCUMENT).write_bytes(dump_json(document))
    assert [problem.pointer for problem in check_folder(folder)] == ["/claims"]
    assert recompute(folder) == [DOCUMENT] and check_folder(folder) == []


def changed(table: pa.Table, row: int, **values: Any) -> pa.Table:
    rows = table.to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize(
    ("name", "row", "values", "pointer", "said"),
    [
        ("responses", 3, {"text": "The answer is 4."}, "/3/answer", "the text gives '4'"),
        ("responses", 3, {"correct": False}, "/3/correct", "the text gives 'True'"),
        ("responses", 3, {"f1": 0.5}, "/3/f1", "the text gives '1.0'"),
        ("responses", 3, {"f1": float("nan")}, "/3/f1", "is 'nan'"),
        ("responses", 3, {"tokens": 101}, "/3/tokens", "not within"),
        ("responses", 3, {"tokens": -1}, "/3/tokens", "not within"),
        ("responses", 3, {"prompt_tokens": 0}, "/3/tokens", "not within"),
        ("responses", 3, {"prompt_sha256": "x"}, "/3/prompt_sha256", "no SHA-256"),
        ("responses", 3, {"text": "x" * 20_001}, "/3/text", "more than 20000"),
        ("responses", 3, {"item_id": "q4"}, "/3", "must be of none, direct, q3"),
        ("responses", 3, {"condition": "top"}, "/3", "must be of none, direct, q3"),
        ("items", 3, {"item_id": "q4"}, "/4/item_id", "must be unique"),
        ("items", 3, {"item_id": "q\x1b[2J"}, "/3/item_id", "printable"),
        ("items", 3, {"item_id": "q" * 129}, "/3/item_id", "at most 128"),
        ("items", 3, {"choices": 4}, "/3/choices", "does not go with gsm8k"),
        ("items", 3, {"answers": ["five"]}, "/3/answers", "no answer of gsm8k"),
        ("items", 3, {"answers": []}, "/3/answers", "no answer of gsm8k"),
        ("items", 3, {"question_sha256": "y"}, "/3/question_sha256", "no SHA-256"),
    ],
)
def test_rows_that_cannot_be(run: Path, name: str, row: int, values: dict[str, Any], pointer: str, said: str) -> None:
    document, tables = make_parts(run, "gsm8k", make_questions("gsm8k", 6), lambda kind, mode, i: right(i))
    problems = list(check(document, {**tables, name: changed(tables[name], row, **values)}))
    assert problems[0].file == f"{name}.parquet" and problems[0].pointer == pointer and said in problems[0].message


def test_a_missing_row_is_told(run: Path) -> None:
    document, tables = make_parts(run, "gsm8k", make_questions("gsm8k", 6), lambda kind, mode, i: right(i))
    (problem,) = check(document, {**tables, "responses": tables["responses"].slice(1)})
    assert "has 71 rows" in problem.message
    problems = list(check(document, {"items": tables["items"].slice(0, 0), "responses": tables["responses"]}))
    assert problems[0].message == "has 0 questions, the settings say 6"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (lambda s: s.update(task="extractive"), "/settings/task"),
        (lambda s: s.update(modes=["cot", "direct"]), "/settings/modes"),
        (lambda s: s.update(max_new_tokens={"cot": 5}), "/settings/max_new_tokens"),
        (lambda s: s.update(rules_version=99), "/settings/rules_version"),
        (lambda s: s["bootstrap"].update(replicates=2**24), "/settings/bootstrap/replicates"),
        (lambda s: s["conditions"].pop(0), "/settings/conditions"),
        (lambda s: s["conditions"].pop(1), "/settings/conditions"),
        (lambda s: s["conditions"].append(dict(s["conditions"][2])), "/settings/conditions"),
        (lambda s: s["conditions"][2].update(heads=s["conditions"][1]["heads"]), "/settings/conditions/2/heads"),
        (lambda s: s["conditions"][2].update(heads=[[0, 99], [3, 1]]), "/settings/conditions/2/heads"),
        (lambda s: s["conditions"][2].update(heads=[[0, 0], [0, 0]]), "/settings/conditions/2/heads"),
        (lambda s: s["conditions"][1].update(heads=[[0, 0]]), "/settings/conditions/1/heads"),
        (lambda s: s["conditions"][0].update(heads=[[0, 0]]), "/settings/conditions/0/heads"),
    ],
)
def test_settings_that_cannot_be(run: Path, change: Any, pointer: str) -> None:
    document, tables = make_parts(run, "gsm8k", make_questions("gsm8k", 3), lambda kind, mode, i: right(i))
    change(document["settings"])
    problems = list(check(document, tables))
    assert problems and problems[0].pointer == pointer and problems[0].file == "experiment.json"
