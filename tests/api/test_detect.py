"""Detectors of a user's own, and what installed packages add: measured, marked, and kept from passing for ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import make_run
from tiny import talkative_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

import rh_bench as rh
from rh_bench.artifacts.levels import Evidence
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.detectors import DETECTORS, choose_detectors
from rh_bench.experiments.artifact import validate_experiment
from rh_bench.records import Prompt, head_grid
from rh_bench.sets.grids import Grid
from rh_bench.verification.verify import verify_run


@dataclass(frozen=True)
class Depth:
    """Scores a head by how deep its layer lies: an idea that no paper has."""

    name: str = "depth"
    version: int = 1
    source: str = "this test"
    scores: tuple[str, ...] = ("depth",)
    rules: tuple[rh.Rule, ...] = (rh.Rule("depth", "top", 2),)
    needs_data: bool = False
    counted_only: bool = False

    def measure(
        self, subject: rh.Subject, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]]
    ) -> Iterator[rh.Measured]:
        layers = len(subject.loaded.layers)
        scores = np.array([[layer / layers for layer, _ in head_grid(subject.loaded.layers)]])
        for prompt in prompts:
            if prompt.sample.sample_id not in done:
                yield rh.Measured(prompt.sample.sample_id, scores, 0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("detect")
    talkative_checkpoint(root / "model", window=1000)
    build_set(Recipe(parse_source("synthetic"), Grid("custom", (500,), (0.0, 100.0), 2, 2)), root / "set")
    return root


def loaded(place: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(place / "model"), AutoTokenizer.from_pretrained(place / "model")


PLUGIN = """
import numpy as np
from dataclasses import dataclass
from rh_bench import Measured, Rule
from rh_bench.interchange.base import Format, Written
from rh_bench.interchange.records import HeadList
from rh_bench.records import head_grid

@dataclass(frozen=True)
class Flat:
    name: str = "flat"
    version: int = 1
    source: str = "a package"
    scores: tuple = ("flat",)
    rules: tuple = (Rule("flat", "above", 0.1),)
    needs_data: bool = False
    counted_only: bool = False

    def measure(self, subject, prompts, done):
        heads = len(head_grid(subject.loaded.layers))
        for prompt in prompts:
            if prompt.sample.sample_id not in done:
                yield Measured(prompt.sample.sample_id, np.linspace(0, 1, heads)[None], 0.0)

def write(heads):
    lines = [f"{layer}:{head}" for layer, head in heads.order or heads.heads]
    return Written({"heads.lines": chr(10).join(lines).encode()}, ("scores",))

def read(path):
    heads = tuple(sorted(tuple(map(int, line.split(":"))) for line in path.read_text().split()))
    return HeadList("lines", "acme/read", "query", "membership", None, None, heads, None, frozenset(heads))

lines = Format("lines", read, write)

def shouts(path):
    heads = tuple((0, head) for head in range(40))
    values = tuple(float(value) for value in np.sqrt(np.arange(1, 41) / 50.3))
    return HeadList("shouts", "acme/read", "query", "score", 1, 40, heads, values, None)

