"""`atlas`: retrieval-head-atlas's JSON of one model, keyed by `model_id`. `avg_mass` is the attention mass that a head
puts on the needle; `event_rate` and `retrieval_score` are shares of prompts in which that mass passes a bound of the
file's own. None of them says what a head copies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.interchange.base import MOST_JSON, Format, Written, all_heads, parse_grid
from rh_bench.interchange.names import own_name, quantisation_of
from rh_bench.interchange.records import HeadList
from rh_bench.records import Json
from rh_bench.system.files import shown
from rh_bench.system.schema import dump_json, load_json

_MASS = "avg_mass"
_FIELDS = ("n_layers", "n_heads", _MASS)


def is_atlas(document: Json) -> bool:
    """Whether an object says of itself that it is one model's entry of an atlas, or is keyed by models' names."""
    return "model_id" in document or (bool(document) and all(map(_is_entry, document.values())))


def _is_entry(value: object) -> bool:
    return (
        isinstance(value, dict) and {"n_layers", "n_heads"} <= value.keys() and bool({_MASS, "settings"} & value.keys())
    )


def read_atlas(path: Path) -> HeadList:
    """One model's attention mass on the needle, per query head.

    A sweep (`settings`) has a table for each length and place of the needle; the value of a head is their plain mean.

    Raises:
        InputError: it is not of this format, has no `avg_mass`, or is of several models.
    """
    document = load_json(path, max_bytes=MOST_JSON)
    if not isinstance(document, dict) or not is_atlas(document):
        raise InputError("has no model_id, so it is not an atlas object", where=path)
    entry = document if "model_id" in document else _only_entry(document, path)
    model, quantisation = entry.get("model_id"), quantisation_of(entry)
    if not isinstance(model, str):
        raise InputError("must be a string", where=f"{path}#/model_id")
    grids = _grids(entry, path)
    layers, heads = entry["n_layers"], entry["n_heads"]
    return HeadList(
        format="atlas",
        model=own_name(model, quantisation),
        unit="query",
        measure="attention",
        layers=layers,
        heads_per_layer=heads,
        heads=all_heads(layers, heads),
        values=tuple(
            math.fsum(grid[layer][head] for grid in grids) / len(grids) for layer, head in all_heads(layers, heads)
        ),
        selected=None,
        extra={key: value for key, value in entry.items() if key not in _FIELDS},
        quantisation=quantisation,
    )


def _only_entry(document: Json, path: Path) -> Json:
    if len(document) > 1:
        names = ", ".join(shown(name[:60]) for name in list(document)[:3])
        hint = "put each model's object into its own file"
        raise InputError(f"has {len(document)} models ({names})", where=path, hint=hint)
    ((name, entry),) = document.items()
    return {"model_id": name, **entry}


def _grids(entry: Json, path: Path) -> list[list[list[float]]]:
    """The tables of attention mass, each [layers, heads]."""
    tables: dict[str, Any]
    if _MASS in entry:
        tables = {f"/{_MASS}": entry[_MASS]}
    else:
        settings = entry.get("settings")
        found = settings if isinstance(settings, dict) else {}
        tables = {
            f"/settings/{shown(name[:40])}/{_MASS}": setting.get(_MASS) if isinstance(setting, dict) else None
            for name, setting in found.items()
        }
    if not tables:
        raise InputError(f"names a model but has no {_MASS}, so it says nothing about its heads", where=path)
    sizes = entry.get("n_layers"), entry.get("n_heads")
    return [parse_grid(table, *sizes, f"{path}#{place}", _MASS) for place, table in tables.items()]


def write_atlas(heads: HeadList) -> Written:
    """The object that it was read from.

    Raises:
        InputError: it holds no attention mass; numbers of another kind are not written under that name.
    """
    if heads.measure != "attention" or heads.values is None or heads.layers is None or heads.heads_per_layer is None:
        raise InputError("does not have attention mass for every head, which this format needs", where=heads.format)
    document = {"model_id": heads.model, **heads.extra, "n_layers": heads.layers, "n_heads": heads.heads_per_layer}
    if "settings" not in heads.extra:
        document[_MASS] = heads.matrix().tolist()
    return Written({"atlas.json": dump_json(document)}, ())


def _fits(document: object) -> bool:
    return isinstance(document, dict) and is_atlas(document)


FORMAT = Format("atlas", read_atlas, write_atlas, "retrieval-head-atlas", measure="attention", fits=_fits)
