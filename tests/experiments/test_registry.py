"""Kinds of experiments: one folder each, here or in another package, and nothing else that lists them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fake_experiments import SMALL
from fake_runs import make_run
from jsonschema import Draft202012Validator
from other_package import PACKAGE, install, installed

from rh_bench.artifacts.run import read_run
from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import keep_experiment, new_document, read_experiment, run_reference
from rh_bench.experiments.registry import kinds, registry, showings, verifying
from rh_bench.experiments.schemas import experiment_schema, record_schema
from rh_bench.experiments.scorecard import scorecard_of
from rh_bench.leaderboard import build_site
from rh_bench.submissions.place import find_place
from rh_bench.verification.verify import verify_run

ROOT = Path(__file__).resolve().parents[2]
OWN = {"causal", "chain_of_thought", "detectors", "dynamic", "extractive_qa", "intrinsic"}


# The folders of this package


def test_the_kinds_are_those_of_the_folders() -> None:
    folders = {path.parent for path in (ROOT / "rh_bench" / "experiments").glob("*/kind.py")}
    own = {folder for folder in (ROOT / "rh_bench" / "experiments").iterdir() if (folder / "__init__.py").is_file()}
    assert folders == own and len(own) == len(registry().folders)
    assert set(kinds()) == OWN


@pytest.mark.parametrize("kind", sorted(OWN))
def test_a_folder_has_all_that_is_asked_of_a_kind(kind: str) -> None:
    package = registry().packages[kind]
    folder = ROOT.joinpath(*package.split("."))
    for name in ("kind.py", "derive.py", "run.py", "again.py", "schema.json", "card.py", "card.html"):
        assert (folder / name).is_file(), name
    assert verifying(kind).planned and package in showings() and kinds()[kind].label
    assert (ROOT / "docs" / "experiments" / f"{kind}.md").is_file() and kind in SMALL
    assert (kinds()[kind].observed is None) == (verifying(kind).measuring is None)


@pytest.mark.slow
def test_no_torch_and_no_engine_is_needed_to_know_the_kinds() -> None:
    code = """
import sys
from rh_bench.experiments.registry import kinds, showings, verifying
from rh_bench.experiments.schemas import experiment_schema
[verifying(name) for name in kinds()], showings(), experiment_schema()
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)


@pytest.mark.slow
def test_the_schema_names_every_kind_and_describes_each_once() -> None:
    schema = json.loads(experiment_schema())
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]["kind"]["enum"]) == OWN
    rules = [name for rule in schema["allOf"] for name in rule["if"]["properties"]["kind"]["enum"]]
    assert sorted(rules) == sorted(OWN)
    for rule in schema["allOf"]:
        assert {"settings", "results"} <= rule["then"]["properties"].keys()
    text = json.dumps(schema)
    assert all(f'"#/$defs/{name}"' in text for name in schema["$defs"])
    assert set(json.loads(record_schema())["properties"]["experiment"]["properties"]["kind"]["enum"]) == OWN


def test_the_definitions_of_a_folder_are_told_from_all_others() -> None:
    for folder in registry().folders:
        path = ROOT.joinpath(*folder.package.split("."), "schema.json")
        own, name = json.loads(path.read_text(encoding="utf-8")), folder.package.rpartition(".")[2]
        assert own["title"] and own["description"]
        assert all(one.startswith(f"{name}_") for one in own["$defs"])


