"""What all formats of head lists go through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rh_bench.records import Json
from rh_bench.statistics import FloatArray

Unit = Literal["query", "key_value"]
Measure = Literal["score", "gate", "membership"]


LARGEST_SCORE = 1e100
"""Of a single sample, in size: `math.fsum` raises where sums go beyond what a float can hold."""


@dataclass(frozen=True)
class HeadList:
    """Heads of one model, with what a file says of each."""

    format: str
    """Where it comes from: a name of `formats.READERS`, or "run"."""
    model: str | None
    """The model as the file names it."""
    unit: Unit
    """Whether `head` counts query heads or key/value heads."""
    measure: Measure
    """score: mean retrieval score; gate: a learned weight; membership: in the list or not."""
    layers: int | None
    heads_per_layer: int | None
    """The grid, where the file gives it."""
    heads: tuple[tuple[int, int], ...]
    """(layer, head), sorted; the whole grid where there are values."""
    values: tuple[float, ...] | None
    """One a head; None for membership."""
    selected: frozenset[tuple[int, int]] | None
    """Heads that the file names as chosen, where it does."""
    instances: tuple[tuple[float, ...], ...] | None = None
    """Scores of single samples, one row a head; rows can differ in length in a damaged file."""
    order: tuple[tuple[int, int], ...] | None = None
    """The chosen heads as the file orders them, where its order means something."""
    extra: Json = field(default_factory=dict)
    """What else the file says, kept for writing it again."""

    notes: tuple[str, ...] = ()
    """What had to be mended to read the file."""

    @property
    def samples(self) -> int | None:
        """Samples behind every value, where all heads have as many."""
        counts = {len(row) for row in self.instances or ()}
        return counts.pop() if len(counts) == 1 else None

    def matrix(self) -> FloatArray:
        """float64 [layers, heads a layer] of the values; NaN where the file has none.

        Raises:
            ValueError: there are no values.
        """
        if self.values is None:
            raise ValueError("a list of members has no values")
        layers = self.layers or max(layer for layer, _ in self.heads) + 1
        heads = self.heads_per_layer or max(head for _, head in self.heads) + 1
        out = np.full((layers, heads), np.nan)
        for (layer, head), value in zip(self.heads, self.values, strict=True):
            out[layer, head] = value
        return out
