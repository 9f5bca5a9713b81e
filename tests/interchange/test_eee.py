"""Records of Every Eval Ever, held against that project's own validator, warnings included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run

from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.interchange.export import export_run, write_files
from rh_bench.system.schema import dump_json, load_json


def judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]]]:
    """What the project's own command says of all records below a folder: 0 clean, 1 errors, 2 warnings."""
    reason = "every-eval-ever is not installed (`make .make/dev` installs it)"
    validator = pytest.importorskip("every_eval_ever.validator.validate", reason=reason)
    capsys.readouterr()
    paths = [str(path) for path in sorted(folder.rglob("*.json"))]
    status = validator.main([*paths, "--format", "json"])
    return status, json.loads(capsys.readouterr().out)


def renamed(run: Path, model_id: str, **changes: Any) -> Path:
    document = load_json(run / "run.json")
    document["model"] |= {"id": model_id, **changes}
    (run / "run.json").write_bytes(dump_json(document))
    return run


def hub_set(run: Path) -> Path:
    document = load_json(run / "run.json")
    document["haystack"] |= {"location": "org/niah", "revision": "a" * 40}
    (run / "run.json").write_bytes(dump_json(document))
    return run


def test_a_record_passes_the_projects_own_validator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = make_run(tmp_path / "runs"), tmp_path / "out"
    assert main(["export", str(run), "--format", "eee", "--out", str(out)]) == 0
    (path,) = out.rglob("*.json")
    assert path.relative_to(out).parts[:4] == ("data", "rh_bench", "acme", "tiny-1")
    assert load_json(path)["model_info"]["developer"] == "acme"
    status, (report,) = judged(out, capsys)
    assert (status, report["errors"], report["warnings"]) == (0, [], [])
    first = path.read_bytes()
    assert main(["export", str(run), "--format", "eee", "--out", str(out)]) == 0
    assert [path.read_bytes() for path in out.rglob("*.json")] == [first], "a run has one record"


@pytest.mark.parametrize(
    ("model_id", "source", "developer", "where"),
    [
        ("acme/one", "hub", "Acme Labs", "acme/one"),
        ("my-model", "folder", "me", "me/my-model"),
        ("gguf:one.Q4_K_M.gguf", "gguf", "acme", "acme/gguf_one.Q4_K_M.gguf"),
    ],
)
def test_every_kind_of_model_passes_it(
    model_id: str, source: str, developer: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = hub_set(renamed(make_run(tmp_path / "runs"), model_id, source=source)), tmp_path / "out"
    assert main(["export", str(run), "--format", "eee", "--developer", developer, "--out", str(out)]) == 0
    (path,) = out.rglob("*.json")
    assert path.parent.relative_to(out).as_posix() == f"data/rh_bench/{where}"
    assert load_json(path)["model_info"]["developer"] == developer
    status, (report,) = judged(out, capsys)
    assert (status, report["errors"], report["warnings"]) == (0, [], [])


def test_the_validator_minds_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that passing it says something."""
    run = renamed(make_run(tmp_path / "runs"), "my-model")
    (path,) = write_files(export_run(run, "eee", developer="me"), tmp_path / "out")
    record = load_json(path)
    del record["model_info"]["developer"]
    path.write_bytes(dump_json(record))
    status, (report,) = judged(tmp_path / "out", capsys)
    assert status == 2 and "developer" in report["warnings"][0]["msg"]
    record["evaluation_results"][0]["score_details"]["score"] = 1.5
    path.write_bytes(dump_json(record))
    assert judged(tmp_path / "out", capsys)[0] == 1


def test_a_model_without_a_developer_is_asked_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = renamed(make_run(tmp_path / "runs"), "my-model")
    assert main(["export", str(run), "--format", "eee", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "--developer" in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model_id", "developer"),
    [
        ("my-model", "unknown"), ("my-model", "data"), ("my-model", "a/"), ("my-model", ""), ("my-model", "CON"),
        ("my-model", "a."), ("my-model", " me"), ("a<b>/c", None), ("aux.x/c", None), ("org/..", None),
        ("a\\b/c", None),
    ],
)  # fmt: skip
def test_names_that_are_no_path_are_refused(model_id: str, developer: str | None, tmp_path: Path) -> None:
    run = renamed(make_run(tmp_path / "runs"), model_id)
    with pytest.raises(InputError) as caught:
        export_run(run, "eee", developer=developer)
    assert "\n" not in str(caught.value)


def test_a_damaged_run_is_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    document = load_json(run / "run.json")
    del document["timings"]
    (run / "run.json").write_bytes(dump_json(document))
    for format in ("eee", "eval-results"):
        with pytest.raises(InputError, match="timings"):
            export_run(run, format, dataset="org/set")


def test_intervals_and_no_null(tmp_path: Path) -> None:
    (data,) = export_run(make_run(tmp_path / "runs"), "eee").files.values()
    record = json.loads(data)
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
