"""Dates, thoughts, turns and typed parts through the front door: checkpoints saved, loaded, measured and verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import templates as t
import torch
import transformers.utils.chat_template_utils as transformers_templates
from thinkers import script, thinker_checkpoint
from tiny import tiny_checkpoint

from rh_bench.artifacts.levels import Evidence
from rh_bench.artifacts.run import compute_run_id, read_run, write_run
from rh_bench.artifacts.tables import samples_to_table
from rh_bench.artifacts.validate import validate_path
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.needles import RawNeedle
from rh_bench.data_builders.sources import parse_source
from rh_bench.data_builders.tasks import load_task
from rh_bench.errors import InputError
from rh_bench.experiments.causal.run import Request as Ablation
from rh_bench.experiments.causal.run import ablation_experiment
from rh_bench.experiments.detectors.run import detect
from rh_bench.experiments.qa.run import Request as Questions
from rh_bench.experiments.qa.run import ask as ask_questions
from rh_bench.leaderboard.model_page import reproduce_command
from rh_bench.measure.asking import ask, ask_as
from rh_bench.measure.evaluate import Outcome, Request, evaluate
from rh_bench.models.load import load_model
from rh_bench.prompting.thinking import BEFORE
from rh_bench.sets.dataset import read_set
from rh_bench.sets.grids import Grid
from rh_bench.system.schema import dump_json
from rh_bench.verification.verify import verify_run

pytestmark = pytest.mark.slow

GRID = Grid("custom", (700, 900), (0.0, 100.0), needles=1, haystacks=1)
THINKS = script("\n", "h", "m", "</think>", "X", "Q", "<|im_end|>")
"""After a line break: a thought, its end, the answer, the end of the turn."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asking")
    text = "The sign on the door of the mill says XQ."
    needle = RawNeedle("sign", "d", text, "What does the sign on the door say?", len(text) - 3, len(text) - 1)
    build_set(Recipe(parse_source("synthetic"), GRID, needles=(needle,)), folder / "set")
    more = Grid("custom", (700,), (50.0,), needles=3, haystacks=1)
    build_set(Recipe(parse_source("synthetic"), more), folder / "more")
    return folder


def measured(place: Path, model: Path, out: Path, **changes: Any) -> tuple[Outcome, list[str]]:
    """A valid run, and the lines that were said while it was made."""
    notes: list[str] = []
    outcome = evaluate(Request(str(model), str(place / "set"), out, device="cpu", **changes), on_note=notes.append)
    assert validate_path(outcome.folder) == []
    return outcome, notes


def prompts_of(place: Path, model: Path, **changes: Any) -> list[str]:
    """The prompts as text."""
    loaded, found = load_model(str(model), device="cpu"), read_set(place / "set")
    asking = ask(loaded, found, found.samples, "auto", **changes)
    return [loaded.tokenizer.decode(prompt.ids.tolist()) for prompt in asking.prompts]


def levels(place: Path, model: Path, run: Path, rerun: int = 2) -> list[bool | None]:
    evidence = Evidence(haystack=str(place / "set"), model=str(model), rerun=rerun, device="cpu")
    return [level.reached for level in verify_run(run, evidence).levels]


def texts(outcome: Outcome) -> set[str]:
    return {result.text for result in read_run(outcome.folder).results}


# --- thoughts that the prompt closes ---


