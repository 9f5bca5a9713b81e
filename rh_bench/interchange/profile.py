"""`profile`: retrieval-head-profile's JSON of one model. Its `argmax_scores` are shares of prompts in which the largest
weight of the prompt's last row lies on the needle: nothing is generated, so they are no copy rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rh_bench.errors import InputError
from rh_bench.interchange.base import MOST_JSON, Format, Written, all_heads, mislabelled, parse_grid, parse_pair
from rh_bench.interchange.names import own_name, quantisation_of
from rh_bench.interchange.records import HeadList
from rh_bench.system.schema import dump_json, load_json

_FIELDS = ("n_layers", "n_heads", "argmax_heads", "argmax_scores")


def read_profile(path: Path) -> HeadList:
    """retrieval-head-profile's JSON of one model.

    Raises:
        InputError: it is not of this format, or its grid and its scores differ.
    """
    constants: list[str] = []
    document = load_json(path, max_bytes=MOST_JSON, constant=constants.append)  # which gives None
    missing = [name for name in _FIELDS if not isinstance(document, dict) or name not in document]
    if missing:
        raise InputError(f"has no {missing[0]}, so it is not a model's profile", where=path)
    layers, heads = document["n_layers"], document["n_heads"]
    scores = parse_grid(document["argmax_scores"], layers, heads, path, "argmax_scores")
    named, where = document["argmax_heads"], f"{path}#/argmax_heads"
    if not isinstance(named, list):
        raise InputError("must be a list of [layer, head]", where=where)
    order = tuple(parse_pair(pair, where, layers, heads) for pair in named)
    if len(set(order)) != len(order):
        raise InputError("names a head twice", where=where)
    model, quantisation = document.get("hf_id"), quantisation_of(document, "model")
    return HeadList(
        format="profile",
        model=own_name(model, quantisation) if isinstance(model, str) else None,
        unit="query",
        measure="argmax",
        layers=layers,
        heads_per_layer=heads,
        heads=all_heads(layers, heads),
        values=tuple(score for row in scores for score in row),
        selected=frozenset(order),
        order=order,
        extra={key: value for key, value in document.items() if key not in _FIELDS},
        notes=(f"it has {len(constants)} times NaN or Infinity, which JSON cannot carry: read as null",)
        if constants
        else (),
        quantisation=quantisation,
    )


def write_profile(heads: HeadList) -> Written:
    """
    Raises:
        InputError: there is no number for every head.
    """
    if heads.values is None or heads.layers is None or heads.heads_per_layer is None:
        raise InputError("does not have a score for every head, which this format needs", where=heads.format)
    matrix = heads.matrix()
    holes = bool(np.isnan(matrix).any())
    document = {
        **heads.extra,
        "n_layers": heads.layers,
        "n_heads": heads.heads_per_layer,
        "argmax_heads": [list(head) for head in heads.order or sorted(heads.selected or ())],
        "argmax_scores": np.nan_to_num(matrix, nan=0.0).tolist(),
    }
    if heads.format == "profile":
        return Written({"profile.json": dump_json(document)}, ())
    document = {"hf_id": heads.model, **document}
    losses = (
        *mislabelled(heads, "argmax"),
        "intervals",
        "scores of single samples",
        "copy_heads and copy_scores, which rh_bench does not measure",
        *(["layers without scores, which are 0 here"] * holes),
    )
    return Written({"profile.json": dump_json(document)}, losses)


def _fits(document: object) -> bool:
    return isinstance(document, dict) and isinstance(document.get("argmax_scores"), list)


FORMAT = Format("profile", read_profile, write_profile, "retrieval-head-profile", measure="argmax", fits=_fits)
