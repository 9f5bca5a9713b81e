"""What the page of a run shows of a comparison of detectors: which heads they name, and whether these are the same."""

from __future__ import annotations

from dataclasses import dataclass

from rh_bench.experiments.detectors.rows import agreement_rows, detector_rows, head_rows
from rh_bench.records import Json

MOST_HEADS = 20


@dataclass(frozen=True, slots=True)
class DetectorRow:
    """One detector. `named` and `share` are a dash where no sample counted; `reason` says why."""

    name: str
    source: str
    rule: str
    n: int
    named: str
    share: str
    strongest: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class PairRow:
    """Agreement of two scores, in words. `beyond` says whether they agree more than their layers explain."""

    pair: str
    n: int
    value: str
    interval: str
    chance: str
    p: str
    beyond: bool
    shared: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class HeadRow:
    """A head that several detectors name. `cells` has one (score, interval, rank) a score of the view."""

    name: str
    named_by: str
    by_all: bool
    cells: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """One experiment of the kind `detectors`."""

    experiment_id: str
    samples: int
    counted: int | None
    detectors: tuple[DetectorRow, ...]
    pairs: tuple[PairRow, ...]
    scores: tuple[str, ...]
    heads: tuple[HeadRow, ...]
    all_name: str
    """How many heads all detectors name, next to chance; or why there is no such number."""


def comparison_view(document: Json) -> ComparisonView:
    """The view of one experiment.json."""
    results, detectors = document["results"], document["settings"]["detectors"]
    rows = head_rows(results, MOST_HEADS)
    scores = tuple(
        score["score"] for found in results["detectors"] for score in found["scores"] if score["value"] is not None
    )
    return ComparisonView(
        experiment_id=document["experiment_id"],
        samples=results["samples"],
        counted=results["counted"],
        detectors=tuple(
            _detector(detector, row) for detector, row in zip(detectors, detector_rows(results), strict=True)
        ),
        pairs=tuple(_pair(row, pair) for row, pair in zip(agreement_rows(results), results["pairs"], strict=True)),
        scores=scores,
        heads=tuple(_head(row, scores, len(detectors)) for row in rows),
        all_name=_all_name(results),
    )


def _detector(detector: Json, row: Json) -> DetectorRow:
    named = row["named"]
    return DetectorRow(
        name=row["name"],
        source=detector["source"],
        rule=" or ".join(_rule(rule) for rule in detector["rules"]),
        n=row["n"],
        named="–" if named is None else str(named),
        share="–" if named is None else f"{named / row['heads']:.1%}",
        strongest=", ".join(name.replace("-", ".") for name in row["strongest"]),
        reason=row["reason"],
    )


def _rule(rule: Json) -> str:
    score, value = rule["score"], rule["value"]
    if rule["kind"] == "above":
        return f"{score} above {value:g}"
    return f"top {value:g} by {score}" if rule["kind"] == "top" else f"top {value:.0%} by {score}"


def _pair(row: Json, pair: Json) -> PairRow:
    beyond = pair["null"] is not None and pair["null"]["layer"]["p_holm"] <= 0.05
    words = {name: row[name] for name in ("pair", "n", "value", "interval", "chance", "p", "shared", "reason")}
    return PairRow(**words, beyond=beyond)


def _head(row: Json, scores: tuple[str, ...], detectors: int) -> HeadRow:
    cells = []
    for score in scores:
        one = row["scores"][score]
        interval = "" if one["low"] is None else f"{one['low']:.2f}–{one['high']:.2f}"
        cells.append((f"{one['value']:.2f}", interval, one["rank"]))
    by = row["named_by"]
    return HeadRow(row["head"].replace("-", "."), ", ".join(by), len(by) == detectors, tuple(cells))


def _all_name(results: Json) -> str:
    both = results["named_by_all"]
    count, null = both["count"], both["null"]
    if count["value"] is None:
        return f"Heads that all detectors name: {count['reason']}."
    words = f"All detectors name {count['value']:.0f} of {len(results['heads'])} heads"
    if count["low"] is not None:
        words += f" ({count['low']:.0f} to {count['high']:.0f} when samples are drawn again)"
    if null is not None:
        words += f"; {null['layer']['mean']:.1f} would be by chance if each named as many heads of the same layers"
    return f"{words}."
