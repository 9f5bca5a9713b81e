"""What the site shows of question answering: scores by the heads removed and the way of asking."""

from __future__ import annotations

from dataclasses import dataclass

from rh_bench.display import formatting as words
from rh_bench.display.formatting import Figure, p_text, points
from rh_bench.experiments.showing import Showing, first_charts
from rh_bench.records import Json

_KINDS = {"none": "all heads", "top": "without the strongest", "random": "without random", "matched": "without matched"}


def thin(document: Json) -> Json:
    """Scores of a question set without some heads: one row per kind of heads and a way of asking."""
    settings, results = document["settings"], document["results"]
    measure, rows = results["measure"], []
    for kind, mode in dict.fromkeys((row["kind"], row["mode"]) for row in results["scores"]):
        own = [row for row in results["scores"] if (row["kind"], row["mode"]) == (kind, mode)]
        values = [row[measure]["value"] for row in own if row[measure]["value"] is not None]
        mean = None if not values else round(sum(values) / len(values), 9)
        one = own[0][measure]
        many = {"value": mean, "low": None, "high": None, "n": one["n"], "reason": f"mean of {len(own)} draws"}
        rows.append({"kind": kind, "mode": mode, "draws": len(own), "score": one if len(own) == 1 else many})
    return {
        "task": settings["task"],
        "measure": measure,
        "questions": results["questions"],
        "removed": settings["top"],
        "rows": rows,
        "comparisons": results["comparisons"],
        "chain_of_thought": results["chain_of_thought"],
    }


@dataclass(frozen=True, slots=True)
class AnswersView:
    """Scores of one question set."""

    task: str
    measure: str
    questions: str
    removed: int
    modes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Figure | None, ...]], ...]
    """Which heads are gone, and the score in each mode."""
    losses: tuple[tuple[str, str, Figure, str], ...]
    """Mode, against what, loss of the strongest heads, p."""
    more: tuple[tuple[str, Figure, str], ...]
    """What chain of thought gains, and what it loses beyond direct answers."""
    badge: str = ""
    """How far it is verified."""


def answers_view(chart: Json) -> AnswersView:
    """A table of heads removed × ways of asking."""
    modes = tuple(dict.fromkeys(row["mode"] for row in chart["rows"]))
    cells = {(row["kind"], row["mode"]): row for row in chart["rows"]}
    kinds = dict.fromkeys(row["kind"] for row in chart["rows"])

    def cell(kind: str, mode: str) -> Figure | None:
        row = cells.get((kind, mode))
        return None if row is None else words.figure(row["score"], words.percent)

    def about(kind: str) -> str:
        draws = max(row["draws"] for row in chart["rows"] if row["kind"] == kind)
        count = "" if kind == "none" else f" {chart['removed']}"
        return f"{_KINDS.get(kind, words.visible(kind))}{count}" + (f", mean of {draws} draws" if draws > 1 else "")

    extra = chart["chain_of_thought"]
    return AnswersView(
        badge=chart.get("badge") or "",
        task=words.visible(chart["task"]),
        measure=words.visible(chart["measure"]),
        questions=words.thousands(chart["questions"]),
        removed=chart["removed"],
        modes=tuple(_mode(mode) for mode in modes),
        rows=tuple((about(kind), tuple(cell(kind, mode) for mode in modes)) for kind in kinds),
        losses=tuple(
            (
                _mode(row["mode"]),
                _KINDS.get(row["control"], words.visible(row["control"])),
                words.figure(row["loss"], points),
                p_text(row["p_value"]),
            )
            for row in chart["comparisons"]
        ),
        more=()
        if extra is None
        else (
            ("gain by chain of thought", words.figure(extra["gain"], points), p_text(extra["gain_p_value"])),
            (
                "loss with it, beyond that without",
                words.figure(extra["extra_loss"], points),
                p_text(extra["extra_loss_p_value"]),
            ),
        ),
    )


def _mode(mode: str) -> str:
    return {"direct": "answer at once", "cot": "chain of thought"}.get(mode, words.visible(mode))


SHOWING = Showing(40, thin, answers_view, arrange=first_charts)
