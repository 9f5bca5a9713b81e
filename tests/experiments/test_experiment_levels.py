"""Experiments verified: honest ones reach every level, and each forgery is caught at its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from experiment_forging import (  # noqa: F401
    GRID,
    Change,
    ablated,
    answers_made_up,
    detected,
    forge,
    place,
    run_of,
    with_rows,
)
from fake_experiments import make_dynamic, make_intrinsic, make_relatives
from tiny import tiny_checkpoint

from rh_bench.artifacts.levels import Evidence, Verification
from rh_bench.artifacts.run import read_run
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.data_builders.tasks import load_task
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import read_experiment
from rh_bench.experiments.causal import derive as causal
from rh_bench.experiments.causal.plan import make_conditions
from rh_bench.experiments.heads import run_ranking
from rh_bench.experiments.qa import derive as qa
from rh_bench.experiments.qa.run import Request as Questions
from rh_bench.experiments.qa.run import ask
from rh_bench.experiments.registry import kinds, verifying
from rh_bench.records import head_grid
from rh_bench.system.schema import dump_json
from rh_bench.verification.verify import verify_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(place: Path) -> Path:
    given: dict[str, Any] = {"top": 2, "draws": 1, "shots": 1, "max_new_tokens": 6, "limit": 4, "device": "cpu"}
    out = place / "results" / "experiments"
    return ask(
        Questions(str(place / "model"), run_of(place), out, **given), load_task("extractive", "synthetic:3")
    ).folder


def verified(folder: Path, place: Path, *, model: bool = True, haystack: bool = True, **given: Any) -> Verification:
    evidence: dict[str, Any] = {"device": "cpu", **given}
    evidence |= {"model": str(place / "model")} if model else {}
    evidence |= {"haystack": str(place / "set")} if haystack else {}
    return verify_run(folder, Evidence(**evidence))


def reached(found: Verification) -> list[bool | None]:
    return [level.reached for level in found.levels]


def said(found: Verification, level: int) -> str:
    return " | ".join(found.levels[level].reasons)


# Honest experiments


def test_there_is_a_way_for_every_kind() -> None:
    without = {name for name in kinds() if verifying(name).measuring is None}
    assert without == {"dynamic", "intrinsic"}, "whose tables follow from runs"


def test_the_command_verifies_a_causal_experiment(
    ablated: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", str(place / "model"), "--haystack", str(place / "set"), "--rerun", "9", "--device", "cpu"]
    report = tmp_path / "report.md"
    assert main(["verify", str(ablated), *given, "--report", str(report), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [level["reached"] for level in found["levels"]] == [True, True, True]
    words = found["levels"][2]["reasons"]
    assert "without the 2 strongest: 3 of 3 outcomes equal (at least 3 needed for float32)" in words
    assert any("are caught by 3 of 5" in line for line in words)
    assert f"Verification of `model/{ablated.name}`" in report.read_text()
    assert "salt ''" not in words[-1], "one is drawn"
    assert main(["verify", str(ablated)]) == 0
    out = capsys.readouterr().out
    assert "valid: yes" in out and "name a copy with --haystack" in out and "name a copy with --model" in out


def test_answers_to_questions_reach_every_level(asked: Path, place: Path) -> None:
    found = verified(asked, place, haystack=False, rerun=9)
    assert reached(found) == [True, True, True], found.to_json()
    assert "the model as it is: 3 of 3 answers equal" in said(found, 2)


def test_detectors_reach_every_level(detected: Path, place: Path) -> None:
    found = verified(detected, place, rerun=3)
    assert reached(found) == [True, True, True], found.to_json()
    assert "induction: no head may differ by more than 0.001" in said(found, 2)


def test_what_follows_from_runs_is_recomputed_from_them(tmp_path: Path) -> None:
    base, chat, _ = make_relatives(tmp_path / "runs", layers=2, heads=4, n_samples=6)
    for folder in (
        make_dynamic(tmp_path / "experiments", base, permutations=2000),
        make_intrinsic(tmp_path / "experiments", chat, base, permutations=2000),
    ):
        found = verify_run(folder, Evidence(rerun=4))
        assert reached(found) == [True, True, None], found.to_json()
        assert "beside its runs" in said(found, 2)


def test_a_run_that_is_not_at_hand_is_said_and_can_be_named(ablated: Path, place: Path, tmp_path: Path) -> None:
    alone = tmp_path / "model" / ablated.name
    shutil.copytree(ablated, alone)
    found = verified(alone, place, rerun=3)
    assert reached(found) == [True, None, None] and "name its folder with --run" in said(found, 1)
    assert reached(verified(alone, place, runs=(str(run_of(place)),))) == [True, True, None]
    wrong = verified(alone, place, runs=(str(run_of(place)), str(run_of(place, 9))))
    assert reached(wrong) == [True, False, None] and "is none of the runs that the experiment names" in said(wrong, 1)
    with pytest.raises(InputError, match="is no run's folder"):
        verified(alone, place, runs=(str(tmp_path),))


# Forgeries


def test_a_nicer_curve_is_not_what_the_tables_give(ablated: Path, place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results" / "experiments" / "model" / ablated.name
    shutil.copytree(ablated, copy)
    document = json.loads((copy / "experiment.json").read_text())
    document["results"]["curve"][0]["top"]["success"] |= {"value": 0.5, "high": 1.0}
    (copy / "experiment.json").write_bytes(dump_json(document))
    found = verified(copy, place)
    assert reached(found) == [True, False, None]
    assert "experiment.json#/results: is not what the tables give" in said(found, 1)


def test_answers_that_were_made_up_are_caught_when_measured_again(ablated: Path, place: Path, tmp_path: Path) -> None:
    forged = forge(ablated, tmp_path, answers_made_up)
    experiment = read_experiment(forged)
    row = experiment.document["results"]["curve"][0]
    assert row["top"]["success"]["value"] == 0 and row["controls"]["uniform"]["success"]["value"] == 1
    found = verified(forged, place, rerun=6)
    # The share of an answer that repeats the haystack is computed from the set, so that texts copied from the set pass.
    assert reached(found) == [True, True, False], found.to_json()
    assert "without 2 random: 0 of 2 outcomes equal" in said(found, 2) and "is claimed" in said(found, 2)


def other_heads(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    grid = head_grid([_layer(layer) for layer in document["model"]["layers"]])
    one = next(c for c in document["settings"]["conditions"] if c["kind"] == "top")
    taken = {tuple(h) for c in document["settings"]["conditions"] for h in c["heads"]}
    taken |= {tuple(h) for h in document["settings"]["retrieval_heads"]}
    one["heads"][-1] = list(next(head for head in grid if head not in taken))
    one["heads"].sort()


def _layer(layer: dict[str, Any]) -> Any:
    from rh_bench.records import Layer

    return Layer(**layer)


def another_seed(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    document["settings"]["seed"] = 7
    for one in document["settings"]["conditions"]:
        one["seed"] = None if one["seed"] is None else one["seed"] + 7


def fewer_replicates(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    document["settings"]["bootstrap"] = {"replicates": 1, "seed": 0, "confidence": 1e-9}


def narrower_success(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    document["settings"]["protocol"]["success_threshold"] = 0.9
    samples = {row["sample_id"]: row for row in tables["samples"].to_pylist()}

    def again(row: dict[str, Any]) -> dict[str, Any]:
        sample = samples[row["sample_id"]]
        given = (sample["answer"], sample["question"], sample["own_grams"], row["haystack_share"], 0.9)
        return {**row, **causal.judge(row["text"], *given)}

    tables["answers"] = with_rows(tables["answers"], again)


def another_prompt(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    tables["samples"] = with_rows(tables["samples"], lambda row: {**row, "prompt_sha256": "0" * 64})


def other_shares(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    samples = {row["sample_id"]: row for row in tables["samples"].to_pylist()}

    def again(row: dict[str, Any]) -> dict[str, Any]:
        if row["haystack_share"] is None:
            return row
        sample, share = samples[row["sample_id"]], 1.0 - row["haystack_share"]
        return {
            **row,
            **causal.judge(row["text"], *(sample[n] for n in ("answer", "question", "own_grams")), share, 0.5),
        }

    tables["answers"] = with_rows(tables["answers"], again)


def hard_samples_left_out(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    left = tables["samples"].column("sample_id").to_pylist()[1:]
    for name in tables:
        tables[name] = tables[name].filter(pa.compute.is_in(tables[name].column("sample_id"), pa.array(left)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_heads, "its heads are not the strongest heads of the run"),
        (another_seed, "its heads are not drawn by seed 8"),
        (narrower_success, "its success_threshold is 0.9, the run's is 0.5"),
        (another_prompt, "its prompt_sha256 is not reproduced"),
        (other_shares, "its haystack_share is not reproduced"),
        (hard_samples_left_out, "samples.parquet lacks"),
    ],
)
def test_a_plan_of_ones_own_is_caught_at_recomputed(
    change: Change, words: str, ablated: Path, place: Path, tmp_path: Path
) -> None:
    found = verified(forge(ablated, tmp_path, change), place, rerun=3)
    assert reached(found) == [True, False, None], found.to_json()
    assert words in said(found, 1)


def test_intervals_of_ones_own_are_not_valid(ablated: Path, place: Path, tmp_path: Path) -> None:
    found = verified(forge(ablated, tmp_path, fewer_replicates), place, rerun=3)
    assert reached(found) == [False, None, None], found.to_json()
    assert "/settings/bootstrap/replicates: is 1, the protocol says 1000" in said(found, 0)


def test_heads_of_another_run_are_caught(ablated: Path, place: Path, tmp_path: Path) -> None:
    """Random heads are drawn around others, so that the whole plan is made anew from a run that the experiment does not
    name."""
    other = run_of(place, 9)

    def change(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
        ranking, run = run_ranking(other), read_run(other)
        made, left_out = make_conditions(head_grid(run.layers), ranking, (0, 2), 2, 0)
        heads = [list(head) for head in ranking.retrieval]
        document["settings"] |= {"conditions": made, "left_out": left_out, "retrieval_heads": heads}

    found = verified(forge(ablated, tmp_path, change), place)
    assert reached(found) == [True, False, None]
    assert "its retrieval heads are not those that the run's ranking gives" in said(found, 1)


def test_a_run_of_other_bytes_is_caught(ablated: Path, place: Path, tmp_path: Path) -> None:
    def change(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
        document["runs"][0]["run_sha256"] = "0" * 64

    found = verified(forge(ablated, tmp_path, change), place)
    assert reached(found) == [True, False, None] and "is another than the one meant" in said(found, 1)


def test_a_run_whose_heads_are_not_its_events_lends_nothing(place: Path, tmp_path: Path) -> None:
    """Run and experiment are forged together: the heads of the run are what its summary and tables say, and no more."""
    import pyarrow.parquet as pq

    from rh_bench.system.files import sha256_file

    run = tmp_path / "results" / "runs" / "model" / run_of(place).name
    shutil.copytree(run_of(place), run)
    table = pq.read_table(run / "heads.parquet")
    rows = table.to_pylist()
    rows[-1] |= {"score": 0.9, "score_high": 1.0}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), run / "heads.parquet")
    document = json.loads((run / "run.json").read_text())
    document["files"]["heads.parquet"] = sha256_file(run / "heads.parquet")
    (run / "run.json").write_bytes(dump_json(document))
    folder = make_dynamic(tmp_path / "results" / "experiments", run, permutations=2000)
    found = verify_run(folder)
    assert reached(found) == [True, False, None]
    assert "heads.parquet is not what its events give" in said(found, 1)


def test_copies_that_the_run_does_not_have_are_caught(place: Path, tmp_path: Path) -> None:
    honest = make_dynamic(tmp_path / "one" / "experiments", run_of(place), permutations=2000)
    shutil.copytree(place / "results" / "runs", tmp_path / "one" / "runs")
    assert reached(verify_run(honest)) == [True, True, None]

    def change(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
        tables["copies"] = tables["copies"].slice(3)

    found = verify_run(forge(honest, tmp_path / "two", change))
    assert reached(found) == [True, False, None] and "copies.parquet is not what its runs give" in said(found, 1)


def test_few_permutations_or_a_seed_of_ones_own_are_no_recomputed(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "results" / "runs", tmp_path / "runs")
    found = verify_run(make_dynamic(tmp_path / "experiments", run_of(place), permutations=50, seed=3))
    assert reached(found) == [True, False, None]
    assert "at least 2000 are needed" in said(found, 1) and "for all experiments it is 0" in said(found, 1)


def responses_made_up(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    items = {row["item_id"]: row for row in tables["items"].to_pylist()}

    def lie(row: dict[str, Any]) -> dict[str, Any]:
        text = "no" if row["condition"] == "top" else items[row["item_id"]]["answers"][0]
        graded = qa.grade("extractive", text, items[row["item_id"]]["answers"], 0)
        judged = {"answer": graded.answer, "correct": graded.correct, "f1": graded.f1}
        return {**row, "text": text, **judged}

    tables["responses"] = with_rows(tables["responses"], lie)


def another_question(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    tables["items"] = with_rows(tables["items"], lambda row: {**row, "question_sha256": "0" * 64})


def other_heads_asked(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    conditions = document["settings"]["conditions"]
    top = next(c for c in conditions if c["kind"] == "top")
    kept = {tuple(head) for c in conditions if c["kind"] != "top" for head in c["heads"]}
    grid = head_grid([_layer(layer) for layer in document["model"]["layers"]])
    taken = kept | {tuple(head) for head in document["settings"]["retrieval_heads"]}
    top["heads"] = [top["heads"][0], list(next(head for head in grid if head not in taken))]


@pytest.mark.parametrize(
    ("change", "levels", "words"),
    [
        (other_heads_asked, [True, False, None], "condition top: its heads are not the strongest heads of the run"),
        (another_question, [True, False, None], "its question_sha256 is not reproduced"),
        (responses_made_up, [True, True, False], "outcomes equal (at least 2 needed"),
    ],
)
def test_forged_answers_to_questions_are_caught(
    change: Change, levels: list[bool | None], words: str, asked: Path, place: Path, tmp_path: Path
) -> None:
    found = verified(forge(asked, tmp_path, change), place, haystack=False, rerun=6)
    assert reached(found) == levels, found.to_json()
    assert words in said(found, 1 if levels[1] is False else 2)


def a_head_lifted(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    """The first head is said to copy, in every sample."""

    def lie(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "values": [900_000_000, *row["values"][1:]]} if row["score"] == "induction" else row

    tables["scores"] = with_rows(tables["scores"], lie)


def a_detector_of_ones_own(document: dict[str, Any], tables: dict[str, pa.Table]) -> None:
    document["settings"]["detectors"][0]["rules"][0]["value"] = 0.01


@pytest.mark.parametrize(
    ("change", "levels", "words"),
    [
        (a_head_lifted, [True, True, False], "induction: head 0-0 differs in 3 of 3"),
        (a_detector_of_ones_own, [True, False, None], "its detector copy is not the one of that name"),
    ],
)
def test_forged_scores_of_detectors_are_caught(
    change: Change, levels: list[bool | None], words: str, detected: Path, place: Path, tmp_path: Path
) -> None:
    found = verified(forge(detected, tmp_path, change), place, rerun=3)
    assert reached(found) == levels, found.to_json()
    assert words in said(found, 1 if levels[1] is False else 2)


def test_another_model_and_another_set_are_caught(ablated: Path, place: Path, tmp_path: Path) -> None:
    other = tiny_checkpoint(tmp_path / "model", window=2000, seed=1)
    evidence = Evidence(str(place / "set"), str(other), rerun=3, device="cpu")
    found = verify_run(ablated, evidence)
    assert reached(found) == [True, False, None] and "not the run's model" in said(found, 1)
    build_set(Recipe(parse_source("synthetic:5"), GRID), tmp_path / "set")
    found = verify_run(ablated, Evidence(str(tmp_path / "set"), str(place / "model"), rerun=3, device="cpu"))
    assert reached(found) == [True, False, None] and "another set than the experiment's" in said(found, 1)
