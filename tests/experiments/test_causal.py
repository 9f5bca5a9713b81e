"""The causal experiment: what is removed, what comes out of the rows, and a tiny model from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_causal import HEADS, LAYERS, LENGTHS, SCORES, document, tables
from fake_runs import make_run
from tiny import tiny_checkpoint

from rh_bench.artifacts.run import read_run
from rh_bench.attention.ablation import ablate
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.engines import make_engine
from rh_bench.engines.base import stop_rule
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import read_experiment, recompute, validate_experiment
from rh_bench.experiments.causal.kind import KIND
from rh_bench.experiments.causal.plan import make_conditions, unseen_needles
from rh_bench.experiments.causal.run import Request, ablation_experiment
from rh_bench.experiments.heads import rank_heads
from rh_bench.experiments.schemas import experiment_schema
from rh_bench.measure.evaluate import Step
from rh_bench.measure.session import Outcome, Step
from rh_bench.models.load import load_model
from rh_bench.sets.dataset import read_set
from rh_bench.sets.grids import Grid
from rh_bench.sets.prompts import PromptBuilder
from rh_bench.system.schema import validate_document

# What is removed


def test_conditions_remove_the_strongest_and_others() -> None:
    ranking = rank_heads(LAYERS, SCORES)
    conditions, left_out = make_conditions(HEADS, ranking, (0, 2, 3), 5, seed=7)
    assert left_out == []
    assert [row["condition"] for row in conditions] == list(range(23))
    assert [(row["kind"], row["k"]) for row in conditions[:3]] == [("none", 0), ("top", 2), ("uniform", 2)]
    assert conditions[1]["heads"] == [[0, 1], [1, 0]] and conditions[12]["heads"] == [[0, 1], [1, 0], [1, 3]]
    retrieval = {(0, 1), (1, 0), (1, 3)}
    for row in conditions[2:12] + conditions[13:]:
        heads = {tuple(head) for head in row["heads"]}
        assert len(heads) == row["k"] and not heads & retrieval
        if row["kind"] == "matched":
            assert sorted(layer for layer, _ in heads) == ([0, 1] if row["k"] == 2 else [0, 1, 1]) and row["moved"] == 0
    assert [row["seed"] for row in conditions[2:12]] == [*range(7, 17)]
    for small, large in zip(conditions[2:7], conditions[13:18], strict=True):
        assert set(map(tuple, small["heads"])) < set(map(tuple, large["heads"])), (
            "larger uniform draws hold the smaller"
        )
    assert make_conditions(HEADS, ranking, (3, 2), 5, seed=7)[0] == conditions


def test_too_few_other_heads_are_said_and_left_out() -> None:
    conditions, left_out = make_conditions(HEADS, rank_heads(LAYERS, SCORES), (9, 12, 50), 2, seed=0)
    assert [(row["kind"], row["k"]) for row in conditions] == [("none", 0), ("top", 9), ("top", 12)]
    assert [(row["kind"], row["k"]) for row in left_out] == [
        *(("uniform", 9), ("matched", 9), ("uniform", 12), ("matched", 12)),
        ("top", 50),
    ]
    assert "from the 3 neither" in left_out[0]["reason"] and left_out[-1]["reason"] == "the model has 12 heads"


@pytest.mark.parametrize(("top", "draws"), [((0,), 5), ((-1, 2), 5), ((2, 2), 5), ((50,), 5), ((2,), 0)])
def test_conditions_that_say_nothing_are_refused(top: tuple[int, ...], draws: int) -> None:
    with pytest.raises(InputError):
        make_conditions(HEADS, rank_heads(LAYERS, SCORES), top, draws, seed=0)


# What comes out


def only_the_strongest_matter(condition: dict[str, Any], needle: int, place: int) -> bool:
    return condition["kind"] != "top" or needle == 0


def test_a_curve_counts_what_fails_and_why() -> None:
    doc = document()
    found = tables(doc, only_the_strongest_matter)
    assert list(KIND.check(doc, found)) == []
    results, (claim,) = KIND.derive(doc, found)
    assert results["samples"] == 16 and results["needles"] == 8 and results["conditions"] == 11
    assert results["baseline"]["success"]["value"] == 1.0
    row = results["curve"][1]
    assert row["k"] == 3 and row["top"]["success"]["value"] == 0.125 and row["cost"]["value"] == -0.875
    assert row["top"]["failures"] == {
        "incomplete_retrieval": 0,
        "wrong_extraction": 14,
        "hallucination": 0,
        "no_answer": 0,
    }
    control = row["controls"]["matched"]
    assert control["success"]["value"] == 1.0 and control["answers"] == 32 and control["success_by_draw"] == [1.0, 1.0]
    assert control["difference"]["success"]["value"] == -0.875 and control["difference"]["success"]["high"] < 0
    assert control["needles_below"] == 7
    assert control["p_needles"] == 2 / 2**7, (
        "of 7 needles that differ, 1 of 128 assignments and its mirror are as extreme"
    )
    assert control["p_by_draw"] == [round(2 / 2**14, 9)] * 2
    assert claim["verdict"] == "holds" and claim["n"] == 16 and claim["p_value"] == 2 / 2**7
    assert claim["effect"]["value"] == -0.875 and "K = 3 of 3" in claim["reason"]


def verdict(
    succeeds: Callable[[dict[str, Any], int, int], bool], lengths: Sequence[int] = LENGTHS, **changes: Any
) -> tuple[str, str]:
    doc = document(**changes)
    (claim,) = KIND.derive(doc, tables(doc, succeeds, lengths))[1]
    return claim["verdict"], claim["reason"] or ""


def test_random_heads_that_cost_as_much_refute_the_claim() -> None:
    many = range(500, 1000, 50)
    assert verdict(lambda c, needle, place: c["kind"] == "none" or place % 2 == 0, many)[0] == "does_not_hold"
    assert verdict(lambda c, needle, place: True, many)[0] == "does_not_hold"
    assert verdict(lambda c, needle, place: True)[0] == "not_enough_evidence", "16 samples do not exclude a small cost"
    same_layers = verdict(lambda c, needle, place: c["kind"] in ("none", "uniform"), many)
    assert same_layers[0] == "does_not_hold", "others in the same layers cost as much"
    assert "2 of 4 random sets cost as much" in same_layers[1]


def test_little_evidence_is_none() -> None:
    assert "answers 8 of 16" in verdict(lambda c, needle, place: place % 2 == 0)[1]
    assert "needles measured" in verdict(lambda c, needle, place: c["kind"] != "top" or needle > 3)[1]
    assert "neither" in verdict(lambda c, needle, place: c["kind"] != "top" or needle > 0)[1]
    found = verdict(only_the_strongest_matter, retrieval_heads=[])
    assert found == ("not_enough_evidence", "the run found no retrieval heads")
    found = verdict(only_the_strongest_matter, retrieval_heads=[[0, 1]])
    assert found[0] == "not_enough_evidence" and "no K so small" in found[1]
    found = verdict(only_the_strongest_matter, top=(9,), retrieval_heads=[list(head) for head in HEADS[:10]])
    assert found[0] == "not_enough_evidence" and "no random heads" in found[1]


def test_another_way_than_removing_is_said() -> None:
    assert (
        "by uniform, phase decode, not removed" in verdict(only_the_strongest_matter, how="uniform", phase="decode")[1]
    )


def change(table: pa.Table, row: int, name: str, value: Any) -> pa.Table:
    rows = table.to_pylist()
    rows[row][name] = value
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize(
    ("table", "row", "name", "value"),
    [
        ("answers", 3, "success", False),
        ("answers", 3, "rouge1_recall", 0.9),
        ("answers", 3, "rouge1_precision", None),
        ("answers", 3, "error", "hallucination"),
        ("answers", 3, "new_words", 0),
        ("answers", 3, "own_grams_said", 0),
        ("answers", 3, "haystack_share", 1.5),
        ("answers", 3, "haystack_share", None),
        ("answers", 3, "text", "moths"),
        ("answers", 3, "condition", 1),
        ("answers", 3, "sample_id", "n0-L512"),
        ("samples", 1, "length", 1),
        ("samples", 1, "answer", "?!"),
        ("samples", 1, "own_grams", ["b", "a"]),
        ("samples", 1, "question", "x" * 30_000),
    ],
)
def test_rows_that_do_not_follow_are_found(table: str, row: int, name: str, value: Any) -> None:
    doc = document()
    found = tables(doc, only_the_strongest_matter)
    assert list(KIND.check(doc, {**found, table: change(found[table], row, name, value)}))


@pytest.mark.parametrize(
    ("number", "name", "value"),
    [
        (0, "heads", [[0, 0]]),
        (1, "k", 0),
        (1, "heads", [[0, 1], [0, 1]]),
        (1, "heads", [[0, 1], [7, 0]]),
        (2, "heads", [[0, 0], [0, 1]]),
        (2, "heads", [[0, 0], [1, 3]]),
        (3, "draw", 0),
    ],
)
def test_conditions_that_do_not_add_up_are_found(number: int, name: str, value: Any) -> None:
    doc = document()
    found = tables(doc, only_the_strongest_matter)
    doc["settings"]["conditions"][number][name] = value
    assert list(KIND.check(doc, found))


def test_rows_must_be_all_there() -> None:
    doc = document()
    found = tables(doc, only_the_strongest_matter)
    for fewer in (found["answers"].slice(1), found["answers"].slice(0, 0)):
        assert list(KIND.check(doc, {**found, "answers": fewer}))
    assert list(KIND.check(doc, {name: table.slice(0, 0) for name, table in found.items()}))


# A tiny model from end to end

GRID = Grid("custom", (500, 600), (0.0, 100.0), needles=3, haystacks=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, a set, and a run of the model that was made up, since it would find no heads."""
    folder = tmp_path_factory.mktemp("causal")
    tiny_checkpoint(folder / "model", window=1000)
    build_set(Recipe(parse_source("synthetic"), GRID), folder / "set")
    model = load_model(str(folder / "model"), device="cpu").describe()
    run = make_run(folder / "made", layers=3, heads=4, kv_heads=2, model_id="model")
    made = read_run(run).document
    protocol = {**made["protocol"], "template": "plain", "max_new_tokens": 6, "dtype": "float32"}
    make_run(folder / "runs", layers=3, heads=4, kv_heads=2, model_id="model", model=model, protocol=protocol)
    return folder


