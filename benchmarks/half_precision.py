"""A half type against float32: the fast engine in one, the reference engine in the other, on the same samples.

    python -m benchmarks.half_precision MODEL --haystack SET --samples 45 --out benchmarks/results/NAME.json

Answers, events, scores, the ranking of heads, and every head that is above 0.1 on one side only. Scores are means over
the samples that count on both sides, so that they differ by where heads look and not by which samples are in them; the
share of heads above 0.1 is also given as each side would publish it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.engines import build_prompts, timed
from benchmarks.machine import describe
from rh_bench.errors import RhBenchError
from rh_bench.models.load import load_model
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Decoded, Json, Layer, Prompt, SampleResult, head_grid
from rh_bench.scores.events import copy_events
from rh_bench.scores.heads import sample_scores
from rh_bench.scores.rouge import rouge1_recall, succeeds
from rh_bench.stats.ranks import spearman
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json


@dataclass(frozen=True)
class Side:
    """What one engine in one type found."""

    engine: str
    dtype: str
    seconds: float
    layers: tuple[Layer, ...]
    results: dict[str, SampleResult]
    environment: Json


def measure(arguments: argparse.Namespace, engine: str, dtype: str) -> Side:
    loaded = load_model(arguments.model, device=arguments.device, dtype=dtype)
    builder, prompts = build_prompts(arguments, loaded)
    timed(engine, loaded, builder, prompts[:1])
    seconds, decoded = timed(engine, loaded, builder, prompts)
    by_id = {prompt.sample.sample_id: prompt for prompt in prompts}
    results = {d.sample_id: _result(by_id[d.sample_id], d, builder.text, loaded.layers) for d in decoded}
    return Side(engine, loaded.dtype, seconds, loaded.layers, results, describe(loaded))


def _result(prompt: Prompt, decoded: Decoded, text: object, layers: Sequence[Layer]) -> SampleResult:
    assert callable(text)
    answer = text(decoded.generated.tolist())
    recall = rouge1_recall(prompt.answer, answer)
    return SampleResult(
        sample=prompt.sample,
        prompt_sha256=prompt.sha256,
        insert_at=prompt.insert_at,
        span_start=prompt.span_start,
        span_ids=tuple(prompt.span_ids.tolist()),
        answer=prompt.answer,
        generated_ids=tuple(decoded.generated.tolist()),
        text=answer,
        rouge1_recall=recall,
        success=succeeds(recall),
        seconds=decoded.seconds,
        events=copy_events(prompt, decoded, layers),
    )


def compare(one: Side, other: Side, top: int = 10) -> Json:
    """`one` is the float32 side."""
    pairs = [(one.results[key], other.results[key]) for key in one.results]
    events = [[{tuple(row) for row in result.events.tolist()} for result in pair] for pair in pairs]
    both = sum(len(a & b) for a, b in events)
    either = sum(len(a | b) for a, b in events)
    counted = [pair for pair in pairs if pair[0].success and pair[1].success]
    report: Json = {
        "samples": len(pairs),
        "equal_answers": sum(a.generated_ids == b.generated_ids for a, b in pairs),
        "succeeded": [sum(result.success for result in side) for side in zip(*pairs, strict=True)],
        "counted_in_both": len(counted),
        "events": [sum(len(a) for a, _ in events), sum(len(b) for _, b in events)],
        "events_in_both": both,
        "events_jaccard": round(both / either, 4) if either else None,
        "share_above_as_published": [_published_share(side) for side in (one, other)],
    }
    if counted:
        scores = [sample_scores(one.layers, list(side))[0].mean(axis=0).round(9) for side in zip(*counted, strict=True)]
        report |= _agreement(scores, head_grid(one.layers), top)
    return report


def _published_share(side: Side) -> float | None:
    counted = [result for result in side.results.values() if result.success]
    if not counted:
        return None
    return round(float((sample_scores(side.layers, counted)[0].mean(axis=0) > HEAD_THRESHOLD).mean()), 4)


def _agreement(scores: Sequence[np.ndarray], heads: Sequence[tuple[int, int]], top: int) -> Json:  # type: ignore[type-arg]
    above = [set(np.flatnonzero(score > HEAD_THRESHOLD).tolist()) for score in scores]
    nano = np.round(np.stack(scores) * 1e9).astype(np.int64)
    retrieval = sorted(above[0] | above[1])
    best = [np.lexsort((np.arange(len(score)), -score))[:top].tolist() for score in scores]
    return {
        "largest_score_difference": round(float(np.abs(scores[0] - scores[1]).max()), 6),
        "spearman_all_heads": round(float(spearman(nano)[0, 1]), 5),
        "spearman_retrieval_heads": round(float(spearman(nano[:, retrieval])[0, 1]), 5) if len(retrieval) > 2 else None,
        f"top_{top}_in_both": len(set(best[0]) & set(best[1])),
        "same_order_of_first": next((i for i, (a, b) in enumerate(zip(*best, strict=True)) if a != b), top),
        "above_threshold": [len(above[0]), len(above[1])],
        "above_threshold_in_both": len(above[0] & above[1]),
        "crossing": [
            {"head": list(heads[i]), "float32": float(scores[0][i]), "other": float(scores[1][i])}
            for i in sorted(above[0] ^ above[1])
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--haystack", required=True)
    parser.add_argument("--samples", type=int, default=45)
    parser.add_argument("--lengths")
    parser.add_argument("--depths", default="0,25,50,75,100")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--reference-engine", default="reference")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    try:
        one = measure(arguments, arguments.reference_engine, "float32")
        other = measure(arguments, "fast", arguments.dtype)
    except RhBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    report: Json = {
        "benchmark": "half_precision",
        "model": Path(arguments.model.removeprefix("gguf:")).name,
        "lengths": sorted({result.sample.length for result in one.results.values()}),
        "seconds": {f"{side.engine} {side.dtype}": round(side.seconds, 2) for side in (one, other)},
        "agreement": compare(one, other),
        "environment": other.environment,
    }
    console = Console(width=120)
    table = Table(title=f"{report['model']}: {other.engine} {other.dtype} against {one.engine} float32")
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in {**report["seconds"], **report["agreement"]}.items():
        if name != "crossing":
            table.add_row(name.replace("_", " "), str(value))
    console.print(table)
    for head in report["agreement"].get("crossing", []):
        console.print(f"crosses {HEAD_THRESHOLD}: {head}")
    if arguments.out:
        atomic_write(arguments.out, dump_json(report))


if __name__ == "__main__":
    main()
