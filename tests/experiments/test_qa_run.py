"""Asking a tiny model: from a run and a file of questions to an experiment, through interruptions, by the command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_runs import make_document, make_layers, make_run
from tiny import tiny_checkpoint, tiny_tokenizer

from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.cli.main import main
from rh_bench.data_builders.tasks import load_task
from rh_bench.errors import InputError
from rh_bench.experiments.qa.run import Request, ask
from rh_bench.measure.session import Outcome, Step
from rh_bench.models.load import resolve_model
from rh_bench.sets.tasks import TaskData
from rh_bench.verification.checks import check_folder

QUESTIONS = 5


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, a made-up run of it, and questions."""
    folder = tmp_path_factory.mktemp("reason")
    source = resolve_model(str(tiny_checkpoint(folder / "model", window=4096)))
    document = make_document(make_layers(3, 4, 2), "model")
    model = {**document["model"], "revision": source.revision, "source": "folder"}
    (folder / "run").symlink_to(make_run(folder / "runs", model_id="model", layers=3, model=model))
    rows = [{"question": f"What is {i} and {i}?", "answer": f"Twice {i}\n#### {2 * i}"} for i in range(QUESTIONS)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def request(place: Path, out: Path, **changes: Any) -> Request:
    options = {"top": 2, "draws": 1, "shots": 1, "max_new_tokens": 6, "batch": 8, **changes}
    return Request(str(place / "model"), (place / "run").resolve(), out, **options)


def gsm8k(place: Path) -> TaskData:
    return load_task("gsm8k", str(place / "test.jsonl"))


@pytest.fixture(scope="module")
def whole(place: Path) -> Outcome:
    """An experiment that nothing interrupted."""
    return ask(request(place, place / "whole"), gsm8k(place))


def without_times(outcome: Outcome) -> dict[str, object]:
    document = {name: value for name, value in outcome.document.items() if name != "timings"}
    return {"document": document, **{p.name: p.read_bytes() for p in outcome.folder.glob("*.parquet")}}


@pytest.mark.slow
def test_an_experiment_is_valid_and_says_what_was_asked(whole: Outcome, place: Path) -> None:
    assert check_folder(whole.folder) == []
    document, settings = whole.document, whole.document["settings"]
    assert whole.folder == place / "whole" / "model" / f"chain_of_thought-{document['experiment_id']}"
    assert (whole.measured, whole.resumed) == (4 * 2 * QUESTIONS, 0)
    assert [one["name"] for one in settings["conditions"]] == ["none", "top", "random-0", "matched-0"]
    assert settings["template"] == "plain" and settings["shots"] == 1 and settings["modes"] == ["direct", "cot"]
    assert document["data"]["source"] == "test.jsonl" and document["data"]["prompts"] == "prompts-gsm8k.v1.json"
    assert document["runs"][0]["run_id"] == (place / "run").resolve().name
    assert document["engine"]["notes"] == ["batches of up to 8 rows"]
    assert {claim["verdict"] for claim in document["claims"]} == {"not_enough_evidence"}
    assert sorted(path.name for path in whole.folder.iterdir()) == [
        "experiment.json", "items.parquet", "responses.parquet"
    ]  # fmt: skip
    assert str(place) not in json.dumps(document)
    assert "What is" not in json.dumps(pq.read_table(whole.folder / "items.parquet").to_pylist())


@pytest.mark.slow
def test_responses_are_what_the_model_says(whole: Outcome) -> None:
    rows = pq.read_table(whole.folder / "responses.parquet").to_pylist()
    assert len({row["text"] for row in rows}) > 4 and all(row["tokens"] <= 6 for row in rows)
    texts = {(row["condition"], row["mode"], row["item_id"]): row["text"] for row in rows}
    assert any(texts["none", m, i] != texts["top", m, i] for c, m, i in texts if c == "top"), (
        "removal changes something"
    )


def test_asking_again_changes_nothing(whole: Outcome, place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.folder.iterdir()}
    again = ask(request(place, place / "whole"), gsm8k(place))
    assert (again.folder, again.measured, again.resumed) == (whole.folder, 0, 0)
    assert before == {path: path.stat().st_mtime_ns for path in whole.folder.iterdir()}


class Interrupted(Exception):
    pass


@pytest.mark.slow
def test_an_interrupted_experiment_goes_on_to_the_same_bytes(whole: Outcome, place: Path, tmp_path: Path) -> None:
    steps: list[Step] = []

    def stop_after_two(step: Step) -> None:
        steps.append(step)
        if len(steps) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        ask(request(place, tmp_path), gsm8k(place), stop_after_two)
    (journal,) = tmp_path.rglob(JOURNAL)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 16
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:7])  # a torn line: its batch is asked again
    seen: list[Step] = []
    outcome = ask(request(place, tmp_path), gsm8k(place), seen.append)
    assert outcome.resumed == 8 and outcome.measured == 32
    assert [step.samples_done for step in seen] == [8, 16, 20, 28, 36, 40] and all(
        a.done < b.done for a, b in pairwise(seen)
    )
    assert without_times(outcome) == without_times(whole)
    assert not list(tmp_path.rglob(JOURNAL))


