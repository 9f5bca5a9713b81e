"""What a run covers of its set: decided in one place, and said by every command that shows a number of the run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fake_runs import make_run
from tiny import tiny_checkpoint

from rh_bench.artifacts.coverage import OWN, PART, WHOLE, WHOLE_GRID, coverage, coverage_problems
from rh_bench.artifacts.levels import Evidence
from rh_bench.artifacts.results_repo import find_layout, verification_path
from rh_bench.artifacts.run import compute_run_id
from rh_bench.artifacts.verification_record import set_sizes, verification_document
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.interchange.eee import every_eval_ever
from rh_bench.interchange.eval_results import eval_results
from rh_bench.leaderboard.build import build_site
from rh_bench.measure.evaluate import Request, evaluate
from rh_bench.protocol import constants
from rh_bench.sets.dataset import read_set
from rh_bench.sets.grids import choose_grid
from rh_bench.submissions.collect import collect_results
from rh_bench.submissions.submit import _warnings
from rh_bench.system.schema import dump_json
from rh_bench.verification.verify import verify_run

PROTOCOL = {
    **constants(),
    "template": "chat",
    "max_new_tokens": 50,
    "stop": ["eos"],
    "dtype": "float32",
}


def document(samples: int, said: int | None = None, **grid: Any) -> dict[str, Any]:
    haystack = {} if said is None else {"samples": said}
    return {
        "protocol": {"grid": {**WHOLE_GRID, **grid}},
        "counts": {"samples": samples},
        "haystack": haystack,
    }


MADE: dict[str, Any] = {"kind": "made", "lengths": [512, 1024], "depths": [0.0, 50.0]}


@pytest.mark.parametrize(
    ("run", "known", "kind", "mark", "words"),
    [
        (document(60), None, WHOLE, "whole set", "all 60 samples of the set"),
        (document(60, 60), None, WHOLE, "whole set", "all 60 samples of the set"),
        (document(22, limit=22), None, PART, "part of the set", "how many the set has is not known"),
        (document(22, 60, limit=22), None, PART, "22 of 60 samples", "22 of the set's 60 samples (limit 22)"),
        (document(22, limit=22), 60, PART, "22 of 60 samples", "22 of the set's 60 samples (limit 22)"),
        (document(30, 60, needles=["a", "b"]), None, PART, "30 of 60 samples", "(2 chosen needles)"),
        (document(4, **MADE), None, OWN, "own grid", "4 samples of a grid of its own (lengths 512, 1,024; depths 0%,"),
        # What took nothing away:
        (document(60, limit=60), 60, WHOLE, "whole set", "all 60"),
        (document(60, limit=100), None, WHOLE, "whole set", "all 60"),
        (document(60, needles=["a", "b", "c"]), 60, WHOLE, "whole set", "all 60"),
        # What a run claims and does not hold:
        (document(22), 60, PART, "22 of 60 samples", "22 of the set's 60 samples"),
        (document(22, limit=1000), 60, PART, "22 of 60 samples", "(limit 1000)"),
        (document(22, 22, limit=22), None, PART, "part of the set", "how many the set has is not known"),
        (document(22, 22, limit=22), 60, PART, "22 of 60 samples", "22 of the set's 60 samples"),
        (document(22, 60), None, PART, "22 of 60 samples", "22 of the set's 60 samples"),
        (document(60, 60, **MADE), 60, OWN, "own grid", "of a grid of its own"),
        (document(1, 60, limit=1), None, PART, "1 of 60 samples", "1 of the set's 60 samples"),
    ],
)
def test_what_a_run_covers(run: dict[str, Any], known: int | None, kind: str, mark: str, words: str) -> None:
    found = coverage(run, known)
    assert (found.kind, found.mark) == (kind, mark)
    assert words in found.words
    assert found.whole == (kind == WHOLE) == (found.note == "")


@pytest.mark.parametrize(
    ("run", "known", "pointers"),
    [
        (document(60, 60), 60, []),
        (document(22, 60, limit=22), 60, []),
        (document(60, 60, limit=100), None, []),
        (document(96, 600, **MADE, needles=["a"] * 30, limit=96), None, []),
        (document(22, 60), None, ["/counts/samples"]),
        (document(22, 60, limit=30), None, ["/counts/samples"]),
        (document(31, limit=30), None, ["/counts/samples"]),
        (document(61, 60, needles=["a"]), None, ["/counts/samples"]),
        (document(5, **MADE, needles=["a"]), None, ["/counts/samples"]),
        (document(22, 22), 60, ["/haystack/samples", "/counts/samples"]),
    ],
)
def test_what_contradicts_itself(run: dict[str, Any], known: int | None, pointers: list[str]) -> None:
    assert [pointer for pointer, _ in coverage_problems(run, known)] == pointers


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 12 samples, a model, and a run over all of it and one over five."""
    root = tmp_path_factory.mktemp("coverage")
    build_set(
        Recipe(parse_source("synthetic"), choose_grid("quick", "300,400", "0,50,100"), needle_count=2), root / "set"
    )
    tiny_checkpoint(root / "model")
    evaluate(Request(str(root / "model"), str(root / "set"), root / "whole", device="cpu"))
    evaluate(Request(str(root / "model"), str(root / "set"), root / "part", device="cpu", limit=5))
    return root


