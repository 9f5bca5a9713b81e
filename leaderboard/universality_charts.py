"""Geometry of the charts of many models: curves over normalised rank, and where in the depth retrieval heads lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rh_bench.display.axes import Tick
from rh_bench.leaderboard.compared_heads import ComparedHeads
from rh_bench.stats.bootstrap import NANO, FloatArray, NanoArray
from rh_bench.stats.distribution import above

POINTS = 64
"""Of a curve, at most."""
LEAST_RANK = 0.001
"""Where the axis of normalised rank begins: the strongest of 1,000 heads."""
TENTHS = 10
WIDTH, HEIGHT = 760.0, 320.0


@dataclass(frozen=True, slots=True)
class Line:
    """One curve, and a band around it where it stands for many."""

    label: str
    page: str
    """Of the model; empty for a family."""
    family: str
    colour: str
    path: str
    band: str


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves on a plane of `width` × `height`, y downwards, normalised rank on a logarithmic axis."""

    width: float
    height: float
    lines: tuple[Line, ...]
    threshold_y: float
    sparse_x: float
    """Where 5% of the heads lie to the left."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One bar of the distribution over depth."""

    x: float
    y: float
    width: float
    height: float
    label: str


def curves(lines: Sequence[Line], threshold: float) -> Curves:
    """The plane that lines are drawn on."""
    ranks = ((0.001, "0.1%"), (0.01, "1%"), (0.1, "10%"), (1.0, "100%"))
    return Curves(
        width=WIDTH,
        height=HEIGHT,
        lines=tuple(lines),
        threshold_y=_y(threshold),
        sparse_x=_x(0.05),
        x_ticks=tuple(Tick(_x(share), label) for share, label in ranks),
        y_ticks=tuple(Tick(_y(step / 5), f"{step / 5:g}") for step in range(6)),
    )


def curve_points(rows: NanoArray) -> list[tuple[float, float]]:
    """(normalised rank, score) of at most `POINTS` heads, strongest first, evenly spaced on a logarithmic axis."""
    ordered, heads = np.sort(rows)[::-1], len(rows)
    steps = np.exp(np.linspace(0.0, math.log(heads), POINTS)) if heads > 1 else np.ones(1)
    ranks = sorted({min(max(round(float(step)), 1), heads) for step in steps})
    return [(rank / heads, int(ordered[rank - 1]) / NANO) for rank in ranks]


def line_path(rows: NanoArray) -> str:
    return _path([(_x(share), _y(score)) for share, score in curve_points(rows)])


def family_paths(models: Sequence[NanoArray]) -> tuple[str, str]:
    """Path of the median of several models' curves, and of the band between their quartiles."""
    shares = [LEAST_RANK ** (1 - step / (POINTS - 1)) for step in range(POINTS)]
    at = np.array([[_at(np.sort(rows)[::-1], share) for share in shares] for rows in models])
    low, middle, high = (_quantile(at, part) for part in (0.25, 0.5, 0.75))
    upper = [(_x(share), _y(score)) for share, score in zip(shares, high, strict=True)]
    lower = [(_x(share), _y(score)) for share, score in zip(shares, low, strict=True)]
    line = [(_x(share), _y(score)) for share, score in zip(shares, middle, strict=True)]
    return _path(line), _path(upper + lower[::-1]) + "Z"


def _at(ordered: NanoArray, share: float) -> float:
    """Score of the ⌈rH⌉-th strongest head."""
    place = min(max(math.ceil(share * len(ordered) - 1e-9), 1), len(ordered)) - 1
    return float(ordered[place] / NANO)


def _quantile(values: FloatArray, part: float) -> list[float]:
    """By nearest rank, so that each is some model's score; the median of an even number is the middle of two."""
    ordered = np.sort(values, axis=0)
    if part == 0.5 and len(ordered) % 2 == 0:
        return [float(x) for x in (ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2]
    place = max(math.ceil(part * len(ordered)) - 1, 0) if part < 1 else len(ordered) - 1
    return [float(x) for x in ordered[place]]


def depth_shares(heads: ComparedHeads, threshold: float) -> FloatArray | None:
    """Share of a model's retrieval heads in each tenth of its layers, float64 [10]; None if it has none."""
    rows = heads.rows()
    if rows is None:
        return None
    found = layers_of(heads)[above(rows, threshold)]
    if len(found) == 0:
        return None
    shares: FloatArray = np.bincount(found * TENTHS // max(heads.depth, 1), minlength=TENTHS) / len(found)
    return shares


def layers_of(heads: ComparedHeads) -> NanoArray:
    """The layer of each head, int64 [H]."""
    indices = np.array([layer for layer, _ in heads.layers], dtype=np.int64)
    return np.repeat(indices, [count for _, count in heads.layers])


def columns(shares: FloatArray, top: float, *, width: float = 200.0, height: float = 56.0) -> tuple[Column, ...]:
    """Bars of a distribution over depth, on a plane of `width` × `height`, where the top is a share of `top`."""
    pitch = width / len(shares)
    return tuple(
        Column(
            x=round(place * pitch + 1, 1),
            y=round(height - share / top * height, 1),
            width=round(pitch - 2, 1),
            height=round(share / top * height, 1),
            label=f"{place * 100 // len(shares)}–{(place + 1) * 100 // len(shares)}% of the depth: {share * 100:.0f}%",
        )
        for place, share in enumerate(shares.tolist())
        if share > 0
    )


def _x(share: float) -> float:
    decades = -math.log10(LEAST_RANK)
    return round((max(math.log10(share), -decades) / decades + 1) * WIDTH, 1)


def _y(score: float) -> float:
    return round(HEIGHT - min(max(score, 0.0), 1.0) * HEIGHT, 1)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
