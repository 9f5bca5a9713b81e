"""`qrhead`: QRHead's YAML, a set of heads without scores, or the words `full_heads` for every head of the model."""

from __future__ import annotations

from pathlib import Path

import yaml

from rh_bench.errors import InputError
from rh_bench.interchange.base import Format, Written, parse_head, read_text
from rh_bench.interchange.names import own_name, quantisation_of
from rh_bench.interchange.records import HeadList
from rh_bench.system.plain_yaml import plain_yaml

EVERY_HEAD = "full_heads"
"""What the file says for all heads of the model, whose number it does not give."""


def read_qrhead(path: Path) -> HeadList:
    """QRHead's YAML: `attn_head_set: "layer-head,…"`, or `full_heads`, which stands for heads that it does not name.

    Raises:
        InputError: it is not of this format, or its YAML uses anchors, aliases or tags.
    """
    document = plain_yaml(read_text(path), path)
    named = document.get("attn_head_set") if isinstance(document, dict) else None
    if not isinstance(named, str):
        raise InputError("must have attn_head_set, a string", where=path)
    every = named.strip() == EVERY_HEAD
    order = () if every else tuple(parse_head(part.strip(), path) for part in named.split(","))
    if len(set(order)) != len(order):
        raise InputError("names a head twice", where=f"{path}#/attn_head_set")
    model, quantisation = document.get("model_name_or_path"), quantisation_of(document)
    return HeadList(
        format="qrhead",
        model=own_name(model, quantisation) if isinstance(model, str) else None,
        unit="query",
        measure="membership",
        layers=None,
        heads_per_layer=None,
        heads=tuple(sorted(order)),
        values=None,
        selected=None if every else frozenset(order),
        order=order or None,
        extra={
            key: value
            for key, value in document.items()
            if isinstance(key, str) and isinstance(value, str | int) and key != "attn_head_set"
        },
        quantisation=quantisation,
        every_head=every,
    )


def write_qrhead(heads: HeadList) -> Written:
    """
    Raises:
        InputError: no head is chosen.
    """
    chosen = heads.order or tuple(sorted(heads.selected or ()))
    if not chosen and not heads.every_head:
        raise InputError("no head is selected, so there is nothing to list", where="qrhead")
    base = heads.extra.get("model_base_class") or (heads.model or "").rsplit("/", 1)[-1]
    document = {
        "attn_head_set": EVERY_HEAD if heads.every_head else ",".join(f"{layer}-{head}" for layer, head in chosen),
        "model_base_class": base,
        "model_name_or_path": heads.extra.get("model_name_or_path") or heads.model or "",
    }
    text = yaml.safe_dump(document, sort_keys=False, width=100_000, allow_unicode=True)
    losses = ("comments",) if heads.format == "qrhead" else ("every score", "intervals", "heads that are not chosen")
    return Written({"heads.yaml": text.encode()}, losses)


FORMAT = Format("qrhead", read_qrhead, write_qrhead, "QRHead", measure="membership", suffixes=(".yaml", ".yml"))
