"""The fast engine against the reference engine: the same samples, in one process, with the events compared.

    python -m benchmarks.engines MODEL --haystack SET --samples 12 --out benchmarks/results/NAME.json

The engines take turns sample for sample of the reference's, so that a machine that slows down slows both; the fast
engine is timed over the whole list, because what it shares between samples is its point.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe, peak_memory
from rh_bench.engines import make_engine
from rh_bench.engines.base import stop_rule
from rh_bench.errors import RhBenchError
from rh_bench.models.load import LoadedModel, load_model
from rh_bench.records import Decoded, Json, Prompt
from rh_bench.scores.events import copy_events
from rh_bench.sets.dataset import read_set
from rh_bench.sets.grids import make_samples, parse_depths, parse_lengths, spread
from rh_bench.sets.prompts import PromptBuilder
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json


def build_prompts(arguments: argparse.Namespace, loaded: LoadedModel) -> tuple[PromptBuilder, list[Prompt]]:
    """The samples asked for, as prompts."""
    haystacks = read_set(Path(arguments.haystack))
    samples = haystacks.samples
    if arguments.lengths:
        samples = make_samples(haystacks.needles, parse_lengths(arguments.lengths), parse_depths(arguments.depths))
    builder = PromptBuilder(loaded.tokenizer, haystacks.texts, haystacks.needles_by_id)
    return builder, [builder.build(sample) for sample in spread(samples, arguments.samples)]


def timed(
    name: str, loaded: LoadedModel, builder: PromptBuilder, prompts: Sequence[Prompt]
) -> tuple[float, list[Decoded]]:
    """Seconds over all prompts, and what was decoded."""
    stop = stop_rule(loaded.model, loaded.tokenizer, builder.text if builder.stops_at_newline else None)
    engine = make_engine(name, loaded.model, loaded.layers, stop)
    started = time.perf_counter()
    decoded = list(engine.decode(prompts))
    return time.perf_counter() - started, decoded


def compare(loaded: LoadedModel, prompts: Sequence[Prompt], one: Sequence[Decoded], other: Sequence[Decoded]) -> Json:
    """How far two engines' tokens and events agree."""
    by_id = {decoded.sample_id: decoded for decoded in other}
    events, common, equal = [0, 0], 0, 0
    for decoded in one:
        prompt = next(p for p in prompts if p.sample.sample_id == decoded.sample_id)
        both = [
            {tuple(row) for row in copy_events(prompt, d, loaded.layers).tolist()}
            for d in (decoded, by_id[decoded.sample_id])
        ]
        events = [total + len(found) for total, found in zip(events, both, strict=True)]
        common += len(both[0] & both[1])
        equal += np.array_equal(decoded.generated, by_id[decoded.sample_id].generated)
    return {
        "samples": len(one),
        "equal_answers": int(equal),
        "events": events,
        "events_in_both": common,
        "identical": bool(equal == len(one) and events[0] == events[1] == common),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--haystack", required=True)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--lengths")
    parser.add_argument("--depths", default="0,25,50,75,100")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    try:
        report = measure(arguments)
    except RhBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    print_report(report)
    if arguments.out:
        atomic_write(arguments.out, dump_json(report))
    sys.exit(0 if report["agreement"]["identical"] or report["dtype"] != "float32" else 1)


def measure(arguments: argparse.Namespace) -> Json:
    loaded = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype)
    builder, prompts = build_prompts(arguments, loaded)
    timed("fast", loaded, builder, prompts[:1])  # kernels are chosen and memory is mapped before the clock runs
    fast_seconds, fast = timed("fast", loaded, builder, prompts)
    fast_peak = peak_memory(loaded.device)
    reference_seconds, reference = timed("reference", loaded, builder, prompts)
    return {
        "benchmark": "engines",
        "model": loaded.source.id,
        "model_revision": loaded.source.revision,
        "dtype": loaded.dtype,
        "samples": len(prompts),
        "tokens": sum(len(prompt.ids) for prompt in prompts),
        "longest": max(len(prompt.ids) for prompt in prompts),
        "generated": sum(len(decoded.generated) for decoded in reference),
        "seconds": {"reference": round(reference_seconds, 2), "fast": round(fast_seconds, 2)},
        "ratio": round(reference_seconds / fast_seconds, 2),
        "peak_bytes_fast": fast_peak,
        "agreement": compare(loaded, prompts, reference, fast),
        "environment": describe(loaded),
    }


def print_report(report: Json) -> None:
    table = Table(title=f"{report['model']}, {report['dtype']}, {report['samples']} samples, {report['tokens']} tokens")
    for name in ("engine", "seconds", "s/sample", "times reference"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for name, seconds in report["seconds"].items():
        ratio = report["seconds"]["reference"] / seconds
        table.add_row(name, f"{seconds:.1f}", f"{seconds / report['samples']:.2f}", f"{ratio:.1f}")
    console = Console()
    console.print(table)
    agreement, machine = report["agreement"], report["environment"]
    console.print(f"answers equal: {agreement['equal_answers']} of {agreement['samples']}")
    console.print(
        f"events: {agreement['events'][0]} and {agreement['events'][1]}, in both {agreement['events_in_both']}"
    )
    console.print(f"on {machine['device_name']}, matrix product {machine['matmul_tflops']} TFLOP/s")


if __name__ == "__main__":
    main()
