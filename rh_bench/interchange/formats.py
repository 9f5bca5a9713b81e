"""A reader and a writer for each format. Readers trust nothing; writers say what the format cannot carry.

* ``seed``: the paper's released detections, ``{"layer-head": [score of each successful sample]}``.
* ``duo``: DuoAttention's gates, a TSV of layers × key/value heads, with ``config.json`` beside it.
* ``qrhead``: QRHead's YAML, a set of heads without scores.
* ``profile``: retrieval-head-profile's JSON, scores and chosen heads.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rh_bench.errors import InputError
from rh_bench.files import shown
from rh_bench.interchange.records import LARGEST_SCORE, HeadList
from rh_bench.schema import dump_json, load_json
from rh_bench.statistics import FloatArray

_HEAD = re.compile(r"(\d{1,4})-(\d{1,4})")
_MOST_HEADS = 1 << 17
_MOST_TEXT = 4 << 20
MOST_JSON = 32 << 20
"""Bytes: ten times what the paper's largest released file has, and nothing in it takes a gibibyte of memory."""
_MOST_YAML = 256 << 10
"""Characters. Reading YAML takes seconds a megabyte, and time that grows with the square of its nesting."""
_MOST_YAML_DEPTH = 16
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
REDUCTIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "max": lambda grouped: grouped.max(axis=2),
    "mean": lambda grouped: grouped.mean(axis=2),
}
"""How the query heads [layers, key/value heads, query heads of one] that share a key/value head become one number."""


@dataclass(frozen=True)
class Written:
    """Files by name, the first of them the main one, and what they could not carry."""

    files: dict[str, bytes]
    losses: tuple[str, ...]


def read_seed(path: Path) -> HeadList:
    """The paper's released JSON. Scores can exceed 1 and rows can differ in length: `audit` says so.

    Raises:
        InputError: it is not of this format.
    """
    document = load_json(path, max_bytes=MOST_JSON)
    if not isinstance(document, dict) or not document:
        raise InputError("must be an object of heads", where=path)
    rows: dict[tuple[int, int], tuple[float, ...]] = {}
    for name, scores in document.items():
        head = parse_head(name, path)
        if head in rows:
            raise InputError(f"has head {head[0]}-{head[1]} twice, spelt differently", where=path)
        if not isinstance(scores, list) or not all(_is_number(score) for score in scores):
            raise InputError("must be a list of numbers", where=f"{path}#/{shown(name[:40])}")
        if any(abs(score) > LARGEST_SCORE for score in scores):
            raise InputError("has a score that is too large to add up", where=f"{path}#/{shown(name[:40])}")
        rows[head] = tuple(float(score) for score in scores)
    heads = tuple(sorted(rows))
    if not any(rows.values()):
        raise InputError("has no sample for any head", where=path)
    means = tuple(math.fsum(rows[head]) / len(rows[head]) if rows[head] else math.nan for head in heads)
    layers, per_layer = max(layer for layer, _ in heads) + 1, max(head for _, head in heads) + 1
    if layers * per_layer > _MOST_HEADS:
        raise InputError(f"names head {head_names(heads[-1:])}, which no model has", where=path)
    return HeadList(
        format="seed",
        model=None,
        unit="query",
        measure="score",
        layers=layers,
        heads_per_layer=per_layer,
        heads=heads,
        values=means,
        selected=None,
        instances=tuple(rows[head] for head in heads),
    )


def write_seed(heads: HeadList) -> Written:
    if heads.instances is None:
        raise InputError("has no scores of single samples, which this format is made of", where=heads.format)
    document = {f"{layer}-{head}": list(row) for (layer, head), row in zip(heads.heads, heads.instances, strict=True)}
    data = json.dumps(document, allow_nan=False).encode()
    losses = ("the model", "sample ids, lengths and depths", "failed samples", "intervals", "layers without scores")
    return Written({"heads.json": data}, () if heads.format == "seed" else losses)


def read_duo(path: Path) -> HeadList:
    """DuoAttention's TSV of gates, or the folder that holds it; `config.json` beside it is read where it is there.

    Raises:
        InputError: it is not of this format.
    """
    table = path / "full_attention_heads.tsv" if path.is_dir() else path
    rows = [line.split("\t") for line in _text(table).splitlines() if line.strip()]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows) * len(rows[0]) > _MOST_HEADS:
        raise InputError("must be a table of tab-separated numbers, all rows of one length", where=table)
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
    model = config.get("model_name")
    return HeadList(
        format="duo",
        model=model if isinstance(model, str) else None,
        unit="key_value",
        measure="gate",
        layers=len(gates),
        heads_per_layer=len(gates[0]),
        heads=tuple((layer, head) for layer in range(len(gates)) for head in range(len(gates[0]))),
        values=tuple(gate for row in gates for gate in row),
        selected=None,
        extra={"config": config} if config else {},
    )


