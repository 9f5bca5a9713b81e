"""What a figure was measured on, and how fast a matrix product runs there."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any

import torch

from rh_bench.records import Json
from rh_bench.system.environment import describe_environment

if TYPE_CHECKING:
    from rh_bench.models.load import LoadedModel


def describe(loaded: LoadedModel) -> Json:
    """Machine and versions, with the speed of a matrix product of the model's dtype in the same process."""
    return {
        **describe_environment(loaded.device, loaded.device_name),
        "machine": platform.machine(),
        "matmul_tflops": matmul_tflops(loaded.device, getattr(torch, loaded.dtype)),
    }


def matmul_tflops(device: str, dtype: Any, seconds: float = 1.0) -> float:
    """TFLOP/s of a square matrix product, the fastest of several seen within `seconds`."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    torch.mm(a, b)
    while time.perf_counter() < until:
        synchronise(device)
        started = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return round(2 * size**3 / best / 1e12, 3)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(device: str) -> int | None:
    """Bytes: on a GPU the most that tensors took since the last reset; on a CPU the most the process ever had."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
