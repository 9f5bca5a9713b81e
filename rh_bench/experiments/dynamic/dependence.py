"""Whether what a head does depends on its context: permutation tests, all heads at once.

Counts are integers held in float64 and exact; statistics are single IEEE operations in a fixed order, rounded to 9
decimals before they are compared. The same input gives the same p-values on every machine.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rh_bench.records import IntArray
from rh_bench.stats.bootstrap import NANO, FloatArray, rounded

BoolArray = npt.NDArray[np.bool_]

MOST_LEVELS = 50
"""Values of a factor, at most: with more, each has few contexts and a test would say little."""
_CHUNK = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """How a factor is tested: which contexts have which of its values, and which could have changed places."""

    factor: str
    levels: tuple[Hashable, ...]
    """Its values, sorted."""
    group: IntArray
    """int32 [n]: place in `levels` of each context's value."""
    within: tuple[str, ...]
    """Factors that are held fixed: contexts change places only where all of these are equal."""
    confounded: tuple[str, ...]
    """Factors that decide this one, so that the two cannot be told apart."""
    strata: IntArray
    """int32 [n]: contexts with the same number may change places."""
    permutable: int
    """Contexts in strata where the factor has more than one value."""
    reason: str | None
    """Why the factor cannot be tested, if it cannot."""


def design(factors: Mapping[str, Sequence[Hashable]], factor: str, n: int) -> Design:
    """How to test one factor while the others are held fixed, as far as they can be.

    A factor that decides this one (each haystack with a needle of its own) cannot be held fixed and is left out: the
    two cannot be told apart. Of the others, from first to last, as many are held fixed as leave more than half of the
    contexts in strata where the factor still varies.

    Args:
        factors: name to one value for each of the n contexts; the coarsest first.
    """
    values = list(factors[factor])
    levels = tuple(sorted(dict.fromkeys(values), key=_order))
    group = np.array([levels.index(value) for value in values], dtype=np.int32)
    nothing = np.zeros(n, dtype=np.int32)
    if len(levels) < 2:
        return Design(factor, levels, group, (), (), nothing, 0, "every context has the same value")
    if len(levels) > MOST_LEVELS:
        reason = f"has {len(levels)} values, at most {MOST_LEVELS} are told apart"
        return Design(factor, levels, group, (), (), nothing, 0, reason)
    confounded = tuple(name for name in factors if name != factor and _decides(factors[name], values))
    others = [name for name in factors if name not in (factor, *confounded) and len(set(factors[name])) > 1]
    for used in range(len(others), -1, -1):
        within = tuple(others[:used])
        strata = _numbered(list(zip(*(factors[name] for name in within), strict=True)) if within else [()] * n)
        permutable = _permutable(group, strata)
        if 2 * permutable > n or used == 0:
            return Design(factor, levels, group, within, confounded, strata, permutable, None)
    raise AssertionError("unreachable: nothing held fixed leaves every context permutable")


def _order(value: Hashable) -> tuple[bool, object]:
    return isinstance(value, str), value


def _decides(other: Sequence[Hashable], values: Sequence[Hashable]) -> bool:
    """Whether each value of `other` goes with a single one of `values`."""
    return len(set(zip(other, values, strict=True))) == len(set(other))


def _numbered(keys: Sequence[Hashable]) -> IntArray:
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int32)


def _permutable(group: IntArray, strata: IntArray) -> int:
    pairs = np.unique(np.stack([strata, group]), axis=1)
    varied = np.bincount(pairs[0], minlength=int(strata.max(initial=0)) + 1) > 1
    return int(varied[strata].sum())


def factor_p_values(active: BoolArray, how: Design, *, permutations: int, seed: int) -> list[float]:
    """Whether how often a head is active depends on a factor, for each head.

    The statistic is the sum over levels of (k - E)² / n: k of the level's n contexts have the head active, E is what
    its rates in the strata let expect. Under the null hypothesis the factor's values could as well have stood in
    another order within each stratum. The p-value is (1 + orders with as large a statistic) / (1 + orders).

    Args:
        active: bool [n, H].
        how: a testable design of the n contexts.
    """
    values = active.astype(np.float64)
    levels = len(how.levels)
    sizes = np.bincount(how.group, minlength=levels)
    expected = _expected(values, how)

    def statistic(groups: IntArray) -> npt.NDArray[np.int64]:
        """int64 [r, H] of group labels [r, n]."""
        total = np.zeros((len(groups), active.shape[1]))
        for level in range(levels):
            count = (groups == level).astype(np.float64) @ values
            total += (count - expected[level]) ** 2 / sizes[level]
        nano: npt.NDArray[np.int64] = np.rint(total * NANO).astype(np.int64)
        return nano

    observed = statistic(how.group[None])[0]
    extreme = np.zeros(active.shape[1], dtype=np.int64)
    for groups in _shuffled(how.group, how.strata, permutations, seed, active.shape[1]):
        extreme += (statistic(groups) >= observed).sum(axis=0)
    return [rounded((1 + int(count)) / (1 + permutations)) for count in extreme]


def _expected(values: FloatArray, how: Design) -> FloatArray:
    """float64 [levels, H]: added stratum by stratum, so that every machine adds alike."""
    total = np.zeros((len(how.levels), values.shape[1]))
    for stratum in range(int(how.strata.max(initial=0)) + 1):
        own = how.strata == stratum
        size, active = int(own.sum()), values[own].sum(axis=0)
        levels = np.bincount(how.group[own], minlength=len(how.levels))
        total += levels[:, None] * active[None, :] / size
    return total


