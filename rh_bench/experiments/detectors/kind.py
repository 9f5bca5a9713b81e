"""What a comparison of detectors is."""

from __future__ import annotations

from collections.abc import Iterator

from rh_bench.artifacts.fingerprint import digest
from rh_bench.experiments.detectors.check import check
from rh_bench.experiments.detectors.derive import SAMPLES, SCORES, derive
from rh_bench.experiments.kind import Kind, Observed, Tables


def _sketch(tables: Tables) -> Iterator[str]:
    """The scores of every sample; seconds are not kept."""
    found: dict[str, list[object]] = {}
    for row in tables["scores"].select(["sample_id", "score", "values"]).to_pylist():
        found.setdefault(row["sample_id"], []).append([row["score"], row["values"]])
    yield from (digest(sorted(rows, key=str))[:16] for rows in found.values())


KIND = Kind(
    "detectors",
    1,
    {"samples": SAMPLES, "scores": SCORES},
    derive,
    check,
    most_rows=500_000,
    label="Detectors",
    observed=Observed("scores", "samples", _sketch),
)
KINDS = (KIND,)
