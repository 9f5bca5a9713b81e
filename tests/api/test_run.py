"""A run, an import and an experiment in the hands of their user; what they read, they do not trust."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_detectors import make_small_detectors
from fake_runs import make_run
from hub_fixtures import RESULTS, hub  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st
from loopback_write import WritableHub

import rh_bench as rh
from rh_bench.api.choose import choose_top
from rh_bench.artifacts.validate import validate_path
from rh_bench.interchange.export import export_run, write_files
from rh_bench.interchange.folder import import_file
from rh_bench.interchange.formats import READERS

HOSTILE = "<script>alert('$x_1$')</script>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "results" / "runs", layers=6, heads=8)


@pytest.fixture
def run(folder: Path) -> rh.Run:
    found = rh.load_run(folder)
    assert isinstance(found, rh.Run)
    return found


# --- tables ---


def test_heads_in_every_form(run: rh.Run) -> None:
    assert len(run.heads) == 48 and len(list(run.heads)) == 48
    arrow, frame, polars = run.heads.to_arrow(), run.heads.to_pandas(), run.heads.to_polars()
    assert arrow.column_names == run.heads.columns == list(frame.columns) == polars.columns
    assert arrow.num_rows == len(frame) == polars.height == 48
    first = run.heads[0]
    assert (first.layer, first.head, first.place) == (0, 0, (0, 0)) and run.heads[-1].place == (5, 7)
    assert run.heads["score"] == frame["score"].tolist() == polars["score"].to_list()
    assert [head.score for head in run.heads] == run.heads["score"]
    strongest = run.heads.by_rank()
    assert [head.rank for head in strongest] == sorted(run.heads["rank"])
    with pytest.raises(IndexError, match="row 48 of 48"):
        run.heads[48]


def test_samples_events_and_summary(run: rh.Run) -> None:
    assert len(run.samples) == run.document["counts"]["samples"] == 12
    assert len(run.events) == run.document["counts"]["events"] and run.events.columns[1:3] == ["layer", "head"]
    assert run.summary["heads"] == 48 and run.samples[0]["success"] in (True, False)


@pytest.mark.parametrize("package", ["pandas", "polars", "matplotlib"])
def test_a_package_that_is_missing_is_a_line(run: rh.Run, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (package, f"{package}.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    call = {"pandas": run.heads.to_pandas, "polars": run.heads.to_polars, "matplotlib": run.plot}[package]
    with pytest.raises(rh.InputError, match=r"is not installed; run: pip install"):
        call()


# --- the strongest heads ---


def test_the_strongest_heads(run: rh.Run) -> None:
    scores = {head.place: head.score for head in run.heads}
    ranked = sorted((place for place, score in scores.items() if score), key=lambda place: (-scores[place], place))
    assert run.top(3) == ranked[:3] and run.top(0) == []
    assert run.top(1000) == ranked, "heads that never copy are not among the strongest"
    assert run.top(above=0.1) == run.top() == [place for place in ranked if scores[place] > 0.1]
    assert run.top(share=0.05) == ranked[:2], "0.05 of 48 is 2.4"
    assert run.top(share=0.001) == ranked[:1] and run.top(share=1) == ranked


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5]), min_size=1, max_size=30), st.integers(0, 40))
def test_ties_go_by_layer_and_head(scores: list[float], k: int) -> None:
    ranked = sorted((((i // 4, i % 4), score) for i, score in enumerate(scores)), key=lambda one: (-one[1], one[0]))
    chosen = choose_top(ranked, k, None, None, 0.1)
    assert chosen == [place for place, score in ranked if score > 0][:k]
    lowest = min((score for place, score in ranked if place in chosen), default=9.0)
    assert all(place in chosen for place, score in ranked if score > lowest)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"k": 1, "above": 0.1}, "takes only one of these"),
        ({"share": 0}, "must be above 0"),
        ({"share": 1.5}, "must be above 0 and at most 1"),
        ({"k": -1}, "must be a number of heads"),
        ({"k": True}, "must be a number of heads"),
        ({"above": float("nan")}, "is not a number"),
    ],
)
def test_wrong_questions_are_a_line(run: rh.Run, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(rh.InputError, match=said):
        run.top(**asked)


@pytest.mark.slow
def test_without_a_sample_that_counts_there_is_no_strongest(tmp_path: Path) -> None:
    from fake_runs import make_document, make_layers, make_results

    from rh_bench.artifacts.run import run_folder, write_run

    layers = make_layers(2, 2, 1)
    document = make_document(layers, "acme/none")
    folder = run_folder(tmp_path, document["model"]["slug"], document["run_id"])
    folder.mkdir(parents=True)
    write_run(folder, document, layers, make_results(2, 2, 6, failure_every=1))
    run = rh.load_run(folder)
    assert isinstance(run, rh.Run) and [head.score for head in run.heads] == [None] * 4
    with pytest.raises(rh.InputError, match="no sample counts"):
        run.top(3)
    assert "–" in repr(run) and run.plot() is not None and run._repr_html_()


# --- saving and exporting ---


def test_saving_gives_the_same_run(run: rh.Run, folder: Path, tmp_path: Path) -> None:
    saved = run.save(tmp_path / "copy")
    assert saved.parts[-2:] == folder.parts[-2:] and validate_path(saved) == []
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert run.save(tmp_path / "copy") == saved
    (saved / "run.json").write_text("{}")
    with pytest.raises(rh.InputError, match="something else lies there"):
        run.save(tmp_path / "copy")


@pytest.mark.parametrize("format", [*sorted(set(READERS) - {"atlas"}), "eee"])
def test_exporting_writes_what_the_command_writes(run: rh.Run, folder: Path, tmp_path: Path, format: str) -> None:
    expected = {p.name: p.read_bytes() for p in write_files(export_run(folder, format), tmp_path / "expected")}
    paths, losses = run.to(format, tmp_path / "found")
    assert {p.name: p.read_bytes() for p in paths} == expected
    assert losses == export_run(folder, format).losses


def test_a_format_of_two_files(run: rh.Run, tmp_path: Path) -> None:
    """The second is beside the first, and nothing is written over for it."""
    paths, _ = run.to("duo", tmp_path / "a" / "heads.tsv")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["a/heads.tsv", "a/config.json"]
    assert run.to("duo", tmp_path / "a" / "heads.tsv").paths == paths
    assert READERS["duo"](paths[0]).heads
    (tmp_path / "config.json").write_text("of a model, say")
    with pytest.raises(rh.InputError, match=r"config\.json: would be written over"):
        run.to("duo", tmp_path / "heads.tsv")
    assert (tmp_path / "config.json").read_text() == "of a model, say" and not (tmp_path / "heads.tsv").exists()


def test_a_run_in_memory_is_exported_too(run: rh.Run, tmp_path: Path) -> None:
    memory = rh.Run(run.document, run.layers, run.results, None, run._files)
    ((path,), losses) = memory.to("pairs", tmp_path / "heads.json", top=3)
    listed = json.loads(path.read_text())
    assert [tuple(head) for head, _ in listed[:3]] == run.top(3) and losses
    assert sorted(one.name for one in tmp_path.iterdir()) == ["heads.json", "results"]


def test_wrong_exports_are_a_line(run: rh.Run, tmp_path: Path) -> None:
    with pytest.raises(rh.InputError, match="unknown option 'colour'"):
        run.to("duo", tmp_path / "x", colour="red")
    with pytest.raises(rh.InputError, match="unknown format 'xls'"):
        run.to("xls", tmp_path / "x")


# --- pictures and notebooks ---


@pytest.mark.slow
def test_the_heat_map(run: rh.Run, tmp_path: Path) -> None:
    figure = run.plot(size=(4, 3))
    axes = figure.axes[0]
    values = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert values.shape == (6, 8)
    for head in run.heads:
        assert values[head.layer, head.head] == head.score
    dots = {(int(y), int(x)) for x, y in zip(*axes.lines[0].get_data(), strict=True)}
    assert dots == set(run.top(above=0.1))
    figure.savefig(tmp_path / "heads.png")
    assert (tmp_path / "heads.png").stat().st_size > 1000 and figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_hostile_names_are_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path, layers=2, heads=2)
    run = rh.load_run(folder)
    assert isinstance(run, rh.Run)
    document = json.loads(json.dumps(run.document))
    document["model"]["id"] = HOSTILE
    document["engine"]["notes"] = [HOSTILE]
    document["haystack"]["name"] = HOSTILE
    hostile = rh.Run(document, run.layers, run.results, Path(HOSTILE), run._files)
    page = hostile._repr_html_()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert hostile.plot()._repr_png_().startswith(b"\x89PNG"), "a dollar sign is no formula"
    table = rh.Table(run.samples.to_arrow().rename_columns([HOSTILE, *run.samples.columns[1:]]))
    assert "<script" not in table._repr_html_() and "&lt;script" in table._repr_html_()


def test_what_a_notebook_shows(run: rh.Run) -> None:
    page = run._repr_html_()
    assert run.id in page and "retrieval heads" in page and "10 of 48 rows" in page
    first = run.top(1)[0]
    assert f"<td>{first[0]}</td><td>{first[1]}</td>" in page
    assert repr(run).startswith(f"<Run {run.id} of 'acme/tiny-1'") and "48 rows" in repr(run.heads)


# --- loading ---


def test_one_run_among_several(folder: Path, tmp_path: Path) -> None:
    root = folder.parents[1]
    assert rh.load_run(root).id == folder.name  # type: ignore[union-attr]
    other = make_run(root, model_id="acme/tiny-2")
    with pytest.raises(rh.InputError, match=r"holds 2 runs; choose one: acme__tiny-1/"):
        rh.load_run(root)
    for name in (other.name, f"acme__tiny-2/{other.name}"):
        if other.name != folder.name or "/" in name:
            assert rh.load_run(root, name).model == "acme/tiny-2"
    with pytest.raises(rh.InputError, match="holds no run 'nothing'"):
        rh.load_run(root, "nothing")
    with pytest.raises(rh.InputError, match="is not the run 'nothing'"):
        rh.load_run(folder, "nothing")


def test_runs_that_are_not_sound_are_left_out_aloud(folder: Path) -> None:
    root = folder.parents[1]
    other = make_run(root, model_id="acme/tiny-2")
    (other / "events.parquet").write_bytes(b"")
    with pytest.warns(rh.RhBenchWarning, match="1 runs were left out"):
        runs = rh.load_runs(root)
    assert [run.model for run in runs] == ["acme/tiny-1"] and len(runs) == 1 and runs[0].folder == folder
    ((left, why),) = runs.left_out
    assert left == other and "events.parquet" in why
    assert "acme/tiny-1" in runs._repr_html_() and "1 left out" in repr(runs)
    with pytest.raises(rh.InputError, match="events.parquet"):
        rh.load_run(other)


def test_scores_that_the_events_do_not_give(folder: Path) -> None:
    """A run can be well formed and lie: its scores are computed again where that is asked for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rh_bench.artifacts.tables import table_bytes
    from rh_bench.system.files import sha256_file

    table = pq.read_table(folder / "heads.parquet")
    scores = [0.5 if score == 0 else score for score in table["score"].to_pylist()]
    forged = table.set_column(2, table.schema.field("score"), pa.array(scores))
    (folder / "heads.parquet").write_bytes(table_bytes(forged))
    document = json.loads((folder / "run.json").read_text())
    document["files"]["heads.parquet"] = sha256_file(folder / "heads.parquet")
    (folder / "run.json").write_text(json.dumps(document))
    with pytest.raises(rh.InputError, match=r"heads\.parquet"):
        rh.load_run(folder, recompute=True)


