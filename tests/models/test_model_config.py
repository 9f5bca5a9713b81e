"""A run's layers and heads against its model's own config.json, read without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_document, make_layers, make_run
from hub_fixtures import command, hub
from loopback_write import WritableHub

from rh_bench.artifacts.levels import Evidence
from rh_bench.errors import InputError
from rh_bench.hub.refs import RepoRef
from rh_bench.models.config import config_problems
from rh_bench.verification.verify import verify_run

__all__ = ["hub"]
FITTING: dict[str, Any] = {"num_hidden_layers": 4, "num_attention_heads": 4}


@pytest.fixture
def model() -> dict[str, Any]:
    document: dict[str, Any] = make_document(make_layers(4, 4, 2), "acme/tiny-1")["model"]
    return document


def put(folder: Path, config: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (FITTING, []),
        ({"n_layer": 4, "n_head": 4}, []),
        ({"num_hidden_layers": 1, "text_config": FITTING}, []),
        ({"num_hidden_layers": 1, "thinker_config": {"text_config": FITTING}}, []),
        ({"num_attention_heads": [4, 4, 4, 4]}, []),
        ({}, []),
        ([], []),
        ({**FITTING, "num_hidden_layers": 5}, ["run.json has 4 layers, the model's configuration 5"]),
        ({**FITTING, "num_attention_heads": 8}, ["run.json has 4 query heads per layer, the model's configuration 8"]),
    ],
)
def test_layers_and_heads(model: dict[str, Any], config: object, words: list[str], tmp_path: Path) -> None:
    assert config_problems(model, put(tmp_path / "model", config)) == words


def test_where_there_is_nothing_to_compare_with(model: dict[str, Any]) -> None:
    assert config_problems({**model, "source": "folder"}, None) == []
    assert config_problems(model, "gguf:model.gguf") == []


def test_of_an_adapter_it_is_the_bases(model: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def fetch(ref: RepoRef) -> Path:
        asked.append(str(ref))
        return Path(put(tmp_path / "base", {**FITTING, "num_hidden_layers": 5})) / "config.json"

    monkeypatch.setattr("rh_bench.models.config.fetch_config", fetch)
    base = {"id": "acme/base", "revision": "d" * 40, "source": "hub", "files": []}
    adapted = {**model, "adapter": {"method": "LORA", "revision": "e" * 40, "base": base}}
    assert config_problems(adapted, None) == ["run.json has 4 layers, the model's configuration 5"]
    assert asked == ["acme/base@" + "d" * 40]
    base["source"] = "folder"
    assert config_problems(adapted, None) == []


def test_what_cannot_be_read_is_one_line(model: dict[str, Any], tmp_path: Path) -> None:
    for text in ("{", '{"a": 1, "a": 2}', "[" * 100_000):
        with pytest.raises(InputError):
            config_problems(model, put(tmp_path / "model", text))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no config.json"):
        config_problems(model, str(tmp_path / "none"))


def test_other_layers_are_not_valid(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    evidence = Evidence(model=put(tmp_path / "model", {**FITTING, "num_hidden_layers": 5}))
    levels = verify_run(run, evidence).levels
    assert [level.reached for level in levels] == [False, None, None]
    assert "layers, the model's configuration 5" in levels[0].reasons[0]


def test_a_configuration_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    """Without a network nothing speaks against the run, and what was not done is told."""
    level = verify_run(make_run(tmp_path / "runs")).levels[0]
    assert level.reached and "not compared with its model's configuration" in level.reasons[0]


@pytest.mark.slow
def test_the_configuration_on_the_hub(hub: WritableHub, tmp_path: Path) -> None:
    commit = hub.add("models", "acme/tiny-1", Path(put(tmp_path / "model", FITTING)))
    other = hub.add("models", "acme/tiny-1", Path(put(tmp_path / "model", {**FITTING, "num_attention_heads": 8})))
    for revision, status in ((commit, 0), (other, 1)):
        document = make_document(make_layers(4, 4, 2), "acme/tiny-1")
        named = document["model"] | {"revision": revision}
        run = make_run(tmp_path / revision, model=named)
        found, said, errors = command(hub, tmp_path / "home", "verify", run)
        assert found == status, errors
        assert "not compared" not in said and ("configuration 8" in said) == bool(status)
    asked = {request.path.rpartition("/")[2] for request in hub.requests if "/resolve/" in request.path}
    assert asked == {"config.json"}, "not the weights"