def request(place: Path, out: Path, **changes: Any) -> Request:
    (run,) = (place / "runs" / "model").iterdir()
    given: dict[str, Any] = {"top": (0, 2), "draws": 2, "limit": 5, "rows": 4, **changes}
    return Request(str(place / "model"), run, str(place / "set"), out, **given)


@pytest.fixture(scope="module")
def whole(place: Path) -> Outcome:
    return ablation_experiment(request(place, place / "whole"))


@pytest.mark.slow
def test_an_experiment_is_valid_and_recomputes(whole: Outcome, place: Path) -> None:
    assert validate_experiment(whole.folder) == []
    assert recompute(whole.folder) == []
    assert validate_document(whole.document, "experiment", schema=experiment_schema()) == []
    assert (whole.measured, whole.resumed) == (30, 0)
    assert whole.document["counts"] == {"samples": 5, "answers": 30}
    assert whole.document["settings"]["rows"] == 4 and whole.document["engine"]["name"] == "batched"
    assert whole.document["claims"][0]["verdict"] == "not_enough_evidence"
    assert str(place) not in (whole.folder / "experiment.json").read_text()
    again = ablation_experiment(request(place, place / "whole"))
    assert (again.folder, again.measured) == (whole.folder, 0)


@pytest.mark.slow
def test_answers_are_those_of_the_fast_engine_without_the_heads(whole: Outcome, place: Path) -> None:
    loaded, haystacks = load_model(str(place / "model"), device="cpu"), read_set(place / "set")
    builder = PromptBuilder(loaded.tokenizer, haystacks.texts, haystacks.needles_by_id, "plain")
    experiment = read_experiment(whole.folder)
    chosen = {row["sample_id"] for row in experiment.tables["samples"].to_pylist()}
    prompts = [builder.build(sample) for sample in haystacks.samples if sample.sample_id in chosen]
    stop = stop_rule(loaded.model, loaded.tokenizer, builder.text)
    engine = make_engine("fast", loaded.model, loaded.layers, stop, max_new_tokens=6)
    said = {(row["condition"], row["sample_id"]): row["text"] for row in experiment.tables["answers"].to_pylist()}
    for condition in experiment.document["settings"]["conditions"]:
        with ablate(loaded.model, [(layer, head) for layer, head in condition["heads"]]):
            for decoded in engine.decode(prompts):
                assert builder.text(decoded.generated) == said[condition["condition"], decoded.sample_id]


