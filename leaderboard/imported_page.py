"""The page of a head list that another project published: what its file says, and what is wrong with it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rh_bench.display import formatting as words
from rh_bench.display.formatting import Figure
from rh_bench.interchange.folder import read_import
from rh_bench.interchange.formats import project_of
from rh_bench.interchange.records import MEASURES, HeadList, Measure
from rh_bench.leaderboard.briefs import safe_name
from rh_bench.leaderboard.charts import Curve, Profile, layer_profile, score_curve
from rh_bench.leaderboard.collect import Head, Imported
from rh_bench.leaderboard.heat import HeatMap, list_map
from rh_bench.leaderboard.model_page import LISTED, MOST_HEADS, Hero, Settling, settling
from rh_bench.leaderboard.render import Document, Frame
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Json

THRESHOLDS: Mapping[Measure, float] = {"score": HEAD_THRESHOLD, "argmax": HEAD_THRESHOLD, "gate": 0.5}
"""Where the marks begin: the threshold of the paper and of the project with shares of prompts; for learned gates, the
middle of their range. Attention mass and numbers of an unknown kind have none."""
WORDS: Mapping[Measure, str] = {
    "score": "Score",
    "argmax": "Share",
    "attention": "Mass",
    "unknown": "Number",
    "gate": "Gate",
    "membership": "",
}
"""What a number is called."""
_LONGEST_VALUE = 300


@dataclass(frozen=True, slots=True)
class ListedHead:
    name: str
    order: int
    value: str
    value_sort: str


@dataclass(frozen=True, slots=True)
class ImportedPage:
    page: str
    model: str
    named_by: str
    project: str
    measure: str
    other: bool
    """Whether the numbers are something else than retrieval scores."""
    heroes: tuple[Hero, ...]
    findings: tuple[tuple[str, str], ...]
    """(code, message) of what the auditor found."""
    heat: HeatMap | None
    listed: tuple[ListedHead, ...]
    more: int
    """Heads that are not listed."""
    word: str
    threshold: str
    curve: Curve | None
    profile: Profile | None
    settling: Settling | None
    source: tuple[tuple[str, str], ...]
    said: tuple[tuple[str, str], ...]
    """What else the file says."""


def import_path(folder: str) -> str:
    """Where an import's page goes below the site's root.

    Args:
        folder: `<model>/<import id>`, as of `Imported.folder`.
    """
    slug, _, name = folder.rpartition("/")
    return f"imports/{safe_name(slug)}/{safe_name(name)}.html"


def documents(one: Imported, frame: Frame) -> Iterator[Document]:
    """The page of one import."""
    view = imported_page(one, None if one.path is None else read_import(one.path))
    yield view.page, frame.render("imported.html", view.page, view=view)


def imported_page(one: Imported, heads: HeadList | None) -> ImportedPage:
    """What the page shows.

    Args:
        heads: the list itself; without it the page shows what the document says of it.
    """
    document = one.document
    measure: Measure = document["measure"]
    threshold = THRESHOLDS.get(measure)
    rows = () if heads is None or heads.values is None else _as_heads(heads)
    named = {"file": "named by the file", "importer": "named by the importer", None: "not named by the file"}
    return ImportedPage(
        page=import_path(one.folder),
        model=words.visible(document["model"]["id"] or document["model"]["slug"]),
        named_by=named[document["model"]["named_by"]],
        project=project_of(document["format"]),
        measure=measure_words(document),
        other=measure not in ("score", "membership"),
        heroes=_heroes(document),
        findings=tuple((finding["code"], words.visible(finding["message"])) for finding in document["findings"]),
        heat=None if heads is None else list_map(heads, threshold, WORDS[measure]),
        listed=() if heads is None else _listed(heads),
        more=max(document["counts"]["heads"] - LISTED, 0),
        word=WORDS[measure],
        threshold="" if threshold is None else f"{threshold:g}",
        curve=score_curve(rows, THRESHOLDS["score"]) if measure == "score" and rows else None,
        profile=_profile(heads) if measure == "score" and heads else None,
        settling=_settling(heads) if measure == "score" and heads else None,
        source=_source(document),
        said=_said(document["extra"]),
    )


def _as_heads(heads: HeadList) -> tuple[Head, ...]:
    """The values as the charts want them."""
    values = heads.values or ()
    return tuple(
        Head(layer, head, None if math.isnan(value) else value, None, None, None, None, None, None)
        for (layer, head), value in zip(heads.heads, values, strict=True)
    )


def _heroes(document: Json) -> tuple[Hero, ...]:
    counts, sparsity = document["counts"], document["sparsity"]
    unit = _unit(document)
    every = document.get("every_head", False)

    def number(value: int | None, reason: str) -> Figure:
        text = words.MISSING if value is None else words.thousands(value)
        return Figure(text, "", "" if value is not None else reason, 0, "")

    return (
        Hero("Heads", Figure("all", "", "", 0, ""), "of the model; the file lists none")
        if every
        else Hero("Heads", number(counts["heads"], ""), f"{unit} heads in the file"),
        Hero("Above 0.1", words.figure(sparsity["share_above_0.1"], words.percent), "of these heads; no interval"),
        Hero("Never retrieve", words.figure(sparsity["share_zero"], words.percent), "of these heads are at zero"),
        Hero("Chosen", number(counts["selected"], "the file chooses none"), "heads that the file selects"),
        Hero("Samples", number(counts["samples"], "the file has no single samples"), "behind each score, unlabelled"),
    )


def _listed(heads: HeadList) -> tuple[ListedHead, ...]:
    """The strongest heads, or for a list without numbers the first in its own order."""
    if heads.values is None:
        first = (heads.order or heads.heads)[:LISTED]
        return tuple(_listed_head(place, "", "") for place in first)
    numbered = [pair for pair in zip(heads.heads, heads.values, strict=True) if not math.isnan(pair[1])]
    numbered.sort(key=lambda pair: (-pair[1], pair[0]))
    return tuple(_listed_head(place, words.score(value), repr(value)) for place, value in numbered[:LISTED])


def _listed_head(place: tuple[int, int], value: str, sort: str) -> ListedHead:
    return ListedHead(f"{place[0]}.{place[1]}", place[0] * MOST_HEADS + place[1], value, sort)


def measure_words(document: Json) -> str:
    """What an import's numbers are, in words."""
    said = MEASURES[document["measure"]]
    return said if document["measure"] == "membership" else f"{said}, of {_unit(document)} heads"


