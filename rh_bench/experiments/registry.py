"""The kinds of experiments that there are."""

from __future__ import annotations

from collections.abc import Mapping

from rh_bench.experiments.causal import derive as causal
from rh_bench.experiments.detectors import derive as detectors
from rh_bench.experiments.dynamic import derive as dynamic
from rh_bench.experiments.intrinsic import derive as intrinsic
from rh_bench.experiments.kind import Kind
from rh_bench.experiments.qa import derive as qa

NAMES = ("causal", "dynamic", "intrinsic", "extractive_qa", "chain_of_thought", "detectors")
"""Every kind that the schema knows."""

_ALL: tuple[Kind, ...] = (
    causal.KIND,
    dynamic.KIND,
    intrinsic.KIND,
    detectors.KIND,
    qa.CHAIN_OF_THOUGHT,
    qa.EXTRACTIVE_QA,
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
"""Kinds by name. A kind's module describes it in its own constant; none of them imports torch."""
