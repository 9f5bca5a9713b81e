"""What the site shows of a comparison of detectors: a matrix of correlations, and the heads that all name."""

from __future__ import annotations

from dataclasses import dataclass

from rh_bench.display import formatting as words
from rh_bench.display.formatting import Figure, head_name, inline, signed
from rh_bench.display.palette import rate_level
from rh_bench.experiments.detectors.comparison import comparison_view
from rh_bench.experiments.showing import Showing, first_charts
from rh_bench.records import Json

MOST_NAMED = 40
"""Heads listed that all detectors name."""


def thin(document: Json) -> Json:
    """Which detectors name which heads, and how far their scores agree."""
    results = document["results"]
    together = results["named_by_all"]
    return {
        "samples": results["samples"],
        "detectors": [
            {"name": row["name"], "n": row["n"], "named": None if row["named"] is None else len(row["named"])}
            for row in results["detectors"]
        ],
        "pairs": [{"a": pair["a"], "b": pair["b"], "spearman": pair["spearman"]} for pair in results["pairs"]],
        "count": together["count"],
        "heads": together["heads"][:MOST_NAMED],
    }


@dataclass(frozen=True, slots=True)
class AgreementView:
    """How far detectors agree."""

    samples: str
    names: tuple[str, ...]
    detectors: tuple[tuple[str, str, str], ...]
    """Name, heads named, samples."""
    rows: tuple[tuple[str, tuple[tuple[str, int | None, str], ...]], ...]
    """A score, and its rank correlation with every other: text, level, label."""
    count: Figure
    heads: tuple[str, ...]
    badge: str = ""
    """How far it is verified."""


def detectors_view(chart: Json) -> AgreementView:
    """A matrix of rank correlations, and the heads that all detectors name."""
    pairs = {(pair["a"], pair["b"]): pair["spearman"] for pair in chart["pairs"]}
    names = list(dict.fromkeys(name for pair in pairs for name in pair))

    def cell(a: str, b: str) -> tuple[str, int | None, str]:
        if a == b:
            return "", None, ""
        found = words.figure(pairs.get((a, b)) or pairs[b, a], signed)
        value = (pairs.get((a, b)) or pairs[b, a])["value"]
        return found.text, rate_level(None if value is None else max(0.0, value)), f"{a} and {b}: {inline(found)}"

    return AgreementView(
        badge=chart.get("badge") or "",
        samples=words.thousands(chart["samples"]),
        names=tuple(words.visible(name) for name in names),
        detectors=tuple(
            (
                words.visible(row["name"]),
                words.MISSING if row["named"] is None else str(row["named"]),
                words.thousands(row["n"]),
            )
            for row in chart["detectors"]
        ),
        rows=tuple((words.visible(a), tuple(cell(a, b) for b in names)) for a in names),
        count=words.figure(chart["count"], words.count),
        heads=tuple(head_name(head) for head in chart["heads"]),
    )


SHOWING = Showing(50, thin, detectors_view, detail=comparison_view, arrange=first_charts)
