"""Measured samples made up by hand or by hypothesis, for the tests of scores and summaries."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from hypothesis import strategies as st

from rh_bench.records import Layer, Sample, SampleResult
from rh_bench.scores.heads import in_order, sample_scores
from rh_bench.scores.robustness import SHUFFLES, Robustness, robustness

LAYERS = (Layer(0, "full", 2, 1), Layer(1, "linear_attention"), Layer(2, "sliding", 3, 1, 16))
"""Five heads, in layers of different width, with a layer between that has none."""

GRID = [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]


def measured(
    name: str,
    events: Sequence[tuple[int, int, int, int]] = (),
    *,
    span: int = 4,
    success: bool = True,
    needle: str = "n0",
    length: int = 100,
    depth: float = 0.0,
    recall: float | None = None,
) -> SampleResult:
    """A sample with these (layer, head, step, span offset) events and an answer of `span` tokens."""
    return SampleResult(
        sample=Sample(name, needle, "h0", length, depth),
        prompt_sha256="0" * 64,
        insert_at=3,
        span_start=5,
        span_ids=tuple(range(span)),
        answer="an answer",
        generated_ids=(1, 2),
        text="an answer",
        rouge1_recall=float(success) if recall is None else recall,
        success=success,
        seconds=0.5,
        events=np.array(sorted(events, key=lambda e: (e[2], e[0], e[1])), dtype=np.int32).reshape(-1, 4),
    )


@st.composite
def runs(draw: st.DrawFn, *, most: int = 8) -> list[SampleResult]:
    """A run of `LAYERS`: samples of up to two needles, lengths and depths, with at most one event a head and step."""
    samples = []
    for place in range(draw(st.integers(0, most))):
        span = draw(st.integers(1, 3))
        event = st.tuples(st.sampled_from(GRID), st.integers(0, 3), st.integers(0, span - 1))
        found = draw(st.lists(event, max_size=12, unique_by=lambda e: (e[0], e[1])))
        samples.append(
            measured(
                f"s{place}",
                [(layer, head, step, offset) for (layer, head), step, offset in found],
                span=span,
                success=draw(st.booleans()),
                needle=draw(st.sampled_from(["n0", "n1"])),
                length=draw(st.sampled_from([100, 200])),
                depth=draw(st.sampled_from([0.0, 50.0])),
                recall=draw(st.floats(0, 1)),
            )
        )
    return samples


def run_robustness(
    layers: Sequence[Layer], samples: Sequence[SampleResult], *, shuffles: int = SHUFFLES, seed: int = 0
) -> tuple[Robustness, ...]:
    """Robustness of a run's heads over each of FACTORS, from its samples alone."""
    counted = [sample for sample in in_order(samples) if sample.success]
    paper, _ = sample_scores(layers, counted)
    labels: dict[str, list[Hashable]] = {
        "needle": [sample.sample.needle_id for sample in counted],
        "length": [sample.sample.length for sample in counted],
        "depth": [sample.sample.depth for sample in counted],
    }
    return robustness(paper, labels, shuffles=shuffles, seed=seed)
