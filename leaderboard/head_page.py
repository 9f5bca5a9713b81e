"""The page of a run's heads: for each head that matters, in which samples it copies, and what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from rh_bench.display import formatting as words
from rh_bench.display.formatting import Figure
from rh_bench.display.palette import LEVELS
from rh_bench.leaderboard.activity import Activity, SampleRow
from rh_bench.leaderboard.collect import Entry, Head
from rh_bench.leaderboard.heat import anchor
from rh_bench.leaderboard.token_markup import Strip, first_pieces, marked, shortened, shown, strip
from rh_bench.records import IntArray, Json
from rh_bench.stats.bootstrap import FloatArray
from rh_bench.stats.ranks import strongest_first

LEAST, MOST = 20, 64
"""Heads shown: those above the threshold, but at least and at most this many of those that score."""
EXAMPLES = 3
MOST_SQUARES, MOST_SAMPLES = 4_000, 20_000
"""Beyond which a run has no page of heads: whoever submits a run chooses its lengths and depths."""
_LONGEST_TEXT, _LONGEST_NAME = 600, 80
_MOST_BOXES = 100
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Example:
    """The sample of one needle in which a head copies most."""

    needle: str
    where: str
    copied: str
    """As in "7 of 9 tokens"."""
    answer: Markup
    text: Markup
    strip: Strip | None
    """Which tokens by number, for a run that does not say what its tokens spell."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One head."""

    anchor: str
    name: str
    short: str
    """layer.head"""
    score: Figure
    rank: str
    active: str
    facts: tuple[str, ...]
    spots: Markup
    """The squares of the grid of depths × lengths that are not at zero, as paths, one a level."""
    spots_label: str
    codes: str
    """What the head copied in each sample, `HeadPage.digits` digits of base 36 a sample; hyphens: it does not count."""
    examples: tuple[Example, ...]
    silent: str


@dataclass(frozen=True, slots=True)
class HeadPage:
    page: str
    back: str
    """The run's page, relative to this one."""
    model: str
    not_ranked: str
    """Why the run is not ranked, if it is not."""
    panels: tuple[Panel, ...]
    chosen: str
    """Which heads are here, in words."""
    lengths: tuple[str, ...]
    depths: tuple[str, ...]
    squares: Markup
    """What is behind the squares of every head's grid: those in which samples count, and those in which none does."""
    samples: str
    """For the script: needle, length, depth by place and span of each sample, as in "0,2,1,7;…"."""
    needles_json: str
    """Names of the needles by place, as a JSON list."""
    digits: int
    counted: int
    pieces: bool
    """Whether the run says what its tokens spell."""


def chosen_heads(heads: Sequence[Head], threshold: float) -> list[Head]:
    """The heads that get a panel, by rank, then layer and head."""
    scoring = sorted(
        (head for head in heads if head.score), key=lambda head: (-(head.score or 0), head.layer, head.head)
    )
    above = sum((head.score or 0) > threshold for head in scoring)
    return scoring[: min(max(above, LEAST), MOST)]


def head_page(entry: Entry, activity: Activity, page: str, back: str) -> HeadPage | None:
    """What the page shows; None if no head scores, or where the grid of the samples is too large to draw.

    Args:
        page: path of the page below the site's root.
        back: the run's page, relative to this one.
    """
    threshold = entry.run["protocol"]["head_threshold"]
    chosen = chosen_heads(entry.heads, threshold)
    if not chosen:
        return None
    grid = _Grid.of(activity)
    if len(grid.lengths) * len(grid.depths) > MOST_SQUARES or len(activity.samples) > MOST_SAMPLES:
        return None
    places = {head: place for place, head in enumerate(activity.heads)}
    columns = [places[head.layer, head.head] for head in chosen]
    shares = activity.shares[:, columns]
    means = grid.means(shares)
    spots, labels = grid.spots(means), grid.labels(means)
    digits = _digits(max(sample.span for sample in activity.samples))
    codes = _codes(activity, columns, digits)
    above = sum((head.score or 0) > threshold for head in entry.heads)
    return HeadPage(
        page=page,
        back=back,
        model=words.visible(entry.run["model"]["id"]),
        not_ranked=words.visible(entry.coverage.note),
        panels=tuple(
            Panel(
                anchor=anchor(head.layer, head.head),
                name=f"Layer {head.layer}, head {head.head}",
                short=f"{head.layer}.{head.head}",
                score=head_figure(head, len(shares)),
                rank=rank_text(head),
                active=words.percent(head.activation_frequency or 0.0),
                facts=_facts(entry.run["model"]["layers"][head.layer], head.head),
                spots=spots[number],
                spots_label=labels[number],
                codes=codes[number],
                examples=tuple(_examples(activity, grid, shares[:, number], columns[number])),
                silent=_silent(grid, shares[:, number]),
            )
            for number, head in enumerate(chosen)
        ),
        chosen=_in_words(len(chosen), above, threshold),
        lengths=tuple(words.thousands(length) for length in grid.lengths),
        depths=tuple(words.depth(depth) for depth in grid.depths),
        squares=grid.squares(),
        samples=grid.listed(activity.samples),
        needles_json=json.dumps([_needle(needle) for needle in grid.needles], ensure_ascii=False),
        digits=digits,
        counted=len(shares),
        pieces=activity.spelling is not None,
    )


