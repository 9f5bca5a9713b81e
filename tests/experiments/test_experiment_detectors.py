"""Detectors compared: agreement of scores that were made to agree, to differ, or to know nothing of one another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fake_detectors import COPY, HEADS, LAYERS, MASS, H, N, around, detector, made, rule, strengths

from rh_bench.experiments.artifact import keep_experiment, recompute, validate_experiment
from rh_bench.experiments.detectors.check import check
from rh_bench.experiments.detectors.derive import derive, names, strongest
from rh_bench.experiments.detectors.rows import agreement_rows, detector_rows, head_rows
from rh_bench.experiments.kind import Tables
from rh_bench.stats.bootstrap import NANO


def results_of(*args: Any, **kwargs: Any) -> dict[str, Any]:
    document, tables = made(*args, **kwargs)
    assert list(check(document, tables)) == []
    results, claims = derive(document, tables)
    assert claims == [], "agreement of detectors is no claim"
    return results


def test_the_same_heads_agree_beyond_chance() -> None:
    strength = strengths(0)
    results = results_of({"copy": around(strength, 0.01, 1), "mass": around(strength * 0.3, 0.01, 2)})
    (pair,) = results["pairs"]
    assert pair["spearman"]["low"] > 0.5 and pair["n"] == N
    assert pair["null"]["any"]["p_holm"] < 0.05 and pair["null"]["layer"]["p_holm"] < 0.05
    top = {one["k"]: one for one in pair["top"]}
    assert top[4]["shared"]["value"] == 4 and top[4]["null"]["any"]["mean"] < 1
    assert top[40]["shared"]["value"] is None and "more than half" in top[40]["shared"]["reason"]
    both = results["named_by_all"]
    assert both["count"]["value"] == 4 == len(both["heads"]) == len(both["support"])
    assert both["null"]["any"]["p_value"] < 0.05 and min(both["support"]) > 0.5
    assert sorted(both["heads"]) == sorted(results["detectors"][1]["named"])


@pytest.mark.slow
def test_different_heads_agree_no_more_than_chance() -> None:
    p_values = []
    for seed in range(20):
        values = {"copy": around(strengths(seed), 0.01, seed), "mass": around(strengths(seed + 100), 0.01, seed + 50)}
        (pair,) = results_of(values)["pairs"]
        p_values.append(pair["null"]["any"]["p_value"])
        assert pair["null"]["any"]["low"] < 0 < pair["null"]["any"]["high"]
    assert 0.2 < np.mean(p_values) < 0.8 and sum(p <= 0.05 for p in p_values) <= 4


def test_heads_that_share_only_their_layers_agree_by_the_first_null_and_not_by_the_second() -> None:
    height = np.repeat(np.linspace(0, 0.8, LAYERS), HEADS)
    values = {name: around(height, 0.0, 0) for name in ("copy", "mass")}
    within = np.random.RandomState(3)
    for scores in values.values():
        scores += np.tile(within.uniform(0, 0.05, H), (N, 1))
    (pair,) = results_of(values, permutations=500)["pairs"]
    assert pair["spearman"]["value"] > 0.9
    assert pair["null"]["any"]["p_value"] < 0.01 and pair["null"]["layer"]["p_value"] > 0.05
    assert pair["null"]["layer"]["mean"] > 0.9 and abs(pair["null"]["any"]["mean"]) < 0.1


def test_failed_samples_count_where_success_does_not_matter() -> None:
    copy, mass = np.full((N, H), 0.05), np.full((N, H), 0.05)
    copy[:6, 3], copy[6:, 9], mass[:6, 3], mass[6:, 9] = 0.8, 0.8, 0.4, 0.4
    results = results_of({"copy": copy, "mass": mass}, success=[True] * 6 + [False] * 6)
    one, other = results["detectors"]
    assert (one["n"], other["n"], results["counted"]) == (6, 12, 6)
    assert one["scores"][0]["value"][3] == 0.8 and one["scores"][0]["value"][9] == 0.05
    assert other["scores"][0]["value"][3] == other["scores"][0]["value"][9] == 0.225
    assert results["pairs"][0]["n"] == 6 == results["named_by_all"]["n"]


def test_a_model_that_answers_nothing_has_reasons_and_the_rest_is_computed() -> None:
    other = detector("other", "other", rules=[rule("other", "share", 0.1)])
    values = {"copy": around(strengths(0), 0.01, 1), "mass": around(strengths(0), 0.01, 2)}
    values["other"] = values["mass"]
    results = results_of(values, [COPY, MASS, other], success=[False] * N)
    assert results["detectors"][0]["scores"][0]["value"] is None
    assert "answered none" in results["detectors"][0]["reason"]
    found = {(pair["a"], pair["b"]): pair for pair in results["pairs"]}
    assert found["copy", "mass"]["spearman"]["value"] is None and found["copy", "mass"]["null"] is None
    assert found["mass", "other"]["spearman"]["value"] == 1
    assert results["named_by_all"]["count"]["reason"] == "no sample counts for all detectors"
    assert {row["pair"]: row["value"] for row in agreement_rows(results)}["copy – mass"] == "–"
    assert {tuple(row["named_by"]) for row in head_rows(results)} == {("mass", "other")}


def test_without_a_detector_that_decodes_success_is_unknown() -> None:
    results = results_of({"mass": around(strengths(0), 0.01, 1)}, [MASS])
    assert results["counted"] is None and results["pairs"] == []
    assert results["named_by_all"]["count"]["reason"] == "one detector agrees with itself"


def test_one_sample_and_scores_that_are_all_alike_have_no_interval_and_no_correlation() -> None:
    results = results_of({"copy": np.full((1, H), 0.5), "mass": around(strengths(0), 0.01, 1)[:1]})
    assert results["pairs"][0]["spearman"]["reason"] == "copy scores every head alike"
    assert results["detectors"][1]["scores"][0]["low"] is None
    varied = results_of({name: around(strengths(0), 0.01, 1)[:1] for name in ("copy", "mass")})
    assert varied["pairs"][0]["spearman"]["value"] == 1 and varied["pairs"][0]["spearman"]["low"] is None


def test_rules() -> None:
    scores = (np.array([0.5, 0.1, 0.100000001, 0.0, 0.5, 0.0]) * NANO).round().astype(np.int64)
    assert names([rule("s", "above", 0.1)], {"s": scores}).tolist() == [True, False, True, False, True, False]
    assert names([rule("s", "top", 1)], {"s": scores}).nonzero()[0].tolist() == [0], "the first of equals"
    assert names([rule("s", "top", 5)], {"s": scores}).sum() == 4, "no head whose score is 0"
    assert names([rule("s", "share", 0.34)], {"s": scores}).nonzero()[0].tolist() == [0, 4]
    assert names([rule("s", "share", 0.01)], {"s": scores}).sum() == 1, "at least one"
    many = np.arange(1, 101, dtype=np.int64)
    assert names([rule("s", "share", 0.29)], {"s": many}).sum() == 29, "not 28, as in binary"
    either = names([rule("s", "share", 0.01), rule("t", "top", 2)], {"s": many, "t": many[::-1]})
    assert either.nonzero()[0].tolist() == [0, 1, 99]
    stacked = np.stack([scores, scores[::-1]])
    assert strongest(stacked, 2).tolist() == [strongest(row, 2).tolist() for row in stacked]


def test_replicates_of_two_scores_are_of_the_same_samples() -> None:
    """One score is another, twice: their correlation must be 1 in every replicate."""
    copy = np.abs(np.random.RandomState(0).normal(0, 0.2, (N, H))).clip(0, 0.5)
    (pair,) = results_of({"copy": copy, "mass": copy * 2})["pairs"]
    assert (pair["spearman"]["low"], pair["spearman"]["high"]) == (1.0, 1.0)


def test_rows_to_show() -> None:
    strength = strengths(0)
    results = results_of({"copy": around(strength, 0.01, 1), "mass": around(strength * 0.3, 0.01, 2)})
    best = int(np.argmax(strength))
    assert detector_rows(results)[0]["strongest"][0] == f"{best // HEADS}-{best % HEADS}"
    (row,) = agreement_rows(results)
    assert row["pair"] == "copy – mass" and row["shared"] == "2 of 2, 4 of 4" and " to " in row["chance"]
    rows = head_rows(results)
    assert len(rows) == 4 and rows[0]["head"] == f"{best // HEADS}-{best % HEADS}"
    assert rows[0]["scores"]["copy"]["rank"] == 1 and rows[0]["scores"]["copy"]["low"] > 0.4
    assert len(head_rows(results, most=1)) == 1


# On disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return keep_experiment(
        tmp_path, *made({name: around(strengths(0), 0.05, i) for i, name in enumerate(("copy", "mass"))})
    )[0]


@pytest.mark.slow
def test_the_artifact_is_valid_and_recomputes(folder: Path) -> None:
    assert validate_experiment(folder) == []
    before = (folder / "experiment.json").read_bytes()
    document = json.loads(before)
    assert document["claims"] == [] and document["runs"] == []
    document["results"]["pairs"][0]["spearman"]["value"] = 0.123
    (folder / "experiment.json").write_text(json.dumps(document))
    assert any(problem.pointer == "/results" for problem in validate_experiment(folder))
    assert recompute(folder) == ["experiment.json"] and (folder / "experiment.json").read_bytes() == before


def rows(table: str, row: int, column: str, value: Any) -> Callable[[dict[str, Any], dict[str, pa.Table]], Tables]:
    def change(document: dict[str, Any], tables: dict[str, pa.Table]) -> Tables:
        listed = tables[table].to_pylist()
        listed[row][column] = value
        return {**tables, table: pa.Table.from_pylist(listed, schema=tables[table].schema)}

    return change


def setting(path: str, value: Any) -> Callable[[dict[str, Any], dict[str, pa.Table]], Tables]:
    def change(document: dict[str, Any], tables: dict[str, pa.Table]) -> Tables:
        *parents, last = path.split("/")
        place: Any = document
        for part in parents:
            place = place[int(part) if isinstance(place, list) else part]
        place[int(last) if isinstance(place, list) else last] = value
        return tables

    return change


def many_comparisons(document: dict[str, Any], tables: dict[str, pa.Table]) -> Tables:
    document["settings"] |= {"permutations": 2_000_000, "top": list(range(1, 17))}
    return tables


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rows("samples", 1, "sample_id", "s00"), "also in row 0"),
        (rows("samples", 1, "length", 0), "at least 1 token"),
        (rows("samples", 1, "depth", float("nan")), "0 to 100"),
        (rows("samples", 1, "success", None), "a detector decodes"),
        (rows("samples", 1, "rouge1_recall", 1.5), "must be 0 to 1"),
        (rows("samples", 1, "success", False), "with a recall of 1.0"),
        (rows("scores", 1, "sample_id", "s07"), "must be s01"),
        (rows("scores", 1, "detector", "mass"), "must be copy"),
        (setting("settings/detectors/0/name", "a\x00b"), r"must be a\\u0000b"),
        (rows("scores", 1, "values", [1, 2]), "the model has 48 heads"),
        (rows("scores", 1, "values", [2 * NANO] * H), r"outside \[-1, 1\]"),
        (rows("scores", 1, "seconds", float("inf")), "inf"),
        (lambda document, tables: {**tables, "scores": tables["scores"].slice(1)}, "24 are expected"),
        (lambda document, tables: {name: table.slice(0, 0) for name, table in tables.items()}, "has no rows"),
        (setting("settings/detectors/1/scores", ["copy"]), "different names"),
        (setting("settings/detectors/1/rules/0/score", "copy"), "does not have"),
        (setting("settings/bootstrap/replicates", 1_000_000), "numbers of replicates"),
        (setting("settings/bootstrap/replicates", 150_000), "asks for 150000 correlations"),
        (setting("settings/permutations", 100_000_000), "numbers of replicates"),
        (many_comparisons, "comparisons of heads"),
        (setting("model/layers/0/query_heads", 10**9), "heads; 2 to"),
        (setting("model/layers/1/index", 5), "numbered from 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_found(change: Any, message: str) -> None:
    document, tables = made({name: around(strengths(0), 0.05, 1) for name in ("copy", "mass")})
    document = json.loads(json.dumps(document))
    problems = list(check(document, change(document, tables)))
    assert problems
    assert any(re.search(message, problem.message) for problem in problems), problems