def only(root: Path) -> Path:
    (folder,) = root.glob("*/*")
    return folder


@pytest.mark.slow
def test_all_samples_in_other_words_are_the_same_run(place: Path) -> None:
    needles = tuple(needle.needle_id for needle in read_set(place / "set").needles)
    for choice in (
        {"limit": 12},
        {"limit": 1000},
        {"needles": needles[::-1]},
        {"lengths": (300, 400), "depths": (0.0, 50.0, 100.0)},
        {"lengths": (300, 400)},
    ):
        outcome = evaluate(Request(str(place / "model"), str(place / "set"), place / "whole", device="cpu", **choice))
        assert outcome.measured == 0, f"{choice} is another run"
        assert outcome.document["protocol"]["grid"] == WHOLE_GRID and outcome.document["haystack"]["samples"] == 12


@pytest.mark.slow
def test_evaluate_show_verify_and_submit_say_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phrase = "5 of the set's 12 samples (limit 5)"
    model, data, part, whole = place / "model", place / "set", only(place / "part"), only(place / "whole")
    again = ["evaluate", str(model), "--haystack", str(data), "--device", "cpu"]
    assert main([*again, "--out", str(place / "part"), "--limit", "5"]) == 0
    said = capsys.readouterr().out
    assert said.count(phrase) == 2 and "Not ranked: measured on" in said
    assert main([*again, "--out", str(place / "part"), "--limit", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coverage"] == {
        "kind": "part",
        "samples": 5,
        "of": 12,
        "choice": ["limit 5"],
    }
    assert main(["show", str(part)]) == 0
    assert f"measured on {phrase}" in capsys.readouterr().out
    assert main(["show", str(whole)]) == 0
    assert "measured on all 12 samples of the set" in capsys.readouterr().out
    assert main(["verify", str(part)]) == 0
    assert f"Not ranked: measured on {phrase}" in capsys.readouterr().out
    assert main(["verify", str(part), "--haystack", str(data), "--model", str(model)]) == 0
    assert f"recomputed: yes\n  measured on {phrase}" in capsys.readouterr().out
    assert any(phrase in warning and "not be ranked" in warning for warning in _warnings(run_of(part)))
    assert not any("ranked" in warning for warning in _warnings(run_of(whole)))


def test_what_other_projects_get_says_it(tmp_path: Path) -> None:
    part = make_run(tmp_path, n_samples=6, protocol={**PROTOCOL, "grid": {**WHOLE_GRID, "limit": 6}})
    (text,) = eval_results(part, dataset="org/niah").files.values()
    (record,) = every_eval_ever(part).files.values()
    for data in (text, record):
        assert "6 samples of the set (limit 6); how many the set has is not known" in " ".join(data.decode().split())


def run_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def forged(place: Path, tmp_path: Path, change: Any) -> Path:
    """The run over five samples with another run.json, under the id that follows from it."""
    run = run_of(only(place / "part"))
    change(run)
    run["run_id"] = compute_run_id(
        model_revision=run["model"]["revision"],
        manifest_sha256=run["haystack"]["manifest_sha256"],
        protocol=run["protocol"],
        engine_name=run["engine"]["name"],
        engine_version=run["engine"]["version"],
    )
    folder = tmp_path / "runs" / run["model"]["slug"] / run["run_id"]
    shutil.copytree(only(place / "part"), folder)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_bytes(dump_json({**summary, "run_id": run["run_id"]}))
    run["files"]["summary.json"] = hashlib.sha256((folder / "summary.json").read_bytes()).hexdigest()
    (folder / "run.json").write_bytes(dump_json(run))
    return folder


def unlimited(run: dict[str, Any]) -> None:
    run["protocol"]["grid"]["limit"] = None


def smaller(run: dict[str, Any]) -> None:
    unlimited(run)
    run["haystack"]["samples"] = 5


def silent(run: dict[str, Any]) -> None:
    unlimited(run)
    del run["haystack"]["samples"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reached", "words"),
    [
        (unlimited, [False, None, None], "run.json#/counts/samples: its grid names 12"),
        (smaller, [True, False, None], "run.json#/haystack/samples: the set has 12"),
        (silent, [True, False, None], "is missing"),
        (lambda run: run["protocol"]["grid"].update(limit=6), [False, None, None], "its grid names 6"),
    ],
)
def test_a_part_that_claims_to_be_the_whole_is_caught(
    place: Path, tmp_path: Path, change: Any, reached: list[bool | None], words: str
) -> None:
    folder = forged(place, tmp_path, change)
    found = verify_run(folder, Evidence(str(place / "set"), str(place / "model"), device="cpu"))
    assert [level.reached for level in found.levels] == reached, found.to_json()
    assert any(words in reason for level in found.levels for reason in level.reasons), found.to_json()


def keep_record(root: Path, folder: Path) -> None:
    """What a maintainer keeps of a run that was recomputed."""
    record = verification_document(verify_run(folder))
    record["levels"][1] |= {"reached": True, "reasons": []}
    path = root / verification_path(folder.parent.name, folder.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dump_json(record))


@pytest.mark.slow
def test_a_verified_run_of_the_same_set_shows_what_another_hides(tmp_path: Path) -> None:
    """A run that claims the whole set, and that nobody has held against it, is ranked until another run has been."""
    root, site = tmp_path / "results", tmp_path / "site"
    honest = make_run(root / "runs", model_id="acme/honest", n_samples=12)
    make_run(root / "runs", model_id="acme/chosen", n_samples=6)
    assert set_sizes(find_layout(root)) == {}
    assert [brief.coverage.kind for brief in build_site(root, site).briefs] == [WHOLE, WHOLE]
    keep_record(root, honest)
    assert set_sizes(find_layout(root)) == {"b" * 64: 12}
    report = build_site(root, site)
    assert [(brief.model, brief.coverage.kind) for brief in report.briefs] == [
        ("acme/chosen", PART),
        ("acme/honest", WHOLE),
    ]
    assert report.kept == 0, "both pages change: a badge, and a mark"
    page = next(site.glob("models/acme__chosen/*.html")).read_text()
    assert "Not ranked: measured on 6 of the set&#39;s 12 samples" in page
    assert build_site(root, site).kept == 2


def test_tables_and_downloads_of_results_say_it(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", model_id="acme/whole", n_samples=12)
    make_run(
        tmp_path / "runs",
        model_id="acme/limited",
        n_samples=6,
        protocol={**PROTOCOL, "grid": {**WHOLE_GRID, "limit": 6}},
    )
    collect_results(tmp_path / "runs", tmp_path / "results")
    rows = pq.read_table(tmp_path / "results" / "data" / "models" / "models.parquet").to_pylist()
    found = {row["model_id"]: (row["coverage"], row["set_samples"]) for row in rows}
    assert found == {"acme/whole": ("whole", 12), "acme/limited": ("part", None)}
    card = (tmp_path / "results" / "README.md").read_text()
    assert "rank only rows that say *whole*" in card and "as claimed by the" in card
