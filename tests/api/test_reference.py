"""The page of reference says what the docstrings say, and its examples run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_api
import numpy as np
import pytest
import torch
from fake_detectors import make_small_detectors
from fake_runs import make_run
from tiny import talkative_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

import rh_bench as rh
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.interchange.folder import import_file
from rh_bench.sets.grids import Grid

EXAMPLES = dict(make_api.examples())


def test_the_page_is_what_the_docstrings_are() -> None:
    assert make_api.PAGE.read_text(encoding="utf-8") == make_api.render(), "run python docs/make_api.py"


def test_every_name_has_an_example() -> None:
    assert {name for name in EXAMPLES if "." not in name} == set(rh._HOMES)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the introduction of the page says that the examples find."""
    place = tmp_path_factory.mktemp("reference")
    talkative_checkpoint(place / "model")
    build_set(Recipe(parse_source("synthetic"), Grid("custom", (500,), (0.0, 100.0), 2, 2)), place / "sets" / "quick")
    folder = make_run(place / "runs", layers=3, heads=4)
    run = rh.load_run(folder)
    assert isinstance(run, rh.Run)
    imported = import_file(run.to("seed", place / "seed.json").paths[0], place / "imports", model="acme/x")
    experiment = make_small_detectors(place / "experiments")
    before = Path.cwd()
    os.chdir(place)
    yield {
        "rh": rh,
        "np": np,
        "torch": torch,
        "model": AutoModelForCausalLM.from_pretrained(place / "model"),
        "tokenizer": AutoTokenizer.from_pretrained(place / "model"),
        "ids": torch.arange(5, 25)[None],
        "folder": folder,
        "run": run,
        "runs": rh.load_runs("runs"),
        "heads": rh.load_run(imported),
        "haystacks": rh.load_set("sets/quick"),
        "experiment": rh.load_experiment(experiment),
        "imported": imported,
        "_experiment_folder": experiment,
    }
    os.chdir(before)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, workplace: dict[str, Any]) -> None:
    names = dict(workplace)
    if name == "load_experiment":
        names["folder"] = names["_experiment_folder"]
    exec(compile(EXAMPLES[name], f"<example of {name}>", "exec"), names)
