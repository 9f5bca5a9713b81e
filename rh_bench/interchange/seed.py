"""`seed`: the paper's released detections, ``{"layer-head": [score of each successful sample]}``."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.interchange.base import (
    HEAD,
    MOST_HEADS,
    MOST_JSON,
    Format,
    Written,
    head_names,
    is_number,
    mislabelled,
    parse_head,
)
from rh_bench.interchange.measures import measure_of_samples
from rh_bench.interchange.records import LARGEST_SCORE, Head, HeadList
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json


def read_seed(path: Path) -> HeadList:
    """The paper's released JSON. Scores can exceed 1 and rows can differ in length: `audit` says so.

    Other projects keep other numbers in the same form, so that the numbers have to show what they are.

    Raises:
        InputError: it is not of this format.
    """
    document = load_json(path, max_bytes=MOST_JSON)
    if not isinstance(document, dict) or not document:
        raise InputError("must be an object of heads", where=path)
    rows: dict[Head, tuple[float, ...]] = {}
    for name, scores in document.items():
        head = parse_head(name, path)
        if head in rows:
            raise InputError(f"has head {head[0]}-{head[1]} twice, spelled differently", where=path)
        rows[head] = _row(scores, f"{path}#/{shown(name[:40])}")
    heads = tuple(sorted(rows))
    if not any(rows.values()):
        raise InputError("has no sample for any head", where=path)
    means = tuple(math.fsum(rows[head]) / len(rows[head]) if rows[head] else math.nan for head in heads)
    layers, per_layer = max(layer for layer, _ in heads) + 1, max(head for _, head in heads) + 1
    if layers * per_layer > MOST_HEADS:
        raise InputError(f"names head {head_names(heads[-1:])}, which no model has", where=path)
    instances = tuple(rows[head] for head in heads)
    return HeadList(
        format="seed",
        model=None,
        unit="query",
        measure=measure_of_samples(instances),
        layers=layers,
        heads_per_layer=per_layer,
        heads=heads,
        values=means,
        selected=None,
        instances=instances,
    )


def _row(scores: object, where: object) -> tuple[float, ...]:
    if not isinstance(scores, list) or not all(type(score) in (int, float) for score in scores):
        raise InputError("must be a list of numbers", where=where)
    if not all(map(is_number, scores)):
        raise InputError(f"has a score that is too large to add up (above {LARGEST_SCORE:g})", where=where)
    return tuple(float(score) for score in scores)


def write_seed(heads: HeadList) -> Written:
    """
    Raises:
        InputError: there are no scores of single samples.
    """
    if heads.instances is None:
        raise InputError("has no scores of single samples, which this format needs", where=heads.format)
    document = {f"{layer}-{head}": list(row) for (layer, head), row in zip(heads.heads, heads.instances, strict=True)}
    data = json.dumps(document, allow_nan=False).encode()
    losses = ("the model", "sample ids, lengths and depths", "failed samples", "intervals", "layers without scores")
    return Written({"heads.json": data}, () if heads.format == "seed" else losses + mislabelled(heads, "score"))


def _fits(document: object) -> bool:
    if not isinstance(document, dict) or isinstance(document.get("argmax_scores"), list):  # which makes it a profile
        return False
    return any(HEAD.fullmatch(key) for key in document)


FORMAT = Format("seed", read_seed, write_seed, "Retrieval_Head, the paper's released detections", fits=_fits)