def test_a_thought_that_the_template_opens_is_closed(place: Path, tmp_path: Path) -> None:
    model = thinker_checkpoint(tmp_path / "model", t.QWEN_3_THINKING, script("\n", "X", "Q", "<|im_end|>"))
    outcome, notes = measured(place, model, tmp_path / "runs")
    protocol = outcome.document["protocol"]
    assert protocol["thinking"] == {
        "way": "closed",
        "variables": {},
        "appended": "\n</think>\n\n",
        "opening": "<think>",
        "closing": "</think>",
        "limit": None,
        "closing_ids": None,
    }
    assert outcome.document["schema_version"] == "1.4"
    assert outcome.document["engine"]["notes"] == notes and "is closed in the prompt" in notes[0]
    for text in prompts_of(place, model):
        assert text.endswith("Answer:<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert texts(outcome) == {"XQ"}
    assert levels(place, model, outcome.folder) == [True, True, True]
    again, said = measured(place, model, tmp_path / "runs")
    assert again.measured == 0 and said == notes


def test_a_switch_is_used_and_recorded(place: Path, tmp_path: Path) -> None:
    model = thinker_checkpoint(tmp_path / "model", t.QWEN_3_HYBRID, script("\n", "X", "Q", "<|im_end|>"))
    outcome, notes = measured(place, model, tmp_path / "runs", limit=2)
    thinking = outcome.document["protocol"]["thinking"]
    assert thinking["way"] == "switch" and thinking["variables"] == {"enable_thinking": False}
    assert "the chat template is told enable_thinking=false" in notes[0]
    assert all(text.endswith("assistant\n<think>\n\n</think>\n\n") for text in prompts_of(place, model))


def test_an_answers_channel_is_begun_for_the_model(place: Path, tmp_path: Path) -> None:
    says = script("<|message|>", "X", "Q", "<|return|>")
    model = thinker_checkpoint(tmp_path / "model", t.GPT_OSS, says)
    outcome, _ = measured(place, model, tmp_path / "runs", limit=2)
    assert outcome.document["protocol"]["thinking"]["way"] == "prefilled"
    assert all(text.endswith("<|start|>assistant<|channel|>final<|message|>") for text in prompts_of(place, model))
    assert outcome.document["protocol"]["turn_token"] == "<|return|>" and texts(outcome) == {"XQ"}


OLD_R1 = {
    "begins by one": (
        script("<｜Assistant｜>", "<think>", "h", "m", "</think>", "!")
        | script("\n", "X", "Q", "<｜end▁of▁sentence｜>"),
        ("prefilled", "<think>\n\n</think>\n\n"),
    ),
    "answers at once": (script("<｜Assistant｜>", "X", "Q", "<｜end▁of▁sentence｜>"), ("none", "")),
}


@pytest.mark.parametrize("name", OLD_R1)
def test_a_model_is_asked_whether_it_begins_by_a_thought(name: str, place: Path, tmp_path: Path) -> None:
    says, (way, appended) = OLD_R1[name]
    marks = ["<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"]
    model = thinker_checkpoint(tmp_path / "model", t.R1_DISTILL_OLD, says, marks=marks)
    outcome, notes = measured(place, model, tmp_path / "runs", limit=2)
    thinking = outcome.document["protocol"]["thinking"]
    assert (thinking["way"], thinking["appended"]) == (way, appended)
    assert all(text.endswith("<｜Assistant｜>" + appended) for text in prompts_of(place, model))
    assert texts(outcome) == {"XQ"} and notes == outcome.document["engine"]["notes"]
    assert levels(place, model, outcome.folder) == [True, True, True]
    # Without asking, it is closed in either case.
    assert all(text.endswith("<think>\n\n</think>\n\n") for text in prompts_of(place, model, choice="close"))


def test_a_model_that_thinks_all_the_same_is_refused_at_its_first_answer(place: Path, tmp_path: Path) -> None:
    says = script("\n", "<think>", "h", "m", "</think>", "!", "<|im_end|>")
    model = thinker_checkpoint(tmp_path / "model", t.QWEN_3_THINKING, says)
    with pytest.raises(InputError, match="starts its answer to .* with a thought.*; use --thinking after"):
        measured(place, model, tmp_path / "runs")
    plain = thinker_checkpoint(tmp_path / "plain", t.PLAIN_CHATML, script("\n", *"<think>"))
    with pytest.raises(InputError, match="starts its answer to .* with a thought.*; use --template plain"):
        measured(place, plain, tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("run.json"))


def test_plain_prompts_are_measured_with_a_note(place: Path, tmp_path: Path) -> None:
    model = thinker_checkpoint(tmp_path / "model", t.PLAIN_CHATML, script(":", *"<think>", "\n"))
    outcome, notes = measured(place, model, tmp_path / "runs", template="plain", limit=3)
    assert (
        notes == outcome.document["engine"]["notes"] == ["3 of 3 answers begin with a thought, and count as they are"]
    )
    assert "thinking" not in outcome.document["protocol"]


# --- the answer after the thought ---


@pytest.fixture(scope="module")
def thinker(place: Path) -> Path:
    return thinker_checkpoint(place / "thinker", t.QWEN_3_THINKING, THINKS)


def after(place: Path, model: Path, out: Path, **changes: Any) -> tuple[Outcome, list[str]]:
    return measured(place, model, out, thinking="after", thought_tokens=20, max_new_tokens=4, **changes)


def test_the_answer_after_the_thought_is_measured(place: Path, thinker: Path, tmp_path: Path) -> None:
    outcome, notes = after(place, thinker, tmp_path)
    protocol = outcome.document["protocol"]
    tokenizer = load_model(str(thinker), device="cpu").tokenizer
    closing = tokenizer.convert_tokens_to_ids("</think>")
    assert (protocol["thinking"]["way"], protocol["thinking"]["limit"]) == ("after", 20)
    assert protocol["thinking"]["closing_ids"] == [closing] and protocol["max_new_tokens"] == 4
    assert "the answer after a thought of up to 20 tokens that '</think>' ends" in notes[0]
    rows = pq.read_table(outcome.folder / "samples.parquet").to_pylist()
    assert {tokenizer.decode(row["thought_ids"]) for row in rows} == {"hm</think>"}
    assert {row["text"] for row in rows} == {"XQ"}
    assert all(text.endswith("<think>\n") for text in prompts_of(place, thinker, choice="after"))
    assert levels(place, thinker, outcome.folder) == [True, True, True]
    assert reproduce_command(outcome.document).endswith("--thinking after --thought-tokens 20")
    for result in read_run(outcome.folder).results:
        assert all(step < 2 for step in result.events[:, 2].tolist()), "steps count from the answer on"


def test_thought_and_answer_are_what_generate_says(place: Path, thinker: Path, tmp_path: Path) -> None:
    outcome, _ = after(place, thinker, tmp_path)
    loaded, found = load_model(str(thinker), device="cpu"), read_set(place / "set")
    prompts = ask(loaded, found, found.samples, "auto", "after", 20).prompts
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for prompt, result in zip(prompts, read_run(outcome.folder).results, strict=True):
        ids = torch.from_numpy(prompt.ids.astype("int64"))[None]
        said = loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=end,
            pad_token_id=0,
        )[0, len(prompt.ids) :].tolist()
        assert [*(result.thought_ids or ()), *result.generated_ids, end] == said


