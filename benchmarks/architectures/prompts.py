"""Prompts of random ids, as a set would give them: needles in a shared haystack, at several depths and lengths."""

from __future__ import annotations

import numpy as np

from benchmarks.architectures.tiny_configs import VOCABULARY
from rh_bench.records import IntArray, Prompt, Sample
from rh_bench.sets.prompts import prompt_sha256

NEEDLE, SUFFIX, SPAN = 12, 7, 8
ROOMS = (10, 31, 60)
"""Tokens of the haystack in a prompt."""
ORIGINAL = 56
"""The window before scaling, for rope kinds that have one: the shortest prompts and their answers stay within it, those
of the middle length begin within it and their answers cross it, the longest begin beyond it."""
NEW_TOKENS = 16


def random_ids(length: int, seed: int) -> IntArray:
    return np.random.RandomState(seed).randint(3, VOCABULARY, size=length).astype(np.int32)


def make_prompts(seed: int) -> list[Prompt]:
    """Nine prompts: three lengths (29, 50 and 79 tokens) at three depths."""
    haystack, needle, suffix = random_ids(max(ROOMS), seed), random_ids(NEEDLE, seed + 1), random_ids(SUFFIX, seed + 2)
    prompts = []
    for room in ROOMS:
        for depth in (0, 50, 100):
            at = room * depth // 100
            ids = np.concatenate([haystack[:at], needle, haystack[at:room], suffix])
            sample = Sample(f"n-L{len(ids)}-D{depth}", "n", "h", len(ids), float(depth))
            prompts.append(Prompt(sample, ids, at, NEEDLE, at + 2, SPAN, "answer", prompt_sha256(ids)))
    return prompts