@pytest.mark.slow
@pytest.mark.slow_but_first(1)
@pytest.mark.parametrize("phase", ["both", "decode"])
def test_an_interruption_changes_nothing(place: Path, tmp_path: Path, phase: Any) -> None:
    expected = ablation_experiment(request(place, tmp_path / "whole", phase=phase))

    def interrupt(step: Step) -> None:
        if step.done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablation_experiment(request(place, tmp_path / "two", phase=phase), interrupt)
    steps: list[Step] = []
    got = ablation_experiment(request(place, tmp_path / "two", phase=phase), steps.append)
    assert got.resumed == 12 if phase == "both" else got.resumed > 0
    assert got.resumed + got.measured == 30 and steps[0].samples_done == got.resumed
    assert (steps[-1].done, steps[-1].samples_done) == (steps[-1].total, steps[-1].samples)
    assert all(step.succeeded is None for step in steps), "what succeeds is judged when all answers are there"
    for name in ("samples.parquet", "answers.parquet"):
        assert (got.folder / name).read_bytes() == (expected.folder / name).read_bytes()
    assert sorted(path.name for path in got.folder.iterdir()) == sorted(path.name for path in expected.folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["mean", "span", "uniform"])
def test_other_ways_are_recorded(place: Path, tmp_path: Path, how: Any) -> None:
    outcome = ablation_experiment(request(place, tmp_path, how=how, draws=1, limit=2))
    assert validate_experiment(outcome.folder) == []
    reference = outcome.document["settings"]["reference"]
    assert (reference is not None) == (how == "mean") and outcome.document["settings"]["how"] == how
    assert reference is None or reference["tokens"] == 2048