def test_both_engines_think_the_same_and_look_the_same(place: Path, thinker: Path, tmp_path: Path) -> None:
    fast, slow = (after(place, thinker, tmp_path, engine=engine)[0] for engine in ("fast", "reference"))
    assert [run.document["engine"]["name"] for run in (fast, slow)] == ["fast", "reference"]
    one, other = (pq.read_table(run.folder / "samples.parquet").drop_columns(["seconds"]) for run in (fast, slow))
    assert one == other
    assert (fast.folder / "events.parquet").read_bytes() == (slow.folder / "events.parquet").read_bytes()


def test_a_thought_that_does_not_end_leaves_no_answer(place: Path, thinker: Path, tmp_path: Path) -> None:
    outcome, notes = measured(place, thinker, tmp_path, thinking="after", thought_tokens=2)
    assert notes[-1] == "4 of 4 thoughts did not end: these samples have no answer"
    assert notes == outcome.document["engine"]["notes"]
    for result in read_run(outcome.folder).results:
        assert len(result.thought_ids or ()) == 2 and result.generated_ids == () and not result.success
    exact, _ = measured(place, thinker, tmp_path, thinking="after", thought_tokens=3)
    assert texts(exact) == {"XQ"} and exact.folder != outcome.folder


def test_it_goes_on_where_it_was_interrupted(place: Path, thinker: Path, tmp_path: Path) -> None:
    whole, _ = after(place, thinker, tmp_path / "whole")

    def stop(step: Any) -> None:
        if step.samples_done == 2:
            raise KeyboardInterrupt

    request = Request(
        str(thinker), str(place / "set"), tmp_path / "two", thinking="after", thought_tokens=20, max_new_tokens=4
    )
    with pytest.raises(KeyboardInterrupt):
        evaluate(request, stop)
    outcome = evaluate(request)
    assert (outcome.resumed, outcome.measured) == (2, 2)
    mine, theirs = (pq.read_table(o.folder / "samples.parquet").drop_columns(["seconds"]) for o in (outcome, whole))
    assert mine == theirs


