"""The notebooks in examples/ run, cell by cell, and what they say is what comes out."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

import rh_bench as rh
from rh_bench.cli.demo import find_weights

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PATH = re.compile(r"/(?:tmp|home|root|work|Users|usr|opt)/[\w./-]+")
"""Of a machine: a notebook that was run somewhere must not say where."""


def cells(notebook: Path) -> list[dict[str, Any]]:
    document = json.loads(notebook.read_text(encoding="utf-8"))
    assert document["nbformat"] == 4 and document["cells"]
    return list(document["cells"])


def run_cell(source: str, names: dict[str, Any], title: str) -> Any:
    """Run a cell, and give the value of its last expression, as a notebook shows it."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), title, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), title, "eval"), names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_whole(notebook: Path) -> None:
    """Every cell has an id and was run in order, with no error, and says nothing of the machine that ran it."""
    found = cells(notebook)
    assert len({cell["id"] for cell in found}) == len(found)
    ran = [cell["execution_count"] for cell in found if cell["cell_type"] == "code"]
    assert ran == list(range(1, len(ran) + 1)), "run all cells, from the first"
    outputs = [output for cell in found for output in cell.get("outputs", ())]
    assert outputs and all(output["output_type"] != "error" for output in outputs)
    assert not PATH.search(json.dumps(outputs)), "paths of a machine"


def test_the_links_of_a_notebook_lead_somewhere() -> None:
    for notebook in NOTEBOOKS:
        text = "".join("".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "markdown")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (notebook.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.timeout(3600)
def test_retrieval_heads() -> None:
    """Needles are found with the strongest heads and lost without them, and those heads alone need a whole cache."""
    find_weights()
    notebook = ROOT / "examples" / "retrieval_heads.ipynb"
    names: dict[str, Any] = {"__name__": "notebook"}
    shown = [
        run_cell("".join(cell["source"]), names, f"{notebook.name}, {cell['id']}")
        for cell in cells(notebook)
        if cell["cell_type"] == "code"
    ]
    run = names["run"]
    assert isinstance(run, rh.Run) and run.document["origin"] == "in-memory"
    assert (18, 6) in run.top(3), "the strongest head of SmolLM2, whatever the needles"
    html = [one._repr_html_() for one in shown if hasattr(one, "_repr_html_")]
    assert any("SmolLM2-135M-Instruct" in page for page in html) and any(hasattr(one, "_repr_png_") for one in shown)
    removed = {name: sum(found) / len(found) for name, found in names["removed"].items()}
    assert removed["the ten strongest heads"] < 0.5 < min(removed["nothing"], removed["ten other heads"])
    means = {(row["whole caches"], row.chosen): row["mean"] for _, row in names["cache"].iterrows()}
    assert means[90, "retrieval"] == pytest.approx(removed["nothing"], abs=0.01), "masks alone change nothing"
    assert means[0, "retrieval"] < 0.5
    assert means[30, "retrieval"] > means[30, "random"] + 0.2
    assert [path.name for path in names["exported"].paths] == ["heads.tsv", "config.json"]