def _unit(document: Json) -> str:
    return str(document["unit"]).replace("_", "/")


def _profile(heads: HeadList) -> Profile | None:
    """Mean score and retrieval heads of each layer, as a run's summary has them; None without the model's grid."""
    if heads.layers is None:
        return None
    threshold = THRESHOLDS["score"]
    rows: list[Json] = []
    for layer, own in enumerate(heads.matrix()):
        known = own[~np.isnan(own)]
        mean = round(float(known.mean()), 9) if len(known) else None
        above = int((known > threshold).sum()) if len(known) else None
        rows.append({"layer": layer, "heads": len(known), "retrieval_heads": above, "mean_score": mean})
    return layer_profile(rows)


def _settling(heads: HeadList) -> Settling | None:
    """Needs as many samples for every head: those of the same place in each row are taken to be the same sample."""
    if heads.samples is None or heads.instances is None:
        return None
    return settling(np.array(heads.instances, dtype=np.float64).T, heads.heads, THRESHOLDS["score"])


def _source(document: Json) -> tuple[tuple[str, str], ...]:
    grid, source = document["grid"], document["source"]
    shape = f"{grid['layers']} layers × {grid['heads_per_layer']} heads" if grid["layers"] else "not given by the file"
    rows = (
        ("File", source["name"]),
        ("SHA-256", source["sha256"]),
        ("Size", f"{source['bytes']:,} bytes"),
        ("Format", document["format"]),
        ("Heads are", f"{_unit(document)} heads"),
        ("Content", MEASURES[document["measure"]]),
        ("Grid", shape),
        ("Import id", document["import_id"]),
        ("Schema", f"{document['schema']} {document['schema_version']}"),
    )
    return tuple((label, words.visible(str(value))) for label, value in rows)


def _said(extra: Json, most: int = 24) -> tuple[tuple[str, str], ...]:
    """What else the file says, nested objects flat, long values cut."""

    def flat(prefix: str, value: object) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from flat(f"{prefix}.{key}" if prefix else str(key), inner)
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield words.visible(prefix), words.visible(_cut(text))

    return tuple(_first(list(flat("", extra)), most))


def _first(rows: Sequence[tuple[str, str]], most: int) -> Sequence[tuple[str, str]]:
    return rows if len(rows) <= most else [*rows[:most], ("…", f"and {len(rows) - most} more")]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
