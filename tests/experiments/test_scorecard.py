"""The scorecard: verdicts of a run and of experiments on it, and of no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_experiments import make_dynamic, make_intrinsic, make_relatives
from fake_runs import make_run

from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import read_document, recompute, run_reference, validate_experiment
from rh_bench.experiments.scorecard import Row, about, find_experiments, scorecard, scorecard_of, standing_claims
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json, load_json

CLAIMS = [claim.name for claim in standing_claims()]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder: three runs, and experiments on two of them."""
    root = tmp_path_factory.mktemp("results")
    base, chat, _ = make_relatives(root / "runs", n_samples=40)
    make_intrinsic(root / "experiments", chat, base)
    make_dynamic(root / "experiments", chat)
    return root


def run_of(results: Path, slug: str = "acme__chat") -> Path:
    return next((results / "runs" / slug).iterdir())


def rows_of(folder: Path, experiments: Path | None = None) -> dict[str, Row]:
    return {row.claim: row for row in scorecard_of(folder, experiments).rows}


@pytest.mark.slow
def test_every_claim_has_a_row_with_its_evidence(results: Path) -> None:
    card = scorecard_of(run_of(results))
    assert CLAIMS == ["universality", "sparsity", "intrinsic", "dynamic", "causal", "reasoning"]
    assert [row.claim for row in card.rows] == CLAIMS
    assert card.left_out == () and card.model == "acme/chat"
    rows = {row.claim: row for row in card.rows}
    assert rows["universality"].verdict == "holds" and rows["universality"].main.source == "run"
    assert rows["sparsity"].verdict == "does_not_hold"
    assert rows["intrinsic"].verdict == "holds"
    assert rows["intrinsic"].main.source == "intrinsic" and rows["intrinsic"].main.effect["low"] > 0.5
    assert [one.source for one in rows["dynamic"].evidence] == ["dynamic"]
    assert rows["causal"].verdict == "not_enough_evidence" and "rh-bench ablate" in rows["causal"].reason
    assert rows["causal"].evidence == () and rows["causal"].main is None
    for row in card.rows:
        assert row.verdict != "not_enough_evidence" or row.reason
        assert all(one.test and one.n >= 0 for one in row.evidence)


def test_a_pair_counts_for_both_models(results: Path) -> None:
    rows = rows_of(run_of(results, "acme__base"))
    assert rows["intrinsic"].verdict == "holds" and rows["dynamic"].evidence == ()
    assert rows_of(run_of(results, "other__stranger"))["intrinsic"].evidence == ()


def test_experiments_on_other_bytes_of_a_run_and_damaged_ones_say_nothing(results: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(results, tmp_path / "results"))
    folder = run_of(root)
    damaged = next((root / "experiments" / "acme__chat").glob("dynamic-*"))
    document = load_json(damaged / "experiment.json")
    document["claims"][0]["verdict"] = "holds"
    document["claims"][0]["n"] = 10**6
    (damaged / "experiment.json").write_bytes(dump_json(document))
    card = scorecard_of(folder)
    assert [name.split("/")[1].split("-")[0] for name, _ in card.left_out] == ["dynamic"]
    assert "what the tables give" in card.left_out[0][1]
    changed = load_json(folder / "run.json") | {"timings": {**load_json(folder / "run.json")["timings"], "seconds": 1}}
    (folder / "run.json").write_bytes(dump_json(changed))
    card = scorecard_of(folder)
    assert {why for _, why in card.left_out} == {"was made from this run before its bytes changed"}
    assert all(row.evidence == () for row in card.rows[2:])