def write_duo(heads: HeadList, kv_heads: int | None = None, reduce: str = "max") -> Written:
    """
    Args:
        kv_heads: key/value heads of a layer, for a list of query heads.
        reduce: a name of REDUCTIONS.
    """
    if heads.values is None:
        raise InputError("has no numbers, which this format is made of", where=heads.format)
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
            "that these are retrieval scores in [0, 1] and not learned gates",
            "samples and intervals",
            "layers without scores, which are 0 here" if np.isnan(matrix).any() else "",
        )
        matrix = np.nan_to_num(matrix, nan=0.0)
    config = heads.extra.get("config") or {
        "model_name": heads.model,
        "sink_size": 128,
        "recent_size": 256,
        "rh_bench": f"retrieval scores, {reduce} over query heads; sizes are DuoAttention's own, not measured",
    }
    lines = "".join("\t".join(f"{gate:.18e}" for gate in row) + "\n" for row in matrix.tolist())
    files = {"full_attention_heads.tsv": lines.encode(), "config.json": dump_json(config)}
    return Written(files, tuple(loss for loss in losses if loss))


def read_qrhead(path: Path) -> HeadList:
    """QRHead's YAML: `attn_head_set: "layer-head,…"`.

    Raises:
        InputError: it is not of this format, or its YAML uses anchors, aliases or tags.
    """
    document = plain_yaml(_text(path), path)
    named = document.get("attn_head_set") if isinstance(document, dict) else None
    if not isinstance(named, str):
        raise InputError("must have attn_head_set, a text", where=path)
    order = tuple(parse_head(part.strip(), path) for part in named.split(","))
    if len(set(order)) != len(order):
        raise InputError("names a head twice", where=f"{path}#/attn_head_set")
    model = document.get("model_name_or_path")
    return HeadList(
        format="qrhead",
        model=model if isinstance(model, str) else None,
        unit="query",
        measure="membership",
        layers=None,
        heads_per_layer=None,
        heads=tuple(sorted(order)),
        values=None,
        selected=frozenset(order),
        order=order,
        extra={
            key: value for key, value in document.items() if isinstance(value, str | int) and key != "attn_head_set"
        },
    )


def write_qrhead(heads: HeadList) -> Written:
    chosen = heads.order or tuple(sorted(heads.selected or ()))
    if not chosen:
        raise InputError("no head is chosen, so there is nothing to list", where="qrhead")
    base = heads.extra.get("model_base_class") or (heads.model or "").rsplit("/", 1)[-1]
    document = {
        "attn_head_set": ",".join(f"{layer}-{head}" for layer, head in chosen),
        "model_base_class": base,
        "model_name_or_path": heads.extra.get("model_name_or_path") or heads.model or "",
    }
    text = yaml.safe_dump(document, sort_keys=False, width=100_000, allow_unicode=True)
    losses = ("comments",) if heads.format == "qrhead" else ("every score", "intervals", "heads that are not chosen")
    return Written({"heads.yaml": text.encode()}, losses)


def read_profile(path: Path) -> HeadList:
    """retrieval-head-profile's JSON of one model.

    Raises:
        InputError: it is not of this format, or its grid and its scores differ.
    """
    constants: list[str] = []
    document = load_json(path, max_bytes=MOST_JSON, constant=constants.append)  # which gives None
    fields = ("n_layers", "n_heads", "argmax_heads", "argmax_scores")
    missing = [name for name in fields if not isinstance(document, dict) or name not in document]
    if missing:
        raise InputError(f"has no {missing[0]}, so it is not the profile of a model", where=path)
    layers, heads, scores = document["n_layers"], document["n_heads"], document["argmax_scores"]
    sizes = isinstance(layers, int) and isinstance(heads, int) and 0 < layers * heads <= _MOST_HEADS
    shaped = (
        sizes
        and isinstance(scores, list)
        and len(scores) == layers
        and all(isinstance(row, list) and len(row) == heads and all(map(_is_number, row)) for row in scores)
    )
    if not shaped:
        raise InputError("argmax_scores must be n_layers rows of n_heads numbers", where=path)
    order = _pairs(document["argmax_heads"], layers, heads, f"{path}#/argmax_heads")
    return HeadList(
        format="profile",
        model=document["hf_id"] if isinstance(document.get("hf_id"), str) else None,
        unit="query",
        measure="score",
        layers=layers,
        heads_per_layer=heads,
        heads=tuple((layer, head) for layer in range(layers) for head in range(heads)),
        values=tuple(float(score) for row in scores for score in row),
        selected=frozenset(order),
        order=order,
        extra={key: value for key, value in document.items() if key not in fields},
        notes=(f"it has {len(constants)} times NaN or Infinity, which JSON cannot carry: read as null",)
        if constants
        else (),
    )