@pytest.mark.parametrize("where", ["/nowhere", "./nowhere", "nowhere", Path("org/name"), "a/b/c"])
def test_what_is_not_there_is_a_line(where: Any) -> None:
    for load in (rh.load_run, rh.load_runs, rh.load_experiment):
        with pytest.raises(rh.InputError, match="no such folder"):
            load(where)
    with pytest.raises(rh.InputError):
        rh.load_set(where)


def test_an_empty_folder_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(rh.InputError, match="holds 0 runs"):
        rh.load_run(tmp_path)
    assert len(rh.load_runs(tmp_path)) == 0


def test_from_a_results_repository(folder: Path, hub: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from hub_fixtures import commands_ask

    hub.add("datasets", RESULTS, folder.parents[2])
    commands_ask(hub, monkeypatch)
    run = rh.load_run(RESULTS)
    assert isinstance(run, rh.Run) and run.id == folder.name
    assert [one.id for one in rh.load_runs(f"{RESULTS}@main")] == [run.id]
    with pytest.raises(rh.InputError, match="org/other"):
        rh.load_run("org/other")


# --- imports ---


def test_an_imported_list(run: rh.Run, tmp_path: Path) -> None:
    ((path,), _) = run.to("seed", tmp_path / "seed.json")
    imported = rh.load_run(import_file(path, tmp_path / "imports", model="acme/seen"))
    assert isinstance(imported, rh.ImportedHeads)
    assert imported.model == "acme/seen" and imported.measure == "retrieval scores"
    assert imported.top(5) == run.top(5) and imported.top() == run.top()
    assert imported.heads["value"] == pytest.approx(run.heads["score"], abs=1e-9)
    ((back,), _) = imported.to("seed", tmp_path / "back.json")
    assert json.loads(back.read_text()) == json.loads(path.read_text())
    assert "acme/seen" in imported._repr_html_() and "seed" in repr(imported)
    with pytest.raises(rh.InputError, match="key/value heads"):
        imported.to("duo", tmp_path / "x")


def test_an_imported_set_of_heads_has_no_numbers(run: rh.Run, tmp_path: Path) -> None:
    ((path,), _) = run.to("qrhead", tmp_path / "heads.yaml", top=3)
    imported = rh.load_run(import_file(path, tmp_path / "imports"))
    assert isinstance(imported, rh.ImportedHeads)
    assert sorted(imported.top()) == sorted(run.top(3)) and len(imported.top(2)) == 2
    with pytest.raises(rh.InputError, match="has no numbers to choose by"):
        imported.top(above=0.1)


def test_numbers_of_another_kind_have_no_threshold(run: rh.Run, tmp_path: Path) -> None:
    ((path, *_), _) = run.to("duo", tmp_path / "duo")
    imported = rh.load_run(import_file(path.parent, tmp_path / "imports", model="acme/x"))
    assert isinstance(imported, rh.ImportedHeads) and "gates" in imported.measure
    assert imported.top(above=0.3) and imported.top(1)
    if imported.record.selected is None:
        with pytest.raises(rh.InputError, match="for which 0.1 is not a threshold"):
            imported.top()


# --- experiments ---


@pytest.mark.slow
def test_an_experiment(tmp_path: Path) -> None:
    folder = make_small_detectors(tmp_path / "experiments")
    found = rh.load_experiment(folder)
    assert found.kind == "detectors" and set(found.tables) == {"samples", "scores"}
    name = found.results["detectors"][0]["name"]
    assert all(isinstance(head, tuple) for head in found.named(name))
    with pytest.raises(rh.InputError, match="there is no detector 'nobody'"):
        found.named("nobody")
    saved = found.save(tmp_path / "copy")
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert "detectors" in found._repr_html_() and "detectors" in repr(found)
    shutil.copytree(folder, tmp_path / "bad" / folder.parent.name / folder.name)
    bad = tmp_path / "bad" / folder.parent.name / folder.name
    document = json.loads((bad / "experiment.json").read_text())
    document["results"]["samples"] += 1
    (bad / "experiment.json").write_text(json.dumps(document))
    with pytest.raises(rh.InputError, match="is not what the tables give"):
        rh.load_experiment(bad)


def test_reading_warns_of_nothing_and_prints_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rh.load_run(folder)
    assert capsys.readouterr() == ("", "")