def head_figure(head: Head, n: int) -> Figure:
    """A head's score with its interval."""
    reason = "no sample counted" if head.score is None else None
    estimate = {"value": head.score, "low": head.score_low, "high": head.score_high, "n": n, "reason": reason}
    return words.figure(estimate, words.score)


def rank_text(head: Head) -> str:
    """As in "3 (2–5)"."""
    if head.rank is None:
        return words.MISSING
    if head.rank_low is None or head.rank_high is None:
        return str(head.rank)
    return f"{head.rank} ({head.rank_low}–{head.rank_high})"


def _in_words(shown: int, above: int, threshold: float) -> str:
    heads = "head" if shown == 1 else "heads"
    if above > shown:
        return f"The {shown} strongest of the {above} heads above {threshold:g}, strongest first."
    if above == shown:
        return f"The {shown} {heads} above {threshold:g}, strongest first."
    scoring = "head that scores" if shown == 1 else "heads that score"
    return f"The {shown} strongest {scoring} at all, strongest first; {above or 'none'} above {threshold:g}."


def _facts(layer: Json, head: int) -> tuple[str, ...]:
    """What the architecture says of a head."""
    near = "chunks" if layer["kind"] == "chunked" else "sliding window"
    facts = [f"{near} of {layer['window']:,} tokens" if layer["window"] else "full attention"]
    queries, keys = layer["query_heads"], layer["kv_heads"]
    if keys and queries % keys == 0 and queries > keys:
        size = queries // keys
        first = head // size * size
        facts.append(f"key/value head {head // size}, shared by query heads {first}–{first + size - 1}")
    return tuple(facts)


def _digits(largest: int) -> int:
    """Digits of base 36 that a number needs."""
    digits = 1
    while len(_DIGITS) ** digits <= largest:
        digits += 1
    return digits


