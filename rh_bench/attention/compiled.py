"""Element-wise arithmetic of a model, fused by torch.compile for long inputs inside a ``with`` block.

Written as transformers writes it, a norm takes eight passes over memory and a rotary embedding ten, which at long
prompts is a quarter of a fast GPU's time. The functions themselves are compiled, whatever a model's variant of them,
so nothing is assumed about what they compute. Whole layers are not compiled: their attention and their cache are
replaced by ours, and a function that does not compile is simply run as it is.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

_SMALLEST = 1 << 20
"""Elements of the input below which a plain call is as fast, and for which nothing is compiled."""
_ROTARY = "apply_rotary_pos_emb"


class CompiledFunction:
    """A function, and its compiled form for large inputs until that fails once."""

    def __init__(self, plain: Callable[..., Any], smallest: int = _SMALLEST) -> None:
        self.calls = 0
        """Calls that the compiled form answered."""
        self._plain, self._smallest = plain, smallest
        self._compiled: Callable[..., Any] | None = torch.compile(plain, dynamic=True, fullgraph=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        size = next((a.numel() for a in args if isinstance(a, torch.Tensor)), 0)
        if self._compiled is None or size < self._smallest:
            return self._plain(*args, **kwargs)
        try:
            out = self._compiled(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception:
            # A compiler that is missing, or a construct it cannot follow: what is computed stays the same.
            self._compiled = None
            return self._plain(*args, **kwargs)
        self.calls += 1
        return out


@contextmanager
def compiled_arithmetic(model: nn.Module, smallest: int = _SMALLEST) -> Iterator[dict[str, CompiledFunction]]:
    """Norms, gated feed-forward blocks and the rotary embedding of `model` in compiled form inside the block.

    Yields:
        The functions by name, to see which were used.
    """
    functions: dict[str, CompiledFunction] = {}
    with ExitStack() as undo:
        for module in model.modules():
            if not _is_fusible(module):
                continue
            kind = type(module)
            if kind.__qualname__ not in functions:
                functions[kind.__qualname__] = CompiledFunction(kind.forward, smallest)
            undo.callback(_restore, module.__dict__, "forward", module.__dict__.get("forward"))
            module.__dict__["forward"] = partial(functions[kind.__qualname__], module)
        for names in _rotary_users(model):
            plain = names[_ROTARY]
            function = functions.setdefault(f"{names['__name__']}.{_ROTARY}", CompiledFunction(plain, smallest))
            undo.callback(_restore, names, _ROTARY, plain)
            names[_ROTARY] = function
        yield functions


def _restore(names: dict[str, Any], name: str, before: Any) -> None:
    if before is None:
        names.pop(name, None)
    else:
        names[name] = before


def _is_fusible(module: nn.Module) -> bool:
    """A norm of transformers' own, or a feed-forward block of linear layers and an activation."""
    name = type(module).__name__
    if type(module).__module__.startswith("torch.") or "forward" in module.__dict__:
        return False
    if name.endswith("Norm"):
        return not list(module.children())
    return name.endswith("MLP") and all(isinstance(p, nn.Parameter) and p.ndim <= 2 for p in module.parameters())


def _rotary_users(model: nn.Module) -> list[dict[str, Any]]:
    """Names of the Python modules whose attention calls a rotary embedding by its usual name."""
    modules = {type(m).__module__ for m in model.modules() if hasattr(m, "layer_idx")}
    found = [vars(sys.modules[name]) for name in sorted(modules) if name in sys.modules]
    return [names for names in found if inspect.isfunction(names.get(_ROTARY))]
