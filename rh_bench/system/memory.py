"""How much memory a measurement needs, worked out before a model is loaded: weights, one cache, a workspace.

A conservative estimate: a plan that does not fit uses smaller pieces of a prompt, and one that cannot fit is refused
with its figures instead of crashing after minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.records import NO_SOFTMAX

CHUNK = {"cuda": 8192, "cpu": 2048}
"""Prompt tokens per forward pass when memory is plentiful: larger pieces are no faster."""
SMALLEST_CHUNK = 64
MOST_ROWS = 64
"""Most rows of one pass whose logits and arg-max positions are needed."""
SCORES_BUDGET = 1 << 29
"""Most bytes of float32 scores of recorded rows at once."""
_HIDDEN_COPIES, _ATTENTION_COPIES, _FORWARD_COPIES = 8, 6, 4
"""Most tensors at once of the width of the residual stream, of all heads, of the feed-forward block."""
_RESERVE = 256 << 20
"""Bytes that libraries use themselves."""


@dataclass(frozen=True)
class MemoryPlan:
    """All in bytes, except `chunk`, which is in tokens."""

    weights: int
    cache: int
    workspace: int
    available: int | None
    """None if unknown; nothing is refused then."""
    chunk: int

    @property
    def needed(self) -> int:
        return self.weights + self.cache + self.workspace

    def __str__(self) -> str:
        parts = f"{_gb(self.weights)} weights + {_gb(self.cache)} cache + {_gb(self.workspace)} workspace"
        return parts if self.available is None else f"{parts} of {_gb(self.available)} free"


@dataclass(frozen=True)
class Shape:
    """The properties of a model that its memory depends on."""

    parameters: int
    hidden: int
    intermediate: int
    vocabulary: int
    query_heads: int
    head_dim: int
    cached: int
    """Numbers that one position adds to the cache, over all layers."""
    whole: bool
    """Some layer is recurrent, so a prompt runs in one piece."""


def plan_memory(shape: Shape, width: int, positions: int, device: str, available: int | None) -> MemoryPlan:
    """The plan with the largest pieces that fit.

    Args:
        width: bytes of a number.
        positions: tokens of the longest prompt with its answer.
        device: type of the device, "cpu" or "cuda".
        available: bytes free on the device before the model is loaded.

    Raises:
        InputError: not even the smallest pieces fit.
    """
    weights, cache = shape.parameters * width, shape.cached * positions * width
    chunk = positions if shape.whole else min(CHUNK.get(device, CHUNK["cpu"]), positions)
    while True:
        plan = MemoryPlan(weights, cache, _workspace(shape, width, positions, chunk), available, chunk)
        if available is None or plan.needed <= available:
            return plan
        if shape.whole or chunk // 2 < SMALLEST_CHUNK:
            raise InputError(
                f"needs {_gb(plan.needed)} for prompts of {positions} tokens ({plan})",
                where="memory",
                hint="give shorter --lengths, a smaller --dtype or another --device",
            )
        chunk //= 2


def _workspace(shape: Shape, width: int, positions: int, chunk: int) -> int:
    a_token = _HIDDEN_COPIES * shape.hidden + _FORWARD_COPIES * shape.intermediate
    a_token += _ATTENTION_COPIES * shape.query_heads * shape.head_dim
    scores = min(SCORES_BUDGET, 4 * MOST_ROWS * shape.query_heads * positions)
    # Scores exist twice where something is added to them; so do logits, which are made float32.
    return chunk * a_token * width + 2 * scores + MOST_ROWS * shape.vocabulary * (width + 4) + _RESERVE


def model_shape(config: Any, parameters: int) -> Shape:
    """The shape of a model from its configuration. If layers differ, the largest counts.

    Args:
        config: as transformers loads it.
        parameters: how many the model has.
    """
    text = config.get_text_config(decoder=True)
    heads = max(_sizes(text, "num_attention_heads_per_layer")) or _largest(text, *_HEADS) or 1
    hidden = _largest(text, "hidden_size", "n_embd", "d_model", "emb_dim") or 1
    latent = _largest(text, "qk_nope_head_dim") + _largest(text, "qk_rope_head_dim")
    key_dim = max(_largest(text, "head_dim", "kv_channels", "attention_head_dim"), latent) or -(-hidden // heads)
    value_dim = _largest(text, "v_head_dim") or key_dim
    groups = _largest(text, "num_key_value_heads", "num_kv_heads", "kv_n_heads") or heads
    layers = _largest(text, *_LAYERS) or 1
    kinds = list(getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or [])
    kinds = [str(kind) for kind in kinds] or ["full_attention"] * layers
    return Shape(
        parameters=parameters,
        hidden=hidden,
        intermediate=_largest(text, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size") or 4 * hidden,
        vocabulary=_largest(text, "vocab_size") or 1,
        query_heads=heads,
        head_dim=max(key_dim, value_dim),
        # Sliding layers keep every position as well: their window is in the mask.
        cached=groups * (key_dim + value_dim) * sum(kind not in NO_SOFTMAX for kind in kinds),
        whole=any(kind not in (*_CAN_BE_CUT, *_STATELESS) for kind in kinds),
    )


_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_CAN_BE_CUT = ("full_attention", "sliding_attention", "chunked_attention", "attention")
_STATELESS = ("moe", "mlp")


def _largest(config: Any, *names: str) -> int:
    """The largest value of the first of these fields that is set anywhere; 0 if none is."""
    return next((largest for name in names if (largest := max(_sizes(config, name)))), 0)


def _sizes(config: Any, name: str) -> list[int]:
    """All values of a field, over layers with configurations or list entries of their own; at least one 0."""
    try:
        values = [getattr(config, name, None)]
    except Exception:  # transformers raises its own error for what differs between layers
        values = [getattr(layer, name, None) for layer in config.per_layer_config]
    flat = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
    return [0, *(int(one) for one in flat if isinstance(one, int | float) and not isinstance(one, bool))]


def available_memory(device: Any) -> int | None:
    """Free bytes on a torch device: for a GPU what its driver says, for this machine what is free without swapping,
    within the limit of the control group."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    free = [_meminfo(Path("/proc/meminfo")), _cgroup(Path("/sys/fs/cgroup"))]
    known = [bytes_ for bytes_ in free if bytes_ is not None]
    return min(known) if known else None


def _meminfo(path: Path) -> int | None:
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _cgroup(folder: Path) -> int | None:
    """What a control group (version 2) leaves: its limit minus what is used, file caches excluded."""
    try:
        limit, used = (folder / "memory.max").read_text().strip(), int((folder / "memory.current").read_text())
        if limit == "max":
            return None
        cached = sum(
            int(line.split()[1])
            for line in (folder / "memory.stat").read_text().splitlines()
            if line.split()[0] in ("inactive_file", "active_file")
        )
        return max(0, int(limit) - used + cached)
    except (OSError, ValueError, IndexError):
        return None


def _gb(amount: int) -> str:
    return f"{amount / 1e9:.1f} GB"
