"""Verification without a model: what a forged run is caught at."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_runs import make_run

from rh_bench.artifacts.levels import Level, Verification
from rh_bench.errors import InputError
from rh_bench.system.files import sha256_file
from rh_bench.verification.verify import verify_run


def rehash(folder: Path, name: str) -> None:
    document = json.loads((folder / "run.json").read_text())
    document["files"][name] = sha256_file(folder / name)
    (folder / "run.json").write_text(json.dumps(document))


def reached(folder: Path) -> dict[str, bool | None]:
    return {level.name: level.reached for level in verify_run(folder).levels}


def test_an_honest_run_is_recomputed_as_far_as_it_goes(tmp_path: Path) -> None:
    assert reached(make_run(tmp_path)) == {"valid": True, "recomputed": None, "rerun": None}


def test_what_could_not_be_checked_is_said(tmp_path: Path) -> None:
    level = verify_run(make_run(tmp_path)).levels[1]
    assert "what the events give" in level.reasons[0]
    assert "--haystack" in level.reasons[1]


def test_a_report_holds_no_markup_of_the_run(tmp_path: Path) -> None:
    nasty = "</details> `x` | [a](javascript:b)"
    report = Verification(tmp_path, (Level("valid", False, (nasty,)),)).to_markdown()
    assert f"`` {nasty}`" not in report
    assert "* ``</details> `x` | [a](javascript:b)``" in report


def test_a_better_score_is_not_what_the_events_give(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    table = pq.read_table(folder / "heads.parquet")
    rows = table.to_pylist()
    best = max(range(len(rows)), key=lambda place: rows[place]["score"])
    rows[best] |= {"score": min(1.0, rows[best]["score"] + 0.05), "score_high": 1.0}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "heads.parquet")
    rehash(folder, "heads.parquet")
    report = verify_run(folder)
    assert reached(folder) == {"valid": True, "recomputed": False, "rerun": None}
    assert report.levels[1].reasons == ("heads.parquet is not what the events give",)


def test_a_nicer_summary_is_not_what_the_events_give(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    text = (folder / "summary.json").read_text()
    summary = json.loads(text)
    summary["sparsity"]["gini"]["value"] = summary["sparsity"]["gini"]["low"]
    (folder / "summary.json").write_text(json.dumps(summary))
    rehash(folder, "summary.json")
    assert reached(folder) == {"valid": True, "recomputed": False, "rerun": None}


def test_an_invalid_run_is_not_recomputed(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder / "events.parquet").write_bytes(b"PAR1")
    report = verify_run(folder)
    assert reached(folder) == {"valid": False, "recomputed": None, "rerun": None}
    assert any("events.parquet" in reason for reason in report.levels[0].reasons)
    assert report.to_json()["levels"][0]["reached"] is False


def test_there_is_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        verify_run(tmp_path / "nowhere")