# A folder of another package


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the other package is installed."""
    folder = tmp_path_factory.mktemp("site-packages")
    install(folder)
    return folder


def toss(root: Path, seed: int = 3) -> Path:
    """The experiment on a run that is made for it; returns its folder."""
    run = make_run(root / "runs", model_id="acme/tossed", layers=2, heads=2, kv_heads=1, n_samples=3)
    coin = kinds()["coin"]
    model = read_run(run).document["model"]
    document = new_document(coin, model=model, runs=[run_reference(run)], settings={"seed": seed})
    tosses = pa.Table.from_pylist([{"toss": i, "heads": i % 2 == 0} for i in range(9)], schema=coin.tables["tosses"])
    return keep_experiment(root / "experiments", document, {"tosses": tosses})[0]


def test_an_experiment_of_another_package_goes_all_the_way(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with installed(site):
        folder = toss(tmp_path)
        assert folder.name.startswith("coin-") and read_experiment(folder).document["counts"] == {"tosses": 9}
        assert main(["validate", str(folder)]) == 0
        assert main(["score", str(folder)]) == 0 and "unchanged" in capsys.readouterr().out
        assert [level.reached for level in verify_run(folder).levels] == [True, True, None]
        found = find_place(f"experiments/acme__tossed/{folder.name}/tosses.parquet")
        assert found is not None and found.kind.reachable("rerun") == "recomputed"
        (run,) = (tmp_path / "runs" / "acme__tossed").iterdir()
        row = scorecard_of(run).rows[-1]
        assert (row.claim, row.verdict) == ("fair", "holds")
        build_site(tmp_path, tmp_path / "out")
    everything = (tmp_path / "out" / "experiments.html").read_text(encoding="utf-8")
    (own,) = (path.read_text(encoding="utf-8") for path in (tmp_path / "out" / "models").glob("acme__tossed/*.html"))
    assert '<h2 id="coins">' in everything and '<th scope="col">Fair</th>' in everything and "<td>Coin<" in everything
    assert "Heads up in" in own and "55.6%" in own and "of 9 tosses" in own and "share of heads up" in own


@pytest.mark.slow
def test_its_settings_are_checked_by_its_own_schema_and_its_own_plan(site: Path, tmp_path: Path) -> None:
    with installed(site):
        with pytest.raises(InputError, match="-1 is less than the minimum of 0"):
            toss(tmp_path / "one", seed=-1)
        reasons = verify_run(toss(tmp_path / "other", seed=4)).levels[1].reasons
    assert reasons == ("settings/seed is 4; for all coins it is 3",)


@pytest.mark.slow
def test_the_command_finds_an_installed_package(site: Path, tmp_path: Path) -> None:
    with installed(site):
        folder = toss(tmp_path)
    command = [sys.executable, "-m", "rh_bench", "validate", str(folder)]
    environment: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300}
    without = subprocess.run(command, check=False, **environment)
    assert without.returncode == 1 and "'coin' is not one of" in without.stdout + without.stderr
    paths = {"PYTHONPATH": f"{ROOT}:{site}", "PATH": ""}
    assert subprocess.run(command, check=False, env=paths, **environment).returncode == 0


def test_without_the_package_its_experiments_are_of_no_known_kind(site: Path, tmp_path: Path) -> None:
    with installed(site):
        folder = toss(tmp_path)
    with pytest.raises(InputError, match="'coin' is not one of"):
        read_experiment(folder)
    build_site(tmp_path, tmp_path / "out")
    assert "Experiments that are not shown" in (tmp_path / "out" / "experiments.html").read_text(encoding="utf-8")


def test_a_site_is_made_anew_once_a_package_is_installed(site: Path, tmp_path: Path) -> None:
    """A page that was made without it is not kept."""
    with installed(site):
        toss(tmp_path)
    build_site(tmp_path, tmp_path / "out")
    with installed(site):
        assert build_site(tmp_path, tmp_path / "out").kept == 0
        assert build_site(tmp_path, tmp_path / "out").kept == 1
    assert '<h2 id="coins">' in (tmp_path / "out" / "experiments.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("kind.py", "import pyarrow", "import no_such_package", "cannot be loaded: ModuleNotFoundError"),
        ("kind.py", '"coin",', '"causal",', "it adds 'causal', as rh_bench.experiments.causal does"),
        ("kind.py", '"coin",', '"Coin/..",', "which is no name of a kind"),
        ("schema.json", "coin_settings", "estimate", "defines 'estimate' a second time"),
        ("schema.json", "{", "[", "is not JSON"),
        ("schema.json", None, None, "its schema.json cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(
    file: str, old: str | None, new: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = install(tmp_path / "site", f"broken_{PACKAGE}")
    if old is None or new is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text((folder / file).read_text().replace(old, new))
    made = SMALL["dynamic"](tmp_path)
    with installed(tmp_path / "site"):
        assert main(["validate", str(made)]) == 2
    said = capsys.readouterr().err
    assert f"broken_{PACKAGE}" in said.replace("\n", "") and words in " ".join(said.split()), said
