"""What the pages across runs need of the experiments on one run: verdicts, and the numbers of one chart each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from rh_bench.experiments.dynamic.derive import LEVEL
from rh_bench.experiments.scorecard import Row, scorecard
from rh_bench.leaderboard.badges import badge
from rh_bench.leaderboard.collect import Entry
from rh_bench.leaderboard.experiment_badges import badge_names, folder_name
from rh_bench.records import Json

MOST_STRIP = 24
"""Heads in the strip of a run."""
MOST_NAMED = 40
"""Heads listed that all detectors name."""


class Thin(Protocol):
    """From a whole experiment.json to the few numbers that a chart needs."""

    def __call__(self, document: Json) -> Json: ...


def scorecard_rows(entry: Entry) -> tuple[Json, ...]:
    """The scorecard of a run, a few words a row."""
    names = {entry.run_id: badge(entry.verification).name, **badge_names(entry.experiments, entry.records)}
    return tuple(_thin_row(row, names) for row in scorecard(entry.run, entry.summary, entry.experiments))


def _thin_row(row: Row, badges: Mapping[str, str]) -> Json:
    """`badges`: of the run and of each experiment, by id."""
    main = row.main
    return {
        "claim": row.claim,
        "statement": row.statement,
        "verdict": row.verdict,
        "reason": row.reason,
        "tests": len(row.evidence),
        "effect": None if main is None else main.effect,
        "p_value": None if main is None else main.p_value,
        "n": None if main is None else main.n,
        "source": None if main is None else main.source,
        "badge": None if main is None else badges.get(main.source_id),
    }


def thin_experiments(experiments: Iterable[Json], records: Mapping[str, Json]) -> tuple[Json, ...]:
    """Each experiment.json, thinned for a chart of its kind; a kind without a chart has its name and id alone.

    Args:
        records: of their verification, by the name of the folder.
    """
    return tuple(
        {
            "kind": document["kind"],
            "experiment_id": document["experiment_id"],
            "slug": document["model"]["slug"],
            "record": records.get(folder_name(document)),
            "chart": THIN[document["kind"]](document) if document["kind"] in THIN else {},
        }
        for document in experiments
    )


def _dynamic(document: Json) -> Json:
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


def _intrinsic(document: Json) -> Json:
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


def _causal(document: Json) -> Json:
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


def _answers(document: Json) -> Json:
    """Scores of a question set without some heads: one row a kind of heads and a way of asking."""
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


def _detectors(document: Json) -> Json:
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


THIN: Mapping[str, Thin] = {
    "causal": _causal,
    "dynamic": _dynamic,
    "intrinsic": _intrinsic,
    "extractive_qa": _answers,
    "chain_of_thought": _answers,
    "detectors": _detectors,
}
"""By kind of experiment."""