def write_profile(heads: HeadList) -> Written:
    if heads.values is None or heads.layers is None or heads.heads_per_layer is None:
        raise InputError("has no score for every head, which this format needs", where=heads.format)
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
    losses = ["intervals", "scores of single samples", "copy_heads and copy_scores, which rh_bench does not measure"]
    return Written(
        {"profile.json": dump_json(document)}, tuple(losses + (["layers without scores, which are 0 here"] * holes))
    )


def write(heads: HeadList, format: str, *, kv_heads: int | None = None, reduce: str = "max") -> Written:
    """The files of one of READERS' formats. For `duo`, see :func:`write_duo`.

    Raises:
        InputError: the list lacks what the format is made of.
    """
    if format == "duo":
        return write_duo(heads, kv_heads, reduce)
    return {"seed": write_seed, "qrhead": write_qrhead, "profile": write_profile}[format](heads)


READERS: Mapping[str, Callable[[Path], HeadList]] = {
    "seed": read_seed,
    "duo": read_duo,
    "qrhead": read_qrhead,
    "profile": read_profile,
}


def guess_format(path: Path) -> str:
    """The format of a file by its name and its first bytes.

    Raises:
        InputError: it is none that is known.
    """
    if path.is_dir() or path.suffix == ".tsv":
        return "duo"
    if path.suffix in (".yaml", ".yml"):
        return "qrhead"
    if path.suffix == ".json":
        document = load_json(path, max_bytes=MOST_JSON, constant=lambda text: None)
        if isinstance(document, dict):
            return "profile" if isinstance(document.get("argmax_scores"), list) else "seed"
    raise InputError("this is no format that is known", where=path, mend="give --format " + ", ".join(READERS))


def plain_yaml(text: str, where: object) -> Any:
    """YAML of plain values only: anchors and aliases can grow without bound, tags can build objects.

    Raises:
        InputError: it is not YAML, uses any of these, or is long or nested beyond what a list of heads can be.
    """
    if len(text) > _MOST_YAML:
        raise InputError(f"its YAML is longer than {_MOST_YAML} characters", where=where)
    depth = 0
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
                raise InputError("its YAML has an anchor, an alias or a tag; write plain values", where=where)
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > _MOST_YAML_DEPTH:
                raise InputError(f"its YAML is nested deeper than {_MOST_YAML_DEPTH}", where=where)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError("is not readable YAML", where=where) from None


def parse_head(text: str, where: object) -> tuple[int, int]:
    """`layer-head`.

    Raises:
        InputError: it is anything else.
    """
    match = _HEAD.fullmatch(text)
    if match is None:
        raise InputError(f"{shown(text[:40])!r} is no head; heads are written layer-head, as in 18-6", where=where)
    return int(match[1]), int(match[2])


def _pairs(pairs: object, layers: int, heads: int, where: str) -> tuple[tuple[int, int], ...]:
    if not isinstance(pairs, list):
        raise InputError("must be a list of [layer, head]", where=where)
    out = []
    for pair in pairs:
        numbers = isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)
        if not numbers or not (0 <= pair[0] < layers and 0 <= pair[1] < heads):
            raise InputError(f"{shown(str(pair)[:40])} is no [layer, head] of this model", where=where)
        out.append((pair[0], pair[1]))
    return tuple(out)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise InputError("there is no such file", where=shown(path))
        with path.open("rb") as file:
            data = file.read(_MOST_TEXT + 1)
        if len(data) > _MOST_TEXT:
            raise InputError(f"is larger than {_MOST_TEXT} bytes", where=shown(path))
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=shown(path)) from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=shown(path)) from None


def head_names(heads: Sequence[tuple[int, int]], most: int = 5) -> str:
    """A few heads for a message."""
    listed = ", ".join(f"{layer}-{head}" for layer, head in heads[:most])
    return listed + (f" and {len(heads) - most} more" if len(heads) > most else "")