def test_the_window_holds_prompt_thought_and_answer(place: Path, tmp_path: Path) -> None:
    model = thinker_checkpoint(tmp_path / "model", t.QWEN_3_THINKING, THINKS, window=1000)
    request = Request(str(model), str(place / "set"), tmp_path / "runs", thinking="after", thought_tokens=51)
    with pytest.raises(InputError, match="window of 1000 tokens is too small for the lengths 900 plus 101 new tokens"):
        evaluate(request)
    assert measured(place, model, tmp_path / "runs", thinking="after", thought_tokens=50)[0].measured == 4


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"thinking": "off"}, "--thinking: unknown choice 'off'"),
        ({"thought_tokens": 5}, "--thought-tokens: only works with --thinking after"),
        ({"thinking": "after", "template": "plain"}, "--thinking: plain prompts have no thoughts"),
        ({"thinking": "close", "template": "plain"}, "--thinking: plain prompts have no thoughts"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    changes: dict[str, Any], why: str, place: Path, thinker: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=why):
        measured(place, thinker, tmp_path / "runs", **changes)
    assert not (tmp_path / "runs").exists()


def test_models_without_thoughts_cannot_be_asked_for_them(place: Path, tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model", chat=True)
    for choice in ("close", "after"):
        with pytest.raises(InputError, match="supports thoughts; use --thinking auto"):
            measured(place, model, tmp_path / "runs", thinking=choice)
    outcome, notes = measured(place, model, tmp_path / "runs", limit=1)
    assert notes == [] and outcome.document["protocol"].keys().isdisjoint({"thinking", "turn_token"})


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object], results: Any = None) -> None:
    """Change a run's document, and make its id and its hashes fit again."""
    run = read_run(folder)
    change(run.document)
    write_run(folder, run.document, run.layers, run.results if results is None else results)


@pytest.mark.parametrize(
    ("change", "file", "said"),
    [
        (lambda p: p["thinking"].update(limit=2), "samples.parquet", "has 3 tokens, the protocol allows 2"),
        (lambda p: p["thinking"].update(closing_ids=[7]), "samples.parquet", "empty if the thought did not end"),
        (lambda p: p["thinking"].update(limit=None), "run.json", "only belongs to the way 'after'"),
        (
            lambda p: p["thinking"].update(way="closed"),
            "run.json",
            "only belongs to the way 'after'; here it is 'closed'",
        ),
        (lambda p: p.pop("thinking"), "samples.parquet", "must not be there"),
        (lambda p: p.pop("turn_token"), "run.json", "exactly if turn_token names a token"),
        (lambda p: p.update(template="plain"), "run.json", "only chat-template prompts"),
    ],
)
def test_what_does_not_fit_together_is_found(
    change: Callable[[dict[str, Any]], object], file: str, said: str, place: Path, thinker: Path, tmp_path: Path
) -> None:
    folder = after(place, thinker, tmp_path)[0].folder
    rewrite(folder, lambda document: change(document["protocol"]))
    assert [p for p in validate_path(folder) if p.file == file and said in p.message]