def _codes(activity: Activity, columns: Sequence[int], digits: int) -> list[str]:
    """`Panel.codes` of the heads at `columns`."""
    alphabet = np.frombuffer(_DIGITS.encode(), dtype=np.uint8)
    copied = activity.copied[:, columns].T.astype(np.int64)
    powers = len(_DIGITS) ** np.arange(digits - 1, -1, -1)
    spelt = alphabet[copied[:, :, None] // powers % len(_DIGITS)]
    spelt[:, ~activity.counted] = ord("-")
    return [row.tobytes().decode("ascii") for row in spelt]


@dataclass(frozen=True, eq=False)
class _Grid:
    """The grid of depths (rows) × lengths (columns), and where the counted samples lie in it."""

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    needles: tuple[str, ...]
    known: frozenset[int]
    """Cells that have a sample, counted or not."""
    counted: tuple[SampleRow, ...] = field(repr=False)
    places: tuple[int, ...] = field(repr=False)
    """Place of each counted sample among all."""
    cells: IntArray = field(repr=False)
    """int32 [counted samples]: the cell of each, row by row."""

    @classmethod
    def of(cls, activity: Activity) -> _Grid:
        samples = activity.samples
        lengths = tuple(sorted({sample.length for sample in samples}))
        depths = tuple(sorted({sample.depth for sample in samples}))
        column = {length: place for place, length in enumerate(lengths)}
        row = {depth: place for place, depth in enumerate(depths)}
        cells = [row[sample.depth] * len(lengths) + column[sample.length] for sample in samples]
        places = tuple(place for place, sample in enumerate(samples) if sample.success)
        return cls(
            lengths=lengths,
            depths=depths,
            needles=tuple(sorted({sample.needle_id for sample in samples})),
            known=frozenset(cells),
            counted=tuple(samples[place] for place in places),
            places=places,
            cells=np.array([cells[place] for place in places], dtype=np.int32),
        )

    def means(self, shares: FloatArray) -> FloatArray:
        """float64 [counted samples, P] to float64 [cells, P]; NaN where no sample counts."""
        means = np.full((len(self.lengths) * len(self.depths), shares.shape[1]), np.nan)
        order = np.argsort(self.cells, kind="stable")
        found, first, counts = np.unique(self.cells[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(shares[order], first, axis=0)
        means[found] = np.round(sums / counts[:, None], 9)
        return means

    def spots(self, means: FloatArray) -> list[Markup]:
        """Paths of the squares above zero, one a colour, for each head of float64 [cells, P]."""
        levels = np.ceil(np.nan_to_num(means.T) * LEVELS).astype(np.int64)
        return [Markup("".join(self._paths(head))) for head in levels]

    def _paths(self, levels: npt.NDArray[np.int64]) -> Iterator[str]:
        order = np.argsort(levels, kind="stable")
        for level, cells in groupby(order[np.count_nonzero(levels == 0) :].tolist(), key=levels.tolist().__getitem__):
            yield self._path(f"v{level}", cells)

    def squares(self) -> Markup:
        """Paths of the squares behind: where samples count, and where there are some and none counts."""
        counted = set(self.cells.tolist())
        empty = sorted(self.known - counted)
        return Markup(self._path("v0", sorted(counted)) + (self._path("none", empty) if empty else ""))

    def _path(self, name: str, cells: Iterable[int]) -> str:
        """A short line a cell, which the style sheet makes as thick as a row."""
        return f'<path class="{name}" d="{"".join(map(self._marks.__getitem__, cells))}"/>'

    @cached_property
    def _marks(self) -> list[str]:
        return [f"M{column} {row}h.92" for row in range(len(self.depths)) for column in range(len(self.lengths))]

    def labels(self, means: FloatArray) -> list[str]:
        """The grid of each head in words: the means of its rows and of its columns."""
        table = np.nan_to_num(means).T.reshape(-1, len(self.depths), len(self.lengths))
        known = ~np.isnan(means[:, 0]).reshape(table.shape[1:])
        depths = [words.depth(depth) for depth in self.depths]
        lengths = [str(length) for length in self.lengths]
        rows = _means(table.sum(axis=2), known.sum(axis=1))
        columns = _means(table.sum(axis=1), known.sum(axis=0))
        return [
            f"Mean share of the answer copied. By depth: {_pairs(depths, row)}. By length: {_pairs(lengths, column)}."
            for row, column in zip(rows, columns, strict=True)
        ]

    def listed(self, samples: Sequence[SampleRow]) -> str:
        """`HeadPage.samples`."""
        needle = {name: place for place, name in enumerate(self.needles)}
        column = {length: place for place, length in enumerate(self.lengths)}
        row = {depth: place for place, depth in enumerate(self.depths)}
        return ";".join(f"{needle[s.needle_id]},{column[s.length]},{row[s.depth]},{s.span}" for s in samples)


def _means(sums: FloatArray, counts: npt.NDArray[np.int64]) -> list[list[str]]:
    """Of float64 [P, rows] and int64 [rows]; a dash where nothing is counted."""
    means = sums / np.maximum(counts, 1)
    return [
        [f"{mean:.2f}" if count else words.MISSING for mean, count in zip(row, counts.tolist(), strict=True)]
        for row in means.tolist()
    ]


def _pairs(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _examples(activity: Activity, grid: _Grid, shares: FloatArray, head: int) -> Iterator[Example]:
    """The sample in which a head copies most, for each of the needles of which it copies most; the first of equals."""
    best: dict[str, int] = {}
    for place in strongest_first(shares).tolist():
        if shares[place] == 0 or len(best) == EXAMPLES:
            break
        best.setdefault(grid.counted[place].needle_id, place)
    for place in best.values():
        yield _example(activity, grid.counted[place], grid.places[place], head)


def _example(activity: Activity, sample: SampleRow, place: int, head: int) -> Example:
    events = activity.of(place, head)
    steps, offsets = set(events[:, 0].tolist()), set(events[:, 1].tolist())
    pieces = activity.pieces_of(place)
    if pieces is None:
        answer, text = (escape(shortened(shown(part), _LONGEST_TEXT)) for part in (sample.answer, sample.text))
    else:
        answer = marked(first_pieces(pieces.span, _LONGEST_TEXT), offsets)
        text = marked(first_pieces(pieces.generated, _LONGEST_TEXT), steps)
    return Example(
        needle=_needle(sample.needle_id),
        where=_cell(sample),
        copied=f"{len(offsets)} of {sample.span} {'token' if sample.span == 1 else 'tokens'}",
        answer=answer,
        text=text,
        strip=strip(sample.span, offsets, _MOST_BOXES) if pieces is None else None,
    )


def _where(sample: SampleRow) -> str:
    return f"{_needle(sample.needle_id)} at {_cell(sample)}"


def _needle(name: str) -> str:
    return shortened(words.visible(name), _LONGEST_NAME)


def _cell(sample: SampleRow) -> str:
    return f"{sample.length:,} tokens, depth {words.depth(sample.depth)}"


def _silent(grid: _Grid, shares: FloatArray, most: int = 2) -> str:
    """In how many counted samples a head copies nothing, and the first few of them."""
    silent = np.flatnonzero(shares == 0).tolist()
    if not silent:
        return "It copies in every counted sample."
    listed = "; ".join(_where(grid.counted[place]) for place in silent[:most])
    more = f"; and {len(silent) - most} more" if len(silent) > most else ""
    return f"Silent in {len(silent)} of {len(shares)} counted samples: {listed}{more}."
