"""Results of a comparison of detectors as rows, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rh_bench.records import Json
from rh_bench.stats.bootstrap import NANO
from rh_bench.stats.ranks import competition_ranks


def detector_rows(results: Json, strongest: int = 5) -> list[Json]:
    """One row per detector: `name`, `n` samples, `heads` there are, how many it has `named` (None with a `reason`), and
    the names of the `strongest` by its first score."""
    rows = []
    for detector in results["detectors"]:
        values = detector["scores"][0]["value"]
        order = [] if values is None else sorted(range(len(values)), key=lambda place: (-values[place], place))
        rows.append(
            {
                "name": detector["name"],
                "n": detector["n"],
                "heads": len(results["heads"]),
                "named": None if detector["named"] is None else len(detector["named"]),
                "reason": detector["reason"],
                "strongest": [head_name(results["heads"][place]) for place in order[:strongest]],
            }
        )
    return rows


def agreement_rows(results: Json) -> list[Json]:
    """One row for every two scores, all in words: `pair`, `n`, `value` of Spearman's correlation, its `interval`, the
    range that `chance` gives within layers, `p` of that (corrected), and heads `shared` of the K strongest, for the
    smallest and the largest K that can be compared. A dash stands for what cannot be computed; `reason` says why."""
    rows = []
    for pair in results["pairs"]:
        found, null = pair["spearman"], pair["null"]
        tops = [top for top in pair["top"] if top["shared"]["value"] is not None]
        rows.append(
            {
                "pair": f"{pair['a']} – {pair['b']}",
                "n": pair["n"],
                "value": "–" if found["value"] is None else f"{found['value']:.2f}",
                "interval": "–" if found["low"] is None else f"{found['low']:.2f} to {found['high']:.2f}",
                "chance": "–" if null is None else f"{null['layer']['low']:.2f} to {null['layer']['high']:.2f}",
                "p": "–" if null is None else f"{null['layer']['p_holm']:.3f}",
                "shared": ", ".join(f"{top['shared']['value']:.0f} of {top['k']}" for top in tops[:1] + tops[1:][-1:])
                or "–",
                "reason": found["reason"],
            }
        )
    return rows


def head_rows(results: Json, most: int = 20) -> list[Json]:
    """Heads that more than one detector names, those that most name first, of equals by their mean rank by the
    first score of each detector: `head`, the
    detectors that it is `named_by`, its mean `scores` with `value`, `low`, `high` and `rank`, by name of score.

    Named on the samples that count for all detectors, where there are any."""
    alone = [detector["named"] for detector in results["detectors"]]
    sets = zip(results["detectors"], results["named_by_all"]["named"] or alone, strict=True)
    named = {detector["name"]: set(map(tuple, heads)) for detector, heads in sets if heads is not None}
    columns = [score for d in results["detectors"] for score in d["scores"] if score["value"] is not None]
    ranks = {
        score["score"]: competition_ranks(np.rint(np.array([score["value"]]) * NANO).astype(np.int64))[0].tolist()
        for score in columns
    }
    rows: list[Json] = []
    for place, head in enumerate(results["heads"]):
        by = [name for name, heads in named.items() if tuple(head) in heads]
        if len(by) > 1:
            scores = {
                score["score"]: {
                    "value": score["value"][place],
                    "low": None if score["low"] is None else score["low"][place],
                    "high": None if score["high"] is None else score["high"][place],
                    "rank": ranks[score["score"]][place],
                }
                for score in columns
            }
            rows.append({"head": head_name(head), "named_by": by, "scores": scores})
    first = [d["scores"][0]["score"] for d in results["detectors"] if d["scores"][0]["value"] is not None]
    rows.sort(key=lambda row: (-len(row["named_by"]), sum(row["scores"][score]["rank"] for score in first)))
    return rows[:most]


def head_name(head: Sequence[int]) -> str:
    """``16-19``: layer and query head, as the paper's released files name heads."""
    return "-".join(map(str, head))
