"""The causal experiment with made-up answers, written without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fake_runs import make_layers, make_run

from rh_bench.artifacts.run import read_run
from rh_bench.experiments.artifact import keep_experiment
from rh_bench.experiments.causal.derive import ANSWERS, SAMPLES, judge
from rh_bench.experiments.causal.kind import KIND
from rh_bench.experiments.causal.plan import make_conditions
from rh_bench.experiments.document import new_document, run_reference
from rh_bench.experiments.failures import own_grams
from rh_bench.experiments.heads import rank_heads, run_ranking
from rh_bench.protocol import BOOTSTRAP
from rh_bench.records import head_grid

LAYERS = make_layers(3, 4, 2)
HEADS = head_grid(LAYERS)
SCORES = np.array([0.0, 0.6, 0.0, 0.0, 0.3, 0.0, 0.0, 0.2, 0.0, 0.05, 0.0, 0.0])
NEEDLES, LENGTHS = 8, (512, 1024)
QUESTION, ANSWER = "What hums at noon?", "a brass kettle of seven moths"
OWN = list(own_grams(ANSWER, QUESTION, "A ferry left the harbour at dawn."))
RIGHT, WRONG = "a brass kettle of seven moths", "the ferry left the harbour"


def document(draws: int = 2, top: Sequence[int] = (0, 2, 3), **settings: Any) -> dict[str, Any]:
    """As much of experiment.json as is read when results are computed."""
    conditions, left_out = make_conditions(HEADS, rank_heads(LAYERS, SCORES), top, draws, seed=0)
    given = {
        "how": "zero",
        "phase": "both",
        "top": list(top),
        "draws": draws,
        "seed": 0,
        "retrieval_threshold": 0.1,
        "retrieval_heads": [[0, 1], [1, 0], [1, 3]],
        "conditions": conditions,
        "left_out": left_out,
        "protocol": {
            "template": "chat",
            "max_new_tokens": 50,
            "stop": ["eos"],
            "success_threshold": 0.5,
            "dtype": "float32",
        },
        "grid": {"kind": "set", "lengths": None, "depths": None, "needles": ["n0"], "limit": None},
        "rows": 4,
        "reference": None,
        "error_rule": 1,
        "permutations": 500,
        "bootstrap": dict(BOOTSTRAP),
    }
    layers = [{"index": x.index, "kind": x.kind, "query_heads": 4, "kv_heads": 2, "window": None} for x in LAYERS]
    return {"model": {"layers": layers}, "settings": {**given, **settings}}


def tables(
    doc: dict[str, Any], succeeds: Callable[[dict[str, Any], int, int], bool], lengths: Sequence[int] = LENGTHS
) -> dict[str, pa.Table]:
    """`succeeds` says of a condition, a needle's number and a sample's number whether the answer is right."""
    cells = [(n, length) for n in range(NEEDLES) for length in lengths]
    samples = [
        {
            "sample_id": f"n{n}-L{length}",
            "needle_id": f"n{n}",
            "haystack_id": "h",
            "length": length,
            "depth": 50.0,
            "prompt_sha256": "0" * 64,
            "span_start": 5,
            "span_length": 6,
            "question": QUESTION,
            "answer": ANSWER,
            "own_grams": OWN,
        }
        for n, length in cells
    ]
    rows = []
    for condition in doc["settings"]["conditions"]:
        for place, (needle, _) in enumerate(cells):
            text = RIGHT if succeeds(condition, needle, place) else WRONG
            share = 0.0 if text == RIGHT else 1.0
            judged = judge(text, ANSWER, QUESTION, OWN, share, 0.5)
            number = condition["condition"]
            rows.append(
                {"condition": number, "sample_id": samples[place]["sample_id"], "tokens": 5, "text": text, **judged}
            )
    return {
        "samples": pa.Table.from_pylist(samples, schema=SAMPLES),
        "answers": pa.Table.from_pylist(rows, schema=ANSWERS),
    }


def make_small_causal(root: Path) -> Path:
    """With a run of its own, so small that thousands can be damaged."""
    run = make_run(root / "runs", layers=3, heads=4, kv_heads=2, n_samples=6)
    measured, ranking = read_run(run), run_ranking(run)
    conditions, left_out = make_conditions(head_grid(measured.layers), ranking, (0, 2), 1, seed=0)
    heads = [list(head) for head in ranking.retrieval]
    settings = document(conditions=conditions, left_out=left_out, top=[0, 2], retrieval_heads=heads)["settings"]
    data = {"source": "set", "revision": None, "sha256": "a" * 64, "prompts": None, "prompts_sha256": None}
    made = new_document(
        KIND,
        model=measured.document["model"],
        runs=[run_reference(run)],
        settings=settings,
        data=data,
        engine={"name": "batched", "version": 1, "notes": []},
        environment=measured.document["environment"],
    )
    made["timings"] = {"started": "2026-11-24T00:00:00Z", "finished": "2026-11-24T00:01:00Z", "seconds": 60.0}
    return keep_experiment(root / "experiments", made, tables(made, lambda c, needle, place: c["kind"] != "top"))[0]


SMALL = {"causal": make_small_causal}
