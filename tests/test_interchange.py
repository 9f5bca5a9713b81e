"""Other projects' formats: there and back, declared losses, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.checks import check_folder
from rh_bench.cli import main
from rh_bench.errors import InputError, RhBenchError
from rh_bench.interchange.audit import audit_file
from rh_bench.interchange.export import export_run, write_files
from rh_bench.interchange.folder import import_file, read_import
from rh_bench.interchange.formats import READERS, guess_format, read_qrhead
from rh_bench.runs import read_run
from rh_bench.verify import verify_run
from tests.fake_runs import make_run

SEED = {"0-0": [0, 0.5], "0-1": [0.25, 0], "1-0": [0, 0], "1-1": [1, 0.75]}
PROFILE: dict[str, Any] = {
    "model": "tiny",
    "hf_id": "org/tiny",
    "n_layers": 2,
    "n_heads": 2,
    "argmax_heads": [[1, 1], [0, 1]],
    "argmax_scores": [[0.0, 0.2], [0.05, 0.9]],
    "copy_heads": [[0, 0]],
}
QRHEAD = 'attn_head_set: "13-18,8-11,13-1" # top3\nmodel_base_class: "Tiny"\nmodel_name_or_path: "org/tiny"\n'
DUO = "1.000000000000000000e+00\t-2.229213714599609375e-05\n5.000000000000000000e-01\t0.000000000000000000e+00\n"


def put(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "foreign"
    put(folder / "duo" / "config.json", {"model_name": "org/tiny", "sink_size": 64})
    return {
        "seed": put(folder / "seed.json", SEED),
        "profile": put(folder / "profile.json", PROFILE),
        "qrhead": put(folder / "q.yaml", QRHEAD),
        "duo": put(folder / "duo" / "full_attention_heads.tsv", DUO).parent,
    }


def codes(path: Path) -> set[str]:
    return {finding.code for finding in audit_file(path).findings}


@pytest.mark.parametrize("format", READERS)
def test_there_and_back(format: str, files: dict[str, Path], tmp_path: Path) -> None:
    assert guess_format(files[format]) == format
    folder = import_file(files[format], tmp_path / "runs")
    assert check_folder(folder) == []
    before, after = READERS[format](files[format]), read_import(folder)
    assert (after.heads, after.values, after.instances) == (before.heads, before.values, before.instances)
    assert (after.selected, after.order, after.model, after.extra) == (
        before.selected, before.order, before.model, before.extra,
    )  # fmt: skip
    written = export_run(folder, format)
    assert written.losses == (("comments",) if format == "qrhead" else ())
    paths = write_files(written, tmp_path / "again")
    if format == "duo":
        assert paths[0].read_text() == DUO
        assert json.loads(paths[1].read_text()) == {"model_name": "org/tiny", "sink_size": 64}
    elif format == "qrhead":
        assert yaml.safe_load(paths[0].read_text()) == yaml.safe_load(QRHEAD)
    else:
        assert json.loads(paths[0].read_text()) == json.loads(files[format].read_text())


def test_importing_twice_gives_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    one, two = (import_file(files["seed"], tmp_path / name) for name in "ab")
    assert one.relative_to(tmp_path / "a") == two.relative_to(tmp_path / "b")
    assert all((two / path.name).read_bytes() == path.read_bytes() for path in one.iterdir())
    named = import_file(files["seed"], tmp_path / "a", model="org/tiny")
    assert named.parent.name == "org__tiny"
    assert json.loads((named / "import.json").read_text())["model"]["named_by"] == "importer"


def test_an_import_is_valid_and_nothing_more(files: dict[str, Path], tmp_path: Path) -> None:
    levels = verify_run(import_file(files["seed"], tmp_path)).levels
    assert [(level.name, level.reached) for level in levels] == [
        ("valid", True),
        ("recomputed", None),
        ("rerun", None),
    ]
    assert "no events" in levels[1].reasons[0]


def test_a_changed_import_is_caught(files: dict[str, Path], tmp_path: Path) -> None:
    folder = import_file(files["seed"], tmp_path)
    document = json.loads((folder / "import.json").read_text())
    put(folder / "stranger.txt", "x")
    document["counts"]["heads"] = 5
    put(folder / "import.json", document)
    found = {(problem.file, problem.pointer) for problem in check_folder(folder)}
    assert found == {("stranger.txt", ""), ("import.json", "/counts/heads")}
    (folder / "heads.parquet").write_bytes(b"PAR1")
    assert any("hash differs" in problem.message for problem in check_folder(folder))
    with pytest.raises(InputError):
        read_import(folder)


def test_a_run_in_every_format(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    layers = read_run(run).layers
    for format in READERS:
        written = export_run(run, format)
        assert written.losses, "a run holds more than any of these formats"
        paths = write_files(written, tmp_path / format)
        heads = READERS[format](paths[0])
        assert heads.model == (None if format == "seed" else "acme/tiny-1")
        if format in ("seed", "profile"):
            assert heads.heads == tuple((x.index, h) for x in layers for h in range(x.query_heads))
    seed = READERS["seed"](tmp_path / "seed" / "heads.json")
    profile = READERS["profile"](tmp_path / "profile" / "profile.json")
    np.testing.assert_allclose(seed.values or (), profile.values or (), atol=1e-8)
    chosen = [head for head, value in zip(profile.heads, profile.values or (), strict=True) if value > 0.1]
    assert profile.selected == frozenset(chosen)
    assert chosen


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_query_heads_become_key_value_heads_by_name(reduce: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    query = READERS["profile"](write_files(export_run(run, "profile"), tmp_path / "p")[0]).matrix()
    paths = write_files(export_run(run, "duo", reduce=reduce), tmp_path / "d")
    gates = READERS["duo"](paths[0]).matrix()
    np.testing.assert_allclose(gates, getattr(query.reshape(4, 2, 2), reduce)(axis=2), atol=1e-12)
    assert reduce in json.loads(paths[1].read_text())["rh_bench"]


def test_the_strongest_are_listed_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    path = write_files(export_run(run, "qrhead", top=3), tmp_path / "three.yaml")[0]
    assert path.name == "three.yaml"
    order = read_qrhead(path).order or ()
    profile = READERS["profile"](write_files(export_run(run, "profile"), tmp_path / "p")[0])
    scores = dict(zip(profile.heads, profile.values or (), strict=True))
    assert [scores[head] for head in order] == sorted(scores.values(), reverse=True)[:3]


def test_a_run_without_a_counted_sample_has_no_head_list(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", n_samples=0)
    with pytest.raises(InputError, match="no sample counts"):
        export_run(run, "seed")


def test_every_eval_ever_has_intervals_and_no_null(tmp_path: Path) -> None:
    record = json.loads(export_run(make_run(tmp_path / "runs"), "eee").files["every-eval-ever.json"])
    required = {
        "schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info", "eval_library",
        "evaluation_results",
    }  # fmt: skip
    assert required <= record.keys()
    assert record["schema_version"] == "0.3.0"
    details = record["model_info"]["additional_details"]
    assert (details["deployment_type"], details["model_availability"]) == ("self_deployed", "open_weights")
    assert all(isinstance(value, str) for value in details.values())
    assert record["retrieved_timestamp"].isdigit()
    assert "null" not in json.dumps(record)
    names = [result["evaluation_name"] for result in record["evaluation_results"]]
    assert names == ["niah-success", "share-of-heads-above-0.1"]
    for result in record["evaluation_results"]:
        interval = result["score_details"]["uncertainty"]["confidence_interval"]
        assert interval["lower"] <= result["score_details"]["score"] <= interval["upper"]
        assert result["metric_config"]["score_type"] == "continuous"


def test_eval_results_are_read_by_the_hubs_own_class(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    with pytest.raises(InputError, match="--dataset"):
        export_run(run, "eval-results")
    text = export_run(run, "eval-results", dataset="org/set").files["org__set.yaml"].decode()
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.task_id, entry.verify_token) == ("org/set", "niah", None)
    assert entry.value == pytest.approx(10 / 12)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({**SEED, "1-1": [1.5, 0]}, {"over-one"}),
        ({**SEED, "1-1": [1]}, {"unequal-counts"}),
        ({"0-0": [0, 1], "0-1": [0, 0]}, {"silent-samples"}),
        ({"0-0": [0.5], "1-1": [0.5]}, {"missing-heads"}),
        ({"0-0": [-0.5, 1]}, {"negative"}),
        (SEED, set()),
    ],
)
def test_the_audit_names_what_is_wrong(content: object, expected: set[str], tmp_path: Path) -> None:
    assert codes(put(tmp_path / "x.json", content)) == {"no-model", "no-labels"} | expected


def test_the_audit_of_other_formats(files: dict[str, Path], tmp_path: Path) -> None:
    assert codes(files["profile"]) == {"no-samples"}
    assert codes(put(tmp_path / "p.json", {**PROFILE, "argmax_heads": [[1, 1]]})) == {"no-samples", "selection-differs"}
    nan = json.dumps({**PROFILE, "elapsed": float("nan")})
    assert codes(put(tmp_path / "n.json", nan)) == {"no-samples", "not-json"}
    assert codes(files["duo"]) == {"key-value-heads", "out-of-range"}
    assert codes(files["qrhead"]) == {"no-scores", "no-grid"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[]"), ("b.json", "{}"), ("c.json", '{"x": [1]}'), ("d.json", '{"0-0": ["1"]}'),
        ("e.json", '{"0-0": [true]}'), ("f.json", '{"0-0": [NaN]}'), ("g.json", '{"0-0": [1], "00-0": [1]}'),
        ("h.json", '{"9999-9999": [1]}'), ("i.json", '{"0-0": []}'), ("j.json", '{"0-0": [1], "0-0": [1]}'),
        ("k.json", {**PROFILE, "n_layers": 10**9, "n_heads": 10**9}), ("l.json", {**PROFILE, "n_layers": 3}),
        ("m.json", {**PROFILE, "argmax_heads": [[5, 5]]}), ("n.json", {**PROFILE, "argmax_heads": [[True, 0]]}),
        ("o.json", json.dumps({**PROFILE, "argmax_scores": [[float("nan")] * 2] * 2})),
        ("a.tsv", "1\t2\n3\n"), ("b.tsv", "x\ty\n"), ("c.tsv", "nan\t1\n"), ("d.tsv", ""),
        ("a.yaml", "attn_head_set: 3"), ("b.yaml", "- 1"), ("c.yaml", 'attn_head_set: "1-1,1-1"'),
        ("d.yaml", 'a: &x [1]\nattn_head_set: "1-1"\nb: *x'), ("e.yaml", 'attn_head_set: !!python/name:os.system ""'),
        ("f.yaml", "{[}"), ("g.yaml", 'attn_head_set: "../../x"'), ("x.txt", "1"),
    ],
)  # fmt: skip
def test_files_of_no_format_are_one_line(
    name: str, content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path / name, content)
    assert main(["import", str(path), "--out", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@given(st.binary(max_size=200), st.sampled_from([".json", ".tsv", ".yaml"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("any") / f"x{suffix}"
    path.write_bytes(data)
    try:
        audit_file(path)
    except RhBenchError as error:
        assert "\n" not in str(error)


def test_the_commands(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(files["seed"])]) == 1
    assert "no-labels" in capsys.readouterr().out
    assert main(["audit", str(files["seed"]), "--json"]) == 1
    assert {f["code"] for f in json.loads(capsys.readouterr().out)["findings"]} == {"no-model", "no-labels"}
    assert main(["import", str(files["seed"]), "--out", str(tmp_path / "runs"), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    assert main(["validate", str(folder)]) == 0
    assert main(["export", str(folder), "--format", "seed", "--out", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text()) == SEED
    assert main(["export", str(folder), "--format", "eee", "--out", str(tmp_path / "e")]) == 2
    assert main(["import", str(files["qrhead"]), "--out", str(tmp_path / "runs")]) == 0
    assert main(["leaderboard", str(tmp_path / "runs"), "--out", str(tmp_path / "site")]) == 0
    assert "not ranked" in capsys.readouterr().out


# The released files of other projects, where they are.


def test_the_papers_released_detections(shared_data: Path, tmp_path: Path) -> None:
    scores = shared_data / "seed" / "head_score"
    llama = json.loads((import_file(scores / "llama-2-7b-80k.json", tmp_path) / "import.json").read_text())
    assert llama["counts"] == {"heads": 1024, "selected": None, "samples": 586}
    assert round(llama["sparsity"]["share_above_0.1"]["value"], 3) == 0.032
    assert round(llama["sparsity"]["share_zero"]["value"], 3) == 0.702
    audited = audit_file(scores / "llama-2-7b-80k.json").heads
    by_score = sorted(zip(audited.values or (), audited.heads, strict=True), reverse=True)
    assert [(head, round(score, 2)) for score, head in by_score[:3]] == [
        ((16, 19), 0.94),
        ((11, 15), 0.92),
        ((8, 26), 0.80),
    ]
    qwen = {finding.code: finding.message for finding in audit_file(scores / "Qwen1.5-14B.json").findings}
    assert qwen["over-one"].startswith("268 ")
    assert "silent-samples" in qwen


def test_released_files_go_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    duo = shared_data / "duo-attention"
    folder = import_file(duo, tmp_path)
    assert (
        export_run(folder, "duo").files["full_attention_heads.tsv"] == (duo / "full_attention_heads.tsv").read_bytes()
    )
    for path in sorted((shared_data / "seed" / "head_score").glob("*.json")):
        again = json.loads(export_run(import_file(path, tmp_path), "seed").files["heads.json"])
        assert again == json.loads(path.read_text())
    qrhead = next((shared_data / "qrhead").glob("*.yaml"))
    again = yaml.safe_load(export_run(import_file(qrhead, tmp_path), "qrhead").files["heads.yaml"])
    assert again == yaml.safe_load(qrhead.read_text())
    for path in sorted((shared_data / "retrieval-head-profile").glob("*_seed42.json")):
        again = json.loads(export_run(import_file(path, tmp_path), "profile").files["profile.json"])
        whole = json.loads(path.read_text(), parse_constant=lambda text: None)
        assert again == whole