def test_a_thought_column_that_is_missing_is_found(place: Path, thinker: Path, tmp_path: Path) -> None:
    folder = after(place, thinker, tmp_path)[0].folder
    results = read_run(folder).results
    assert samples_to_table(results).column_names[-1] == "thought_ids"
    rewrite(folder, lambda document: None, [replace(result, thought_ids=None) for result in results])
    assert any("column 'thought_ids' is missing" in problem.message for problem in validate_path(folder))
    ids = results[0].thought_ids
    rewrite(folder, lambda document: None, [replace(results[0], thought_ids=(-1, *ids[1:])), *results[1:]])
    assert any(problem.pointer == "/0/thought_ids" for problem in validate_path(folder))


# --- what a forged run claims is not followed ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda p: p["thinking"].update(appended="\n</think>\n\nThe answer is"),
            "does not match its model's chat template",
        ),
        (lambda p: p.pop("thinking"), "does not match its model's chat template"),
        (
            lambda p: (p.pop("turn_token"), p["stop"].remove("turn")),
            "/protocol/turn_token is None, it must be <|im_end|>",
        ),
        (lambda p: p.update(turn_token="<|im_start|>"), "/protocol/turn_token is '<|im_start|>', the template"),
    ],
)
def test_a_forged_protocol_is_caught(
    change: Callable[[dict[str, Any]], object], said: str, place: Path, tmp_path: Path
) -> None:
    model = thinker_checkpoint(tmp_path / "model", t.QWEN_3_THINKING, script("\n", "X", "Q", "<|im_end|>"))
    folder = measured(place, model, tmp_path / "runs", limit=2)[0].folder
    document = json.loads((folder / "run.json").read_text())
    change(document["protocol"])
    document["run_id"] = compute_run_id(
        model_revision=document["model"]["revision"],
        manifest_sha256=document["haystack"]["manifest_sha256"],
        protocol=document["protocol"],
        engine_name=document["engine"]["name"],
        engine_version=document["engine"]["version"],
    )
    forged = folder.parent / document["run_id"]
    folder.rename(forged)
    (forged / "run.json").write_bytes(dump_json(document))
    rewrite(forged, lambda document: None)
    assert validate_path(forged) == []
    evidence = Evidence(haystack=str(place / "set"), model=str(model), rerun=1, device="cpu")
    report = verify_run(forged, evidence)
    assert False in [level.reached for level in report.levels]
    assert said in " ".join(reason for level in report.levels for reason in level.reasons)


def test_a_run_of_an_older_version_is_reproduced_as_it_was_made(place: Path, tmp_path: Path) -> None:
    """It let this model think; another run is not built on it."""
    model = thinker_checkpoint(tmp_path / "model", t.QWEN_3_THINKING, script("\n", "X", "Q", "<|im_end|>"))
    folder = measured(place, model, tmp_path / "runs", limit=2)[0].folder
    loaded, found = load_model(str(model), device="cpu"), read_set(place / "set")
    document = read_run(folder).document
    del document["protocol"]["thinking"], document["protocol"]["turn_token"]
    document |= {"schema_version": "1.2", "protocol": document["protocol"] | {"stop": ["eos"]}}
    old = ask_as(loaded, found, found.samples[:1], document)
    assert loaded.tokenizer.decode(old.prompts[0].ids.tolist()).endswith("assistant\n<think>\n")
    assert old.stop.names == ["eos"] and old.thinking == BEFORE
    write_run(folder, document, read_run(folder).layers, read_run(folder).results)
    with pytest.raises(InputError, match="of an older version, which did not ask .* thinking; measure it again"):
        ablation_experiment(Ablation(str(model), folder, str(place / "more"), tmp_path, top=(0, 1), device="cpu"))


# --- turns, dates, typed parts ---


