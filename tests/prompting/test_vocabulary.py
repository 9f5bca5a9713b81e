"""Tokens that a model has no embedding for: one line before the weights are loaded, wherever prompts are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import make_run
from tiny import tiny_checkpoint, tiny_tokenizer
from transformers import AutoModelForCausalLM

from rh_bench.artifacts.run import read_run
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.models.load import load_model
from rh_bench.prompting.vocabulary import largest_token, refuse_beyond_embedding
from rh_bench.sets.grids import choose_grid


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set, and a model whose tokenizer has chat turns with a token that the model has no row for."""
    place = tmp_path_factory.mktemp("vocabulary")
    tiny_checkpoint(place / "model")
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<s>assistant", "<|turn|>assistant")
    tokenizer.save_pretrained(place / "model")
    recipe = Recipe(source=parse_source("synthetic"), grid=choose_grid("quick", "600", "0,100"), needle_count=2)
    build_set(recipe, place / "set")
    return place


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A run of that model that was made up."""
    shape = {"layers": 3, "heads": 4, "kv_heads": 2, "model_id": "model"}
    made = read_run(make_run(tmp_path / "made", **shape)).document["protocol"]
    protocol = {**made, "template": "chat", "max_new_tokens": 4, "dtype": "float32"}
    model = load_model(str(place / "model"), device="cpu").describe()
    return make_run(tmp_path / "runs", model=model, protocol=protocol, **shape)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["evaluate", "detect", "ablate", "reason", "extract-qa"])
def test_one_line_names_the_token_its_id_and_the_rows(
    verb: str,
    place: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rh_bench.models.load.load_checkpoint", lambda *_: pytest.fail("the weights were loaded"))
    command = [verb, str(place / "model"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    if verb in ("evaluate", "detect", "ablate"):
        command += ["--haystack", str(place / "set")]
    if verb in ("ablate", "reason", "extract-qa"):
        command += ["--run", str(run)]
    if verb == "ablate":
        command += ["--top", "0,1", "--draws", "1"]
    if verb == "reason":
        data = tmp_path / "gsm8k.jsonl"
        data.write_text(json.dumps({"question": "How many is 1 + 1?", "answer": "It is 2.\n#### 2"}) + "\n")
        command += ["--task", "gsm8k", "--data", str(data)]
    if verb in ("reason", "extract-qa"):
        command += ["--top", "1"]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(
        "rh-bench: model: the prompts contain the token '<|turn|>' with id 259, but its embedding has 259"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_it_is_harmless_where_it_does_not_occur(place: Path, tmp_path: Path) -> None:
    command = ["evaluate", str(place / "model"), "--haystack", str(place / "set"), "--out", str(tmp_path / "runs")]
    assert main([*command, "--template", "plain", "--limit", "1", "--device", "cpu", "--json"]) == 0


def test_ends_of_answers_may_be_beyond(tmp_path: Path) -> None:
    """An end-of-sequence token that the model cannot produce is no fault."""
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint(tmp_path / "model"))
    model.generation_config.eos_token_id = [2, 100_000]
    model.save_pretrained(tmp_path / "model")

    def prompts(tokenizer: Any, window: int | None, name: str) -> list[Any]:
        assert (window, name) == (4096, "model")
        return [np.asarray(tokenizer("some text")["input_ids"])]

    assert load_model(str(tmp_path / "model"), device="cpu", prompts=prompts).layers


def test_padding_that_was_added_is_not_fed(place: Path, tmp_path: Path) -> None:
    """Rows of a batch are filled with a token that has an embedding."""
    from rh_bench.experiments.qa.generate import Generator

    loaded = load_model(str(tiny_checkpoint(tmp_path / "model")), device="cpu")
    loaded.tokenizer.add_special_tokens({"pad_token": "<fill>"})
    assert loaded.tokenizer.pad_token_id == 259
    prompts = [np.arange(5, 5 + size, dtype=np.int32) for size in (4, 9)]
    alone = [Generator(loaded, (), "both").run([ids], [()], 6)[0].ids for ids in prompts]
    assert [row.ids for row in Generator(loaded, (), "both").run(prompts, [(), ()], 6)] == alone


def test_the_largest_of_all(tmp_path: Path) -> None:
    assert largest_token([np.asarray([1, 9, 2]), np.asarray([], dtype=int), np.asarray([3])]) == 9
    assert largest_token([]) is None
    tokenizer = tiny_tokenizer()
    for largest, rows in ((None, 5), (4, 5), (400, None)):
        refuse_beyond_embedding(largest, rows, tokenizer, "m")
    with pytest.raises(InputError, match=r"m: .*the token '</s>' with id 2, but its embedding has 2 rows"):
        refuse_beyond_embedding(2, 2, tokenizer, "m")
