"""What the site shows of a dynamic experiment: how often the strongest heads are active, and what it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rh_bench.display import formatting as words
from rh_bench.display.formatting import head_name, inline, p_text
from rh_bench.display.palette import rate_level
from rh_bench.experiments.dynamic.derive import LEVEL
from rh_bench.experiments.showing import Showing
from rh_bench.records import Json

MOST_STRIP = 24
"""Heads in the strip of a run."""
PART_NAMES = ("begin", "middle", "end")
_STRIP_CELL = 13.0


def thin(document: Json) -> Json:
    """How often the strongest heads are active, over all contexts and at each depth."""
    results = document["results"]
    depths = next(row for row in results["factors"] if row["factor"] == "depth")
    return {
        "contexts": results["contexts"],
        "retrieval_heads": results["retrieval_heads"],
        "active_heads": results["active_heads"],
        "always_on": None if results["always_on"]["heads"] is None else len(results["always_on"]["heads"]),
        "factors": [
            {name: row[name] for name in ("factor", "tested", "dependent", "reason", "confounded")}
            for row in results["factors"]
        ],
        "strengths": results["strengths"],
        "depths": depths["levels"],
        "heads": [
            {
                "head": row["head"],
                "score": row["score"],
                "frequency": row["frequency"],
                "depends": [
                    condition["factor"]
                    for condition in row["conditions"]
                    if condition["q_value"] is not None and condition["q_value"] <= LEVEL
                ],
                "parts": row["parts"],
                "by_depth": [
                    rate["value"]
                    for condition in row["conditions"]
                    if condition["factor"] == "depth"
                    for rate in condition["rates"]
                ],
            }
            for row in results["described"][:MOST_STRIP]
        ],
    }


@dataclass(frozen=True, slots=True)
class StripCell:
    """One head: its colour level, and what it says."""

    x: float
    level: int | None
    label: str


@dataclass(frozen=True, slots=True)
class RateRow:
    """One head over the depths."""

    head: str
    score: str
    cells: tuple[tuple[str, int | None, str], ...]
    """Text, level and label of all contexts, then of each depth."""
    depends: str
    parts: tuple[tuple[str, int | None, str], ...]
    """Share of what was copied that lies in each part of the answer: text, level and label."""
    part_q: str


@dataclass(frozen=True, slots=True)
class DynamicView:
    """In which contexts heads are active."""

    contexts: int
    active_heads: int
    retrieval_heads: int
    always_on: str
    strip: tuple[StripCell, ...]
    strip_width: float
    strip_cell: float
    depths: tuple[str, ...]
    parts: tuple[str, ...]
    """Names of the parts of the answer."""
    rows: tuple[RateRow, ...]
    factors: tuple[tuple[str, str, str], ...]
    """A factor, how many heads depend on it, and what qualifies that."""
    strengths: tuple[tuple[str, ...], ...]
    """Class of heads, how many, mean frequency, dependent on context, on the part of the answer."""
    badge: str = ""
    """How far it is verified."""


def dynamic_view(chart: Json, most: int = 20) -> DynamicView:
    """The strip of all kept heads, and a table of the strongest."""
    strip = tuple(
        StripCell(
            round(i * (_STRIP_CELL + 1.5), 1),
            rate_level(row["frequency"]["value"]),
            f"Head {head_name(row['head'])}: active in {inline(words.figure(row['frequency'], words.whole_percent))}",
        )
        for i, row in enumerate(chart["heads"])
    )
    return DynamicView(
        badge=chart.get("badge") or "",
        contexts=chart["contexts"],
        active_heads=chart["active_heads"],
        retrieval_heads=chart["retrieval_heads"],
        always_on=words.MISSING if chart["always_on"] is None else str(chart["always_on"]),
        strip=strip,
        strip_width=round(max(len(strip), 1) * (_STRIP_CELL + 1.5) - 1.5, 1),
        strip_cell=_STRIP_CELL,
        depths=tuple(words.depth(depth) for depth in chart["depths"]),
        parts=_part_names(chart["heads"]),
        rows=tuple(_rate_row(row, chart["depths"]) for row in chart["heads"][:most]),
        factors=tuple(_factor_row(row) for row in chart["factors"]),
        strengths=tuple(_strength_row(row) for row in chart["strengths"]),
    )


def _rate_row(row: Json, depths: Sequence[float]) -> RateRow:
    name, overall = head_name(row["head"]), row["frequency"]["value"]
    cells = [(words.whole_percent(overall), rate_level(overall), f"Head {name}, all contexts")]
    for depth, rate in zip(depths, row["by_depth"], strict=False):
        text = words.MISSING if rate is None else words.whole_percent(rate)
        cells.append((text, rate_level(rate), f"Head {name}, depth {words.depth(depth)}"))
    parts = row["parts"]
    total = sum(parts["copied"])
    return RateRow(
        head=name,
        score=words.score(row["score"]),
        cells=tuple(cells),
        depends=", ".join(row["depends"]),
        parts=tuple(
            (words.whole_percent(c / total), rate_level(c / total), f"Head {name}: {c} copied, {e:.1f} expected")
            for c, e in zip(parts["copied"], parts["expected"], strict=True)
            if total
        ),
        part_q=p_text(parts["q_value"]),
    )


def _part_names(heads: Sequence[Json]) -> tuple[str, ...]:
    count = len(heads[0]["parts"]["copied"]) if heads else 0
    return PART_NAMES if count == len(PART_NAMES) else tuple(str(i + 1) for i in range(count))


def _factor_row(row: Json) -> tuple[str, str, str]:
    confounded = f"not told apart from {' and '.join(row['confounded'])}" if row["confounded"] else ""
    if row["reason"]:
        return row["factor"], words.MISSING, row["reason"]
    return row["factor"], f"{row['dependent']} of {row['tested']}", confounded


def _strength_row(row: Json) -> tuple[str, ...]:
    frequency = words.MISSING if row["mean_frequency"] is None else words.percent(row["mean_frequency"])
    return (
        {"strong": "score above 0.5", "retrieval": "0.1 to 0.5", "weak": "below 0.1"}[row["strength"]],
        str(row["heads"]),
        frequency,
        f"{row['context_dependent']} of {row['context_tested']}",
        f"{row['part_dependent']} of {row['part_tested']}",
    )


SHOWING = Showing(20, thin, dynamic_view)
