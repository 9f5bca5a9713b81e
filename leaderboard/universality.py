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
from rh_bench.leaderboard import formatting as words
from rh_bench.leaderboard.cards import Card
from rh_bench.leaderboard.charts import axis_top
from rh_bench.leaderboard.definitions import UNIVERSALITY, Definition
from rh_bench.leaderboard.formatting import Figure
from rh_bench.leaderboard.palette import rate_level
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
    view = universality(site.cards)
    yield "universality.html", site.frame.render("universality.html", "universality.html", view=view)
    yield "universality.csv", table(site.cards)


def table(cards: Sequence[Card]) -> str:
    """One row a run: its share of retrieval heads and its robustness, as CSV. Text that a spreadsheet would take for a
    formula gets an apostrophe in front."""
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
    for card in cards:
        named = [card.key, card.model, card.family, card.set_name, card.manifest_sha256, card.group]
        row: list[object] = [_plain(words.visible(text)) for text in named]
        row += [
            card.heads,
            card.counted,
            card.coverage.kind,
            card.coverage.words,
            *(card.share[end] for end in ("value", "low", "high")),
        ]
        for item in card.cross.robustness:
            values = {name: item[name]["value"] if name in ("spearman", "jaccard") else item[name] for name in measures}
            row += [item["parts"], *values.values()]
        writer.writerow(["" if value is None else value for value in row])
    return out.getvalue()


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def universality(cards: Sequence[Card]) -> Universality:
    """Everything the template needs. Groups over whole sets come first, and of each kind the largest."""
    by_group = [list(members) for _, members in groupby(sorted(cards, key=lambda c: c.group), key=lambda c: c.group)]
    by_group.sort(key=lambda group: (not group[0].coverage.whole, -len(group), group[0].set_name, group[0].group))
    colours = _colours(cards)
    shown, rest = by_group[:MOST_GROUPS], by_group[MOST_GROUPS:]
    return Universality(
        groups=tuple(_group(members, colours) for members in shown),
        others=tuple(f"{words.visible(members[0].set_name)}: {_runs(len(members))}" for members in rest),
        families=tuple(sorted(Counter(words.visible(card.family) for card in cards).items())),
        others_name=OTHERS,
        sets=tuple(_over_sets(cards)),
        definitions=UNIVERSALITY,
        runs=len(cards),
    )


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count:,} runs"


def _colours(cards: Sequence[Card]) -> dict[str, str]:
    """A colour for each of the largest families, the same throughout the page."""
    counts = Counter(card.family for card in cards)
    largest = sorted(counts, key=lambda family: (-counts[family], family))[:MOST_FAMILIES]
    return {family: f"f{place}" for place, family in enumerate(sorted(largest))}


def _group(cards: Sequence[Card], colours: dict[str, str]) -> Group:
    cards = sorted(cards, key=lambda card: (card.family, card.model.casefold(), card.key))
    first = cards[0]
    one_by_one = len(cards) <= MOST_MODELS
    families = _families(cards, colours)
    shares, top = _shares(cards, colours, one_by_one)
    rows, grids = _chosen(cards, MOST_ROWS), _shared_grids(cards)
    return Group(
        anchor=f"set-{first.group[:8]}",
        title=words.visible(first.set_name),
        facts=first.facts,
        note="" if first.coverage.whole else f"{_APART[first.coverage.kind]} These runs are ranked nowhere.",
        threshold=f"{first.threshold:g}",
        runs=len(cards),
        families=families,
        one_by_one=one_by_one,
        curves=_curves(cards, colours, one_by_one),
        shares=shares,
        share_mark=_place(0.05, top),
        share_ticks=tuple((_place(top * part, top), f"{top * part * 100:g}%") for part in (0, 0.5, 1)),
        tiles=_tiles(cards, colours, one_by_one),
        matrices=tuple(_matrix(grid, members) for grid, members in grids[:MOST_GRIDS]),
        grids_left=max(len(grids) - MOST_GRIDS, 0),
        robust=tuple(_robust_row(card) for card in rows),
        robust_left=len(cards) - len(rows),
    )


def _families(cards: Sequence[Card], colours: dict[str, str]) -> tuple[Family, ...]:
    counts = Counter(card.family if card.family in colours else OTHERS for card in cards)
    names = sorted(counts, key=lambda name: (name == OTHERS, name))
    return tuple(Family(words.visible(name), colours.get(name, "fx"), counts[name]) for name in names)


def _by_family(cards: Sequence[Card], colours: dict[str, str]) -> list[tuple[str, list[Card]]]:
    """Families with a colour, each with its runs, and all others together at the end."""
    found: dict[str, list[Card]] = {}
    for card in cards:
        found.setdefault(card.family if card.family in colours else OTHERS, []).append(card)
    return sorted(found.items(), key=lambda item: (item[0] == OTHERS, item[0]))


def _chosen(cards: Sequence[Card], most: int) -> list[Card]:
    """At most so many, from all families in turn, those with the most counted samples first; in their old order."""
    if len(cards) <= most:
        return list(cards)
    queues = [
        sorted(members, key=lambda card: (-card.counted, card.key))
        for _, members in _by_family(cards, {card.family: "" for card in cards})
    ]
    taken = [card for place in range(max(map(len, queues))) for queue in queues for card in queue[place : place + 1]]
    keys = {card.key for card in taken[:most]}
    return [card for card in cards if card.key in keys]


# Curves


