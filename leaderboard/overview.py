"""What index.html shows: runs in groups that share a set and a protocol, and the runs that were left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from rh_bench.records import Json

from . import words
from .badges import Badge, badge
from .charts import Whisker, axis_top, whisker
from .collect import Collection, Entry, Imported, LeftOut
from .words import Figure

SPARSE_SHARE = 0.05
"""The paper's claim about sparsity: fewer than this share of heads are retrieval heads. Marked in the whiskers."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run in the overview table."""

    page: str
    """Path of the run's page below the site's root."""
    model: str
    revision: str
    architecture: str
    family: str
    parameters: str
    parameters_sort: int
    layers: int
    shape: str
    heads: int
    share: Figure
    whisker: Whisker | None
    zero: Figure
    gini: Figure
    effective: Figure
    always_on: str
    always_on_sort: str
    always_on_reason: str
    success: Figure
    counted: int
    samples: int
    date: str
    started: str
    badge: Badge


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that may be compared: the same set and the same protocol."""

    anchor: str
    title: str
    facts: tuple[str, ...]
    differs: frozenset[str]
    """The facts that tell this group from others of the same title."""
    threshold: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """A head list of another project: what its file says, which nobody can compute again."""

    model: str
    format: str
    heads: str
    shape: str
    measure: str
    share: Figure
    zero: Figure
    findings: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Overview:
    groups: tuple[Group, ...]
    runs: int
    models: int
    left_out: tuple[LeftOut, ...]
    imported: tuple[ImportedRow, ...]


def overview(collection: Collection) -> Overview:
    """The overview of a collection. Groups come in the order of their titles, rows in the order of the collection."""
    ordered = sorted(collection.entries, key=_group_key)
    groups = [_group(key, list(members)) for key, members in groupby(ordered, key=_group_key)]
    return Overview(
        groups=tuple(_told_apart(sorted(groups, key=lambda group: (group.title, group.facts, group.anchor)))),
        runs=len(collection.entries),
        models=len({entry.run["model"]["id"] for entry in collection.entries}),
        left_out=collection.left_out,
        imported=tuple(sorted(map(_imported, collection.imported), key=lambda row: (row.model.casefold(), row.format))),
    )


def _imported(one: Imported) -> ImportedRow:
    document = one.document
    grid, counts = document["grid"], document["counts"]
    return ImportedRow(
        model=words.visible(document["model"]["id"] or document["model"]["slug"]),
        format=document["format"],
        heads=f"{counts['heads']:,} {document['unit'].replace('_', '/')} heads",
        shape=f"{grid['layers']} × {grid['heads_per_layer']}" if grid["layers"] else words.MISSING,
        measure=words.visible(str(document["measure"]).replace("_", " ")),
        share=words.figure(document["sparsity"]["share_above_0.1"], words.percent),
        zero=words.figure(document["sparsity"]["share_zero"], words.percent),
        findings=tuple(words.visible(finding["message"]) for finding in document["findings"]),
        source=words.visible(document["source"]["name"]),
    )


def page_path(entry: Entry) -> str:
    """Where a run's page goes below the site's root, made of characters that need no escaping anywhere.

    A slug with other characters keeps those that are safe and gets a digest of the whole, so that no two collide.
    """
    return f"models/{_safe(entry.slug)}/{_safe(entry.run_id)}.html"


def _safe(name: str) -> str:
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in name)
    kept = kept.lstrip(".")
    return kept if kept == name else f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _group_key(entry: Entry) -> str:
    """Two runs may be compared when this is equal: the same set, byte for byte, measured by the same protocol."""
    return json.dumps([entry.run["haystack"]["manifest_sha256"], entry.run["protocol"]], sort_keys=True)


def _group(key: str, entries: list[Entry]) -> Group:
    entries = sorted(entries, key=lambda entry: (entry.run["model"]["id"].casefold(), entry.slug, entry.run_id))
    shares = [entry.summary["sparsity"]["share_above_0.1"] for entry in entries]
    top = axis_top((share[end] for share in shares for end in ("value", "high")), least=0.1)
    run = entries[0].run
    return Group(
        anchor="group-" + hashlib.sha256(key.encode()).hexdigest()[:8],
        title=words.visible(run["haystack"]["name"]),
        facts=protocol_facts(run),
        differs=frozenset(),
        threshold=f"{run['protocol']['head_threshold']:g}",
        rows=tuple(_row(entry, top) for entry in entries),
    )


def _told_apart(groups: list[Group]) -> list[Group]:
    """The groups, with `differs` filled in for those that share a title."""
    told = []
    for group in groups:
        others = [other.facts for other in groups if other.title == group.title]
        shared = {fact for fact in group.facts if all(fact in facts for facts in others)}
        told.append(replace(group, differs=frozenset(group.facts) - shared))
    return told


def protocol_facts(run: Json) -> tuple[str, ...]:
    """What tells one protocol from another, in words."""
    protocol = run["protocol"]
    grid = protocol["grid"]
    facts = [
        f"set {run['haystack']['manifest_sha256'][:8]}",
        f"protocol {protocol['version']}, rule “{protocol['rule']}”",
        f"{protocol['template']} template",
        str(protocol["dtype"]),
        "the set's own grid" if grid["kind"] == "set" else "a grid made for the run",
    ]
    if grid["lengths"] is not None:
        facts.append("lengths " + _listed(grid["lengths"]))
    if grid["depths"] is not None:
        facts.append("depths " + _listed(f"{depth:g}%" for depth in grid["depths"]))
    if grid["needles"] is not None:
        facts.append("needles " + _listed(grid["needles"]))
    if grid["limit"] is not None:
        facts.append(f"limited to {grid['limit']} samples")
    facts.append(f"up to {protocol['max_new_tokens']} new tokens, stop at {' or '.join(protocol['stop'])}")
    return tuple(words.visible(fact) for fact in facts)


def _listed(items: Iterable[object], most: int = 6) -> str:
    texts = [str(item) for item in items]
    return ", ".join(texts) if len(texts) <= most else f"{texts[0]} to {texts[-1]} ({len(texts)})"


def _row(entry: Entry, top: float) -> Row:
    run, summary = entry.run, entry.summary
    model, sparsity = run["model"], summary["sparsity"]
    always_on = summary["always_on"]["heads"]
    return Row(
        page=page_path(entry),
        model=words.visible(model["id"]),
        revision=words.visible(model["revision"][:8]),
        architecture=words.visible(model["architecture"]),
        family=words.visible(model["model_type"]),
        parameters=words.parameters(model["parameters"]),
        parameters_sort=model["parameters"],
        layers=len(model["layers"]),
        shape=shape(model["layers"]),
        heads=run["counts"]["heads"],
        share=words.figure(sparsity["share_above_0.1"], words.percent),
        whisker=whisker(sparsity["share_above_0.1"], top, mark=SPARSE_SHARE),
        zero=words.figure(sparsity["share_zero"], words.percent),
        gini=words.figure(sparsity["gini"], words.score),
        effective=words.figure(sparsity["effective_heads"], words.count),
        always_on=words.MISSING if always_on is None else str(len(always_on)),
        always_on_sort="" if always_on is None else str(len(always_on)),
        always_on_reason="" if always_on is not None else summary["always_on"]["reason"] or "not computed",
        success=words.figure(summary["success"]["rate"], words.percent),
        counted=run["counts"]["counted"],
        samples=run["counts"]["samples"],
        date=run["timings"]["started"][:10],
        started=run["timings"]["started"],
        badge=badge(entry.verification),
    )


def shape(layers: list[Json]) -> str:
    """Layers × query heads: `30 × 9`, or `28 × 8–16` where scored layers differ."""
    heads = sorted({layer["query_heads"] for layer in layers if layer["kind"] in ("full", "sliding")})
    if not heads:
        return f"{len(layers)}\u00a0×\u00a00"
    span = str(heads[0]) if len(heads) == 1 else f"{heads[0]}–{heads[-1]}"
    return f"{len(layers)}\u00a0×\u00a0{span}"
