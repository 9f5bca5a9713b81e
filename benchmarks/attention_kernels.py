"""Which attention kernel is fastest where queries are fewer than keys, as in a prompt that is processed in pieces.

    python -m benchmarks.attention_kernels

Compares, for the last Q queries of K keys, causal and aligned to the end: SDPA with `causal_lower_right`; the split of
`rh_bench.attention.fused` (earlier keys without a mask on cuDNN, the queries' own with one, merged by their
log-sum-exps); and what a matrix product of the same process does. Prints the kernels that ran, by name.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from rh_bench.attention.fused import lower_right, split_causal


def seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    function()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def kernels(function: Callable[[], Any]) -> str:
    """The two kernels that took longest."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda e: -e.device_time_total)
    return ", ".join(event.key[:60] for event in events[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kv-heads", type=int, default=32)
    arguments = parser.parse_args()
    console, table = Console(width=150), Table()
    for name in ("Q", "K", "flash lower-right", "split", "largest difference"):
        table.add_column(name, justify="right")
    heads, dim = 32, 128
    for queries, keys in ((2048, 4096), (2048, 16384), (2048, 50000), (4096, 16384), (4096, 50000), (8192, 50000)):
        q = torch.randn(1, heads, queries, dim, device="cuda", dtype=torch.bfloat16)
        k, v = (torch.randn(1, arguments.kv_heads, keys, dim, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        flops = 4 * heads * dim * queries * (keys - queries / 2)
        ways = {
            "flash": lambda: lower_right(q, k, v, None),
            "split": lambda: split_causal(q, k, v, None),
        }
        row, outputs = [str(queries), str(keys)], []
        for way in ways.values():
            try:
                row.append(f"{flops / seconds(way) / 1e12:.0f} TFLOP/s")
                outputs.append(way())
            except RuntimeError as error:
                row.append(str(error).splitlines()[0][:60])
        row.append(f"{(outputs[0] - outputs[1]).abs().max():.4f}" if len(outputs) == 2 else "–")
        table.add_row(*row)
    console.print(torch.cuda.get_device_name(), torch.__version__, f"{arguments.kv_heads} key/value heads")
    console.print(table)
    for name, way in ways.items():
        console.print(f"{name}: {kernels(way)}", soft_wrap=True)
    for rows in (512, 2048, 4096, 8192):
        a, b = (torch.randn(s, device="cuda", dtype=torch.bfloat16) for s in ((rows, 4096), (4096, 11008)))
        took = seconds(lambda: torch.mm(a, b), 20)
        console.print(f"matrix product {rows} × 4096 × 11008: {2 * rows * 4096 * 11008 / took / 1e12:.0f} TFLOP/s")


if __name__ == "__main__":
    main()
