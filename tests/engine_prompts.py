"""Prompts of random tokens for the tests of engines, and what an engine decodes of them."""

from __future__ import annotations

import numpy as np
from tiny import random_ids

from rh_bench.engines.base import Engine, StopRule
from rh_bench.records import Decoded, Prompt, Sample
from rh_bench.sets.prompts import prompt_sha256

NEVER = StopRule(frozenset())


def make_prompts(seed: int, haystack_length: int = 60) -> list[Prompt]:
    """Needles of 12 tokens in a shared random haystack, at three depths and two lengths."""
    haystack, needle, suffix = random_ids(haystack_length, seed), random_ids(12, seed + 1), random_ids(7, seed + 2)
    prompts = []
    for room in (haystack_length // 2, haystack_length):
        for depth in (0, 50, 100):
            at = room * depth // 100
            ids = np.concatenate([haystack[:at], needle, haystack[at:room], suffix])
            sample = Sample(f"n-L{len(ids)}-D{depth}", "n", "h", len(ids), float(depth))
            prompts.append(Prompt(sample, ids, at, 12, at + 2, 8, "answer", prompt_sha256(ids)))
    return prompts


def decode_all(engine: Engine, prompts: list[Prompt]) -> dict[str, Decoded]:
    return {decoded.sample_id: decoded for decoded in engine.decode(prompts)}
