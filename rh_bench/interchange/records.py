"""What all formats of head lists go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rh_bench.records import Json
from rh_bench.stats.bootstrap import FloatArray

Head = tuple[int, int]
"""(layer, head)."""
Unit = Literal["query", "key_value"]
Measure = Literal["score", "argmax", "attention", "unknown", "gate", "membership"]
MEASURES: Mapping[Measure, str] = {
    "score": "retrieval scores",
    "argmax": "shares of prompts whose largest weight lies on the needle",
    "attention": "attention mass on the needle",
    "unknown": "numbers of an unknown kind",
    "gate": "learned gates",
    "membership": "a list of heads without scores",
}
"""What each measure's numbers are, in words. Only "score" is what this package measures: shares of an answer that a
head copies. Nothing else is compared with it."""
COMPARED: frozenset[Measure] = frozenset({"score", "argmax"})
"""Measures whose lists can be compared with lists of the same measure: both are shares of trials, and the projects that
publish them draw the line at 0.1."""

LARGEST_SCORE = 1e100
"""Of a single sample, in size: `math.fsum` raises where sums go beyond what a float can hold."""


@dataclass(frozen=True)
class HeadList:
    """Heads of one model, with what a file says of each."""

    format: str
    """Where it comes from: a name of `formats.READERS`, or "run"."""
    model: str | None
    """The model as the file names it; a quantised variant has a name of its own, see `names.own_name`."""
    unit: Unit
    """Whether `head` counts query heads or key/value heads."""
    measure: Measure
    """What the numbers are: a key of MEASURES."""
    layers: int | None
    heads_per_layer: int | None
    """The grid, where the file gives it."""
    heads: tuple[Head, ...]
    """(layer, head), sorted; the whole grid where there are values."""
    values: tuple[float, ...] | None
    """One a head; None for membership."""
    selected: frozenset[Head] | None
    """Heads that the file names as chosen, where it does."""
    instances: tuple[tuple[float, ...], ...] | None = None
    """Scores of single samples, one row per head; rows can differ in length in a damaged file."""
    order: tuple[Head, ...] | None = None
    """The heads as the file orders them (the chosen ones, where it chooses), where its order means something."""
    extra: Json = field(default_factory=dict)
    """What else the file says, kept for writing it again."""

    notes: tuple[str, ...] = ()
    """What had to be mended to read the file."""
    quantisation: str | None = None
    """How the model's weights were quantised, where the file says so."""
    every_head: bool = False
    """The file stands for all heads of the model, without naming or counting them; `heads` is empty."""

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
