"""What must hold of the tables of a comparison of detectors."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rh_bench.artifacts.table_checks import listed
from rh_bench.experiments.detectors.derive import layers_of, score_names
from rh_bench.experiments.kind import Tables
from rh_bench.records import Json, Problem, head_grid
from rh_bench.scores.rouge import succeeds
from rh_bench.stats.bootstrap import (
    NANO,
)
from rh_bench.system.files import shown

MOST_HEADS = 20_000
MOST_NUMBERS = 100_000_000
"""Numbers of all replicates of all scores, and of all permutations, that a document may ask for; all held at once."""
MOST_CORRELATIONS = 100_000
"""Pairs of scores times replicates."""
MOST_STEPS = 1_000_000_000
"""Heads compared, over all pairs, rules, replicates and permutations."""


def check(document: Json, tables: Tables) -> Iterator[Problem]:
    """What is wrong with the settings and the rows."""
    found = list(_settings_problems(document))
    yield from (Problem("experiment.json", pointer, message) for pointer, message in found)
    if found:
        return
    samples, scores = tables["samples"], tables["scores"]
    decoded = any(detector["counted_only"] for detector in document["settings"]["detectors"])
    threshold = document["settings"]["success_threshold"]
    yield from (Problem("samples.parquet", *one) for one in _sample_problems(samples, decoded, threshold))
    heads = len(head_grid(layers_of(document)))
    yield from (Problem("scores.parquet", *one) for one in _score_problems(scores, samples, heads, document))


def _settings_problems(document: Json) -> Iterator[tuple[str, str]]:
    settings, layers = document["settings"], document["model"]["layers"]
    heads = sum(layer["query_heads"] for layer in layers)
    if not 2 <= heads <= MOST_HEADS:
        yield "/model/layers", f"has {heads} heads; 2 to {MOST_HEADS} are compared"
        return
    if [layer["index"] for layer in layers] != list(range(len(layers))):
        yield "/model/layers", "must be numbered from 0, in order"
    scores = score_names(document)
    if len(set(scores)) != len(scores) or not scores:
        yield "/settings/detectors", "must have scores of different names"
    for place, detector in enumerate(settings["detectors"]):
        if not {rule["score"] for rule in detector["rules"]} <= set(detector["scores"]):
            yield f"/settings/detectors/{place}/rules", "names a score that the detector does not have"
    yield from _work_problems(settings, heads, len(scores))


def _work_problems(settings: Json, heads: int, scores: int) -> Iterator[tuple[str, str]]:
    """What would make computing endless, or fill the memory."""
    replicates, permutations, pairs = (
        settings["bootstrap"]["replicates"],
        settings["permutations"],
        math.comb(scores, 2),
    )
    rules = sum(len(detector["rules"]) for detector in settings["detectors"])
    # Counted samples and all samples each have their replicates.
    numbers = heads * max(2 * scores * replicates, permutations)
    if numbers > MOST_NUMBERS:
        yield "/settings", f"asks for {numbers} numbers of replicates, at most {MOST_NUMBERS} are computed"
    if pairs * replicates > MOST_CORRELATIONS:
        yield "/settings", f"asks for {pairs * replicates} correlations, at most {MOST_CORRELATIONS} are computed"
    steps = (pairs * (1 + len(settings["top"])) + rules) * (replicates + permutations) * heads
    if steps > MOST_STEPS:
        yield "/settings", f"asks for {steps} comparisons of heads, at most {MOST_STEPS} are made"


def _sample_problems(samples: pa.Table, decoded: bool, threshold: float) -> Iterator[tuple[str, str]]:
    if not len(samples):
        yield "", "has no rows"
    ids = samples.column("sample_id").to_pylist()
    first: dict[str, int] = {}
    twice = np.array([first.setdefault(name, row) != row for row, name in enumerate(ids)], dtype=bool)
    yield from listed(twice, "sample_id", lambda row: f"is also in row {first[ids[row]]}")
    length, depth = samples.column("length").to_numpy(), samples.column("depth").to_numpy()
    yield from listed(length < 1, "length", lambda row: f"is {length[row]}, must be at least 1 token")
    yield from listed(~((depth >= 0) & (depth <= 100)), "depth", lambda row: f"is {depth[row]}, must be 0 to 100")
    recall, success = (samples.column(name).to_pylist() for name in ("rouge1_recall", "success"))
    wrong = np.array(
        [(one is None) == decoded or (other is None) == decoded for one, other in zip(recall, success, strict=True)]
    )
    words = "must be there: a detector decodes" if decoded else "must be null: no detector decodes"
    yield from listed(wrong.astype(bool), "success", lambda row: words)
    if decoded and not wrong.any():
        outside = np.array([not 0 <= value <= 1 for value in recall], dtype=bool)
        yield from listed(outside, "rouge1_recall", lambda row: f"is {recall[row]}, must be 0 to 1")
        differs = np.array(
            [succeeds(value, threshold) != flag for value, flag in zip(recall, success, strict=True)], dtype=bool
        )
        yield from listed(differs, "success", lambda row: f"is {success[row]} with a recall of {recall[row]}")


def _score_problems(scores: pa.Table, samples: pa.Table, heads: int, document: Json) -> Iterator[tuple[str, str]]:
    detectors, ids = document["settings"]["detectors"], samples.column("sample_id").to_pylist()
    rows = [(d["name"], score, name) for d in detectors for score in d["scores"] for name in ids]
    if len(scores) != len(rows):
        yield "", f"has {len(scores)} rows, {len(rows)} are expected: one for each score and sample"
        return
    for place, name in enumerate(("detector", "score", "sample_id")):
        given = scores.column(name).to_pylist()
        wrong = np.array([row[place] != one for row, one in zip(rows, given, strict=True)], dtype=bool)
        yield from listed(wrong, name, lambda row, place=place: f"must be {shown(rows[row][place])}")  # type: ignore[misc]
    lengths = pc.list_value_length(scores.column("values")).to_numpy()
    yield from listed(
        lengths != heads, "values", lambda row: f"has {lengths[row]} numbers, the model has {heads} heads"
    )
    if (lengths == heads).all():
        flat = pc.list_flatten(scores.column("values")).to_numpy().reshape(len(rows), heads).astype(np.int64)
        beyond = (np.abs(flat) > NANO).any(axis=1)
        yield from listed(beyond, "values", lambda row: "has a score outside [-1, 1]")
    seconds = scores.column("seconds").to_numpy()
    yield from listed(~((seconds >= 0) & np.isfinite(seconds)), "seconds", lambda row: f"is {seconds[row]}")
