"""What is being done to a model's attention inside ``with`` blocks, and which prompt an engine is at.

Engines put their own attention function in the place of the model's. An intervention, such as an ablation, has the last
word on what comes out of it, whichever of the two was begun first: every attention function of ours asks here when it
is called. Engines say here which prompt they decode, since what an intervention does may depend on where the prompt
ends and where its needle lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch

from rh_bench.records import Prompt


@dataclass(frozen=True, slots=True)
class Place:
    """The prompt that is being decoded: its tokens, and the positions of its needle's answer."""

    length: int
    span: tuple[int, int]
    """First position, and one past the last."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an attention function."""

    layer: int
    query: torch.Tensor
    """[B, H, Q, D]."""
    key: torch.Tensor
    """[B, G, K, D] with H a multiple of G."""
    value: torch.Tensor
    """[B, G, K, D']."""
    mask: torch.Tensor | None
    """bool or additive [B or 1, H or 1, Q, K or more]; None if attention is causal, aligned to the last key."""
    kwargs: dict[str, Any]


class Intervention(Protocol):
    """Something done to the attention of one model for the duration of a block."""

    place: Place | None
    """Set by the engine; None outside of one."""
    in_attention: bool
    """Whether it changes what attention functions return. If not, only the two methods of the engines are called."""

    def most_shared(self, one: Prompt, other: Prompt) -> int | None:
        """How many tokens of a common prefix may be computed once for two prompts; None for all of them."""
        ...

    def attend(
        self, call: Call, out: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What attention returns instead of `out` [B, Q, H, D'] and `weights` ([B, H, Q, K] or None)."""
        ...

    def look(self, call: Call, positions: torch.Tensor) -> torch.Tensor:
        """Where heads look instead of `positions` (int64 [R, H], of the last R query rows)."""
        ...


_ACTIVE: WeakKeyDictionary[Any, tuple[Intervention, ...]] = WeakKeyDictionary()


def active(model: Any) -> tuple[Intervention, ...]:
    """The interventions on `model`, in the order in which they were begun."""
    return _ACTIVE.get(model, ())


@contextmanager
def intervene(model: Any, intervention: Intervention) -> Iterator[None]:
    """Have `intervention` in force on `model` inside the block."""
    before = active(model)
    _ACTIVE[model] = (*before, intervention)
    try:
        yield
    finally:
        if before:
            _ACTIVE[model] = before
        else:
            del _ACTIVE[model]


@contextmanager
def decoding(model: Any, prompt: Prompt) -> Iterator[None]:
    """Say that `prompt` is what runs through `model` inside the block."""
    place = Place(len(prompt.ids), (prompt.span_start, prompt.span_start + prompt.span_length))
    told = active(model)
    for intervention in told:
        intervention.place = place
    try:
        yield
    finally:
        for intervention in told:
            intervention.place = None


def most_shared(model: Any, one: Prompt, other: Prompt) -> int | None:
    """How many tokens of their common prefix may be computed once for both prompts; None for all of them."""
    limits = [i.most_shared(one, other) for i in active(model)]
    return min((limit for limit in limits if limit is not None), default=None)


def changes_attention(model: Any) -> bool:
    """Whether an intervention on `model` changes what attention functions return."""
    return any(i.in_attention for i in active(model))


def changed(
    model: Any, call: Call, out: torch.Tensor, weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the attention function of `model` returns, after all interventions. As :meth:`Intervention.attend`."""
    for intervention in active(model):
        if intervention.in_attention:
            out, weights = intervention.attend(call, out, weights)
    return out, weights


def seen(model: Any, call: Call, positions: torch.Tensor) -> torch.Tensor:
    """Where the heads of `model` look, after all interventions. As :meth:`Intervention.look`."""
    for intervention in active(model):
        if intervention.in_attention:
            positions = intervention.look(call, positions)
    return positions
