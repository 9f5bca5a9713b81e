"""Query-focused retrieval: how much attention the question pays to the needle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rh_bench.detectors.base import Measured, Rule, Subject
from rh_bench.detectors.passes import Passes, Positions
from rh_bench.records import Prompt


@dataclass(frozen=True)
class AttentionMass:
    """Attention from the rows after the haystack (instruction, question, what the template adds) to the needle's
    tokens, added over the needle, averaged over the rows. Nothing is decoded, and success does not matter.

    QRHead's released code has the same rows (its query span starts with the instruction and ends with the template),
    and gold documents where this has a needle.
    """

    name: str = "attention-mass"
    version: int = 1
    source: str = (
        "Zhang et al. 2025, Query-Focused Retrieval Heads Improve Long-Context Reasoning and Re-ranking (QRHead, arXiv "
        "2506.09944): the paper's QRScore, on a needle instead of gold documents; the released code also subtracts the "
        "attention of a null query and drops tokens far below the mean, which this does not"
    )
    scores: tuple[str, ...] = ("attention-mass",)
    rules: tuple[Rule, ...] = (Rule("attention-mass", "top", 16),)
    needs_data: bool = True
    counted_only: bool = False

    def measure(
        self, subject: Subject, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]]
    ) -> Iterator[Measured]:
        def positions(prompt: Prompt) -> Positions:
            needle = np.arange(prompt.insert_at, prompt.insert_at + prompt.needle_length, dtype=np.int64)
            return np.tile(needle, (1, subject.builder.suffix_length(prompt.sample), 1))

        passes = Passes(subject.model, subject.loaded.layers, 1, subject.chunk)
        for sample_id, masses, seconds in passes.sharing(prompts, positions, done):
            yield Measured(sample_id, masses, seconds)
