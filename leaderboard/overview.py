"""What index.html shows: runs in groups that share a set and a protocol, imports, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rh_bench.display import formatting as words
from rh_bench.display.axes import Whisker, axis_top, whisker
from rh_bench.display.formatting import Figure
from rh_bench.interchange.records import MEASURES
from rh_bench.leaderboard.badges import ABOUT
from rh_bench.leaderboard.badges import ORDER as BADGES
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.collect import Imported, LeftOut
from rh_bench.leaderboard.columns import COLUMNS, ORDER, Column, data
from rh_bench.leaderboard.imported_page import import_path
from rh_bench.leaderboard.render import Document, Site
from rh_bench.stats.ranks import competition_ranks

SPARSE_SHARE = 0.05
"""The paper's claim about sparsity: fewer than this share of heads are retrieval heads. Marked in the whiskers."""

SIZES = (
    ("under 1B", 0, 10**9),
    ("1B to 4B", 10**9, 4 * 10**9),
    ("4B to 10B", 4 * 10**9, 10**10),
    ("10B to 40B", 10**10, 4 * 10**10),
    ("40B and more", 4 * 10**10, 1 << 62),
)
"""Sizes of models to filter by: name, least and first not included number of parameters."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run in the overview table."""

    rank: str
    page: str
    """Path of the run's page below the site's root."""
    model: str
    revision: str
    family: str
    parameters: str
    shape: str
    attention: str
    share: Figure
    whisker: Whisker | None
    zero: Figure
    half: Figure
    gini: Figure
    effective: Figure
    always_on: Figure
    success: Figure
    counted: str
    universality: Figure
    badge: str
    set: str
    version: str
    date: str
    mark: str
    """What of the set was measured; empty for the whole set."""
    note: str
    """Why the run is not ranked."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of the same set and the same protocol."""

    anchor: str
    title: str
    facts: tuple[str, ...]
    differs: frozenset[str]
    """The facts that tell this group from others of the same title."""
    mark: str
    """Class of the whiskers: where on their axis, which the group shares, SPARSE_SHARE lies."""
    rows: tuple[Row, ...]
    """Runs over the whole set, ranked."""
    apart: tuple[Row, ...]
    """Runs over a part of it, or over a grid of their own, which stand below and are not ranked."""

    @property
    def runs(self) -> int:
        return len(self.rows) + len(self.apart)


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to narrow the table down: a name for the address, and what there is to choose from."""

    key: str
    label: str
    options: tuple[tuple[str, str], ...]
    """(value in the address, words)."""


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """A head list of another project: what its file says, which nobody can compute again."""

    page: str
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
    columns: tuple[Column, ...]
    order: str
    hidden: str
    """The columns that are not shown at first, as the tables' `data-hide` wants them."""
    groups: tuple[Group, ...]
    runs: int
    models: int
    families: int
    choices: tuple[Choice, ...]
    badges: tuple[tuple[str, str], ...]
    """Those that occur, with what they mean."""
    left_out: tuple[LeftOut, ...]
    imported: tuple[ImportedRow, ...]
    data: object


def documents(site: Site) -> Iterator[Document]:
    """index.html."""
    yield "index.html", site.frame.render("index.html", "index.html", view=overview(site))


def overview(site: Site) -> Overview:
    """The overview of a site. Groups come in the order of their titles, rows by ORDER and then as the briefs do."""
    by_table: dict[str, list[RunBrief]] = {}
    for brief in site.briefs:
        by_table.setdefault(brief.table, []).append(brief)
    ordered = sorted(by_table.values(), key=lambda briefs: (words.visible(briefs[0].set_name), briefs[0].table_facts))
    ordered = [sorted(briefs, key=lambda brief: (not brief.coverage.whole, _by_share(brief))) for briefs in ordered]
    groups = _told_apart([_group(briefs) for briefs in ordered])
    shown = [brief for briefs in ordered for brief in briefs]
    badges = {brief.badge for brief in shown}
    return Overview(
        columns=COLUMNS,
        order=ORDER,
        hidden=" ".join(column.key for column in COLUMNS if column.hidden),
        groups=tuple(groups),
        runs=len(shown),
        models=len({brief.model for brief in shown}),
        families=len({brief.family for brief in shown}),
        choices=tuple(choice for choice in _choices(shown, groups) if len(choice.options) > 1),
        badges=tuple((name, ABOUT[name]) for name in reversed(BADGES) if name in badges),
        left_out=tuple(site.left_out),
        imported=tuple(sorted(map(_imported, site.imported), key=lambda row: (row.model.casefold(), row.format))),
        data=data(shown) | {"groups": [group.runs for group in groups], "sizes": [list(size) for size in SIZES]},
    )


def _by_share(brief: RunBrief) -> float:
    """Sorts the largest share first, and runs without one last; Python's sort keeps the order of equal ones."""
    value = brief.share["value"]
    return 1.0 if value is None else -float(value)


