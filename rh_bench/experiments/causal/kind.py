"""What a causal experiment is."""

from __future__ import annotations

from collections.abc import Iterator

from rh_bench.experiments.causal.check import check
from rh_bench.experiments.causal.derive import ANSWERS, MOST_ANSWERS, SAMPLES, STATEMENT, derive
from rh_bench.experiments.kind import Claim, Kind, Observed, Tables
from rh_bench.experiments.sketch import sketch_texts


def _sketch(tables: Tables) -> Iterator[str]:
    return sketch_texts(tables["answers"], "sample_id")


KIND = Kind(
    "causal",
    1,
    {"samples": SAMPLES, "answers": ANSWERS},
    derive,
    check,
    most_rows=MOST_ANSWERS,
    label="Causal",
    claims=(
        Claim(
            "causal",
            STATEMENT,
            label="Causal",
            effect="success, less that without random heads",
            command="rh-bench ablate",
            place=50,
        ),
    ),
    observed=Observed("answers", "answers", _sketch),
)
KINDS = (KIND,)
