"""compare.html: two to six models side by side, chosen in the address, and how two with the same heads differ.

Each run leaves its head scores in a small script beside its page, which registers data and does nothing else; the page
loads those of the runs chosen. A page opened from a file can load a script but not fetch a document.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rh_bench.display import formatting as words
from rh_bench.display.formatting import Figure
from rh_bench.display.palette import difference_class, score_level
from rh_bench.leaderboard.badges import badge_of
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.collect import Entry
from rh_bench.leaderboard.definitions import COMPARISON, Definition
from rh_bench.leaderboard.open_run import OpenRun
from rh_bench.leaderboard.render import Document, Frame, Site
from rh_bench.leaderboard.universality_charts import Curves, Line, curves, line_path
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Json
from rh_bench.stats.bootstrap import NANO, NanoArray
from rh_bench.stats.distribution import above
from rh_bench.stats.ranks import strongest_first
from rh_bench.stats.similarity import Measure, expected_jaccard, jaccard, pairs, pearson, spearman, top_overlap

MOST = 6
TOP_K = 10
CHANGES = 8
"""Heads in the list of those that differ most."""
CELL = 10
"""Units of a cell of a map."""
MARGIN = 24
"""Units beside a map, for the numbers of layers."""


@dataclass(frozen=True, slots=True)
class MapCell:
    x: float
    y: float
    level: str
    """A class of the sheet."""


@dataclass(frozen=True, slots=True)
class HeadMap:
    """Layers × heads; cells at zero are left to the background."""

    width: int
    height: int
    background: tuple[tuple[int, int], ...]
    """y and width of the rows that have heads."""
    cells: tuple[MapCell, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One model of the comparison."""

    label: str
    page: str
    colour: str
    figures: tuple[Figure, ...]
    map: HeadMap | None


@dataclass(frozen=True, slots=True)
class Similarity:
    """Two models with the same heads, by every measure, as texts."""

    first: str
    second: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A head and how its score differs, later minus earlier."""

    head: str
    base: str
    variant: str
    difference: str


@dataclass(frozen=True, slots=True)
class Difference:
    base: str
    variant: str
    map: HeadMap
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    choices: str
    """Every run that can be chosen: lines of key, model, family, set, group, share and shape, parted by tabs."""
    keys: str
    sides: tuple[Side, ...]
    labels: tuple[str, ...]
    differs: tuple[str, ...]
    curves: Curves | None
    similarity: tuple[Similarity, ...]
    difference: Difference | None
    threshold: str
    definitions: tuple[Definition, ...]
    runs: int


def run_documents(run: OpenRun, frame: Frame) -> Iterator[Document]:
    """The script with a run's head scores, for the pages that compare them."""
    yield data_path(run.brief), script(run_data(run.entry, run.brief))


def data_path(brief: RunBrief) -> str:
    return brief.page.removesuffix(".html") + ".heads.js"


