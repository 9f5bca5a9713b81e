"""What the site shows of a comparison of two models: how alike their heads are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rh_bench.display import formatting as words
from rh_bench.display.axes import Whisker, whisker
from rh_bench.display.formatting import Figure, p_text, signed
from rh_bench.experiments.showing import Showing, Shown
from rh_bench.interchange.records import MEASURES
from rh_bench.records import Json

_RELATIONS = {"derived": "derived", "unrelated": "unrelated", "unknown": "not said"}
"""What is known of two models, in words, in the order in which pairs are shown."""


def thin(document: Json) -> Json:
    """Two models and how similar they are."""
    settings, results = document["settings"], document["results"]
    return {
        "models": [{"id": model["id"], "slug": model["slug"]} for model in settings["models"]],
        "runs": [{name: run[name] for name in ("slug", "run_id")} for run in document["runs"]],
        "relation": settings["relation"],
        "numbers": settings.get("numbers", "score"),
        "samples": results["samples"],
        "retrieval_heads": results["retrieval_heads"],
        "shared": results["shared_retrieval_heads"],
        "measures": [
            {
                "measure": row["measure"],
                "similarity": row["similarity"],
                "at_random": row["at_random"]["mean"],
                "p_value": row["at_random_within_layers"]["p_value"],
            }
            for row in results["measures"]
        ],
    }


@dataclass(frozen=True, slots=True)
class PairView:
    """Two models."""

    names: tuple[str, str]
    slugs: tuple[tuple[str, str], tuple[str, str]]
    """Slug and run id of each."""
    relation: str
    note: str
    """What is compared, where it is not retrieval scores."""
    pearson: Figure
    shape: Whisker | None
    at_random: str
    p_value: str
    shared: str
    others: tuple[tuple[str, Figure, str], ...]
    """Other measures: name, value, and what chance would give."""
    badge: str = ""
    """How far it is verified."""


def pair_view(chart: Json) -> PairView:
    """How similar two models are, by all measures."""
    by_name = {row["measure"]: row for row in chart["measures"]}
    first = by_name["pearson"]
    names = [words.visible(model["id"]) for model in chart["models"]]
    runs = [(run["slug"], run["run_id"]) for run in chart["runs"]]
    return PairView(
        badge=chart.get("badge") or "",
        names=(names[0], names[1]),
        slugs=(runs[0], runs[1]),
        relation=_RELATIONS[chart["relation"]],
        note="" if chart["numbers"] == "score" else MEASURES[chart["numbers"]],
        pearson=words.figure(first["similarity"], signed),
        shape=whisker(first["similarity"], 1.0, None),
        at_random=words.MISSING if first["at_random"] is None else signed(first["at_random"]),
        p_value=p_text(first["p_value"]),
        shared=f"{chart['shared']} of {chart['retrieval_heads'][0]} and {chart['retrieval_heads'][1]}",
        others=tuple(
            (
                _measure_name(name),
                words.figure(row["similarity"], signed),
                words.MISSING if row["at_random"] is None else signed(row["at_random"]),
            )
            for name, row in by_name.items()
        ),
    )


def _measure_name(name: str) -> str:
    if name.startswith("top_"):
        return f"overlap of the {name.removeprefix('top_')} strongest"
    return {
        "pearson": "Pearson correlation",
        "spearman": "Spearman correlation",
        "jaccard": "Jaccard overlap above 0.1",
    }.get(name, words.visible(name))


def _pairs_once(shown: Sequence[Shown]) -> Sequence[Shown]:
    """A pair lies on the cards of both its models, and stands here once; related ones first."""
    once: dict[PairView, Shown] = {}
    for one in shown:
        once.setdefault(one.view, one)
    order = list(_RELATIONS.values())
    return sorted(once.values(), key=lambda one: (order.index(one.view.relation), one.view.names))


SHOWING = Showing(30, thin, pair_view, arrange=_pairs_once)
