"""Time of the causal experiment: every prompt without every set of heads, in batches and one set at a time.

    python -m benchmarks.ablation --out benchmarks/results/NAME.json        # the shape of a 1.5B Qwen2, random weights

Random weights never stop, so that every answer has all its tokens: what decoding costs at most. The fast engine, which
drafts, answers the same prompts without a few of the sets, for comparison.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.machine import matmul_tflops, synchronise
from rh_bench.attention.ablation import PHASES, Head, ablate
from rh_bench.engines.base import StopRule
from rh_bench.engines.batched import BatchedEngine, rows_that_fit
from rh_bench.engines.fast import FastEngine
from rh_bench.engines.layers import find_layers
from rh_bench.records import Prompt, Sample, head_grid
from rh_bench.system.environment import describe_environment
from rh_bench.system.files import atomic_write

SHAPES: dict[str, dict[str, Any]] = {
    "qwen2-1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 500,
    },
}
TOP = (2, 5, 10, 15, 20, 30, 50, 100)
NEW_TOKENS = 50


def make_model(shape: str, device: str, dtype: torch.dtype) -> Any:
    options = {**SHAPES[shape], "max_position_embeddings": 32_768}
    config = AutoConfig.for_model("qwen2", **options)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    return model.to(device)


def make_prompts(count: int, lengths: Sequence[int], vocabulary: int) -> list[Prompt]:
    """Needles of 24 tokens in two haystacks of random tokens, at five depths, as samples of a grid share them."""
    random = np.random.RandomState(0)
    haystacks = [random.randint(3, vocabulary, size=max(lengths)).astype(np.int32) for _ in range(2)]
    prompts = []
    for i in range(count):
        needle, suffix = (random.randint(3, vocabulary, size=n).astype(np.int32) for n in (24, 30))
        length, depth, haystack = lengths[i % len(lengths)], i // len(lengths) % 5 * 25, haystacks[i % 2]
        room = length - len(needle) - len(suffix)
        at = room * depth // 100
        ids = np.concatenate([haystack[:at], needle, haystack[at:room], suffix])
        sample = Sample(f"s{i}", f"n{i}", f"h{i % 2}", length, float(depth))
        prompts.append(Prompt(sample, ids, at, len(needle), at + 8, 12, "answer", ""))
    return prompts


def make_sets(grid: Sequence[Head], draws: int) -> list[list[Head]]:
    """As many sets as the experiment has with these draws: nothing, and 1 + 2 × draws for each K."""
    random = np.random.RandomState(1)
    sizes = [0, *(k for k in TOP if k <= len(grid) for _ in range(1 + 2 * draws))]
    return [[grid[i] for i in random.permutation(len(grid))[:size]] for size in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2-1.5b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--lengths", default="1000,2000")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--phases", default="both,decode", help=f"Of {', '.join(PHASES)}.")
    parser.add_argument("--alone", type=int, default=2, help="Sets that the fast engine runs one at a time.")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    model = make_model(arguments.shape, arguments.device, dtype)
    layers = find_layers(model)
    lengths = [int(part) for part in arguments.lengths.split(",")]
    prompts = make_prompts(arguments.samples, lengths, model.config.vocab_size)
    sets, stop = make_sets(head_grid(layers), arguments.draws), StopRule(frozenset())
    head_dim = model.config.hidden_size // model.config.num_attention_heads
    rows = min(len(sets), rows_that_fit(layers, head_dim, dtype.itemsize, max(lengths) + NEW_TOKENS, arguments.device))
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    report: dict[str, Any] = {
        "environment": describe_environment(arguments.device, name),
        "matmul_tflops": matmul_tflops(arguments.device, dtype),
        "shape": arguments.shape,
        "dtype": str(dtype).removeprefix("torch."),
        "samples": len(prompts),
        "lengths": lengths,
        "conditions": len(sets),
        "rows": rows,
        "new_tokens": NEW_TOKENS,
        "batched": {},
    }
    list(BatchedEngine(model, layers, stop, 2, rows=rows).answer(prompts[:1], sets[:rows], how="zero", phase="both"))
    for phase in arguments.phases.split(","):
        synchronise(arguments.device)
        started = time.perf_counter()
        engine = BatchedEngine(model, layers, stop, NEW_TOKENS, rows=rows)
        answers = list(engine.answer(prompts, sets, how="zero", phase=phase))
        synchronise(arguments.device)
        seconds = time.perf_counter() - started
        assert sum(len(found.generated) for found in answers) == len(prompts) * len(sets)
        report["batched"][phase] = {"seconds": round(seconds, 2), "per_condition": round(seconds / len(sets), 3)}
        print(phase, report["batched"][phase], flush=True)
    started = time.perf_counter()
    for heads in sets[1 : 1 + arguments.alone]:
        with ablate(model, heads):
            list(FastEngine(model, layers, stop, NEW_TOKENS).decode(prompts))
    if arguments.alone:
        report["fast_per_condition"] = round((time.perf_counter() - started) / arguments.alone, 3)
    if arguments.device == "cuda":
        report["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    print(json.dumps(report, indent=1))
    if arguments.out:
        atomic_write(arguments.out, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
