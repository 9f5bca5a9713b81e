"""What a comparison of two models is."""

from __future__ import annotations

from rh_bench.experiments.intrinsic.check import check
from rh_bench.experiments.intrinsic.derive import CONTROL, STATEMENT, derive
from rh_bench.experiments.intrinsic.tables import HEADS, SAMPLES, SCORES, against_runs
from rh_bench.experiments.kind import Claim, Kind

_EFFECT = "Pearson correlation"

KIND = Kind(
    "intrinsic",
    1,
    {"heads": HEADS, "samples": SAMPLES, "scores": SCORES},
    derive,
    check,
    most_rows=8_000_000,
    against_runs=against_runs,
    label="Intrinsic",
    claims=(
        Claim("intrinsic", STATEMENT, label="Intrinsic", effect=_EFFECT, command="rh-bench compare", place=30),
        Claim("intrinsic_control", CONTROL, label="Control: unrelated models", effect=_EFFECT),
    ),
    compares=True,
)
KINDS = (KIND,)
