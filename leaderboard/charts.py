"""Geometry of the charts: numbers in, coordinates out. The templates draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rh_bench.display.axes import Tick, axis_top, to_tenth
from rh_bench.leaderboard.collect import Head
from rh_bench.records import Json
from rh_bench.stats.ranks import strongest_first


@dataclass(frozen=True, slots=True)
class Curve:
    """Scores by rank: paths on a plane of `width` × `height`, y downwards, rank on a logarithmic axis."""

    width: float
    height: float
    top: float
    """Score at the top of the plane."""
    line: str
    band: str
    threshold_y: float
    threshold_x: float | None
    """Where the last head above the threshold lies; None if no head is above it."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def score_curve(heads: Sequence[Head], threshold: float, *, width: float = 520, height: float = 220) -> Curve | None:
    """The heads' scores, strongest first, with the band of their intervals; None if no head has a score."""
    scored = [head for head in heads if head.score is not None]
    if not scored:
        return None
    scored = [scored[place] for place in strongest_first([head.score or 0.0 for head in scored]).tolist()]
    ends = [end for head in scored for end in (head.score, head.score_high)]
    top = axis_top(ends, least=max(2 * threshold, 0.2))
    decades = max(math.log10(len(scored)), 0.3)

    def x(rank: int) -> float:
        return to_tenth(math.log10(rank) / decades * width)

    def y(value: float | None) -> float:
        return to_tenth(height - min(max(value or 0.0, 0.0) / top, 1.0) * height)

    ranks = _thinned(len(scored))
    line = [(x(rank), y(scored[rank - 1].score)) for rank in ranks]
    upper = [(x(rank), y(scored[rank - 1].score_high)) for rank in ranks]
    lower = [(x(rank), y(scored[rank - 1].score_low)) for rank in ranks]
    banded = all(head.score_low is not None and head.score_high is not None for head in scored)
    above = sum((head.score or 0.0) > threshold for head in scored)
    powers = range(math.floor(decades) + 1)
    return Curve(
        width=width,
        height=height,
        top=top,
        line=_path(line),
        band=_path(upper + lower[::-1]) + "Z" if banded else "",
        threshold_y=y(threshold),
        threshold_x=x(above) if above else None,
        x_ticks=tuple(Tick(x(10**power), f"{10**power:,}") for power in powers),
        y_ticks=_y_ticks(top, height),
    )


def _thinned(count: int, per_decade: int = 120) -> list[int]:
    """Ranks 1 to `count`, all of the first hundred and then as many as a logarithmic axis can show."""
    if count <= 100:
        return list(range(1, count + 1))
    decades = math.log10(count / 100)
    steps = max(int(decades * per_decade), 1)
    rest = {round(100 * 10 ** (decades * step / steps)) for step in range(steps + 1)}
    return sorted({*range(1, 101), *rest, count})


@dataclass(frozen=True, slots=True)
class Bar:
    """One layer of the profile. `height` is None for a layer without a score."""

    layer: int
    x: float
    width: float
    height: float | None
    retrieval_heads: int | None
    number: str
    """What stands on the bar: its retrieval heads, where there are some and bars are wide enough for a number."""
    label: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Mean score by layer, as bars on a plane of `width` × `height`."""

    width: float
    height: float
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def layer_profile(layers: Sequence[Json], *, width: float = 520, height: float = 220) -> Profile | None:
    """Bars of `summary.universality.layers`; None if no layer has a mean score."""
    means = [layer["mean_score"] for layer in layers]
    if all(mean is None for mean in means):
        return None
    top = axis_top(means, least=0.01)
    pitch = width / len(layers)
    gap = min(pitch * 0.25, 6.0)
    bars = tuple(
        Bar(
            layer=layer["layer"],
            x=to_tenth(index * pitch + gap / 2),
            width=to_tenth(pitch - gap),
            height=None if mean is None else to_tenth(mean / top * height),
            retrieval_heads=layer["retrieval_heads"],
            number=str(layer["retrieval_heads"]) if layer["retrieval_heads"] and pitch >= 12 else "",
            label=_bar_label(layer),
        )
        for index, (layer, mean) in enumerate(zip(layers, means, strict=True))
    )
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100) if len(layers) / step <= 12 or step == 100)
    return Profile(
        width=width,
        height=height,
        bars=bars,
        x_ticks=tuple(Tick(to_tenth(bar.x + bar.width / 2), str(bar.layer)) for bar in bars if bar.layer % every == 0),
        y_ticks=_y_ticks(top, height),
    )


def _bar_label(layer: Json) -> str:
    mean = layer["mean_score"]
    heads = f"{layer['retrieval_heads']} of {layer['heads']} heads above the threshold"
    return f"Layer {layer['layer']}: " + ("not scored" if mean is None else f"mean score {mean:.3f}, {heads}")


def _y_ticks(top: float, height: float) -> tuple[Tick, ...]:
    """Ticks at round values from 0 to `top`, which `axis_top` chose: fourths of 2, fifths of 1 and 5."""
    steps = 4 if f"{top:e}".startswith("2") else 5
    return tuple(Tick(to_tenth(height * (1 - step / steps)), f"{top * step / steps:.3g}") for step in range(steps + 1))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