def test_an_answer_ends_with_its_turn(place: Path, tmp_path: Path) -> None:
    says = script("\n", "X", "Q", "<end_of_turn>", "x")
    model = thinker_checkpoint(tmp_path / "model", t.GEMMA_2, says)
    outcome, notes = measured(place, model, tmp_path / "runs")
    protocol = outcome.document["protocol"]
    assert protocol["stop"] == ["eos", "turn"] and protocol["turn_token"] == "<end_of_turn>"
    assert notes == [
        "an answer ends at '<end_of_turn>', too: it ends a turn, and no end-of-sequence token of the model"
    ]
    assert texts(outcome) == {"XQ"} and levels(place, model, outcome.folder) == [True, True, True]
    named = thinker_checkpoint(tmp_path / "named", t.GEMMA_2, says, eos=[2, 259])
    outcome, notes = measured(place, named, tmp_path / "runs")
    assert outcome.document["protocol"]["stop"] == ["eos"] and notes == [] and texts(outcome) == {"XQ"}


@pytest.mark.parametrize("name", t.DATED)
def test_a_run_does_not_depend_on_the_day(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = thinker_checkpoint(tmp_path / "model", t.DATED[name])
    found = []
    for year in (2023, 2031):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None, year: int = year) -> datetime:
                return datetime(year, 3, 4, 5, 6)

        monkeypatch.setattr(transformers_templates, "datetime", Clock)
        outcome, _ = measured(place, model, tmp_path / str(year), limit=1, max_new_tokens=2)
        found.append((outcome.document["run_id"], [r.prompt_sha256 for r in read_run(outcome.folder).results]))
    assert found[0] == found[1]
    text = prompts_of(place, model)[0]
    assert "2024" in text and "2023-03" not in text and "2031" not in text


@pytest.mark.parametrize("template", [t.SMOLVLM, t.LLAVA])
def test_a_template_of_typed_parts_is_measured(template: str, place: Path, tmp_path: Path) -> None:
    model = thinker_checkpoint(tmp_path / "model", template)
    outcome, _ = measured(place, model, tmp_path / "runs", limit=2, max_new_tokens=4)
    assert outcome.document["protocol"]["template"] == "chat"
    text = prompts_of(place, model)[0]
    assert ": This is a very long story book: <book>" in text and "{" not in text
    assert text.rstrip().endswith(("Assistant:", "ASSISTANT:"))


def test_a_template_that_changes_the_text_is_refused(place: Path, tmp_path: Path) -> None:
    model = thinker_checkpoint(tmp_path / "model", t.PLAIN_CHATML.replace("message['content']", "message['content']|e"))
    with pytest.raises(InputError, match="drops or changes the text of the user; use --template plain"):
        measured(place, model, tmp_path / "runs")
    assert measured(place, model, tmp_path / "runs", template="plain", limit=1)[0].measured == 1


