"""What must hold of the tables of a dynamic experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from rh_bench.experiments.dynamic.tables import COPIES
from rh_bench.experiments.kind import Tables
from rh_bench.records import Json, Layer, Problem, head_grid
from rh_bench.scores.events import head_places
from rh_bench.stats.bootstrap import (
    NanoArray,
)

_MOST_SPAN = 512
MOST_CONTEXTS = 100_000
_MOST_CELLS = 1 << 24
"""Contexts × heads, replicates × heads. The paper's grid has 2 ** 22 of them on a model of 6,144 heads."""
_MOST_WORK = 1 << 34
"""Permutations × contexts × heads."""
_MOST_TURNED = 1 << 31
"""Permutations × heads that copy, over all contexts."""
_MOST_TURNS = 1 << 24
"""Span length, added up over heads that copy and contexts."""


def check(document: Json, tables: Tables) -> Iterator[Problem]:
    """What the columns alone do not say of the tables."""
    layers = [Layer(**layer) for layer in document["model"]["layers"]]
    contexts, copies = tables["contexts"], tables["copies"]
    spans = contexts.column("span_length").to_numpy().astype(np.int64)
    too_much = list(_work_problems(document, layers, spans))
    if too_much:
        yield from too_much
        return
    rows = contexts.to_pylist()
    for place, row in enumerate(rows):
        if row["context"] != place:
            yield Problem("contexts.parquet", f"/{place}/context", f"is {row['context']}, contexts count from 0")
            return
        if not 1 <= row["span_length"] <= _MOST_SPAN:
            yield Problem("contexts.parquet", f"/{place}/span_length", f"is not between 1 and {_MOST_SPAN}")
            return
        if not 0 <= row["depth"] <= 100:
            yield Problem("contexts.parquet", f"/{place}/depth", "is not between 0 and 100")
            return
    names = [row["sample_id"] for row in rows]
    if len(set(names)) != len(names):
        yield Problem("contexts.parquet", "/sample_id", "a sample stands twice")
    order = [(row["needle"], row["length"], row["depth"], row["sample_id"]) for row in rows]
    if order != sorted(order):
        yield Problem("contexts.parquet", "", "contexts must be sorted by needle, length, depth and sample")
    yield from _copy_problems(copies, spans, layers, document["settings"]["permutations"])


def _work_problems(document: Json, layers: Sequence[Layer], spans: NanoArray) -> Iterator[Problem]:
    """Settings that would make computing endless."""
    if len(spans) > MOST_CONTEXTS:
        yield Problem("contexts.parquet", "", f"has {len(spans)} contexts, at most {MOST_CONTEXTS} are read")
        return
    heads, settings, contexts = max(1, len(head_grid(list(layers)))), document["settings"], len(spans)
    for name, number in (("contexts", contexts), ("replicates", settings["bootstrap"]["replicates"])):
        if number * heads > _MOST_CELLS:
            yield Problem("experiment.json", "/settings", f"{number} {name} of {heads} heads are too many")
    if int(spans.sum()) * heads > _MOST_CELLS * 16:
        yield Problem("contexts.parquet", "/span_length", f"{int(spans.sum())} tokens for {heads} heads are too many")
    if settings["permutations"] * max(1, contexts) * heads > _MOST_WORK:
        most = _MOST_WORK // (max(1, contexts) * heads)
        yield Problem("experiment.json", "/settings/permutations", f"at most {most} for so many contexts and heads")


def _copy_problems(copies: pa.Table, spans: NanoArray, layers: Sequence[Layer], permutations: int) -> Iterator[Problem]:
    values = np.stack([copies.column(name).to_numpy().astype(np.int64) for name in COPIES.names], axis=1)
    context, layer, head, offset = values.T
    places = head_places(layers)
    known = (layer >= 0) & (layer < places.shape[0]) & (head >= 0) & (head < places.shape[1])
    known[known] = places[layer[known], head[known]] >= 0
    inside = (context >= 0) & (context < len(spans))
    within = inside.copy()
    within[inside] = (offset[inside] >= 0) & (offset[inside] < spans[context[inside]])
    for right, name, words in (
        (inside, "context", "there is no such context"),
        (known, "head", "the model has no such head"),
        (within, "span_offset", "lies outside the answer"),
    ):
        if not right.all():
            yield Problem("copies.parquet", f"/{int(np.argmin(right))}/{name}", words)
            return
    order = np.lexsort(values.T[::-1])
    if not np.array_equal(order, np.arange(len(values))) or len(np.unique(values, axis=0)) != len(values):
        yield Problem("copies.parquet", "", "copies must be sorted by context, layer, head and offset, each once")
        return
    pairs = np.unique(values[:, :3], axis=0)
    if int(spans[pairs[:, 0]].sum()) > _MOST_TURNS or permutations * len(pairs) > _MOST_TURNED:
        yield Problem("copies.parquet", "", f"{len(pairs)} heads copy over all contexts: too many to turn around")
