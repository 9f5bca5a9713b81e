"""universality.html: whether all models have retrieval heads, how many, where, and whether they are the same ones.

Runs of different sets or protocols are never in one chart. Beyond a few dozen models, families stand for them, so that
the page stays light.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np

from rh_bench.artifacts.coverage import OWN, PART
from rh_bench.display import formatting as words
from rh_bench.display.axes import axis_top
from rh_bench.display.formatting import Figure
from rh_bench.display.palette import rate_level
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.definitions import UNIVERSALITY, Definition
from rh_bench.leaderboard.render import Document, Site
from rh_bench.leaderboard.universality_charts import (
    Column,
    Curves,
    Line,
    columns,
    curves,
    depth_shares,
    family_paths,
    layers_of,
    line_path,
)
from rh_bench.records import Json
from rh_bench.scores.robustness import FACTORS, agreement
from rh_bench.stats.bootstrap import NANO, Bootstrap, bootstrap_means, estimate, strata_by
from rh_bench.stats.distribution import above
from rh_bench.stats.similarity import (
    Measure,
    expected_jaccard,
    expected_overlap,
    jaccard,
    matrix,
    pearson,
    spearman,
    top_overlap,
)

MOST_MODELS = 24
"""Drawn one by one in a group; beyond, families are."""
MOST_FAMILIES = 8
"""With a colour of their own; the rest are together."""
MOST_GROUPS = 8
MOST_ROWS = 40
MOST_MATRIX = 16
MOST_GRIDS = 4
TOP_K = 10
SHARE_WIDTH = 220.0
OTHERS = "other families"


@dataclass(frozen=True, slots=True)
class Family:
    """A family in the key of a group's charts. `colour` names a class of the sheet."""

    name: str
    colour: str
    runs: int