def script(data: Json) -> str:
    """A script that hands over data: JSON in ASCII, in which `<` is escaped, as the argument of one call."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return f"rhRun({text.replace('<', chr(92) + 'u003c')});\n"


def run_data(entry: Entry, brief: RunBrief) -> Json:
    """What the script of the page needs of one run. Scores and their ends are nano units."""

    def nano(values: Sequence[float | None]) -> list[int] | None:
        return None if None in values else [round(value * NANO) for value in values if value is not None]

    kinds = {str(layer["index"]): words.visible(layer["kind"]) for layer in entry.run["model"]["layers"]}
    scored = {layer for layer, _ in brief.cross.layers}
    return {
        "key": brief.key,
        "model": words.visible(brief.model),
        "run": brief.run_id[:8],
        "bases": [words.visible(name) for name in brief.bases],
        "page": brief.page,
        "group": brief.group,
        "set": words.visible(brief.set_name),
        "facts": list(brief.facts),
        "threshold": round(brief.threshold * NANO),
        "grid": brief.cross.grid,
        "layers": [list(layer) for layer in brief.cross.layers],
        "depth": brief.cross.depth,
        "unscored": {index: kind for index, kind in kinds.items() if int(index) not in scored},
        "scores": nano([head.score for head in entry.heads]),
        "low": nano([head.score_low for head in entry.heads]),
        "high": nano([head.score_high for head in entry.heads]),
        "figures": [[figure.text, figure.interval, figure.reason] for _, figure in key_figures(brief)],
    }


def documents(site: Site) -> Iterator[Document]:
    """compare.html."""
    yield "compare.html", site.frame.render("compare.html", "compare.html", view=comparison(site.briefs))


def comparison(briefs: Sequence[RunBrief]) -> Comparison:
    """Everything the template needs: all runs to choose from, and two of them laid out for readers without script."""
    chosen = first_two(briefs)
    return Comparison(
        choices="\n".join("\t".join(_choice(brief)) for brief in briefs),
        keys=",".join(brief.key for brief in chosen),
        sides=tuple(
            Side(
                name,
                brief.page,
                f"f{place}",
                tuple(figure for _, figure in key_figures(brief)),
                _score_map(brief),
            )
            for place, (brief, name) in enumerate(zip(chosen, names(chosen), strict=True))
        ),
        labels=tuple(label for label, _ in key_figures(chosen[0])) if chosen else (),
        differs=differing(chosen),
        curves=_curves(chosen),
        similarity=tuple(_similarities(chosen)),
        difference=_difference(chosen),
        threshold=f"{chosen[0].threshold if chosen else HEAD_THRESHOLD:g}",
        definitions=COMPARISON,
        runs=len(briefs),
    )


def first_two(briefs: Sequence[RunBrief]) -> list[RunBrief]:
    """The first runs of a base model and of one derived from it that may be compared and have the same heads; else of
    any two models with the same heads, else of any two that may be compared, else the first runs."""
    scored = {
        (brief.group, brief.cross.grid, brief.model): brief
        for brief in reversed(briefs)
        if brief.cross.rows() is not None
    }
    for brief in briefs:
        for base in brief.bases:
            pair = [scored.get((brief.group, brief.cross.grid, name)) for name in (base, brief.model)]
            if pair[0] is not None and pair[1] is not None and base != brief.model:
                return [pair[0], pair[1]]

    def found(key: str) -> list[RunBrief] | None:
        seen: dict[tuple[str, ...], RunBrief] = {}
        for brief in briefs:
            own = (brief.group,) if key == "group" else (brief.group, brief.cross.grid)
            if brief.cross.rows() is None:
                continue
            if own in seen and seen[own].model != brief.model:
                return [seen[own], brief]
            seen.setdefault(own, brief)
        return None

    return found("grid") or found("group") or list(briefs[:2])


def _choice(brief: RunBrief) -> tuple[str, ...]:
    share = words.figure(brief.share, words.percent)
    texts = (brief.key, brief.model, brief.family, brief.set_name, brief.group, share.text, brief.shape)
    return tuple(words.visible(text) for text in texts)


def key_figures(brief: RunBrief) -> list[tuple[str, Figure]]:
    """The numbers of a run with their labels, in the order of the table."""

    def plain(text: str) -> Figure:
        return Figure(text, "", "", 0, "")

    always = (
        Figure(words.MISSING, "", brief.always_on_reason, 0, "")
        if brief.always_on is None
        else plain(f"{brief.always_on}")
    )
    return [
        (f"Share above {brief.threshold:g}", words.figure(brief.share, words.percent)),
        ("Share above 0.5", words.figure(brief.half, words.percent)),
        ("Share at zero", words.figure(brief.zero, words.percent)),
        ("Gini coefficient", words.figure(brief.gini, words.score)),
        ("Effective heads", words.figure(brief.effective, words.count)),
        ("Always on", always),
        ("NIAH success", words.figure(brief.success, words.percent)),
        ("Stability by needle", _without_interval(words.figure(brief.stability, words.score))),
        ("Samples that count", plain(f"{brief.counted:,} of {brief.samples:,}")),
        ("Measured on", plain(brief.coverage.mark)),
        ("Layers × heads", plain(brief.shape)),
        ("Parameters", plain(words.parameters(brief.parameters))),
        ("Set", plain(words.visible(brief.set_name))),
        ("Verified", plain(badge_of(brief.badge).name)),
    ]


def _without_interval(figure: Figure) -> Figure:
    """A value that has no interval by its nature carries no reason for that."""
    return figure if not figure.sort_key else Figure(figure.text, "", "", figure.n, figure.sort_key)


def names(briefs: Sequence[RunBrief]) -> list[str]:
    """What the runs are called beside one another: the model, with the set where that occurs twice, and with the run
    where both do."""
    models, sets = Counter(brief.model for brief in briefs), Counter((brief.model, brief.set_name) for brief in briefs)
    found = []
    for brief in briefs:
        parts = [brief.model]
        if models[brief.model] > 1:
            parts.append(brief.set_name)
        if sets[brief.model, brief.set_name] > 1:
            parts.append(brief.run_id[:8])
        found.append(words.visible(" · ".join(parts)))
    return found


def differing(briefs: Sequence[RunBrief]) -> tuple[str, ...]:
    """For runs that must not be ranked together, what tells each from the others; nothing if all may be compared."""
    if len({brief.group for brief in briefs}) < 2:
        return ()
    shared = set.intersection(*(set(brief.facts) for brief in briefs))
    return tuple(
        f"{name}: {', '.join(fact for fact in brief.facts if fact not in shared) or 'the same otherwise'}"
        for brief, name in zip(briefs, names(briefs), strict=True)
    )


def _curves(briefs: Sequence[RunBrief]) -> Curves | None:
    lines = [
        Line(name, brief.page, words.visible(brief.family), f"f{place}", line_path(rows), "")
        for place, (brief, name) in enumerate(zip(briefs, names(briefs), strict=True))
        if (rows := brief.cross.rows()) is not None
    ]
    return curves(lines, briefs[0].threshold) if lines else None


# Maps


def _score_map(brief: RunBrief) -> HeadMap | None:
    rows = brief.cross.rows()
    if rows is None:
        return None
    return _map(brief, ["" if not score else f"v{score_level(int(score) / NANO)}" for score in rows.tolist()])


def _map(brief: RunBrief, levels: Sequence[str]) -> HeadMap:
    """A cell for each head that has a level, one row per layer of the model, scored or not."""
    cells, place = [], 0
    widest = max((heads for _, heads in brief.cross.layers), default=1)
    for layer, heads in brief.cross.layers:
        for head, level in enumerate(levels[place : place + heads]):
            if level:
                cells.append(MapCell(MARGIN + head * CELL, layer * CELL, level))
        place += heads
    every = next(step for step in (1, 2, 4, 5, 10, 20, 50, 100) if brief.cross.depth / step <= 12 or step == 100)
    return HeadMap(
        width=MARGIN + widest * CELL,
        height=max(brief.cross.depth, 1) * CELL,
        background=tuple((layer * CELL, heads * CELL) for layer, heads in brief.cross.layers),
        cells=tuple(cells),
        ticks=tuple((layer * CELL + CELL * 0.8, str(layer)) for layer in range(0, brief.cross.depth, every)),
    )


# Two models with the same heads


def _measures(threshold: float) -> tuple[Measure, ...]:
    return pearson(), spearman(), jaccard(threshold), top_overlap(TOP_K)


def _similarities(briefs: Sequence[RunBrief]) -> Iterator[Similarity]:
    for (first, one), (second, other) in combinations(zip(briefs, names(briefs), strict=True), 2):
        x, y = first.cross.rows(), second.cross.rows()
        if x is not None and y is not None and len(x) > 1 and first.cross.grid == second.cross.grid:
            texts = similarity_texts(x, y, first.threshold)
            yield Similarity(one, other, texts)


def similarity_texts(x: NanoArray, y: NanoArray, threshold: float) -> tuple[str, ...]:
    """Every measure of two models, then what chance would give for each of the two overlaps."""
    found = [float(pairs(measure, x[None], y[None])[0]) for measure in _measures(threshold)]
    sizes = [int(above(rows, threshold).sum()) for rows in (x, y)]
    chance = expected_jaccard(sizes[0], sizes[1], len(x))
    texts = [words.MISSING if math.isnan(value) else f"{value:.3f}" for value in found]
    return (*texts, words.MISSING if chance is None else f"{chance:.3f}", f"{TOP_K / len(x):.3f}")


def _difference(briefs: Sequence[RunBrief]) -> Difference | None:
    """Of a model and its base, else of the first two with the same heads: the second less the first."""
    told = list(zip(briefs, names(briefs), strict=True))
    derived = [(base, other) for other in told for base in told if base[0].model in other[0].bases]
    for (base, one), (variant, other) in [*derived, *combinations(told, 2)]:
        x, y = base.cross.rows(), variant.cross.rows()
        if x is not None and y is not None and base.cross.grid == variant.cross.grid:
            apart = y - x
            return Difference(
                one,
                other,
                _map(base, [difference_class(value / NANO) for value in apart.tolist()]),
                tuple(_changes(base, x, y)),
            )
    return None


def _changes(brief: RunBrief, x: NanoArray, y: NanoArray) -> Iterator[Change]:
    """The heads that differ most, of equal ones the first."""
    heads = [(layer, head) for layer, count in brief.cross.layers for head in range(count)]
    apart = y - x
    for place in strongest_first(np.abs(apart), CHANGES).tolist():
        if apart[place]:
            yield Change(
                f"({heads[place][0]}, {heads[place][1]})",
                f"{x[place] / NANO:.3f}",
                f"{y[place] / NANO:.3f}",
                f"{'+' if apart[place] > 0 else '−'}{abs(int(apart[place])) / NANO:.3f}",
            )