@pytest.mark.slow
def test_another_batch_size_is_another_sitting(place: Path, tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        if step.done:
            raise Interrupted

    with pytest.raises(Interrupted):
        ask(request(place, tmp_path), gsm8k(place), stop)
    with pytest.raises(InputError, match="batch 8"):
        ask(request(place, tmp_path, batch=4), gsm8k(place))


@pytest.mark.slow
def test_the_batch_size_changes_no_answer(whole: Outcome, place: Path, tmp_path: Path) -> None:
    small = ask(request(place, tmp_path, batch=3), gsm8k(place))
    for name in ("items.parquet", "responses.parquet"):
        assert (small.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert small.folder.name == whole.folder.name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"top": 0}, "--top: must be at least 1"),
        ({"top": 12}, "12 random heads cannot be drawn from the 0 neither removed"),
        ({"top": 13}, "13 heads cannot be chosen of 12"),
        ({"draws": 0}, "--draws: must be at least 1"),
        ({"limit": 0}, "--limit"),
        ({"shots": 99}, "--shots"),
        ({"phase": "never"}, "--phase: unknown phase"),
        ({"template": "chat"}, "no chat template"),
        ({"modes": ("cot", "sideways")}, "--modes: unknown mode 'sideways'"),
        ({"max_new_tokens": 4090}, "gsm8k-0: its .* beyond the window of 4096"),
        ({"dtype": "int8"}, "--dtype"),
    ],
)
def test_wrong_options_are_one_line(place: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        ask(request(place, tmp_path, **changes), gsm8k(place))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_run_of_another_model_is_refused(place: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "runs", layers=3)
    wanted = Request(str(place / "model"), other, tmp_path / "out", top=2, draws=1)
    with pytest.raises(InputError, match="give the run of this very model"):
        ask(wanted, gsm8k(place))


@pytest.mark.slow
def test_one_mode_alone_and_extractive_qa(place: Path, tmp_path: Path) -> None:
    cot = ask(request(place, tmp_path, modes=("cot",), limit=2), gsm8k(place))
    assert cot.document["results"]["chain_of_thought"] is None and check_folder(cot.folder) == []
    pairs = ask(request(place, tmp_path, limit=2, max_new_tokens=3, shots=0), load_task("extractive", "synthetic:3"))
    assert pairs.folder.name.startswith("extractive_qa-") and check_folder(pairs.folder) == []
    assert pairs.document["results"]["measure"] == "f1" and pairs.document["settings"]["stop"] == ["\n"]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield run


@pytest.mark.slow
def test_the_commands(place: Path, tmp_path: Path, say: Any) -> None:
    common = (place / "model", "--run", (place / "run").resolve(), "--out", tmp_path, "--top", 2, "--draws", 1)
    small = ("--limit", 2, "--shots", 0, "--max-new-tokens", 3)
    status, out, err = say("reason", *common, *small, "--task", "gsm8k", "--data", place / "test.jsonl")
    assert status == 0, err
    assert "gsm8k: accuracy of 2 questions, 2 heads removed" in out and "reasoning: not enough evidence" in out
    assert "direct: loss against random heads of the same layers" in out
    status, out, err = say("extract-qa", *common, *small, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert document["kind"] == "extractive_qa" and document["written"] is True
    assert say("validate", document["folder"])[0] == 0
    assert "unchanged" in say("score", document["folder"])[1]
    status, _, err = say("reason", *common, "--task", "gsm8k", "--data", tmp_path / "none.jsonl")
    assert status == 2 and "there is no such file" in err and len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_chat_prompts_are_asked_as_turns(place: Path, tmp_path: Path) -> None:
    """The same weights with a chat template: another revision, so another run."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in (place / "model").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tiny_tokenizer(chat=True).save_pretrained(folder)
    source = resolve_model(str(folder))
    base = make_document(make_layers(3, 4, 2), "model")
    run = make_run(
        tmp_path / "runs", model_id="model", layers=3,
        model={**base["model"], "revision": source.revision, "source": "folder"},
    )  # fmt: skip
    wanted = Request(str(folder), run, tmp_path / "out", top=1, draws=1, shots=1, limit=2, max_new_tokens=3)
    outcome = ask(wanted, gsm8k(place))
    assert outcome.document["settings"]["template"] == "chat" and check_folder(outcome.folder) == []


@pytest.mark.slow
@pytest.mark.real_model
def test_a_real_model_is_asked_in_its_own_turns(tmp_path: Path) -> None:
    """SmolLM2 without its strongest heads says something else, and a few questions decide nothing."""
    from rh_bench.cli.demo import find_weights

    weights = f"gguf:{find_weights()}"
    source = resolve_model(weights)
    base = make_document(make_layers(30, 9, 3), "x")
    model = {**base["model"], "id": source.id, "slug": source.slug, "revision": source.revision, "source": "gguf"}
    heads = ((18, 6), (17, 3), (17, 4), (18, 7), (23, 2), (20, 6), (23, 7), (21, 8), (23, 1), (22, 7))
    strength = np.zeros((30, 9))
    strength[tuple(np.array(heads).T)] = 0.9
    run = make_run(
        tmp_path / "runs", model_id=source.id, layers=30, heads=9, kv_heads=3, model=model, strength=strength
    )
    wanted = Request(weights, run, tmp_path / "out", top=len(heads), draws=1, shots=0, limit=2, max_new_tokens=8)
    outcome = ask(wanted, load_task("extractive", "synthetic"))
    assert check_folder(outcome.folder) == []
    settings = outcome.document["settings"]
    assert settings["template"] == "chat"
    assert {tuple(head) for head in settings["conditions"][1]["heads"]} == set(heads)
    rows = pq.read_table(outcome.folder / "responses.parquet").to_pylist()
    texts = {(row["condition"], row["item_id"]): row["text"] for row in rows}
    assert all(re.search(r"[a-z]{3}", text) for (condition, _), text in texts.items() if condition == "none")
    assert any(text != texts["none", item] for (condition, item), text in texts.items() if condition == "top")
    (claim,) = outcome.document["claims"]
    assert claim["verdict"] == "not_enough_evidence" and claim["reason"] == "Needs 30 questions, there are 2."
