"""The summary: worked cases, verdicts, and that every document there can be is one of the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from measured import GRID, LAYERS, measured, runs

from rh_bench.records import Json, Layer, SampleResult
from rh_bench.scores.heads import score
from rh_bench.scores.summary import sparsity_verdict, summarise
from rh_bench.stats.bootstrap import Estimate
from rh_bench.system.schema import schema_text

RUN_ID = "0123456789abcdef"
SCHEMA = json.loads(schema_text("summary"))
VALIDATOR = Draft202012Validator(SCHEMA)


def summary(samples: list[SampleResult], layers: tuple[Layer, ...] = LAYERS, replicates: int = 200) -> Json:
    document = summarise(RUN_ID, layers, samples, score(layers, samples, replicates=replicates))
    # As in the file: whatever is no plain JSON fails here.
    again: Json = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    VALIDATOR.validate(again)
    return again


def many(number: int, **options: Any) -> list[SampleResult]:
    """Samples of two needles in which head (0, 0) copies the whole answer and (2, 1) half of it."""
    events = [(0, 0, 0, 0), (0, 0, 1, 1), (2, 1, 1, 1)]
    return [
        measured(f"s{i}", events, span=2, needle=f"n{i % 2}", depth=50.0 * (i // 2 % 2), **options)
        for i in range(number)
    ]


# Numbers


def test_sparsity_of_a_worked_case() -> None:
    found = summary(many(12))["sparsity"]
    values = {name: estimate["value"] for name, estimate in found.items()}
    assert values == {
        "share_zero": 0.6,
        "share_above_0.1": 0.4,
        "share_above_0.5": 0.2,
        "gini": 0.666666667,  # ascending 0 0 0 .5 1: (2*.5 + 4*1) / (5*1.5)
        "effective_heads": 1.889881575,  # p = 1/3, 2/3: 3 / 2**(2/3)
    }
    assert all((e["low"], e["high"], e["n"]) == (e["value"], e["value"], 12) for e in found.values())


def test_success_of_a_worked_case() -> None:
    samples = [
        measured("a", length=100, depth=0.0),
        measured("b", length=100, depth=50.0, success=False, recall=0.25),
        measured("c", length=200, depth=0.0),
        measured("d", length=200, depth=0.0, recall=0.75),
    ]
    found = summary(samples)["success"]
    assert (found["rate"]["value"], found["rate"]["n"]) == (0.75, 4)
    assert found["mean_rouge1_recall"]["value"] == 0.75
    assert [(row["length"], row["rate"]["value"], row["rate"]["n"]) for row in found["by_length"]] == [
        (100, 0.5, 2),
        (200, 1.0, 2),
    ]
    assert [(row["depth"], row["rate"]["value"]) for row in found["by_depth"]] == [(0.0, 1.0), (50.0, 0.0)]
    assert [(row["length"], row["depth"], row["rate"]["n"]) for row in found["by_cell"]] == [
        (100, 0.0, 1),
        (100, 50.0, 1),
        (200, 0.0, 2),
    ]
    assert 0.0 < found["by_depth"][1]["rate"]["high"] < 1.0


@pytest.mark.parametrize("success", [True, False])
def test_rate_is_never_known_exactly(success: bool) -> None:
    rate = summary(many(12, success=success))["success"]["rate"]
    assert rate["value"] == float(success)
    assert 0.2 < rate["high"] - rate["low"] < 0.3  # Wilson: 12 of 12


def test_curve_is_made_of_scores() -> None:
    curve = summary(many(12))["universality"]["curve"]
    assert curve["quantiles"][:3] == [0, 0.01, 0.02]
    by_quantile = dict(zip(curve["quantiles"], curve["scores"], strict=True))
    assert [by_quantile[q] for q in (0, 0.6, 0.61, 0.8, 0.81, 1)] == [0, 0, 0.5, 0.5, 1, 1]


def test_layers_without_attention_are_listed_with_nulls() -> None:
    assert summary(many(12))["universality"]["layers"] == [
        {"layer": 0, "heads": 2, "retrieval_heads": 1, "mean_score": 0.5},
        {"layer": 1, "heads": 0, "retrieval_heads": None, "mean_score": None},
        {"layer": 2, "heads": 3, "retrieval_heads": 1, "mean_score": 0.166666667},
    ]


def test_stability_is_the_mean_over_pairs_of_needles() -> None:
    samples = [*many(4), measured("x", [(0, 0, 0, 0), (0, 1, 0, 1)], span=2, needle="n2")]
    found = summary(samples)["universality"]["stability"]["by_needle"]
    # n0 and n1 agree. Their centred ranks are (2, -1, -1, 1, -1), those of n2 (1.5, 1.5, -1, -1, -1).
    assert found["value"] == pytest.approx((1 + 2 * 2.5 / (8 * 7.5) ** 0.5) / 3, abs=1e-9)
    assert (found["n"], found["low"]) == (3, None)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([], "two needles with counted samples, there are 0"),
        ([measured("a", [(0, 0, 0, 0)])], "there are 1"),
        ([measured("a", [(0, 0, 0, 0)]), measured("b", needle="n1")], "score alike on 1 of 2 needles"),
    ],
)
def test_stability_that_is_undefined_has_a_reason(samples: list[SampleResult], reason: str) -> None:
    found = summary(samples)["universality"]["stability"]["by_needle"]
    assert found["value"] is None
    assert reason in found["reason"]


def test_top_heads_are_sorted_and_score() -> None:
    samples = [measured(f"s{i}", [(0, 1, 0, 0), (2, 2, 0, 1), (0, 0, 0, 0), (0, 0, 1, 2)]) for i in range(3)]
    found = summary(samples)["top_heads"]
    assert [(row["layer"], row["head"], row["rank"], row["score"]) for row in found] == [
        (0, 0, 1, 0.5),
        (0, 1, 2, 0.25),
        (2, 2, 2, 0.25),
    ]
    assert all(row["activation_frequency"] == 1.0 for row in found)


def test_top_heads_are_at_most_twenty() -> None:
    samples = [measured("a", [(0, head, 0, 0) for head in range(30)])]
    found = summary(samples, layers=(Layer(0, "full", 30, 30),))["top_heads"]
    assert [row["head"] for row in found] == list(range(20))


def test_always_on_needs_ten_samples() -> None:
    assert summary(many(10))["always_on"]["heads"] == [[0, 0], [2, 1]]
    assert summary([*many(10), measured("idle", [(0, 0, 0, 0)])])["always_on"]["heads"] == [[0, 0]]
    too_few = summary(many(9))["always_on"]
    assert (too_few["heads"], too_few["reason"]) == (None, "needs 10 counted samples, there are 9")


# What cannot be computed


def test_nothing_counted_is_null_with_reasons() -> None:
    found = summary(many(12, success=False))
    assert all(e["value"] is None and "no sample counted" in e["reason"] for e in found["sparsity"].values())
    assert found["universality"]["curve"]["scores"] is None
    assert found["top_heads"] == []
    assert found["always_on"]["heads"] is None
    assert found["success"]["rate"]["value"] == 0.0


def test_no_samples_at_all() -> None:
    found = summary([])
    assert found["success"]["rate"]["reason"] == found["success"]["mean_rouge1_recall"]["reason"] == "no samples"


def test_all_heads_at_zero_leave_concentration_undefined() -> None:
    found = summary([measured(f"s{i}") for i in range(25)])
    assert found["sparsity"]["share_zero"]["value"] == 1.0
    assert (
        found["sparsity"]["gini"]["reason"]
        == found["sparsity"]["effective_heads"]["reason"]
        == "every head scores zero"
    )
    claim = found["claims"][0]
    assert (claim["verdict"], claim["reason"]) == (
        "not_enough_evidence",
        "No head copied anything in any counted sample.",
    )


def test_replicates_without_copies_leave_no_interval() -> None:
    samples = [measured("a", [(0, 0, 0, 0)]), measured("b"), measured("c")]
    gini = summary(samples)["sparsity"]["gini"]
    assert gini["value"] == 0.8
    assert gini["low"] is None
    assert "of 200 replicates" in gini["reason"]


def test_model_without_attention() -> None:
    found = summary([measured("a")], layers=(Layer(0, "mamba"),))
    assert found["heads"] == 0
    assert found["sparsity"]["gini"]["reason"] == "the model has no softmax-attention heads"


# Claims


@pytest.mark.parametrize(
    ("share", "verdict", "reason"),
    [
        (Estimate(0.03, 0.02, 0.049, 20), "holds", None),
        (Estimate(0.1, 0.051, 0.2, 20), "does_not_hold", None),
        (Estimate(0.04, 0.02, 0.05, 20), "not_enough_evidence", "includes 5%"),
        (Estimate(0.06, 0.05, 0.07, 20), "not_enough_evidence", "includes 5%"),
        (Estimate(0.03, 0.02, 0.04, 19), "not_enough_evidence", "Needs 20 counted samples, there are 19"),
        (Estimate(0.03, None, None, 30, "why"), "not_enough_evidence", "no interval: why"),
    ],
)
def test_sparsity_verdict(share: Estimate, verdict: str, reason: str | None) -> None:
    found, why = sparsity_verdict(share, anything_copied=True)
    assert found == verdict
    assert (why is None) if reason is None else (why is not None and reason in why)


def test_sparse_model_and_dense_model() -> None:
    layers = (Layer(0, "full", 40, 8),)
    sparse = [measured(f"s{i}", [(0, 3, 0, 0)], span=1) for i in range(20)]
    dense = [measured(f"s{i}", [(0, head, 0, 0) for head in range(10)], span=1) for i in range(20)]
    verdicts = [summary(samples, layers)["claims"][0]["verdict"] for samples in (sparse, sparse[:19], dense)]
    assert verdicts == ["holds", "not_enough_evidence", "does_not_hold"]


def test_one_run_decides_no_other_claim() -> None:
    claims = summary(many(30))["claims"]
    assert [row["claim"] for row in claims] == ["sparsity", "universality", "intrinsic", "dynamic", "causal"]
    assert all(row["verdict"] == "not_enough_evidence" and row["reason"] for row in claims[1:])


# Documents


@given(runs())
def test_every_run_gives_a_valid_document(samples: list[SampleResult]) -> None:
    found = summary(samples, replicates=20)
    assert found["n_samples"] == len(samples)
    assert found["heads"] == len(GRID)


@given(runs(), st.randoms(use_true_random=False))
def test_order_of_samples_changes_no_byte(samples: list[SampleResult], random: Any) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)
    assert json.dumps(summary(shuffled, replicates=20)) == json.dumps(summary(samples, replicates=20))


def test_schema_is_a_schema_and_its_examples_fit() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for definition in SCHEMA["$defs"].values():
        validator = VALIDATOR.evolve(schema={**definition, "$defs": SCHEMA["$defs"]})
        assert definition["examples"]
        for example in definition["examples"]:
            validator.validate(example)


def objects(node: Any) -> list[Json]:
    """Every schema of an object inside a schema; those of conditions carry no type."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    inner = [found for child in children for found in objects(child)]
    return [*inner, node] if isinstance(node, dict) and "title" in node and node.get("type") == "object" else inner


def test_schema_closes_every_object() -> None:
    found = objects(SCHEMA)
    assert len(found) > 10
    assert all(o["additionalProperties"] is False and set(o["required"]) == set(o["properties"]) for o in found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("success", "rate", "value"), None),
        (("success", "rate", "low"), None),
        (("success", "rate", "value"), 1.5),
        (("success", "rate", "extra"), 1),
        (("universality", "stability", "by_needle", "reason"), None),
        (("universality", "curve", "scores"), [0.1]),
        (("always_on", "reason"), "both"),
        (("claims", 1, "reason"), None),
        (("claims", 1, "verdict"), "holds"),
        (("run_id",), "../../etc"),
        (("schema_version",), "2.0"),
        (("n_samples",), -1),
        (("heads",), 10**9),
    ],
)
def test_schema_refuses(path: tuple[str | int, ...], value: object) -> None:
    document: Any = summary(many(12))
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert not VALIDATOR.is_valid(document)
