"""Which heads an experiment removes: the strongest of a run, and random ones to compare with.

A control that overlaps with what it controls for says nothing, so random heads are drawn from those that are neither
retrieval heads nor removed in the comparison. Draws come from `numpy.random.RandomState`, whose stream NumPy has
frozen: the same seed gives the same heads everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rh_bench.artifacts.tables import HEADS, read_table
from rh_bench.errors import InputError
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Layer, head_grid
from rh_bench.stats.bootstrap import NANO, FloatArray
from rh_bench.stats.ranks import strongest_first
from rh_bench.system.schema import load_json

Head = tuple[int, int]
"""(layer, query head)."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The heads of a model by their score in a run, the strongest first; equal scores by layer, then head."""

    heads: tuple[Head, ...]
    scores: tuple[float, ...]

    @property
    def retrieval(self) -> tuple[Head, ...]:
        """The heads above the threshold, the strongest first."""
        above = (score > HEAD_THRESHOLD for score in self.scores)
        return tuple(head for head, yes in zip(self.heads, above, strict=True) if yes)

    def top(self, k: int) -> tuple[Head, ...]:
        """The k strongest.

        Raises:
            InputError: the model has fewer heads.
        """
        if not 0 <= k <= len(self.heads):
            raise InputError(f"{k} heads cannot be chosen of {len(self.heads)}", where="--top", hint="give a smaller K")
        return self.heads[:k]


@dataclass(frozen=True, slots=True)
class Draw:
    """Random heads, and what they were drawn with."""

    heads: tuple[Head, ...]
    """Sorted by layer, then head."""
    seed: int
    matched: bool
    """Whether the layers are those of the heads they are compared with."""
    moved: int
    """Heads that a matched draw took from the nearest layer because their own had no other left."""


def rank_heads(layers: Sequence[Layer], scores: FloatArray | None) -> Ranking:
    """Order heads by score.

    Args:
        layers: the model's layers, in order.
        scores: float64 [H] in the order of `head_grid(layers)`, rounded to 9 decimals; None if no sample counted.

    Raises:
        InputError: there are no scores, so that no head is stronger than another.
    """
    grid = head_grid(list(layers))
    if scores is None:
        raise InputError("no sample of this run counted, so no head has a score", hint="measure a run that succeeds")
    if len(scores) != len(grid):
        raise InputError(f"the run has {len(scores)} scores for {len(grid)} heads", where="heads.parquet")
    nano = np.rint(np.asarray(scores, dtype=np.float64) * NANO).astype(np.int64)
    order = strongest_first(nano)
    return Ranking(tuple(grid[i] for i in order), tuple(float(scores[i]) for i in order))


def run_ranking(run: Path) -> Ranking:
    """The heads of a finished run by rule `paper`.

    Raises:
        InputError: its files are damaged, or no sample counted.
    """
    layers = [Layer(**layer) for layer in load_json(run / "run.json")["model"]["layers"]]
    scores = read_table(run / "heads.parquet", HEADS).column("score")
    return rank_heads(layers, None if scores.null_count else np.asarray(scores.to_numpy(), dtype=np.float64))


def draw_random_heads(
    grid: Sequence[Head], retrieval: Collection[Head], top: Collection[Head], seed: int, *, matched: bool
) -> Draw:
    """As many random heads as `top` has, none of which is a retrieval head or in `top`.

    Uniform draws with the same seed and the same excluded heads are nested: those of a smaller K are part of those of a
    larger one.

    Args:
        grid: every head of the model, as `head_grid` gives them.
        retrieval: the run's retrieval heads.
        top: the heads that this draw is compared with.
        seed: from 0 to 2**32 - 1.
        matched: draw in each layer as many as `top` has there. Where a layer has too few others, the nearest layer with
            some left gives them (of two as near, the one before), and the draw says how many moved.

    Raises:
        InputError: the model has too few other heads.
    """
    excluded = set(retrieval) | set(top)
    free = [head for head in grid if head not in excluded]
    if len(top) > len(free):
        raise InputError(
            f"{len(top)} random heads cannot be drawn from the {len(free)} neither removed nor retrieval heads",
            where="--top",
            hint=f"give K of at most {len(free)}",
        )
    random = np.random.RandomState(seed)
    shuffled = [free[i] for i in random.permutation(len(free))]
    if not matched:
        return Draw(tuple(sorted(shuffled[: len(top)])), seed, False, 0)
    chosen, moved = _matched(shuffled, Counter(layer for layer, _ in top))
    return Draw(tuple(sorted(chosen)), seed, True, moved)


def _matched(shuffled: Sequence[Head], wanted: Counter[int]) -> tuple[list[Head], int]:
    left: dict[int, list[Head]] = {}
    for head in shuffled:
        left.setdefault(head[0], []).append(head)
    chosen: list[Head] = []
    short: list[int] = []
    for layer in sorted(wanted):
        own = left.get(layer, [])
        chosen += own[: wanted[layer]]
        short += [layer] * (wanted[layer] - len(own))
        left[layer] = own[wanted[layer] :]
    for layer in short:
        nearest = min((other for other, heads in left.items() if heads), key=lambda o: (abs(o - layer), o))
        chosen.append(left[nearest].pop(0))
    return chosen, len(short)


def draws(
    grid: Sequence[Head], retrieval: Collection[Head], top: Collection[Head], seeds: Sequence[int], *, matched: bool
) -> tuple[Draw, ...]:
    """One draw a seed; see :func:`draw_random_heads`."""
    return tuple(draw_random_heads(grid, retrieval, top, seed, matched=matched) for seed in seeds)