def _shuffled(group: IntArray, strata: IntArray, permutations: int, seed: int, heads: int) -> Iterator[IntArray]:
    """Labels shuffled within strata: int32 [r, n] at a time."""
    n = len(group)
    places = np.argsort(strata, kind="stable")
    random = np.random.RandomState(seed)
    rows = max(1, _CHUNK // max(n, heads, 1))
    for done in range(0, permutations, rows):
        # The stream is read row by row, so the size of a chunk changes nothing.
        keys = random.random_sample((min(rows, permutations - done), n))
        order = np.lexsort((keys, np.broadcast_to(strata, keys.shape)), axis=1)
        shuffled = np.empty(keys.shape, dtype=np.int32)
        shuffled[:, places] = group[order]
        yield shuffled


@dataclass(frozen=True, slots=True)
class Parts:
    """Which parts of the answer one head copies."""

    copied: tuple[int, ...]
    """Positions copied in each part, over all contexts."""
    expected: tuple[float, ...]
    """What the head's numbers of copies let expect if it copied anywhere in the answer."""
    contexts: int
    """Contexts in which it copied some of what was copied there, but not all."""
    p_value: float | None
    """None if too few contexts say anything."""


def part_of(offset: npt.NDArray[np.int64], span: int, parts: int) -> npt.NDArray[np.int64]:
    """Which of `parts` equal parts of a span of `span` tokens each offset lies in, from 0."""
    found: npt.NDArray[np.int64] = offset * parts // span
    return found


def part_tests(
    copied: Sequence[BoolArray], *, parts: int, permutations: int, seed: int, fewest: int
) -> tuple[Parts, ...]:
    """Whether a head copies some parts of the answer rather than others, for each head.

    In each context, a head's copies are turned around among the positions that any head copied there, by a random
    number of places, the same for all heads: this keeps how many they are and that they lie side by side, and changes
    where they lie. The statistic is the sum over parts of (c - E)² / E. The p-value is (1 + turns with as large a
    statistic) / (1 + turns).

    Args:
        copied: for each context bool [H, span length], the positions that each head copied.
        fewest: contexts that must say something, for a p-value.
    """
    heads = copied[0].shape[0] if copied else 0
    contexts = [_Turns.of(one, parts) for one in copied if one.any()]
    count, expected = np.zeros((heads, parts)), np.zeros((heads, parts))
    informative = np.zeros(heads, dtype=np.int64)
    for turns in contexts:
        count[turns.heads] += turns.counts[:, 0]
        expected[turns.heads] += turns.expected
        informative[turns.heads] += turns.informative
    observed = _part_statistic(count, expected)
    extreme = np.zeros(heads, dtype=np.int64)
    random = np.random.RandomState(seed)
    rows = max(1, _CHUNK // max(1, heads * parts))
    for done in range(0, permutations, rows):
        keys = random.random_sample((min(rows, permutations - done), len(contexts)))
        total = np.zeros((len(keys), heads, parts))
        for place, turns in enumerate(contexts):
            turn = np.floor(keys[:, place] * turns.counts.shape[1]).astype(np.int64)
            total[:, turns.heads] += turns.counts[:, turn].swapaxes(0, 1)
        extreme += (_part_statistic(total, expected) >= observed).sum(axis=0)
    return tuple(
        Parts(
            tuple(int(c) for c in count[head]),
            tuple(rounded(float(e)) for e in expected[head]),
            int(informative[head]),
            rounded((1 + int(extreme[head])) / (1 + permutations)) if informative[head] >= fewest else None,
        )
        for head in range(heads)
    )


def _part_statistic(count: FloatArray, expected: FloatArray) -> npt.NDArray[np.int64]:
    """int64 [..., H] of counts [..., H, parts]; a part where nothing can be copied adds nothing."""
    squares = (count - expected) ** 2
    each = np.divide(squares, expected, out=np.zeros_like(squares), where=np.broadcast_to(expected > 0, squares.shape))
    total = np.zeros(each.shape[:-1])
    for part in range(each.shape[-1]):
        total += each[..., part]
    nano: npt.NDArray[np.int64] = np.rint(total * NANO).astype(np.int64)
    return nano


@dataclass(frozen=True, slots=True, eq=False)
class _Turns:
    """One context in which something is copied: copies by part of every head that copied in it, for each way to turn
    them around."""

    heads: npt.NDArray[np.int64]
    counts: FloatArray
    """float64 [heads, turns, parts]; turn 0 is what was observed."""
    expected: FloatArray
    """float64 [heads, parts]: mean over the turns."""
    informative: BoolArray
    """bool [heads]: whether a turn changes anything."""

    @classmethod
    def of(cls, copied: BoolArray, parts: int) -> _Turns:
        span = copied.shape[1]
        positions = np.flatnonzero(copied.any(axis=0)).astype(np.int64)
        heads = np.flatnonzero(copied.any(axis=1))
        turns = len(positions)
        own = copied[np.ix_(heads, positions)]
        part = part_of(positions, span, parts)
        # Column t of `turned` says where each copy lies after a turn by t places.
        places = (np.arange(turns)[None, :] + np.arange(turns)[:, None]) % turns
        in_part = (part[places][:, :, None] == np.arange(parts)).astype(np.float64)
        counts = np.einsum("hp,tpb->htb", own.astype(np.float64), in_part)
        size = own.sum(axis=1)
        available = np.bincount(part, minlength=parts)
        expected = size[:, None] * available[None, :] / turns
        return cls(heads, counts, expected, (size > 0) & (size < turns))
