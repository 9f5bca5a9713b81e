"""What of a measured run other projects' formats and other sites can carry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from rh_bench.artifacts.run import read_run
from rh_bench.errors import InputError
from rh_bench.interchange.records import HeadList
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Json, Layer, head_grid
from rh_bench.scores.heads import in_order, sample_scores
from rh_bench.stats.bootstrap import NANO, mean
from rh_bench.stats.ranks import strongest_first
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json, validate_document

Rule = Literal["paper", "events"]


def head_list(
    folder: Path, *, rule: Rule = "paper", threshold: float = HEAD_THRESHOLD, top: int | None = None
) -> HeadList:
    """The heads of a measured run.

    Args:
        rule: "paper" counts distinct span positions; "events" counts events as the paper's released code does.
        threshold: heads above it are chosen.
        top: choose this many of the strongest instead.

    Raises:
        InputError: the run is damaged, or no sample counts, so that it has no scores.
    """
    run = read_run(folder)
    counted = [result for result in in_order(run.results) if result.success]
    if not counted:
        raise InputError("no sample counts, so no head has a score", where=folder)
    scores = sample_scores(run.layers, counted)[0 if rule == "paper" else 1]
    means = (mean(scores) / NANO).tolist()
    instances = tuple(map(tuple, np.round(scores, 9).T.tolist()))
    model = run.document["model"]["id"]
    return list_of_heads(model, run.layers, means, instances, threshold=threshold, top=top)


def list_of_heads(
    model: str,
    layers: Sequence[Layer],
    means: Sequence[float],
    instances: tuple[tuple[float, ...], ...] | None = None,
    *,
    threshold: float = HEAD_THRESHOLD,
    top: int | None = None,
) -> HeadList:
    """A measured head list from given numbers.

    Args:
        means: score of each head, in the order of `head_grid(layers)`.
        instances: scores of each head on the counted samples, where they are wanted.
        threshold, top: see `head_list`.
    """
    heads = tuple(head_grid(tuple(layers)))
    order = strongest_first(means).tolist()
    chosen = order[:top] if top is not None else [i for i in order if means[i] > threshold]
    return HeadList(
        format="run",
        model=model,
        unit="query",
        measure="score",
        layers=len(layers),
        heads_per_layer=max(layer.query_heads for layer in layers),
        heads=heads,
        values=tuple(means),
        selected=frozenset(heads[i] for i in chosen),
        instances=instances,
        order=tuple(heads[i] for i in chosen),
    )


def run_documents(folder: Path) -> tuple[Json, Json]:
    """run.json and summary.json of a run, valid by their schemas.

    Raises:
        InputError: one is missing or not valid.
    """
    documents = []
    for kind in ("run", "summary"):
        path = folder / f"{kind}.json"
        documents.append(load_json(path))
        wrong = validate_document(documents[-1], kind)
        if wrong:
            raise InputError(wrong[0][1], where=f"{shown(path)}#{wrong[0][0]}")
    return documents[0], documents[1]


def kv_heads(layers: Sequence[Layer], where: object) -> int:
    """Key/value heads of a layer.

    Raises:
        InputError: layers differ, so that there is no one number.
    """
    counts = {layer.kv_heads for layer in layers if layer.scored}
    if len(counts) != 1:
        raise InputError(f"its layers have {sorted(counts)} key/value heads; a table needs one number", where=where)
    return counts.pop()
