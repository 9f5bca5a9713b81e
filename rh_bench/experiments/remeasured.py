"""How much of what was measured again must agree, and what a lie has to fear.

Honest measurements differ where two tokens are almost equally likely and another kernel, batch or type of numbers
rounds otherwise. How often that happens was measured (`docs/verification.md`); how many differences are let pass
follows from it: so many that 99% of honest experiments pass. What a model said is compared to the
letter, and what is counted of it (success, a right answer) by itself, because it differs far less often and is what
claims are made of. Every role is judged by itself: no lie about the answers without the strongest heads can hide among
the others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rh_bench.experiments.kind import HeadsRemeasured, Remeasured

LEVEL = 0.00125
"""Probability that an honest measurement shows more differences than are let pass, of each comparison: with four roles,
and what is said and what is counted compared in each, 99% of honest experiments pass."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Shares of honest measurements that differ, of one type of numbers."""

    said: float
    """Of answers that must be exactly the same."""
    counted: float
    """Of what is counted of them."""
    heads: float
    """Of scores of a head on a sample, by more than `near`."""
    near: float
    """Largest difference of two scores of a head that are the same."""


NOISE: Mapping[str, Noise] = {
    "float32": Noise(said=0.003, counted=0.00003, heads=0.002, near=0.001),
    "bfloat16": Noise(said=0.5, counted=0.03, heads=0.03, near=0.03),
    "float16": Noise(said=0.5, counted=0.03, heads=0.03, near=0.03),
}
"""By type of the experiment. In float32 only near ties of the last bits differ. For half types see
`benchmarks/results/experiments-noise.json`; float16, which rounds less, is given what bfloat16 is."""

LIES = (0.1, 0.25, 0.5)
"""Shares of a role's answers that a report says the odds of."""


def choose_units(roles: Mapping[str, Sequence[str]], count: int, digest: str, salt: str) -> list[str]:
    """Units that nobody could choose: within a role in the order of SHA-256 over the experiment's own hash, a salt and
    the unit; from the roles in turn.

    Args:
        roles: ids of units by role.
        digest: SHA-256 of experiment.json, which holds the hash of every table.
    """

    def place(unit: str) -> str:
        return hashlib.sha256(f"{digest}\n{salt}\n{unit}".encode()).hexdigest()

    ordered = [sorted(units, key=place) for _, units in sorted(roles.items(), key=lambda item: place(item[0]))]
    turns = (unit for turn in zip_longest(*ordered) for unit in turn if unit is not None)
    return [unit for unit, _ in zip(turns, range(count), strict=False)]


def most_differing(n: int, rate: float, comparisons: int = 1) -> int:
    """How many of n honest measurements may differ: more do with a probability of at most LEVEL, over all
    comparisons together."""
    beyond, k = 1.0, -1
    while beyond * comparisons > LEVEL and k < n:
        k += 1
        beyond = 1.0 - math.fsum(math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(k + 1))
    return k


def caught(units: int, forged: int, n: int, most: int) -> float:
    """Probability that more than `most` of n units, drawn from `units` of which some are forged, are forged ones."""
    ways = math.comb(units, n)
    few = sum(math.comb(forged, k) * math.comb(units - forged, n - k) for k in range(min(most, n) + 1))
    return 1.0 - few / ways


def judge_answers(
    found: Sequence[Remeasured], roles: Mapping[str, Sequence[str]], dtype: str
) -> tuple[bool, list[str]]:
    """Whether answers agree as far as honest ones would, role by role; and what was found, in words."""
    noise, agreed, words, odds = NOISE[dtype], True, [], []
    for role in sorted({one.role for one in found}):
        mine = [one for one in found if one.role == role]
        n = len(mine)
        for rate, equal, what in (
            (noise.said, sum(one.same for one in mine), "answers equal"),
            (noise.counted, sum(one.outcome for one in mine), "outcomes equal"),
        ):
            most = most_differing(n, rate)
            agreed &= n - equal <= most
            words.append(f"{role}: {equal} of {n} {what} (at least {n - most} needed for {dtype})")
        odds.append(_odds(role, len(roles[role]), n, most_differing(n, noise.counted)))
    differing = [f"{one.role}, {one.unit}: {one.words}" for one in found if not one.same]
    return agreed, [*words, *odds, *differing]


def _odds(role: str, units: int, n: int, most: int) -> str:
    said = (f"{share:.0%} of them with {caught(units, round(share * units), n, most):.0%}" for share in LIES)
    return f"{role}: outcomes that were made up in {', in '.join(said)} are caught by {n} of {units}"


def judge_heads(found: Sequence[HeadsRemeasured], dtype: str) -> tuple[bool, list[str]]:
    """Whether no head's scores differ more often than honest ones would, score by score; and what was found."""
    noise, agreed, words = NOISE[dtype], True, []
    for one in found:
        most = most_differing(one.n, noise.heads, len(one.heads))
        beyond = [(count, head) for count, head in zip(one.differing, one.heads, strict=True) if count > most]
        agreed &= not beyond
        worst = max(one.differing, default=0)
        words.append(
            f"{one.role}: no head may differ by more than {noise.near} in more than {most} of {one.n} samples for "
            f"{dtype}; the most that one does is {worst}"
        )
        words += [f"{one.role}: head {h[0]}-{h[1]} differs in {count} of {one.n}" for count, h in _worst(beyond)]
    return agreed, words


def _worst(beyond: Sequence[tuple[int, tuple[int, int]]]) -> Iterator[tuple[int, tuple[int, int]]]:
    yield from sorted(beyond, key=lambda item: (-item[0], item[1]))[:8]
