"""`pairs`: a bare list ``[[[layer, head], score], …]``, as it comes out of the paper's example code and its kin. It
says neither whose scores they are nor what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.interchange.base import (
    MOST_HEADS,
    MOST_JSON,
    Format,
    Written,
    head_names,
    is_number,
    mislabelled,
    parse_pair,
)
from rh_bench.interchange.measures import measure_of_means
from rh_bench.interchange.records import Head, HeadList
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json


def read_pairs(path: Path) -> HeadList:
    """A list of heads with a score each, whole or only the strongest.

    The list gives no grid. One that names every head of a grid of two layers and two heads or more is taken to be the
    whole model; any other is a part of a model whose size nobody said.

    Raises:
        InputError: it is not of this format, or names a head twice.
    """
    document = load_json(path, max_bytes=MOST_JSON)
    if not isinstance(document, list) or not document:
        raise InputError("must be a list of [[layer, head], score]", where=path)
    scores: dict[Head, float] = {}
    for place, entry in enumerate(document):
        where = f"{path}#/{place}"
        if not isinstance(entry, list) or len(entry) != 2:
            raise InputError(f"{shown(str(entry)[:40])} is not a [[layer, head], score]", where=where)
        head = parse_pair(entry[0], where)
        if not is_number(entry[1]):
            raise InputError(f"{shown(str(entry[1])[:40])} is not a score", where=where)
        if head in scores:
            raise InputError(f"has head {head[0]}-{head[1]} twice", where=where)
        scores[head] = float(entry[1])
    heads = tuple(sorted(scores))
    layers, per_layer = max(layer for layer, _ in heads) + 1, max(head for _, head in heads) + 1
    if layers * per_layer > MOST_HEADS:
        raise InputError(f"names head {head_names(heads[-1:])}, which no model has", where=path)
    whole = layers > 1 and per_layer > 1 and layers * per_layer == len(heads)
    values = tuple(scores[head] for head in heads)
    return HeadList(
        format="pairs",
        model=None,
        unit="query",
        measure=measure_of_means(values),
        layers=layers if whole else None,
        heads_per_layer=per_layer if whole else None,
        heads=heads,
        values=values,
        selected=None,
        order=tuple(scores),
    )


def write_pairs(heads: HeadList) -> Written:
    """Every head that has a score, in the order of the file it came from; those of a run from the strongest.

    Raises:
        InputError: there are no scores.
    """
    if heads.values is None:
        raise InputError("has no scores, which this format needs", where=heads.format)
    known = {head: value for head, value in zip(heads.heads, heads.values, strict=True) if not math.isnan(value)}
    own = heads.format == "pairs" and heads.order is not None
    order = heads.order if own and heads.order else sorted(known, key=lambda head: (-known[head], head))
    data = json.dumps([[list(head), known[head]] for head in order], allow_nan=False).encode()
    losses = ("the model", "samples and intervals", "layers without scores", *mislabelled(heads, "score"))
    return Written({"heads.json": data}, () if own else losses)


def _fits(document: object) -> bool:
    if not isinstance(document, list) or not document or not isinstance(document[0], list):
        return False
    return bool(document[0]) and isinstance(document[0][0], list)


FORMAT = Format("pairs", read_pairs, write_pairs, "a bare list of heads and scores", fits=_fits)