shouting = Format("shouts", shouts)
broken = 3
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that is installed, as far as Python can tell."""
    site = tmp_path / "site"
    info = site / "flat_heads-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "flat_heads.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flat-heads\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("flat_heads\n")
    (info / "RECORD").write_text("flat_heads.py,,\n")
    (info / "entry_points.txt").write_text(
        "[rh_bench.detectors]\nflat = flat_heads:Flat\nbroken = flat_heads:broken\nmissing = no_such_module:x\n"
        "[rh_bench.formats]\nlines = flat_heads:lines\nshouts = flat_heads:shouting\nbad = flat_heads:broken\n"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "flat_heads", raising=False)
    return site


# --- a user's own ---


@pytest.mark.slow
def test_a_detector_of_the_users_own(place: Path, tmp_path: Path) -> None:
    model, tokenizer = loaded(place)
    found = rh.detect(model, tokenizer, haystack=place / "set", detectors=["copy", Depth()])
    assert found.folder is None and found.document["schema_version"] == "1.2"
    ours, theirs = found.document["settings"]["detectors"]
    assert "foreign" not in ours and theirs["foreign"]["class"] == "test_detect:Depth"
    assert theirs["foreign"]["package"] is None and len(theirs["foreign"]["source_sha256"]) == 64
    assert any("depth is not rh_bench's own" in note for note in found.notes)
    assert found.named("depth") == [(2, 0), (2, 1)]
    assert len(found.tables["scores"]) == 2 * len(found.tables["samples"]) == 8
    folder = found.save(tmp_path / "experiments")
    assert validate_experiment(folder) == []
    assert rh.load_experiment(folder).results == found.results
    assert main(["validate", str(folder)]) == 0


@pytest.mark.slow
def test_it_is_written_and_not_measured_twice(place: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"haystack": place / "set", "detectors": [Depth()], "out": tmp_path, "limit": 2}
    found = rh.detect(str(place / "model"), **options)
    assert found.folder is not None and found.folder.parent == tmp_path / "model"
    assert rh.detect(str(place / "model"), **options).document == found.document
    other = rh.detect(str(place / "model"), **{**options, "detectors": [replace(Depth(), version=2)]})
    assert other.folder != found.folder


@pytest.mark.slow
def test_how_far_it_can_be_believed(place: Path, tmp_path: Path) -> None:
    """Its results are computed again; its scores cannot be measured again by who does not have the detector."""
    named: dict[str, Any] = {"haystack": place / "set", "detectors": ["attention-mass", Depth()], "out": tmp_path}
    found = rh.detect(str(place / "model"), **named)
    assert found.folder is not None
    evidence = Evidence(haystack=str(place / "set"), model=str(place / "model"), rerun=2)
    valid, recomputed, rerun = verify_run(found.folder, evidence).levels
    assert valid.reached and recomputed.reached and rerun.reached is None
    assert "depth is not rh_bench's own" in " ".join(recomputed.reasons)
    assert "test_detect:Depth is not installed here" in " ".join(rerun.reasons)


@pytest.mark.slow
def test_a_foreign_one_cannot_pass_for_ours(place: Path, tmp_path: Path) -> None:
    """Whoever leaves out the mark has a detector that this rh_bench does not know."""
    found = rh.detect(str(place / "model"), haystack=place / "set", detectors=["copy", Depth()])
    document = json.loads(json.dumps(found.document))
    del document["settings"]["detectors"][1]["foreign"]
    from rh_bench.experiments.document import experiment_id
    from rh_bench.experiments.registry import kinds

    settings = document["settings"]
    document["experiment_id"] = experiment_id(kinds()["detectors"], document["model"], [], document["data"], settings)
    folder = replace(found, document=document).save(tmp_path)
    valid, recomputed, _ = verify_run(folder, Evidence(haystack=str(place / "set"), model=str(place / "model"))).levels
    assert valid.reached and recomputed.reached is False and "depth" in " ".join(recomputed.reasons)


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        (Depth, "detector Depth: is a class; pass an instance: MyDetector()"),
        (object(), "has no name"),
        (replace(Depth(), name="Copy!"), "its name must be at most 40 lower-case letters"),
        (replace(Depth(), name="copy"), "'copy' is a detector of rh_bench"),
        (replace(Depth(), scores=("copy",), rules=(rh.Rule("copy", "top", 1),)), "two detectors have a score 'copy'"),
        (replace(Depth(), scores="depth"), "its scores must be a tuple of names"),
        (replace(Depth(), scores=()), "its scores must be a tuple of names"),
        (replace(Depth(), rules=()), "its rules must be a tuple"),
        (replace(Depth(), rules=(rh.Rule("width", "top", 1),)), "a rule names an unknown score"),
        (replace(Depth(), rules=(rh.Rule("depth", "top", -1),)), "has an invalid kind or value"),
        (replace(Depth(), version=0), "its version must be"),
        (replace(Depth(), version=True), "its version must be"),
        (replace(Depth(), source="x" * 1001), "its source must be"),
        (replace(Depth(), needs_data=1), "true or false"),
    ],
)
def test_what_is_no_detector_is_refused_before_anything_is_loaded(detector: Any, said: str) -> None:
    with pytest.raises(rh.InputError, match=said.replace("(", r"\(").replace(")", r"\)")) as caught:
        rh.detect("/nowhere/model", haystack="/nowhere/set", detectors=["copy", detector])
    assert "\n" not in str(caught.value)


def test_ours_are_ours_also_as_instances() -> None:
    assert choose_detectors([DETECTORS[1], "copy"]) == DETECTORS[:2]
    assert choose_detectors([type(DETECTORS[0])()]) == DETECTORS[:1]
    with pytest.raises(rh.InputError, match="duplicate detector"):
        choose_detectors(["copy", type(DETECTORS[0])()])
    with pytest.raises(rh.InputError, match="give at least one detector"):
        choose_detectors([])


# --- an installed package's ---


@pytest.mark.slow
def test_a_detector_of_an_installed_package(place: Path, tmp_path: Path, plugin: Path) -> None:
    out = ["--haystack", str(place / "set"), "--out", str(tmp_path / "e"), "--detectors", "copy,flat", "--limit", "2"]
    assert main(["detect", str(place / "model"), *out]) == 0
    (folder,) = (tmp_path / "e").glob("*/detectors-*")
    found = rh.load_experiment(folder)
    foreign = found.document["settings"]["detectors"][1]["foreign"]
    assert (foreign["package"], foreign["package_version"]) == ("flat-heads", "1.2")
    assert foreign["class"] == "flat_heads:Flat"
    evidence = Evidence(haystack=str(place / "set"), model=str(place / "model"), rerun=2)
    assert [level.reached for level in verify_run(folder, evidence).levels[:2]] == [True, True]
    assert verify_run(folder, evidence).levels[2].reached is not False


def test_nothing_of_a_package_is_imported_unasked(plugin: Path) -> None:
    assert choose_detectors(None) == DETECTORS and choose_detectors(["copy"])
    assert "flat_heads" not in sys.modules
    for name, said in (
        ("broken", "has no name"),
        ("missing", "cannot be loaded .ModuleNotFoundError"),
        ("nothing", "unknown detector 'nothing'"),
    ):
        with pytest.raises(rh.InputError, match=said):
            choose_detectors([name])


def test_two_packages_of_one_name(plugin: Path) -> None:
    info = plugin / "other_heads-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-heads\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[rh_bench.detectors]\nflat = flat_heads:Flat\n")
    with pytest.raises(rh.InputError, match=r"several packages add 'flat' \(flat-heads, other-heads\)"):
        choose_detectors(["flat"])


def test_a_format_of_an_installed_package(tmp_path: Path, plugin: Path) -> None:
    run = rh.load_run(make_run(tmp_path / "runs", layers=6, heads=8))
    ((path,), losses) = run.to("lines", tmp_path / "heads.lines")
    assert losses == ("scores",) and path.read_text().split() == [f"{a}:{b}" for a, b in run.top()]
    assert main(["import", str(path), "--format", "lines", "--out", str(tmp_path / "imports")]) == 0
    (folder,) = (tmp_path / "imports").glob("*/*")
    imported = rh.load_run(folder)
    assert sorted(imported.top()) == sorted(run.top()) and imported.document["schema_version"] == "1.2"  # type: ignore[union-attr]
    assert main(["validate", str(folder)]) == 0
    assert "foreign-format" in [one["code"] for one in imported.document["findings"]]


def test_numbers_of_a_foreign_format_must_show_what_they_are(tmp_path: Path, plugin: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["import", str(tmp_path / "file"), "--format", "shouts", "--out", str(tmp_path / "imports")]) == 0
    (folder,) = (tmp_path / "imports").glob("*/*")
    document = json.loads((folder / "import.json").read_text())
    assert document["measure"] == "unknown", "roots are no shares of an answer"
    document["measure"] = "score"
    (folder / "import.json").write_text(json.dumps(document))
    assert main(["validate", str(folder)]) == 1


@pytest.mark.parametrize(("format", "said"), [("xls", "unknown format 'xls'"), ("bad", "is no rh_bench")])
def test_formats_that_there_are_not(
    tmp_path: Path, plugin: Path, format: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    for command in (["import", "--out", str(tmp_path / "i")], ["audit"]):
        name, *rest = command
        assert main([name, str(tmp_path / "file"), "--format", format, *rest]) == 2
        assert said in capsys.readouterr().err
    folder = make_run(tmp_path / "runs")
    assert main(["export", str(folder), "--format", "shouts", "--out", str(tmp_path / "x")]) == 2
    assert "nothing writes the format 'shouts'" in capsys.readouterr().err
