"""Folders that are called after models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_checkpoint

from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.interchange.folder import import_file
from rh_bench.sets.grids import choose_grid
from rh_bench.system.schema import schema_text
from rh_bench.system.slugs import SLUG, model_slug


@given(st.text() | st.text(st.sampled_from("ab._-/é"), min_size=190, max_size=300))
def test_every_name_gives_a_folder_that_submissions_take(name: str) -> None:
    assert re.fullmatch(SLUG, model_slug(name)) and ".." not in model_slug(name)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("org/name", "org__name"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB__SmolLM2-135M-Instruct"),
        ("_private", "_private"),
        ("a b (c)", "a-b-c"),
        ("a/../b", "a__.__b"),
        ("..hidden", "hidden"),
        ("x" * 200, "x" * 200),
        ("console", "console"),
    ],
)
def test_ordinary_names_stay_what_they_are(name: str, slug: str) -> None:
    assert model_slug(name) == slug


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x" * 250 + "a", "x" * 250 + "b"),
        ("模型", "模型二"),
        ("", "___"),
        ("con", "CON.safetensors"),
        ("nul", "nul.v2"),
    ],
)
def test_names_that_cannot_be_kept_do_not_meet(one: str, other: str) -> None:
    slugs = [model_slug(name) for name in (one, other)]
    assert slugs[0].lower() != slugs[1].lower() and model_slug(one) == slugs[0]
    reserved = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
    assert all(len(slug) <= 200 and slug.split(".")[0].lower() not in reserved for slug in slugs)


def test_the_schemas_take_every_such_folder_and_no_other() -> None:
    def patterns(part: object) -> list[str]:
        if isinstance(part, list):
            return [one for inner in part for one in patterns(inner)]
        if not isinstance(part, dict):
            return []
        own = [part["slug"]["pattern"]] if isinstance(part.get("slug"), dict) and "pattern" in part["slug"] else []
        return own + [one for inner in part.values() for one in patterns(inner)]

    for kind in ("run", "import", "experiment", "verification"):
        found = patterns(json.loads(schema_text(kind)))
        assert found and set(found) == {f"^{SLUG}$"}, kind


@pytest.mark.slow
@pytest.mark.parametrize("name", ["_model", "m" * 230, "nul", "模型"])
def test_a_model_folder_of_any_name_gives_a_run_that_is_valid(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_set(Recipe(parse_source("synthetic"), choose_grid("quick", "300", "50"), needle_count=1), tmp_path / "set")
    model = tiny_checkpoint(tmp_path / name)
    argv = ["evaluate", str(model), "--haystack", str(tmp_path / "set"), "--out", str(tmp_path / "runs")]
    assert main([*argv, "--device", "cpu"]) == 0
    (run,) = (tmp_path / "runs").glob("*/*")
    assert main(["validate", str(run)]) == 0, capsys.readouterr()
    assert main(["submit", str(run), "--repo", "org/results", "--dry-run"]) in (0, 2)  # 2: there is no Hub here
    assert "is no <model>/<run id> folder" not in capsys.readouterr().err


def test_an_import_with_an_odd_quantisation_gets_a_plain_folder(tmp_path: Path) -> None:
    foreign = tmp_path / "heads.json"
    foreign.write_text(json.dumps({"0-0": [1.0, 0.5], "0-1": [0.0, 0.25]}))
    folder = import_file(foreign, tmp_path / "imports", model="org/m (a/../b)")
    assert re.fullmatch(SLUG, folder.parent.name) and folder.parent.name == "org__m-a__.__b"
    assert folder.parent.parent == tmp_path / "imports"