@dataclass(frozen=True, slots=True)
class ShareRow:
    """A point and its interval on a line of `SHARE_WIDTH` units."""

    label: str
    page: str
    family: str
    colour: str
    whole: bool
    """Whether it stands for a family."""
    indent: bool
    """Whether its family has a row above it."""
    many: int
    figure: Figure
    at: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Tile:
    """The distribution of retrieval heads over depth, of a model or a family."""

    label: str
    page: str
    family: str
    colour: str
    columns: tuple[Column, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    level: int | None
    about: str


@dataclass(frozen=True, slots=True)
class MatrixRow:
    label: str
    page: str
    family: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Models with the same head grid: ranks above the diagonal, overlap below it."""

    anchor: str
    title: str
    rows: tuple[MatrixRow, ...]
    left: int
    data: str
    """Every measure, as JSON, for the script that shows another."""


@dataclass(frozen=True, slots=True)
class Level:
    """One number of a robustness table, and what chance would give."""

    figure: Figure
    random: str


@dataclass(frozen=True, slots=True)
class RobustRow:
    label: str
    page: str
    family: str
    levels: tuple[Level, ...]
    """Rank and set, for each factor."""


@dataclass(frozen=True, slots=True)
class SetRow:
    label: str
    page: str
    sets: tuple[str, ...]
    ranks: Figure
    overlap: Figure


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that may be compared: the same set and the same protocol."""

    anchor: str
    title: str
    facts: tuple[str, ...]
    note: str
    """What of their set these runs were measured on, where that is not all of it."""
    threshold: str
    runs: int
    families: tuple[Family, ...]
    one_by_one: bool
    curves: Curves | None
    shares: tuple[ShareRow, ...]
    share_mark: float
    share_ticks: tuple[tuple[float, str], ...]
    tiles: tuple[Tile, ...]
    matrices: tuple[Matrix, ...]
    grids_left: int
    """Head grids with several models that have no matrix."""
    robust: tuple[RobustRow, ...]
    robust_left: int


@dataclass(frozen=True, slots=True)
class Universality:
    groups: tuple[Group, ...]
    others: tuple[str, ...]
    """Groups that are too small to be shown beside so many."""
    families: tuple[tuple[str, int], ...]
    """All families and their runs."""
    others_name: str
    """What families without a colour of their own are called together."""
    sets: tuple[SetRow, ...]
    definitions: tuple[Definition, ...]
    runs: int


_APART = {
    PART: "Measured on a part of the set, which whoever ran them chose.",
    OWN: "Measured on a grid that whoever ran them chose, not on the set's own.",
}


def documents(site: Site) -> Iterator[Document]:
    """universality.html and the numbers of all runs behind it."""
    view = universality(site.briefs)
    yield "universality.html", site.frame.render("universality.html", "universality.html", view=view)
    yield "universality.csv", table(site.briefs)


def table(briefs: Sequence[RunBrief]) -> str:
    """One row per run: its share of retrieval heads and its robustness, as CSV. Text that a spreadsheet would take for
    a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    measures = ("spearman", "spearman_at_random", "jaccard", "jaccard_at_random")
    writer.writerow(
        [
            "run",
            "model",
            "family",
            "set",
            "manifest_sha256",
            "group",
            "heads",
            "counted",
            "coverage",
            "measured_on",
            "share",
            "share_low",
            "share_high",
        ]
        + [f"{factor}_{name}" for factor in FACTORS for name in ("parts", *measures)]
    )
    for brief in briefs:
        named = [brief.key, brief.model, brief.family, brief.set_name, brief.manifest_sha256, brief.group]
        row: list[object] = [_plain(words.visible(text)) for text in named]
        row += [
            brief.heads,
            brief.counted,
            brief.coverage.kind,
            brief.coverage.words,
            *(brief.share[end] for end in ("value", "low", "high")),
        ]
        for item in brief.cross.robustness:
            values = {name: item[name]["value"] if name in ("spearman", "jaccard") else item[name] for name in measures}
            row += [item["parts"], *values.values()]
        writer.writerow(["" if value is None else value for value in row])
    return out.getvalue()


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def universality(briefs: Sequence[RunBrief]) -> Universality:
    """Everything the template needs. Groups over whole sets come first, and of each kind the largest."""
    by_group = [list(members) for _, members in groupby(sorted(briefs, key=lambda c: c.group), key=lambda c: c.group)]
    by_group.sort(key=lambda group: (not group[0].coverage.whole, -len(group), group[0].set_name, group[0].group))
    colours = _colours(briefs)
    shown, rest = by_group[:MOST_GROUPS], by_group[MOST_GROUPS:]
    return Universality(
        groups=tuple(_group(members, colours) for members in shown),
        others=tuple(f"{words.visible(members[0].set_name)}: {_runs(len(members))}" for members in rest),
        families=tuple(sorted(Counter(words.visible(brief.family) for brief in briefs).items())),
        others_name=OTHERS,
        sets=tuple(_over_sets(briefs)),
        definitions=UNIVERSALITY,
        runs=len(briefs),
    )


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count:,} runs"


def _colours(briefs: Sequence[RunBrief]) -> dict[str, str]:
    """A colour for each of the largest families, the same throughout the page."""
    counts = Counter(brief.family for brief in briefs)
    largest = sorted(counts, key=lambda family: (-counts[family], family))[:MOST_FAMILIES]
    return {family: f"f{place}" for place, family in enumerate(sorted(largest))}


def _group(briefs: Sequence[RunBrief], colours: dict[str, str]) -> Group:
    briefs = sorted(briefs, key=lambda brief: (brief.family, brief.model.casefold(), brief.key))
    first = briefs[0]
    one_by_one = len(briefs) <= MOST_MODELS
    families = _families(briefs, colours)
    shares, top = _shares(briefs, colours, one_by_one)
    rows, grids = _chosen(briefs, MOST_ROWS), _shared_grids(briefs)
    return Group(
        anchor=f"set-{first.group[:8]}",
        title=words.visible(first.set_name),
        facts=first.facts,
        note="" if first.coverage.whole else f"{_APART[first.coverage.kind]} These runs are ranked nowhere.",
        threshold=f"{first.threshold:g}",
        runs=len(briefs),
        families=families,
        one_by_one=one_by_one,
        curves=_curves(briefs, colours, one_by_one),
        shares=shares,
        share_mark=_place(0.05, top),
        share_ticks=tuple((_place(top * part, top), f"{top * part * 100:g}%") for part in (0, 0.5, 1)),
        tiles=_tiles(briefs, colours, one_by_one),
        matrices=tuple(_matrix(grid, members) for grid, members in grids[:MOST_GRIDS]),
        grids_left=max(len(grids) - MOST_GRIDS, 0),
        robust=tuple(_robust_row(brief) for brief in rows),
        robust_left=len(briefs) - len(rows),
    )


def _families(briefs: Sequence[RunBrief], colours: dict[str, str]) -> tuple[Family, ...]:
    counts = Counter(brief.family if brief.family in colours else OTHERS for brief in briefs)
    names = sorted(counts, key=lambda name: (name == OTHERS, name))
    return tuple(Family(words.visible(name), colours.get(name, "fx"), counts[name]) for name in names)


def _by_family(briefs: Sequence[RunBrief], colours: dict[str, str]) -> list[tuple[str, list[RunBrief]]]:
    """Families with a colour, each with its runs, and all others together at the end."""
    found: dict[str, list[RunBrief]] = {}
    for brief in briefs:
        found.setdefault(brief.family if brief.family in colours else OTHERS, []).append(brief)
    return sorted(found.items(), key=lambda item: (item[0] == OTHERS, item[0]))


def _chosen(briefs: Sequence[RunBrief], most: int) -> list[RunBrief]:
    """At most this many, from all families in turn, those with the most counted samples first; in their old order."""
    if len(briefs) <= most:
        return list(briefs)
    queues = [
        sorted(members, key=lambda brief: (-brief.counted, brief.key))
        for _, members in _by_family(briefs, {brief.family: "" for brief in briefs})
    ]
    taken = [brief for place in range(max(map(len, queues))) for queue in queues for brief in queue[place : place + 1]]
    keys = {brief.key for brief in taken[:most]}
    return [brief for brief in briefs if brief.key in keys]


# Curves


def _curves(briefs: Sequence[RunBrief], colours: dict[str, str], one_by_one: bool) -> Curves | None:
    scored = [brief for brief in briefs if brief.cross.rows() is not None]
    if not scored:
        return None
    if one_by_one:
        lines = [
            Line(
                words.visible(brief.model),
                brief.page,
                words.visible(brief.family),
                _colour(brief, colours),
                line_path(rows),
                "",
            )
            for brief in scored
            if (rows := brief.cross.rows()) is not None
        ]
    else:
        lines = [
            Line(
                f"{words.visible(name)}, {_runs(len(own))}",
                "",
                words.visible(name),
                colours.get(name, "fx"),
                *family_paths(own),
            )
            for name, members in _by_family(scored, colours)
            if (own := [rows for brief in members if (rows := brief.cross.rows()) is not None])
        ]
    return curves(lines, briefs[0].threshold)


def _colour(brief: RunBrief, colours: dict[str, str]) -> str:
    return colours.get(brief.family, "fx")


# Shares


def _shares(
    briefs: Sequence[RunBrief], colours: dict[str, str], one_by_one: bool
) -> tuple[tuple[ShareRow, ...], float]:
    """A row for each family, with those of its models below it where there are few; and what the axis ends with."""
    found: list[tuple[str, str, str, str, bool, bool, int, Json]] = []
    for name, members in _by_family(briefs, colours):
        family, colour = words.visible(name), colours.get(name, "fx")
        together = len(members) > 1 or not one_by_one
        if together:
            found.append((family, "", family, colour, True, False, len(members), _family_share(members)))
        if one_by_one:
            found += [(words.visible(c.model), c.page, family, colour, False, together, 1, c.share) for c in members]
    top = axis_top((share[end] for *_, share in found for end in ("value", "high")), least=0.1)
    rows = []
    for label, page, family, colour, whole, indent, many, share in found:
        at, low, high = (None if share[end] is None else _place(share[end], top) for end in ("value", "low", "high"))
        figure = words.figure(share, words.percent)
        rows.append(ShareRow(label, page, family, colour, whole, indent, many, figure, at, low, high))
    return tuple(rows), top


def _family_share(briefs: Sequence[RunBrief]) -> Json:
    """Mean share of a family's models, with an interval over its models; of a single model, that model's own."""
    values = [brief.share["value"] for brief in briefs if brief.share["value"] is not None]
    if len(briefs) == 1:
        return briefs[0].share
    if not values:
        return {"value": None, "low": None, "high": None, "n": 0, "reason": "no model of the family has a share"}
    bootstrap = Bootstrap()
    means = bootstrap_means(np.array(values)[:, None], strata_by({}, len(values)), bootstrap)
    replicates = None if means.replicates is None else means.replicates[:, 0] / NANO
    return estimate(float(means.value[0] / NANO), replicates, len(values), bootstrap).to_json()


def _place(share: float, top: float) -> float:
    return round(3 + min(max(share / top, 0.0), 1.0) * (SHARE_WIDTH - 6), 1)


# Depth


def _tiles(briefs: Sequence[RunBrief], colours: dict[str, str], one_by_one: bool) -> tuple[Tile, ...]:
    parts = (
        [(words.visible(brief.model), brief.page, [brief]) for brief in briefs]
        if one_by_one
        else [(words.visible(name), "", members) for name, members in _by_family(briefs, colours)]
    )
    found = []
    for label, page, members in parts:
        shares = [own for brief in members if (own := depth_shares(brief.cross, brief.threshold)) is not None]
        mean = np.mean(shares, axis=0) if shares else None
        found.append((label, page, members, mean))
    top = max((float(mean.max()) for *_, mean in found if mean is not None), default=1.0)
    return tuple(
        Tile(
            label,
            page,
            words.visible(members[0].family),
            _colour(members[0], colours),
            () if mean is None else columns(mean, top),
            _depth_note(members),
        )
        for label, page, members, mean in found
    )


def _depth_note(briefs: Sequence[RunBrief]) -> str:
    places: list[float] = []
    for brief in briefs:
        cross = brief.cross
        rows = cross.rows()
        if rows is not None:
            layers = layers_of(cross)[above(rows, brief.threshold)]
            places += [(int(layer) + 0.5) / max(cross.depth, 1) for layer in layers]
    if not places:
        return "no retrieval heads" if any(brief.cross.rows() is not None for brief in briefs) else "not scored"
    places.sort()
    middle = (places[(len(places) - 1) // 2] + places[len(places) // 2]) / 2
    heads = "head" if len(places) == 1 else "heads"
    return f"{len(places):,} {heads}, median depth {middle * 100:.0f}%"


# Agreement


def _shared_grids(briefs: Sequence[RunBrief]) -> list[tuple[str, list[RunBrief]]]:
    """Head grids that two runs or more have scores of, those of most runs first."""
    grids: dict[str, list[RunBrief]] = {}
    for brief in briefs:
        rows = brief.cross.rows()
        if rows is not None and len(rows) > 1:
            grids.setdefault(brief.cross.grid, []).append(brief)
    shared = [item for item in grids.items() if len(item[1]) > 1]
    return sorted(shared, key=lambda item: (-len(item[1]), item[0]))


def _matrix(grid: str, members: Sequence[RunBrief]) -> Matrix:
    chosen = _chosen(members, MOST_MATRIX)
    rows = np.stack([rows for brief in chosen if (rows := brief.cross.rows()) is not None])
    threshold = chosen[0].threshold
    measures: dict[str, Measure] = {
        "spearman": spearman(),
        "pearson": pearson(),
        "jaccard": jaccard(threshold),
        "top": top_overlap(TOP_K),
    }
    found = {name: matrix(measure, rows) for name, measure in measures.items()}
    sizes = [int(size) for size in above(rows, threshold).sum(axis=1)]
    numbers = range(len(chosen))
    data = {
        name: [[None if np.isnan(value) else round(float(value), 4) for value in row] for row in values]
        for name, values in found.items()
    }
    lines = tuple(
        MatrixRow(
            words.visible(brief.model),
            brief.page,
            words.visible(brief.family),
            tuple(
                _cell(float(found["spearman" if i < j else "jaccard"][i, j]), _about(data, i, j, sizes, rows.shape[1]))
                if i != j
                else Cell("", None, "")
                for j in numbers
            ),
        )
        for i, brief in enumerate(chosen)
    )
    title = f"{members[0].shape} heads"
    return Matrix(f"grid-{grid[:8]}-{members[0].group[:8]}", title, lines, len(members) - len(chosen), json.dumps(data))


def _cell(value: float, about: str) -> Cell:
    return Cell(words.MISSING, None, about) if np.isnan(value) else Cell(f"{value:.2f}", rate_level(value), about)


def _about(data: dict[str, list[list[float | None]]], i: int, j: int, sizes: Sequence[int], heads: int) -> str:
    """Every measure of a pair, and what chance would give, for the cell's label."""

    def say(name: str) -> str:
        value = data[name][i][j]
        return "undefined" if value is None else f"{value:.2f}"

    chance = _by_chance(min(sizes[i], sizes[j]), max(sizes[i], sizes[j]), heads)
    return (
        f"Spearman {say('spearman')}, Pearson {say('pearson')}, overlap above the threshold {say('jaccard')}"
        f" ({chance}), overlap of the {TOP_K} strongest {say('top')} (by chance {TOP_K / heads:.2f})"
    )


@lru_cache(maxsize=1 << 14)
def _by_chance(a: int, b: int, heads: int) -> str:
    expected = expected_jaccard(a, b, heads)
    if expected is None:
        return "both sets are empty"
    return f"by chance {expected:.2f}, {expected_overlap(a, b, heads):.1f} heads"


# Robustness


def _robust_row(brief: RunBrief) -> RobustRow:
    levels = []
    for item in brief.cross.robustness:
        for name in ("spearman", "jaccard"):
            random = item[f"{name}_at_random"]
            figure = words.figure(item[name], lambda value: f"{value:.2f}")
            levels.append(Level(figure, "" if random is None or figure.reason else f"{random:.2f}"))
    return RobustRow(words.visible(brief.model), brief.page, words.visible(brief.family), tuple(levels))


def _over_sets(briefs: Sequence[RunBrief]) -> Iterator[SetRow]:
    """Models with runs on several sets by one protocol, the same weights in each."""
    found: dict[str, list[RunBrief]] = {}
    for brief in briefs:
        key = json.dumps([brief.model, brief.revision, brief.protocol, brief.cross.grid], sort_keys=True)
        found.setdefault(key, []).append(brief)
    for members in sorted(found.values(), key=lambda members: (members[0].model.casefold(), members[0].key)):
        by_set = {brief.manifest_sha256: brief for brief in sorted(members, key=lambda brief: brief.key)}
        runs = [(brief, rows) for brief in by_set.values() if (rows := brief.cross.rows()) is not None]
        if len(runs) > 1:
            ranks, overlap = agreement(np.stack([rows for _, rows in runs]), "sets")
            yield SetRow(
                label=words.visible(runs[0][0].model),
                page=runs[0][0].page,
                sets=tuple(sorted(words.visible(brief.set_name) for brief, _ in runs)),
                ranks=words.figure(ranks.to_json(), lambda value: f"{value:.2f}"),
                overlap=words.figure(overlap.to_json(), lambda value: f"{value:.2f}"),
            )
