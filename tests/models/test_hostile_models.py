"""A run whose model is made to break the reader: each level ends within its limits, in words."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claiming import forged, measured

from rh_bench.cli.main import main
from rh_bench.models.load import resolve_model

pytestmark = pytest.mark.slow

__all__ = ["measured"]

PRINT = "{{ messages[0]['content'] }}"
SPIN = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}" + PRINT


def template(text: str) -> Callable[[Path], None]:
    return lambda model: (model / "chat_template.jinja").write_text(text) and None


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        document = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**document, **changes}))

    return change


def hostile(measured: dict[str, Path], root: Path, change: Callable[[Path], Any]) -> tuple[Path, Path]:
    """A model that was changed, and a run that says that it is of this one."""
    model = root / "hostile" / "model"
    shutil.copytree(measured["model"], model)
    change(model)
    source = resolve_model(str(model))

    def claim(document: dict[str, Any]) -> None:
        document["model"] |= source.describe()

    return model, forged(measured, root / "runs", claim)


def verify(
    measured: dict[str, Path], model: Path, run: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, list[Any], float]:
    """Exit status, levels, seconds."""
    before = time.monotonic()
    argv = ["verify", str(run), "--haystack", str(measured["set"]), "--model", str(model), "--device", "cpu", "--json"]
    status = main([*argv, *more])
    said = capsys.readouterr()
    assert "Traceback" not in said.err and len(said.err.strip().splitlines()) == 1
    return status, json.loads(said.out)["levels"] if said.out else [], time.monotonic() - before


FAILING: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "a giant text": (template("{% set x = ('x' * 10**9) * 20 %}" + PRINT), 1, "its chat template takes more than 536"),
    "a billion layers": (configured(num_hidden_layers=10**9), 0, "/num_hidden_layers is 1000000000, at most 2000"),
    "a billion layers inside": (configured(text_config={"n_layer": 10**9}), 0, "/text_config/n_layer is 1000000000"),
    "a list without end": (configured(layer_types=["full_attention"] * 70_000), 0, "lists 70000 values"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_hostile_model_fails_its_level(
    kind: str, measured: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, place, words = FAILING[kind]
    model, run = hostile(measured, tmp_path, change)
    status, levels, _ = verify(measured, model, run, capsys, "--rerun", "1")
    assert status == 1
    assert [level["reached"] for level in levels] == [*[True] * place, False, *[None] * (2 - place)], levels
    assert words in " ".join(levels[place]["reasons"]), levels


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: (m / "tokenizer.json").write_text("[" * 10**6), "its tokenizer cannot be loaded"),
        (lambda m: (m / "model.safetensors").open("r+b").truncate(20_000), "it is cut short"),
    ],
    ids=["a nested tokenizer", "weights cut short"],
)
def test_a_model_that_was_named_and_cannot_be_had_is_one_line(
    change: Callable[[Path], Any],
    words: str,
    measured: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, run = hostile(measured, tmp_path, change)
    argv = ["verify", str(run), "--haystack", str(measured["set"]), "--model", str(model)]
    assert main(argv) == 2
    said = capsys.readouterr()
    assert words in said.err and len(said.err.strip().splitlines()) == 1


def test_a_template_that_never_ends_costs_its_level_and_no_more_time_than_it_may_take(
    measured: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, run = hostile(measured, tmp_path, template(SPIN))
    status, levels, seconds = verify(measured, model, run, capsys, "--most-seconds", "8")
    assert status == 1 and seconds < 60
    if levels[0]["reached"]:  # on a machine that is busy, reading alone can take as long
        assert levels[1]["reached"] is False and levels[1].get("exceeded") in ("clock", "processor time", None), levels
        assert "takes" in levels[1]["reasons"][0]
    assert levels[2]["reached"] is None


@pytest.mark.parametrize(
    ("options", "place", "exceeded"),
    [(("--most-memory", "0.01"), 0, "memory"), (("--most-weights", "0"), 2, "weights")],
)
def test_what_exceeds_a_limit_is_told_from_what_was_not_tried(
    options: tuple[str, ...],
    place: int,
    exceeded: str,
    measured: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, levels, _ = verify(measured, measured["model"], measured["run"], capsys, "--rerun", "1", *options)
    assert status == 1 and levels[place]["reached"] is False and levels[place]["exceeded"] == exceeded, levels
    assert all(level["reached"] is None and "exceeded" not in level for level in levels[place + 1 :])
    assert all(level["reached"] is True for level in levels[:place])
