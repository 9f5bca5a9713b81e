"""`duo`: DuoAttention's gates, a TSV of layers × key/value heads, with ``config.json`` beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rh_bench.errors import InputError
from rh_bench.interchange.base import MOST_HEADS, MOST_JSON, Format, Written, all_heads, read_text
from rh_bench.interchange.names import own_name, quantisation_of
from rh_bench.interchange.records import MEASURES, HeadList
from rh_bench.stats.bootstrap import FloatArray
from rh_bench.system.schema import dump_json, load_json

REDUCTIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "max": lambda grouped: grouped.max(axis=2),
    "mean": lambda grouped: grouped.mean(axis=2),
}
"""How the query heads [layers, key/value heads, query heads of one] that share a key/value head become one number."""


def read_duo(path: Path) -> HeadList:
    """DuoAttention's TSV of gates, or the folder that holds it; `config.json` beside it is read where it is there.

    Raises:
        InputError: it is not of this format.
    """
    table = path / "full_attention_heads.tsv" if path.is_dir() else path
    rows = [line.split("\t") for line in read_text(table).splitlines() if line.strip()]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows) * len(rows[0]) > MOST_HEADS:
        raise InputError("must be a table of tab-separated numbers with rows of equal length", where=table)
    try:
        gates = [[float(cell) for cell in row] for row in rows]
    except ValueError:
        raise InputError("must be a table of tab-separated numbers", where=table) from None
    if not all(math.isfinite(gate) for row in gates for gate in row):
        raise InputError("has NaN or Infinity", where=table)
    beside = table.parent / "config.json"
    config = load_json(beside, max_bytes=MOST_JSON) if beside.is_file() else {}
    if not isinstance(config, dict):
        raise InputError("must be an object", where=beside)
    model, quantisation = config.get("model_name"), quantisation_of(config)
    return HeadList(
        format="duo",
        model=own_name(model, quantisation) if isinstance(model, str) else None,
        unit="key_value",
        measure="gate",
        layers=len(gates),
        heads_per_layer=len(gates[0]),
        heads=all_heads(len(gates), len(gates[0])),
        values=tuple(gate for row in gates for gate in row),
        selected=None,
        extra={"config": config} if config else {},
        quantisation=quantisation,
    )


def write_duo(heads: HeadList, kv_heads: int | None = None, reduce: str = "max") -> Written:
    """
    Args:
        kv_heads: key/value heads of a layer, for a list of query heads.
        reduce: a name of REDUCTIONS.

    Raises:
        InputError: there are no numbers, or the query heads do not divide into the key/value heads.
    """
    if heads.values is None:
        raise InputError("has no numbers, which this format needs", where=heads.format)
    matrix = heads.matrix()
    losses: tuple[str, ...] = ()
    if heads.unit == "query":
        if not kv_heads or matrix.shape[1] % kv_heads:
            raise InputError(
                f"{matrix.shape[1]} query heads do not divide into {kv_heads} key/value heads", where="duo"
            )
        matrix = REDUCTIONS[reduce](matrix.reshape(len(matrix), kv_heads, -1))
        losses = (
            f"query heads: each number is the {reduce} over those that share a key/value head",
            f"that these are {MEASURES[heads.measure]} and not learned gates",
            "samples and intervals",
            "layers without scores, which are 0 here" if np.isnan(matrix).any() else "",
        )
        matrix = np.nan_to_num(matrix, nan=0.0)
    config = heads.extra.get("config") or {
        "model_name": heads.model,
        "sink_size": 128,
        "recent_size": 256,
        "rh_bench": f"{MEASURES[heads.measure]}, {reduce} over query heads; sizes are DuoAttention's own, not measured",
    }
    lines = "".join("\t".join(f"{gate:.18e}" for gate in row) + "\n" for row in matrix.tolist())
    files = {"full_attention_heads.tsv": lines.encode(), "config.json": dump_json(config)}
    return Written(files, tuple(loss for loss in losses if loss))


FORMAT = Format("duo", read_duo, write_duo, "DuoAttention", measure="gate", suffixes=("", ".tsv"))