def test_experiments_that_contradict_each_other_decide_nothing(results: Path) -> None:
    folder = run_of(results)
    run, summary = load_json(folder / "run.json"), load_json(folder / "summary.json")
    (path,) = (results / "experiments" / "acme__chat").glob("intrinsic-*")
    one = read_document(path)
    other: dict[str, Any] = json.loads(json.dumps(one)) | {"experiment_id": "f" * 16}
    other["claims"][0]["verdict"] = "does_not_hold"
    rows = {row.claim: row for row in scorecard(run, summary, [one, other])}
    assert rows["intrinsic"].verdict == "not_enough_evidence" and "contradict" in rows["intrinsic"].reason
    assert len(rows["intrinsic"].evidence) == 2
    other["claims"][0] |= {"verdict": "not_enough_evidence", "reason": "too few"}
    rows = {row.claim: row for row in scorecard(run, summary, [other, one])}
    assert rows["intrinsic"].verdict == "holds" and rows["intrinsic"].main.source_id == one["experiment_id"]
    other["claims"][0]["claim"] = "something_else"
    assert [row.claim for row in scorecard(run, summary, [other])] == [*CLAIMS, "something_else"]


def test_a_run_that_answers_nothing_proves_nothing(tmp_path: Path) -> None:
    rows = rows_of(make_run(tmp_path, n_samples=0))
    assert {row.verdict for row in rows.values()} == {"not_enough_evidence"}


def test_heads_that_come_from_no_run_belong_to_the_model_of_that_revision(results: Path) -> None:
    folder = run_of(results)
    model, reference = load_json(folder / "run.json")["model"], run_reference(folder)
    document: dict[str, Any] = {"runs": [], "model": dict(model)}
    assert about(document, reference, model)
    document["model"]["revision"] = "0" * 40
    assert not about(document, reference, model)
    assert not about({"runs": [{**reference, "run_sha256": "0" * 64}], "model": model}, reference, model)


def test_where_experiments_are_looked_for(results: Path, tmp_path: Path) -> None:
    assert find_experiments(run_of(results)) == results.resolve() / "experiments"
    run = make_run(tmp_path / "out")
    assert find_experiments(run) is None
    (tmp_path / "experiments").mkdir()
    assert find_experiments(run) == (tmp_path / "experiments").resolve()
    with pytest.raises(InputError, match="no such folder"):
        scorecard_of(run, tmp_path / "none")


def test_the_command(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scorecard", str(run_of(results))]) == 0
    shown = capsys.readouterr().out
    assert "does not hold" in shown and "not enough evidence" in shown and "rh-bench reason" in shown
    assert main(["scorecard", str(run_of(results)), "--experiments", str(results / "experiments"), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert [row["claim"] for row in card["rows"]] == CLAIMS
    assert card["rows"][2]["evidence"][0]["verdict"] == "holds"
    assert main(["scorecard", str(results)]) == 2


def test_the_reference_is_that_of_the_bytes(results: Path) -> None:
    folder = run_of(results)
    assert run_reference(folder)["run_sha256"] == sha256_file(folder / "run.json")


@pytest.mark.slow
def test_tables_that_the_runs_do_not_give_say_nothing(results: Path, tmp_path: Path) -> None:
    """Made up throughout, so that every number follows from every other; only the run knows."""
    root = Path(shutil.copytree(results, tmp_path / "results"))
    chat, base = run_of(root), run_of(root, "acme__base")
    named = run_reference(chat)
    stranger = run_of(root, "other__stranger")
    forgers = {
        "dynamic": lambda: make_dynamic(tmp_path / "other", base),
        "intrinsic": lambda: make_intrinsic(tmp_path / "other", base, stranger),
    }
    for kind, make in forgers.items():
        (honest,) = (root / "experiments" / "acme__chat").glob(f"{kind}-*")
        document = load_json(honest / "experiment.json")
        forged = make()
        for path in forged.glob("*.parquet"):
            shutil.copy(path, honest / path.name)
        document["files"] = {name: sha256_file(honest / name) for name in document["files"]}
        (honest / "experiment.json").write_bytes(dump_json(document))
        recompute(honest)
        assert validate_experiment(honest) == [], "nothing in the folder gives it away"
        why = {name.split("/")[1].partition("-")[0]: words for name, words in scorecard_of(chat).left_out}
        assert "run" in why[kind] and "give" in why[kind]
    assert run_reference(chat) == named


def test_a_pair_of_which_one_run_is_elsewhere_still_counts(results: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(results, tmp_path / "results"))
    shutil.rmtree(root / "runs" / "acme__base")
    assert rows_of(run_of(root))["intrinsic"].verdict == "holds"
