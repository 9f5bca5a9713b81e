"""Engines: prompts in, greedy continuations and arg-max positions out. Both engines give the same events."""

from __future__ import annotations

from typing import Any

from rh_bench import protocol
from rh_bench.engines.base import Engine, StopRule, Thought
from rh_bench.errors import InputError
from rh_bench.records import Layer

ENGINES = tuple(protocol.ENGINES)


def make_engine(
    name: str,
    model: Any,
    layers: tuple[Layer, ...],
    stop: StopRule,
    *,
    max_new_tokens: int = 50,
    chunk: int | None = None,
    thought: Thought | None = None,
) -> Engine:
    """The engine called `name` for a loaded model.

    Args:
        chunk: prompt tokens in one forward pass of the fast engine, see :mod:`rh_bench.system.memory`.
        thought: what the model thinks before it answers; None if it answers at once.

    Raises:
        InputError: there is no such engine.
    """
    if name == "reference":
        from rh_bench.engines.reference import ReferenceEngine

        return ReferenceEngine(model, layers, stop, max_new_tokens, thought=thought)
    if name == "fast":
        from rh_bench.engines.fast import FastEngine

        return FastEngine(model, layers, stop, max_new_tokens, chunk, thought=thought)
    raise InputError(f"unknown engine {name!r}", where="--engine", hint=f"use {' or '.join(ENGINES)}")
