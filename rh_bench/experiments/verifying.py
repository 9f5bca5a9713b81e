"""How somebody else makes again what an experiment says: one entry for every kind of `rh_bench.experiments.registry`.

Apart from `kinds.py`, because readers of experiments need no prompts and no engines.
"""

from __future__ import annotations

from collections.abc import Mapping

from rh_bench.experiments import runs_again
from rh_bench.experiments.causal import again as causal_again
from rh_bench.experiments.detectors import again as detect_again
from rh_bench.experiments.kind import Verifying
from rh_bench.experiments.qa import again as qa_again

VERIFYING: Mapping[str, Verifying] = {
    "causal": causal_again.VERIFYING,
    "dynamic": runs_again.DYNAMIC,
    "intrinsic": runs_again.INTRINSIC,
    "extractive_qa": qa_again.VERIFYING,
    "chain_of_thought": qa_again.VERIFYING,
    "detectors": detect_again.VERIFYING,
}
"""By the kind's name."""
