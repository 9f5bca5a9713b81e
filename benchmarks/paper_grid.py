"""One needle set of the paper's grid on a random-weight model of the Llama-2-7B shape: no download, real arithmetic.

    python -m benchmarks.paper_grid --out benchmarks/results/NAME.json [--kv-heads 8] [--reference 12]

200 samples: 20 lengths from 1K to 50K × 10 depths. A random model's answer cannot be guessed, so the fast engine is
timed as if all guesses were right (50 tokens in one pass: the best case) and, with --worst, with no guesses (50 tokens,
one pass each). Real models lie between; `benchmarks.engines` measures a real one.

Useful arithmetic counts what is shared between samples once: 2 × parameters a token, and 4 × heads × head size ×
layers for each pair of a query and a key that it may look at. The reference engine runs on samples spread over the
lengths, and a parabola in the length, fitted to them, is summed over the grid.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.machine import matmul_tflops, peak_memory
from rh_bench.attention.compiled import compiled_arithmetic
from rh_bench.engines.base import StopRule
from rh_bench.engines.fast import FastEngine, plan
from rh_bench.engines.layers import find_layers
from rh_bench.engines.reference import ReferenceEngine
from rh_bench.records import Json, Prompt, Sample
from rh_bench.sets.grids import PAPER
from rh_bench.sets.prompts import prompt_sha256
from rh_bench.system.environment import describe_environment
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json

NEEDLE, SPAN, SUFFIX = 24, 12, 30
NEW_TOKENS = 50


def random_model(arguments: argparse.Namespace) -> Any:
    """bfloat16 on a GPU; small float32 on a CPU, to try the script."""
    gpu = torch.cuda.is_available()
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    if not gpu:
        shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 32}
    config = LlamaConfig(
        **shape,
        num_key_value_heads=arguments.kv_heads,
        vocab_size=32_000,
        max_position_embeddings=65_536,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if gpu else "cpu"):
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16 if gpu else torch.float32)
    return model.eval()


def make_prompts(lengths: Sequence[int], depths: Sequence[float]) -> list[Prompt]:
    """Random tokens in the shape of prompts over one haystack."""
    random = np.random.RandomState(0)
    haystack = random.randint(3, 32_000, size=max(lengths)).astype(np.int32)
    needle, suffix = (random.randint(3, 32_000, size=n).astype(np.int32) for n in (NEEDLE, SUFFIX))
    prompts = []
    for length in lengths:
        room = length - NEEDLE - SUFFIX
        for depth in depths:
            at = int(room * depth / 100)
            ids = np.concatenate([haystack[:at], needle, haystack[at:room], suffix])
            sample = Sample(f"L{length}-D{depth:g}", "n", "h", length, depth)
            prompts.append(Prompt(sample, ids, at, NEEDLE, at + 2, SPAN, "", prompt_sha256(ids)))
    return prompts


def useful_flops(model: Any, prompts: Sequence[Prompt], generated: int) -> float:
    config = model.config
    weights = sum(p.numel() for name, p in model.model.layers.named_parameters())
    a_pair = 4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    total = 0.0
    for planned in plan(prompts):
        first, last = planned.shared, len(planned.prompt.ids) + generated - 1
        total += 2 * weights * (last - first) + a_pair * (last * (last + 1) - first * (first + 1)) / 2
        total += 2 * config.hidden_size * config.vocab_size * generated
    return total


class AllGuessesRight(FastEngine):
    """Takes every guess for what the model says, so that an answer takes the one pass that right guesses take."""

    def _guess(self, generated: Sequence[int], sources: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.full(NEW_TOKENS - 1, 7, dtype=np.int32)

    def _accept(self, produced: Sequence[int], guess: Any) -> tuple[int, bool]:
        return len(produced), False


def run_fast(engine: type[FastEngine], model: Any, prompts: Sequence[Prompt]) -> Json:
    """Timed once. A guesser that stays silent makes `FastEngine` the worst case."""
    stop = StopRule(frozenset())
    decoder = engine(model, find_layers(model), stop, NEW_TOKENS, draft=lambda generated, sources, most: [])
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    count = sum(1 for _ in decoder.decode(prompts))
    seconds = time.perf_counter() - started
    return {
        "samples": count,
        "seconds": round(seconds, 2),
        "seconds_a_sample": round(seconds / count, 3),
        "useful_tflops": round(useful_flops(model, prompts, NEW_TOKENS) / seconds / 1e12, 1),
        "peak_bytes": peak_memory("cuda" if torch.cuda.is_available() else "cpu"),
    }


def run_reference(model: Any, prompts: Sequence[Prompt], count: int, save: Callable[[Json], None]) -> Json:
    """Seconds of samples spread over the lengths, and what a parabola through them gives for all.

    Args:
        save: called with what there is after each sample.
    """
    by_length = sorted(prompts, key=lambda p: (len(p.ids), p.sample.depth))
    chosen = [by_length[int(i)] for i in np.linspace(5, len(by_length) - 1, count)]
    engine = ReferenceEngine(model, find_layers(model), StopRule(frozenset()), NEW_TOKENS)
    list(engine.decode(chosen[:1]))
    lengths = np.array([len(p.ids) for p in chosen])
    seconds: list[float] = []
    for decoded in engine.decode(chosen):
        seconds.append(decoded.seconds)
        save({"samples": [{"length": int(x), "seconds": round(y, 2)} for x, y in zip(lengths, seconds, strict=False)]})
    fit = np.polynomial.Polynomial.fit(lengths, seconds, 2)
    total = float(sum(fit(len(p.ids)) for p in prompts))
    return {
        "samples": [{"length": int(x), "seconds": round(y, 2)} for x, y in zip(lengths, seconds, strict=True)],
        "seconds_extrapolated": round(total, 1),
    }


def profile(model: Any, prompts: Sequence[Prompt], most: int = 12) -> Json:
    """The kernels that take longest on the longest prompt, in milliseconds of its time on the GPU."""
    longest = [max(prompts, key=lambda p: (len(p.ids), -p.sample.depth))]
    with compiled_arithmetic(model):
        seconds = run_fast(AllGuessesRight, model, longest)["seconds"]
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            run_fast(AllGuessesRight, model, longest)
    times = {event.key: event.device_time_total / 1e3 for event in profiler.key_averages()}
    first = sorted(times, key=lambda name: -times[name])[:most]
    return {
        "prompt_tokens": len(longest[0].ids),
        "seconds": seconds,
        "gpu_ms": round(sum(times.values()), 1),
        "longest": [{"kernel": name[:100], "ms": round(times[name], 1)} for name in first],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kv-heads", type=int, default=32)
    parser.add_argument("--reference", type=int, default=12, help="samples for the reference engine; 0 for none")
    parser.add_argument("--again", action="store_true", help="time the best case twice: with compiling, and without")
    parser.add_argument("--reference-only", action="store_true", help="do not time the fast engine")
    parser.add_argument("--worst", action="store_true", help="time the case that no guess is right, too")
    parser.add_argument("--lengths", type=int, nargs="*", default=list(PAPER.lengths))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    model = random_model(arguments)
    prompts = make_prompts(arguments.lengths, PAPER.depths)
    report: Json = {
        "benchmark": "paper_grid",
        "shape": {"parameters": sum(p.numel() for p in model.parameters()), "kv_heads": arguments.kv_heads},
        "samples": len(prompts),
        "tokens": sum(len(p.ids) for p in prompts),
        "tokens_run": sum(len(p.prompt.ids) - p.shared for p in plan(prompts)),
        "weights_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "cache_bytes": 4
        * model.config.num_hidden_layers
        * arguments.kv_heads
        * model.config.head_dim
        * max(arguments.lengths),
        "environment": describe_environment(device, name),
        "matmul_tflops": matmul_tflops(device, model.dtype),
    }
    console = Console(width=120)
    # A first, untimed pass over short prompts loads libraries. What a long run compiles, and the plans that cuDNN makes
    # for new shapes, are in the time of the first case.
    run_fast(AllGuessesRight, model, prompts[:4])
    cases = (
        ()
        if arguments.reference_only
        else ("all_guesses_right", *(["all_guesses_right_again"] if arguments.again else []))
    )
    for case in cases:
        report[case] = run_fast(AllGuessesRight, model, prompts)
        console.print(case, report[case])
        if arguments.out:
            atomic_write(arguments.out, dump_json(report))
    if device == "cuda" and cases:
        report["kernels"] = profile(model, prompts)
        console.print(report["kernels"])
    if arguments.worst:
        report["no_guess_right"] = run_fast(FastEngine, model, prompts)
        console.print("no guess right", report["no_guess_right"])
        if arguments.out:
            atomic_write(arguments.out, dump_json(report))

    def save_reference(so_far: Json) -> None:
        if arguments.out:
            atomic_write(arguments.out, dump_json({**report, "reference": so_far}))

    if arguments.reference:
        report["reference"] = run_reference(model, prompts, arguments.reference, save_reference)
        console.print("reference", report["reference"])
        whole = report["reference"]["seconds_extrapolated"]
        for case in [name for name, value in report.items() if isinstance(value, dict) and "useful_tflops" in value]:
            report[case]["times_reference"] = round(whole / report[case]["seconds"], 1)
            console.print(case, f"{report[case]['times_reference']} times")
    console.print({key: value for key, value in report.items() if not isinstance(value, dict)}, report["environment"])
    if arguments.out:
        atomic_write(arguments.out, dump_json(report))


if __name__ == "__main__":
    main()