def _choices(briefs: Sequence[RunBrief], groups: Sequence[Group]) -> Iterator[Choice]:
    families = sorted({brief.family for brief in briefs}, key=str.casefold)
    yield Choice("family", "Family", tuple((family, words.visible(family)) for family in families))
    sizes = [name for name, low, high in SIZES if any(low <= brief.parameters < high for brief in briefs)]
    yield Choice("size", "Size", tuple((name, name) for name in sizes))
    kinds = sorted({brief.attention for brief in briefs})
    yield Choice("attention", "Attention", tuple((kind, words.visible(kind.replace("_", " "))) for kind in kinds))
    badges = [name for name in BADGES if any(brief.badge == name for brief in briefs)]
    yield Choice("badge", "Verified", tuple((name, name) for name in badges))
    yield Choice("group", "Set and protocol", tuple((group.anchor, _name(group)) for group in groups))


def _name(group: Group) -> str:
    """Of a group, as short as tells it from the others."""
    differing = [fact for fact in group.facts if fact in group.differs]
    return ", ".join([group.title, *differing])


def _group(briefs: Sequence[RunBrief]) -> Group:
    """Args: briefs: by share, the largest first, those that are ranked before the others."""
    first = briefs[0]
    whole = [brief for brief in briefs if brief.coverage.whole]
    top = axis_top((brief.share[end] for brief in briefs for end in ("value", "high")), least=0.1)
    ranks = _ranks([brief.share["value"] for brief in whole])
    return Group(
        anchor=f"group-{first.table[:8]}",
        title=words.visible(first.set_name),
        facts=first.table_facts,
        differs=frozenset(),
        mark=f"top{round(top * 100)}",
        rows=tuple(_row(brief, rank, top) for brief, rank in zip(whole, ranks, strict=True)),
        apart=tuple(_row(brief, words.MISSING, top) for brief in briefs[len(whole) :]),
    )


def _ranks(values: Sequence[float | None]) -> list[str]:
    """Rank of each value, the largest first; a missing value has none."""
    ranks = iter(competition_ranks(np.array([value for value in values if value is not None])).tolist())
    return [words.MISSING if value is None else str(next(ranks)) for value in values]


def _told_apart(groups: list[Group]) -> list[Group]:
    """The groups, with `differs` filled in for those that share a title."""
    told = []
    for group in groups:
        others = [other.facts for other in groups if other.title == group.title]
        shared = {fact for fact in group.facts if all(fact in facts for facts in others)}
        told.append(replace(group, differs=frozenset(group.facts) - shared))
    return told


def _row(brief: RunBrief, rank: str, top: float) -> Row:
    return Row(
        rank=rank,
        page=brief.page,
        model=words.visible(brief.model),
        revision=words.visible(brief.revision[:8]),
        family=words.visible(brief.family),
        parameters=words.parameters(brief.parameters),
        shape=brief.shape,
        attention=words.visible(brief.attention.replace("_", " ")),
        share=words.figure(brief.share, words.percent),
        whisker=whisker(brief.share, top),
        zero=words.figure(brief.zero, words.percent),
        half=words.figure(brief.half, words.percent),
        gini=words.figure(brief.gini, words.score),
        effective=words.figure(brief.effective, words.count),
        always_on=_always_on(brief),
        success=words.figure(brief.success, words.percent),
        counted=f"{brief.counted:,} of {brief.samples:,}",
        universality=words.figure(brief.stability, words.score),
        badge=brief.badge,
        set=words.visible(brief.set_name),
        version=f"{brief.manifest_sha256[:8]} · v{brief.protocol['version']}",
        date=brief.started[:10],
        mark="" if brief.coverage.whole else brief.coverage.mark,
        note=words.visible(brief.coverage.note),
    )


def _always_on(brief: RunBrief) -> Figure:
    if brief.always_on is None:
        return Figure(words.MISSING, "", brief.always_on_reason, brief.counted, "")
    return Figure(str(brief.always_on), "", "", brief.counted, str(brief.always_on))


def _imported(one: Imported) -> ImportedRow:
    document = one.document
    grid, counts, unit = document["grid"], document["counts"], document["unit"].replace("_", "/")
    return ImportedRow(
        page=import_path(one.folder),
        model=words.visible(document["model"]["id"] or document["model"]["slug"]),
        format=document["format"],
        heads=f"{'all' if document.get('every_head') else format(counts['heads'], ',')} {unit} heads",
        shape=f"{grid['layers']} × {grid['heads_per_layer']}" if grid["layers"] else words.MISSING,
        measure=MEASURES[document["measure"]],
        share=words.figure(document["sparsity"]["share_above_0.1"], words.percent),
        zero=words.figure(document["sparsity"]["share_zero"], words.percent),
        findings=tuple(words.visible(finding["message"]) for finding in document["findings"]),
        source=words.visible(document["source"]["name"]),
    )
