"""Every field of a run that can be checked is: one lie at a time, in a run that is sound otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from claiming import Lie, forged, measured  # noqa: F401

from rh_bench.artifacts.levels import Evidence
from rh_bench.cli.main import main
from rh_bench.measure.claims import _file_claims
from rh_bench.system.schema import schema_text
from rh_bench.verification.verify import verify_run


def levels(run: Path, measured: dict[str, Path], rerun: int = 0) -> list[Any]:
    evidence = Evidence(str(measured["set"]), str(measured["model"]), rerun, device="cpu")
    return list(verify_run(run, evidence).levels)


def part(*path: str | int) -> Callable[[dict[str, Any]], Any]:
    def found(document: dict[str, Any]) -> Any:
        for name in path:
            document = document[name]  # type: ignore[index]
        return document

    return found


def setting(*path: str | int, value: Any) -> Lie:
    return lambda document: part(*path[:-1])(document).__setitem__(path[-1], value)


VALID: dict[str, tuple[Lie, str]] = {
    "replicates": (setting("protocol", "bootstrap", "replicates", value=1), "/protocol/bootstrap/replicates: is 1"),
    "seed": (setting("protocol", "bootstrap", "seed", value=7), "/protocol/bootstrap/seed: is 7"),
    "confidence": (
        setting("protocol", "bootstrap", "confidence", value=1e-9),
        "/protocol/bootstrap/confidence: is 1e-09",
    ),
    "version": (setting("protocol", "version", value=2), "/protocol/version: is 2"),
    "engine": (setting("engine", "name", value="quantum"), "/engine/name: is quantum"),
    "engine version": (setting("engine", "version", value=99), "/engine/version: is 99"),
    "origin": (setting("origin", value="imported"), "/origin: is imported"),
    "a file twice": (lambda d: d["model"]["files"].append(d["model"]["files"][0]), "is listed twice"),
    "a path": (setting("model", "files", 0, "path", value="../x"), "is not a file name"),
    "window without a source": (setting("model", "window", value=None), "/model/window_from: must be there exactly if"),
    "turn": (setting("protocol", "turn_token", value="</s>"), '/protocol/stop: must contain "turn"'),
}


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", VALID)
def test_what_the_run_itself_shows(name: str, measured: dict[str, Path], tmp_path: Path) -> None:
    lie, words = VALID[name]
    (valid, *_) = levels(forged(measured, tmp_path, lie), measured)
    assert valid.reached is False and words in " ".join(valid.reasons), valid


RECOMPUTED: dict[str, tuple[Lie, str]] = {
    "parameters": (setting("model", "parameters", value=70_000_000_000), "/model/parameters is 70000000000"),
    "one parameter": (lambda d: d["model"].update(parameters=d["model"]["parameters"] - 1), "/model/parameters is"),
    "window": (setting("model", "window", value=1_000_000), "/model/window is 1000000, it must be 4096"),
    "window from": (setting("model", "window_from", value="rope_scaling"), "/model/window_from is rope_scaling"),
    "model type": (setting("model", "model_type", value="gemma3"), "/model/model_type is gemma3, it must be llama"),
    "architecture": (setting("model", "architecture", value="GemmaForCausalLM"), "/model/architecture is Gemma"),
    "part": (setting("model", "text_part_of", value="Mistral3"), "/model/text_part_of is Mistral3"),
    "base": (setting("model", "base_model", value=["meta/llama"]), "/model/base_model is ['meta/llama']"),
    "no base": (setting("model", "base_model", value=None), "/model/base_model is None, it must be ['acme/base']"),
    "chat template": (setting("model", "chat_template", value=False), "/model/chat_template is False"),
    "adapter": (
        lambda d: d["model"].update(
            adapter={
                "method": "LORA",
                "revision": "0" * 64,
                "base": {"id": "llama", "revision": "0" * 64, "source": "folder", "files": []},
            }
        ),
        "/model/adapter is",
    ),
    "size of a file": (setting("model", "files", 0, "bytes", value=9), "/model/files/0: the model has no file"),
    "hash of a file": (setting("model", "files", 0, "sha256", value="0" * 64), "/model/files/0: the model has no file"),
    "a file left out": (lambda d: d["model"]["files"].pop(1), "config.json is left out"),
    "a file made up": (
        lambda d: d["model"]["files"].append({"path": "x.json", "sha256": "0" * 64, "bytes": 1}),
        "the model has no file x.json",
    ),
    "set's id": (setting("haystack", "source", "id", value="pg/essays"), "/haystack/source/id is pg/essays"),
    "set's name": (setting("haystack", "name", value="essays"), "/haystack/name is essays"),
    "source": (setting("haystack", "source", "kind", value="essays"), "/haystack/source/kind is essays"),
    "a source more": (setting("haystack", "source", "more", value="pg/essays"), "/haystack/source is"),
    "stop": (setting("protocol", "stop", value=["eos", "newline"]), "/protocol/stop is ['eos', 'newline']"),
    "turn": (
        lambda d: d["protocol"].update(stop=["eos", "turn"], turn_token="<s>"),
        "/protocol/turn_token is '<s>', the template ends a turn differently",
    ),
    "grid": (setting("protocol", "grid", "kind", value="made"), "/protocol/grid/kind is made, it must be set"),
    "thoughts": (
        lambda d: d["protocol"].update(
            thinking={
                "way": "none",
                "variables": {},
                "appended": "",
                "opening": None,
                "closing": None,
                "limit": None,
                "closing_ids": None,
            }
        ),
        "what the run says about thoughts does not match its model's chat template",
    ),
}


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", RECOMPUTED)
def test_what_the_models_files_and_the_set_show(name: str, measured: dict[str, Path], tmp_path: Path) -> None:
    lie, words = RECOMPUTED[name]
    valid, recomputed, _ = levels(forged(measured, tmp_path, lie), measured)
    assert valid.reached is True, valid
    assert recomputed.reached is False and words in " ".join(recomputed.reasons), recomputed


RERUN: dict[str, tuple[Lie, str]] = {
    "key heads": (setting("model", "layers", 0, "kv_heads", value=4), "/model/layers/0/kv_heads is 4, it must be 2"),
    "recurrent": (setting("model", "layers", 0, "recurrent", value=True), "/model/layers/0/recurrent is True"),
    "croppable": (setting("model", "layers", 2, "croppable", value=False), "/model/layers/2/croppable is False"),
    "read from": (setting("model", "layers", 0, "read_from", value="weights"), "/model/layers/0/read_from is weights"),
    "notes": (setting("model", "notes", value=["the best model there is"]), "/model/notes is ['the best"),
}


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", RERUN)
def test_what_the_loaded_model_shows(name: str, measured: dict[str, Path], tmp_path: Path) -> None:
    lie, words = RERUN[name]
    valid, recomputed, rerun = levels(forged(measured, tmp_path, lie), measured, rerun=1)
    assert (valid.reached, recomputed.reached) == (True, True), (valid, recomputed)
    assert rerun.reached is False and words in " ".join(rerun.reasons), rerun


@pytest.mark.slow
def test_an_honest_run_is_what_it_says(measured: dict[str, Path]) -> None:
    assert [level.reached for level in levels(measured["run"], measured, rerun=1)] == [True, True, True]


@pytest.mark.slow
def test_an_older_run_that_says_less_is_no_liar(measured: dict[str, Path], tmp_path: Path) -> None:
    def older(document: dict[str, Any]) -> None:
        document["schema_version"] = "1.2"
        for name in ("window_from", "text_part_of", "notes", "base_model"):
            del document["model"][name]
        for layer in document["model"]["layers"]:
            for name in ("recurrent", "croppable", "read_from"):
                del layer[name]

    found = levels(forged(measured, tmp_path, older), measured, rerun=1)
    assert [level.reached for level in found] == [True, True, True], found


def test_a_window_that_the_user_stated_is_the_users_word(measured: dict[str, Path], tmp_path: Path) -> None:
    def stated(document: dict[str, Any]) -> None:
        document["model"] |= {"window": 9000, "window_from": "option"}

    found = levels(forged(measured, tmp_path, stated), measured)
    assert [level.reached for level in found] == [True, True, None], found


@pytest.mark.slow
def test_the_command_says_what_is_not_so(
    measured: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = forged(measured, tmp_path, RECOMPUTED["parameters"][0])
    argv = ["verify", str(run), "--haystack", str(measured["set"]), "--model", str(measured["model"])]
    assert main(argv) == 1
    said = capsys.readouterr()
    assert "recomputed: no\n  run.json#/model/parameters is 70000000000, it must be " in said.out
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("modeling_x.py", False),
        ("x.Q4.gguf", False),
        ("consolidated.safetensors", False),
        ("config2.json", True),
        ("model-2.safetensors", True),
    ],
)
def test_files_of_the_hub_that_nobody_fetches_may_have_lain_in_the_cache(name: str, found: bool) -> None:
    def file(path: str, size: int = 1) -> dict[str, Any]:
        return {"path": path, "sha256": "a" * 64, "bytes": size}

    there = [file("config.json"), file("model.safetensors"), file("vocab.json")]
    said = list(_file_claims([*there, file(name)], there, "hub", "/model/files"))
    assert bool(said) is found
    assert list(_file_claims(there[:2], there, "hub", "/model/files")) == [], "another version fetches other kinds"
    assert "model.safetensors is left out" in next(_file_claims(there[:1], there, "hub", "/model/files"))
    assert next(_file_claims([file("config.json", 2)], there[:1], "hub", "/model/files"))
    assert list(_file_claims([file("a.gguf")], [file("b.gguf")], "gguf", "/model/files")) == []


# The table in the docs


def leaves(schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Pointers of all fields of a schema that hold no other fields; of a list's items as `*`."""
    ways = [way for way in schema.get("anyOf", ()) if way.get("type") != "null"]
    if len(ways) == 1:
        yield from leaves(ways[0], place)
    elif schema.get("properties"):
        for name, inner in schema["properties"].items():
            yield from leaves(inner, f"{place}/{name}")
    elif schema.get("items", {}).get("properties"):
        yield from leaves(schema["items"], f"{place}/*")
    else:
        yield place