def _curves(cards: Sequence[Card], colours: dict[str, str], one_by_one: bool) -> Curves | None:
    scored = [card for card in cards if card.cross.rows() is not None]
    if not scored:
        return None
    if one_by_one:
        lines = [
            Line(
                words.visible(card.model),
                card.page,
                words.visible(card.family),
                _colour(card, colours),
                line_path(rows),
                "",
            )
            for card in scored
            if (rows := card.cross.rows()) is not None
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
            if (own := [rows for card in members if (rows := card.cross.rows()) is not None])
        ]
    return curves(lines, cards[0].threshold)


def _colour(card: Card, colours: dict[str, str]) -> str:
    return colours.get(card.family, "fx")


# Shares


def _shares(cards: Sequence[Card], colours: dict[str, str], one_by_one: bool) -> tuple[tuple[ShareRow, ...], float]:
    """A row for each family, with those of its models below it where there are few; and what the axis ends with."""
    found: list[tuple[str, str, str, str, bool, bool, int, Json]] = []
    for name, members in _by_family(cards, colours):
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


def _family_share(cards: Sequence[Card]) -> Json:
    """Mean share of a family's models, with an interval over its models; of a single model, that model's own."""
    values = [card.share["value"] for card in cards if card.share["value"] is not None]
    if len(cards) == 1:
        return cards[0].share
    if not values:
        return {"value": None, "low": None, "high": None, "n": 0, "reason": "no model of the family has a share"}
    bootstrap = Bootstrap()
    means = bootstrap_means(np.array(values)[:, None], strata_by({}, len(values)), bootstrap)
    replicates = None if means.replicates is None else means.replicates[:, 0] / NANO
    return estimate(float(means.value[0] / NANO), replicates, len(values), bootstrap).to_json()


def _place(share: float, top: float) -> float:
    return round(3 + min(max(share / top, 0.0), 1.0) * (SHARE_WIDTH - 6), 1)


# Depth


def _tiles(cards: Sequence[Card], colours: dict[str, str], one_by_one: bool) -> tuple[Tile, ...]:
    parts = (
        [(words.visible(card.model), card.page, [card]) for card in cards]
        if one_by_one
        else [(words.visible(name), "", members) for name, members in _by_family(cards, colours)]
    )
    found = []
    for label, page, members in parts:
        shares = [own for card in members if (own := depth_shares(card.cross, card.threshold)) is not None]
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


def _depth_note(cards: Sequence[Card]) -> str:
    places: list[float] = []
    for card in cards:
        cross = card.cross
        rows = cross.rows()
        if rows is not None:
            layers = layers_of(cross)[above(rows, card.threshold)]
            places += [(int(layer) + 0.5) / max(cross.depth, 1) for layer in layers]
    if not places:
        return "no retrieval heads" if any(card.cross.rows() is not None for card in cards) else "not scored"
    places.sort()
    middle = (places[(len(places) - 1) // 2] + places[len(places) // 2]) / 2
    heads = "head" if len(places) == 1 else "heads"
    return f"{len(places):,} {heads}, median depth {middle * 100:.0f}%"


# Agreement


def _shared_grids(cards: Sequence[Card]) -> list[tuple[str, list[Card]]]:
    """Head grids that two runs or more have scores of, those of most runs first."""
    grids: dict[str, list[Card]] = {}
    for card in cards:
        rows = card.cross.rows()
        if rows is not None and len(rows) > 1:
            grids.setdefault(card.cross.grid, []).append(card)
    shared = [item for item in grids.items() if len(item[1]) > 1]
    return sorted(shared, key=lambda item: (-len(item[1]), item[0]))


def _matrix(grid: str, members: Sequence[Card]) -> Matrix:
    chosen = _chosen(members, MOST_MATRIX)
    rows = np.stack([rows for card in chosen if (rows := card.cross.rows()) is not None])
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
            words.visible(card.model),
            card.page,
            words.visible(card.family),
            tuple(
                _cell(float(found["spearman" if i < j else "jaccard"][i, j]), _about(data, i, j, sizes, rows.shape[1]))
                if i != j
                else Cell("", None, "")
                for j in numbers
            ),
        )
        for i, card in enumerate(chosen)
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


def _robust_row(card: Card) -> RobustRow:
    levels = []
    for item in card.cross.robustness:
        for name in ("spearman", "jaccard"):
            random = item[f"{name}_at_random"]
            figure = words.figure(item[name], lambda value: f"{value:.2f}")
            levels.append(Level(figure, "" if random is None or figure.reason else f"{random:.2f}"))
    return RobustRow(words.visible(card.model), card.page, words.visible(card.family), tuple(levels))


def _over_sets(cards: Sequence[Card]) -> Iterator[SetRow]:
    """Models with runs on several sets by one protocol, the same weights in each."""
    found: dict[str, list[Card]] = {}
    for card in cards:
        key = json.dumps([card.model, card.revision, card.protocol, card.cross.grid], sort_keys=True)
        found.setdefault(key, []).append(card)
    for members in sorted(found.values(), key=lambda members: (members[0].model.casefold(), members[0].key)):
        by_set = {card.manifest_sha256: card for card in sorted(members, key=lambda card: card.key)}
        runs = [(card, rows) for card in by_set.values() if (rows := card.cross.rows()) is not None]
        if len(runs) > 1:
            ranks, overlap = agreement(np.stack([rows for _, rows in runs]), "sets")
            yield SetRow(
                label=words.visible(runs[0][0].model),
                page=runs[0][0].page,
                sets=tuple(sorted(words.visible(card.set_name) for card, _ in runs)),
                ranks=words.figure(ranks.to_json(), lambda value: f"{value:.2f}"),
                overlap=words.figure(overlap.to_json(), lambda value: f"{value:.2f}"),
            )
