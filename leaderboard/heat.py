"""The heat map of layers × heads, and the numbers that its script shows.

A map has thousands of cells, so they are put together here as text, without the template engine, and what a cell holds
beyond its colour and two digits lies in one compact list a column of heads.parquet rather than in every cell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from rh_bench.display import formatting as words
from rh_bench.display.palette import score_level
from rh_bench.interchange.records import HeadList
from rh_bench.leaderboard.collect import Head
from rh_bench.records import SCORED_KINDS, Json
from rh_bench.stats.bootstrap import NANO


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A table of one row per layer and one column per query head."""

    body: Markup
    """The rows of the table. Layers without softmax attention stay in view, named, without cells."""
    columns: int
    size: str
    """"large", "medium" or "small": how much room a cell gets, by the number of columns."""
    heads: int
    above: int
    """Heads above the threshold."""
    threshold: float
    scored: bool
    """Whether there is a threshold, and any head has a score, so that it can be moved."""
    numbers: Mapping[str, str]
    """Comma-separated numbers for the script, one list per measure, each with an entry per cell in the order of the
    cells, empty if there is none: `exact` in billionths, `score`, `low` and `high` in thousandths as printed, `rank`,
    `rank-low` and `rank-high`, `active` in tenths of a percent as printed; or `value` as a foreign file gives it."""
    word: str = "Score"
    """What the numbers are."""
    verb: str = "score above"
    sliding: bool = False
    """Whether a layer has a sliding window, which a circle beside it marks."""
    missing: str = "No score: no sample counted"
    """What a cell without a number says."""

    @property
    def above_share(self) -> str:
        return words.percent(self.above / self.heads) if self.heads else words.MISSING


def heat_map(
    layers: Sequence[Json], heads: Sequence[Head], threshold: float, *, linked: Collection[tuple[int, int]], page: str
) -> HeatMap:
    """
    Args:
        layers: `model.layers` of a run.json.
        heads: of every scored layer, sorted by layer and head.
        linked: heads that have a place of their own, which their cells lead to.
        page: that page, relative to the map's.
    """
    by_place = {(head.layer, head.head): head for head in heads}
    columns = max((head.head for head in heads), default=-1) + 1
    rows = []
    for layer in layers:
        index, wide = layer["index"], layer["query_heads"] if layer["kind"] in SCORED_KINDS else 0
        own = [by_place[index, head] for head in range(wide)]
        links = {head.head: f"{page}#{anchor(index, head.head)}" for head in own if (index, head.head) in linked}
        cells = "".join(_cell(head.score, threshold, links.get(head.head)) for head in own)
        rows.append(_row(index, cells, columns - wide, layer["window"], layer["kind"]))
    scores = [head.score for head in heads if head.score is not None]
    return HeatMap(
        body=Markup("\n".join(rows)),
        columns=columns,
        size=size_of(columns),
        heads=len(heads),
        above=sum(score > threshold for score in scores),
        threshold=threshold,
        scored=bool(scores),
        numbers=numbers(heads),
        sliding=any(layer["window"] for layer in layers),
    )


def anchor(layer: int, head: int) -> str:
    """Name of a head's place on the page of heads."""
    return f"h{layer}-{head}"


def size_of(columns: int) -> str:
    return "large" if columns <= 16 else "medium" if columns <= 40 else "small"


def list_map(heads: HeadList, threshold: float | None, word: str) -> HeatMap | None:
    """The map of a foreign list; None if the file does not say how large the model is, so that it has no shape.

    Args:
        threshold: above which a head is marked; None for numbers without one.
        word: what a number is called.
    """
    if heads.layers is None or heads.heads_per_layer is None:
        return None
    values = dict(zip(heads.heads, heads.values or (1.0,) * len(heads.heads), strict=True))
    grid = [(layer, head) for layer in range(heads.layers) for head in range(heads.heads_per_layer)]
    known = [values.get(place) for place in grid]
    # Rounded as all scores are, so that the page and its script agree on what lies above a threshold.
    known = [None if value is None or math.isnan(value) else round(value, 9) for value in known]
    wide = heads.heads_per_layer
    limit = math.inf if threshold is None else threshold
    rows = []
    for layer in range(heads.layers):
        own = known[layer * wide : (layer + 1) * wide]
        rows.append(_row(layer, "".join(_cell(value, limit, None) for value in own), 0, None, ""))
    lists = {
        "exact": ["" if value is None else str(round(value * NANO)) for value in known],
        "value": ["" if value is None else f"{value:.4g}" for value in known],
    }
    return HeatMap(
        body=Markup("\n".join(rows)),
        columns=wide,
        size=size_of(wide),
        heads=len(grid),
        above=sum(value is not None and value > limit for value in known),
        threshold=limit,
        scored=threshold is not None and any(value is not None for value in known),
        numbers={name: ",".join(column) for name, column in lists.items()},
        word=word,
        verb="score above" if heads.measure == "score" else f"have a {word.lower()} above",
        missing="No number in the file",
    )


def _row(index: int, cells: str, padding: int, window: int | None, kind: str) -> str:
    """
    Args:
        cells: of the layer; none for a layer without heads.
        padding: columns that other layers have and this one has not.
    """
    title = f' title="Sliding window of {window} tokens"' if window else ""
    sliding = '<span class="hide"> sliding window</span><i class="sliding" aria-hidden="true"></i>' if window else ""
    name = f'<span class="hide">Layer </span>{index}{sliding}'
    head = f'<tr><th scope="row" data-layer="{index}"{title}>{name}</th>'
    if not cells:
        text = escape(words.visible(kind))
        span = max(padding, 1)
        return (
            f'{head}<td class="unscored" colspan="{span}">{text}<span class="hide">: no heads to score</span></td></tr>'
        )
    return head + cells + '<td class="absent"></td>' * padding + "</tr>"


def _cell(score: float | None, threshold: float, link: str | None) -> str:
    level = score_level(score)
    if score is None or level is None:
        return "<td class=none><span>?</span></td>"
    # Too near zero for two digits to say anything.
    quiet = " quiet" if score < 0.005 else ""
    above = " above" if score > threshold else ""
    text = f"<span>{f'{score:.2f}'.removeprefix('0') if level else '0'}</span>"
    if link:
        text = f'<a href="{link}">{text}</a>'
    return f'<td class="v{level}{above}{quiet}">{text}</td>'


def numbers(heads: Sequence[Head]) -> dict[str, str]:
    """See `HeatMap.numbers`."""
    columns = {
        "exact": ["" if head.score is None else str(round(head.score * NANO)) for head in heads],
        "score": [_milli(head.score) for head in heads],
        "low": [_milli(head.score_low) for head in heads],
        "high": [_milli(head.score_high) for head in heads],
        "rank": [_whole(head.rank) for head in heads],
        "rank-low": [_whole(head.rank_low) for head in heads],
        "rank-high": [_whole(head.rank_high) for head in heads],
        "active": ["" if share is None else _tenths(share) for share in (head.activation_frequency for head in heads)],
    }
    return {name: ",".join(column) for name, column in columns.items()}


def _whole(number: int | None) -> str:
    return "" if number is None else str(number)


def _milli(value: float | None) -> str:
    """In thousandths, rounded as `words.score` rounds. Most heads score zero, so that comes first."""
    if not value:
        return "" if value is None else "0"
    return str(round(float(f"{value:.3f}") * 1000))


def _tenths(share: float) -> str:
    """In tenths of a percent, rounded as `words.percent` rounds."""
    return str(round(float(f"{share * 100:.1f}") * 10)) if share else "0"