def table() -> dict[str, str]:
    """Pointer and level of each field, as docs/verification.md has them."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "verification.md").read_text()
    section = text.split("## What is checked of each field")[1].split("\n## ")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    return {name: level.strip() for names, level, _ in rows for name in re.findall(r"`([^`]+)`", names)}


def test_the_docs_say_of_every_field_where_it_is_checked() -> None:
    fields = table()
    assert sorted(leaves(json.loads(schema_text("run")))) == sorted(fields)
    assert set(fields.values()) == {"valid", "recomputed", "rerun", "as claimed"}


def told(lies: dict[str, tuple[Lie, str]]) -> set[str]:
    """Fields of which the words of a lie speak."""
    return {re.sub(r"/\d+", "/*", place) for _, words in lies.values() for place in re.findall(r"^/[\w/]+", words)}


def test_lies_are_told_where_the_docs_say_that_they_are_found() -> None:
    fields = table()
    for level, lies in (("valid", VALID), ("recomputed", RECOMPUTED), ("rerun", RERUN)):
        for place in told(lies):
            found = {fields[name] for name in fields if name == place or place.startswith(f"{name}/")}
            found |= {fields[name] for name in fields if name.startswith(place)}
            assert level in found or place in ("/model/window_from", "/protocol/stop"), (level, place, found)
