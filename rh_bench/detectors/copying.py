"""The paper's detector: a head copies an answer token when it looks at it while the model says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rh_bench.detectors.base import Measured, Rule, Subject
from rh_bench.engines import make_engine
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Prompt, head_grid
from rh_bench.scores.events import copy_events, count_copies, head_places


@dataclass(frozen=True)
class Copying:
    """Distinct span positions copied / span length, as in a run (rule `paper`); decodes the answer greedily."""

    name: str = "copy"
    version: int = 1
    source: str = (
        "Wu et al. 2025, Retrieval Head Mechanistically Explains Long-Context Factuality (arXiv 2404.15574), "
        "as rh-bench evaluate measures it"
    )
    scores: tuple[str, ...] = ("copy",)
    rules: tuple[Rule, ...] = (Rule("copy", "above", HEAD_THRESHOLD),)
    needs_data: bool = True
    counted_only: bool = True

    def measure(
        self, subject: Subject, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]]
    ) -> Iterator[Measured]:
        layers = subject.loaded.layers
        engine = make_engine(
            "fast",
            subject.model,
            layers,
            subject.stop,
            max_new_tokens=subject.max_new_tokens,
            chunk=subject.chunk,
        )
        places, heads = head_places(layers), len(head_grid(layers))
        by_id = {prompt.sample.sample_id: prompt for prompt in prompts}
        for decoded in engine.decode(prompts, done):
            prompt = by_id[decoded.sample_id]
            distinct, _ = count_copies(copy_events(prompt, decoded, layers), prompt.span_length, places, heads)
            scores = distinct[None] / prompt.span_length
            yield Measured(decoded.sample_id, scores, decoded.seconds, decoded.generated)
