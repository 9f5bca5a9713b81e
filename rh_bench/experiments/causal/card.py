"""What the site shows of a causal experiment: success over the number of heads removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from rh_bench.display import formatting as words
from rh_bench.display.axes import Tick
from rh_bench.display.formatting import inline, p_text, points
from rh_bench.experiments.showing import Showing, first_charts
from rh_bench.records import Json

_CONTROLS = {"uniform": "random heads", "matched": "random heads of the same layers"}
_PLANE = (560.0, 230.0)


def thin(document: Json) -> Json:
    """Success with the K strongest heads removed, and with as many random ones."""
    settings, results = document["settings"], document["results"]
    points = []
    for row in results["curve"]:
        controls = {name: control for name, control in row["controls"].items() if control is not None}
        points.append(
            {
                "k": row["k"],
                "top": row["top"]["success"],
                "failures": row["top"]["failures"],
                "controls": {name: control["success"] for name, control in controls.items()},
                "differences": {name: control["difference"]["success"] for name, control in controls.items()},
                "p_values": {name: control["p_needles"] for name, control in controls.items()},
            }
        )
    return {
        "samples": results["samples"],
        "needles": results["needles"],
        "retrieval_heads": results["retrieval_heads"],
        "how": settings["how"],
        "phase": settings["phase"],
        "baseline": results["baseline"]["success"],
        "points": points,
    }


@dataclass(frozen=True, slots=True)
class Band:
    """One line of the causal chart."""

    name: str
    colour: str
    line: str
    band: str
    dots: tuple[tuple[float, float, str], ...]
    """Where each point lies, and what it says."""


@dataclass(frozen=True, slots=True)
class CausalView:
    """Success over the number of heads removed, on a plane of `width` × `height`."""

    width: float
    height: float
    bands: tuple[Band, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    retrieval_x: float | None
    """Where as many heads are removed as there are retrieval heads."""
    retrieval_heads: int
    about: str
    rows: tuple[tuple[str, ...], ...]
    """K, without the strongest, without random ones and the difference, twice; and how answers fail without the
    strongest."""
    badge: str = ""
    """How far it is verified."""


def causal_view(chart: Json) -> CausalView:
    """The causal curve. K goes by steps of equal width, since it grows faster and faster."""
    width, height = _PLANE
    places = {k: i for i, k in enumerate([0, *(point["k"] for point in chart["points"])])}
    pitch = width / max(1, len(places) - 1)

    def x(k: int) -> float:
        return round(places[k] * pitch, 1)

    def y(share: float) -> float:
        return round(height * (1 - min(max(share, 0.0), 1.0)), 1)

    def band(name: str, colour: str, estimates: Mapping[int, Json]) -> Band:
        known = [(k, one) for k, one in estimates.items() if one["value"] is not None]
        ends = [(k, one) for k, one in known if one["low"] is not None]
        edge = [(x(k), y(one["high"])) for k, one in ends] + [(x(k), y(one["low"])) for k, one in reversed(ends)]
        dots = tuple(
            (x(k), y(one["value"]), f"{name}, {k} removed: {inline(words.figure(one, words.percent))}")
            for k, one in known
        )
        line = "M" + "L".join(f"{a:g} {b:g}" for a, b, _ in dots) if dots else ""
        return Band(name, colour, line, "M" + "L".join(f"{a:g} {b:g}" for a, b in edge) + "Z" if edge else "", dots)

    base = {0: chart["baseline"]}
    bands = [band("strongest heads", "top", base | {point["k"]: point["top"] for point in chart["points"]})]
    for control, name in _CONTROLS.items():
        own = {point["k"]: point["controls"][control] for point in chart["points"] if control in point["controls"]}
        if own:
            bands.append(band(name, control, base | own))
    return CausalView(
        badge=chart.get("badge") or "",
        width=width,
        height=height,
        bands=tuple(bands),
        x_ticks=tuple(Tick(x(k), str(k)) for k in places),
        y_ticks=tuple(Tick(y(share / 4), f"{share * 25}%") for share in range(5)),
        retrieval_x=_between(chart["retrieval_heads"], places, pitch),
        retrieval_heads=chart["retrieval_heads"],
        about=_causal_about(chart),
        rows=tuple(_causal_row(point) for point in chart["points"]),
    )


_HOW = {"mean": "at their mean", "span": "blind to the answer", "uniform": "blurred, as in the paper's code"}
_PHASE = {"prefill": "before the answer only", "decode": "while the answer is produced only"}


def _causal_about(chart: Json) -> str:
    """What was measured, and how heads were changed where that is not the rule (zero, everywhere)."""
    needles = "one needle" if chart["needles"] == 1 else f"{chart['needles']} needles"
    about = f"{chart['samples']} samples of {needles} that the detection never saw"
    special = [names[key] for names, key in ((_HOW, chart["how"]), (_PHASE, chart["phase"])) if key in names]
    return f"{about}; heads {', '.join(special)}" if special else about


def _between(count: int, places: Mapping[int, int], pitch: float) -> float | None:
    """Where `count` lies on an axis of unequal steps; None beyond its ends."""
    known = sorted(places)
    for low, high in pairwise(known):
        if low <= count <= high:
            return round((places[low] + (count - low) / (high - low)) * pitch, 1)
    return None


def _causal_row(point: Json) -> tuple[str, ...]:
    controls = []
    for control in _CONTROLS:
        if control in point["controls"]:
            difference = words.figure(point["differences"][control], points)
            controls += [
                inline(words.figure(point["controls"][control], words.percent)),
                f"{inline(difference)}, p {p_text(point['p_values'][control])}",
            ]
        else:
            controls += [words.MISSING, words.MISSING]
    failures = [f"{count} {kind.replace('_', ' ')}" for kind, count in point["failures"].items() if count]
    top = inline(words.figure(point["top"], words.percent))
    return (str(point["k"]), top, *controls, ", ".join(failures) or words.MISSING)


SHOWING = Showing(10, thin, causal_view, arrange=first_charts)
