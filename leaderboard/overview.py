"""What index.html shows: runs in groups that share a set and a protocol, and the runs that were left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from . import words
from .badges import Badge, badge_of
from .cards import Card
from .charts import Whisker, axis_top, whisker
from .collect import Imported, LeftOut
from .render import Document, Site
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


def documents(site: Site) -> Iterator[Document]:
    """index.html."""
    yield "index.html", site.frame.render("index.html", "index.html", view=overview(site))


def overview(site: Site) -> Overview:
    """The overview of a site. Groups come in the order of their titles, rows in the order of the cards."""
    by_group: dict[str, list[Card]] = {}
    for card in site.cards:
        by_group.setdefault(card.group, []).append(card)
    groups = [_group(members) for members in by_group.values()]
    return Overview(
        groups=tuple(_told_apart(sorted(groups, key=lambda group: (group.title, group.facts, group.anchor)))),
        runs=len(site.cards),
        models=len({card.model for card in site.cards}),
        left_out=tuple(site.left_out),
        imported=tuple(sorted(map(_imported, site.imported), key=lambda row: (row.model.casefold(), row.format))),
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


def _group(cards: Sequence[Card]) -> Group:
    first = cards[0]
    top = axis_top((card.share[end] for card in cards for end in ("value", "high")), least=0.1)
    return Group(
        anchor=f"group-{first.group[:8]}",
        title=words.visible(first.set_name),
        facts=first.facts,
        differs=frozenset(),
        threshold=f"{first.threshold:g}",
        rows=tuple(_row(card, top) for card in cards),
    )


def _told_apart(groups: list[Group]) -> list[Group]:
    """The groups, with `differs` filled in for those that share a title."""
    told = []
    for group in groups:
        others = [other.facts for other in groups if other.title == group.title]
        shared = {fact for fact in group.facts if all(fact in facts for facts in others)}
        told.append(replace(group, differs=frozenset(group.facts) - shared))
    return told


def _row(card: Card, top: float) -> Row:
    missing = card.always_on is None
    return Row(
        page=card.page,
        model=words.visible(card.model),
        revision=words.visible(card.revision[:8]),
        architecture=words.visible(card.architecture),
        family=words.visible(card.family),
        parameters=words.parameters(card.parameters),
        parameters_sort=card.parameters,
        layers=card.layers,
        shape=card.shape,
        heads=card.heads,
        share=words.figure(card.share, words.percent),
        whisker=whisker(card.share, top, mark=SPARSE_SHARE),
        zero=words.figure(card.zero, words.percent),
        gini=words.figure(card.gini, words.score),
        effective=words.figure(card.effective, words.count),
        always_on=words.MISSING if missing else str(card.always_on),
        always_on_sort="" if missing else str(card.always_on),
        always_on_reason=card.always_on_reason,
        success=words.figure(card.success, words.percent),
        counted=card.counted,
        samples=card.samples,
        date=card.started[:10],
        started=card.started,
        badge=badge_of(card.badge),
    )
