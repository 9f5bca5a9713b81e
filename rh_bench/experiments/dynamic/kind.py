"""What a dynamic experiment is."""

from __future__ import annotations

from rh_bench.experiments.dynamic.check import check
from rh_bench.experiments.dynamic.derive import STATEMENT, derive
from rh_bench.experiments.dynamic.tables import CONTEXTS, COPIES, against_runs
from rh_bench.experiments.kind import Claim, Kind

KIND = Kind(
    "dynamic",
    1,
    {"contexts": CONTEXTS, "copies": COPIES},
    derive,
    check,
    against_runs=against_runs,
    label="Dynamic",
    claims=(
        Claim(
            "dynamic",
            STATEMENT,
            label="Dynamic",
            effect="share of retrieval heads active in fewer than 80% of contexts",
            share=True,
            command="rh-bench dynamic",
            place=40,
        ),
    ),
)
KINDS = (KIND,)