def test_needles_of_the_run_are_refused(place: Path, tmp_path: Path) -> None:
    haystacks, run = read_set(place / "set"), read_run(request(place, tmp_path).run)
    assert unseen_needles(haystacks, run, None) == haystacks.needles
    seen = haystacks.needles[0]
    (first, *rest) = run.results
    same_id = run.__class__(run.folder, run.document, run.layers, (renamed(first, needle_id=seen.needle_id), *rest))
    same_answer = run.__class__(
        run.folder, run.document, run.layers, (renamed(first, answer=seen.answer.upper()), *rest)
    )
    for found in (same_id, same_answer):
        assert unseen_needles(haystacks, found, None) == haystacks.needles[1:]
        with pytest.raises(InputError, match="--needles: the run was measured on"):
            unseen_needles(haystacks, found, [seen.needle_id])
    all_seen = tuple(renamed(first, answer=needle.answer) for needle in haystacks.needles)
    with pytest.raises(InputError, match="all 3 needles of this set; build a set with others"):
        unseen_needles(haystacks, run.__class__(run.folder, run.document, run.layers, all_seen), None)


def renamed(result: Any, needle_id: str | None = None, answer: str | None = None) -> Any:
    from dataclasses import replace

    sample = replace(result.sample, needle_id=needle_id) if needle_id else result.sample
    return replace(result, sample=sample, answer=answer or result.answer)


def test_another_model_is_refused(place: Path, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "model", window=1000, seed=1)
    wrong = request(place, tmp_path)
    with pytest.raises(InputError, match="is not the model of the run"):
        ablation_experiment(Request(str(tmp_path / "model"), wrong.run, wrong.haystack, tmp_path, top=(2,), draws=1))


@pytest.mark.slow
def test_the_command_line(place: Path, whole: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    given = request(place, place / "whole")
    line = ["ablate", given.model, "--run", str(given.run), "--haystack", given.haystack, "--out", str(given.out)]
    options = ["--top", "0,2", "--draws", "2", "--limit", "5", "--rows", "4"]
    assert main([*line, *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == str(whole.folder) and found["results"] == whole.document["results"]
    assert main([*line, *options]) == 0
    shown = capsys.readouterr().out
    assert "Success without K heads" in shown and "s per condition" in shown and "already exists" in shown
    assert main([*line, "--top", "two"]) == 2
    assert "--top" in capsys.readouterr().err
    assert KIND.name == "causal"