def test_the_screen_says_what_was_done(
    place: Path, thinker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["evaluate", str(thinker), "--haystack", str(place / "set"), "--out", str(tmp_path), "--limit", "1"]
    assert main([*line, "--thinking", "after", "--thought-tokens", "9", "--engine", "reference", "--json"]) == 0
    found = capsys.readouterr()
    assert found.err.count("note: ") == 2 and "the answer after a thought of up to 9 tokens" in found.err
    assert "'<|im_end|>'" in found.err and json.loads(found.out)["counts"]["samples"] == 1
    assert main([*line, "--thinking", "sometimes"]) == 2
    assert "unknown choice 'sometimes'; use auto, close, after" in capsys.readouterr().err


# --- experiments ---


@pytest.fixture(scope="module")
def closed(place: Path) -> tuple[Path, Outcome]:
    """A model whose thought is closed, and its run."""
    model = thinker_checkpoint(place / "closed", t.QWEN_3_THINKING, script("\n", "X", "Q", "<|im_end|>"))
    return model, measured(place, model, place / "runs")[0]


def said_of(document: dict[str, Any], settings: dict[str, Any]) -> None:
    assert settings["thinking"]["way"] == "closed" and settings["turn_token"] == "<|im_end|>"
    notes = " ".join(document["engine"]["notes"])
    assert "is closed in the prompt" in notes and "an answer ends at '<|im_end|>'" in notes


def test_detectors_ask_in_the_same_way(place: Path, closed: tuple[Path, Outcome], tmp_path: Path) -> None:
    model, run = closed
    notes: list[str] = []
    request = Request(str(model), str(place / "set"), tmp_path, device="cpu", limit=2)
    found = detect(request, ["copy"], on_note=notes.append)
    said_of(found.document, found.document["settings"])
    assert notes == found.document["engine"]["notes"]
    rows = pq.read_table(found.folder / "samples.parquet").to_pylist()
    hashes = {result.sample.sample_id: result.prompt_sha256 for result in read_run(run.folder).results}
    assert all(hashes[row["sample_id"]] == row["prompt_sha256"] for row in rows)
    with pytest.raises(InputError, match="--thinking after: detectors let a model think nothing"):
        detect(Request(str(model), str(place / "set"), tmp_path, thinking="after"))


def test_ablations_ask_as_the_run_did(place: Path, closed: tuple[Path, Outcome], thinker: Path, tmp_path: Path) -> None:
    model, run = closed
    notes: list[str] = []
    request = Ablation(
        str(model), run.folder, str(place / "more"), tmp_path, top=(0, 1), draws=1, limit=2, device="cpu"
    )
    found = ablation_experiment(request, on_note=notes.append)
    said_of(found.document, found.document["settings"]["protocol"])
    assert notes and set(notes) <= set(found.document["engine"]["notes"])
    rows = pq.read_table(found.folder / "answers.parquet").to_pylist()
    assert {row["text"] for row in rows} == {"XQ"}, "answers end with their turn"
    thought = after(place, thinker, tmp_path / "runs")[0]
    with pytest.raises(InputError, match="this run's answers follow thoughts.*; give a run of --thinking auto"):
        ablation_experiment(Ablation(str(thinker), thought.folder, str(place / "more"), tmp_path, top=(0, 1)))


def test_questions_are_asked_in_the_same_way(place: Path, closed: tuple[Path, Outcome], tmp_path: Path) -> None:
    model, run = closed
    rows = [{"question": f"What is {i} and {i}?", "answer": f"Twice {i}\n#### {2 * i}"} for i in range(2)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes: list[str] = []
    request = Questions(str(model), run.folder, tmp_path, top=1, draws=1, shots=1, max_new_tokens=6, device="cpu")
    found = ask_questions(request, load_task("gsm8k", str(tmp_path / "test.jsonl")), on_note=notes.append)
    said_of(found.document, found.document["settings"])
    assert notes == found.document["engine"]["notes"][1:]
    answers = pq.read_table(found.folder / "responses.parquet").to_pylist()
    assert {(row["text"], row["tokens"], row["finished"]) for row in answers} == {("XQ", 2, True)}


def test_questions_ask_the_model_whether_it_begins_by_a_thought(place: Path, tmp_path: Path) -> None:
    says, (way, appended) = OLD_R1["begins by one"]
    marks = ["<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>", "</think>"]
    model = thinker_checkpoint(tmp_path / "model", t.R1_DISTILL_OLD, says, marks=marks)
    run = measured(place, model, tmp_path / "runs", limit=1)[0]
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "What is 2?", "answer": "Two\n#### 2"}) + "\n")
    request = Questions(str(model), run.folder, tmp_path, top=1, draws=1, shots=0, max_new_tokens=6, device="cpu")
    found = ask_questions(request, load_task("gsm8k", str(tmp_path / "test.jsonl")))
    thinking = found.document["settings"]["thinking"]
    assert (thinking["way"], thinking["appended"]) == (way, appended)
    answers = pq.read_table(found.folder / "responses.parquet").to_pylist()
    assert {row["text"] for row in answers} == {"XQ"}


def test_ready_made_prompts_are_closed_without_a_model(place: Path, thinker: Path, tmp_path: Path) -> None:
    recipe = Recipe(parse_source("synthetic"), GRID, tokenizers=(str(thinker),))
    build_set(recipe, tmp_path / "set")
    (table,) = (tmp_path / "set").glob("prompts-*/prompts.parquet")
    for row in pq.read_table(table).to_pylist():
        assert row["text"].endswith("<think>\n\n</think>\n\n") and len(row["input_ids"]) == row["length"]
