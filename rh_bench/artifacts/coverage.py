"""What of its haystack set a run covers: all of it, a part, or a grid of its own.

Whoever chooses what is measured chooses what comes out: a model that fails at depth 50 looks well on a run without it.
So only runs over a whole set are ranked, and every other run says what it was measured on wherever one of its numbers
stands. Everything that shows a run asks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

from rh_bench.records import Json

WHOLE, PART, OWN = "whole", "part", "own"
KINDS = (WHOLE, PART, OWN)
WHOLE_GRID: Json = {"kind": "set", "lengths": None, "depths": None, "needles": None, "limit": None}
"""`protocol.grid` of a run over all samples of its set, however the choice was worded."""
WHY_NOT_RANKED = "whoever chooses what is measured can choose what comes out"
_MOST_LISTED = 4


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a run was measured on, compared with its set."""

    kind: str
    """One of KINDS."""
    samples: int
    """Samples that were measured."""
    of: int | None
    """Samples of the set; None if unknown."""
    choice: tuple[str, ...]
    """How they were chosen, a few words each; empty for a whole set."""

    @property
    def whole(self) -> bool:
        return self.kind == WHOLE

    @property
    def mark(self) -> str:
        """Two or three words, to stand beside a number."""
        if self.whole:
            return "whole set"
        if self.kind == OWN:
            return "own grid"
        return "part of the set" if self.of is None else f"{self.samples:,} of {self.of:,} samples"

    @property
    def words(self) -> str:
        """A phrase that says all of it: "22 of the set's 60 samples (limit 22)"."""
        chosen = f" ({'; '.join(self.choice)})" if self.choice else ""
        if self.whole:
            return f"all {self.samples:,} samples of the set"
        if self.kind == OWN:
            return f"{_count(self.samples)} of a grid of its own{chosen}"
        if self.of is None:
            return f"{_count(self.samples)} of the set{chosen}; how many the set has is not known"
        return f"{self.samples:,} of the set's {self.of:,} samples{chosen}"

    @property
    def note(self) -> str:
        """Why the run is not ranked, in one sentence; empty for a whole set."""
        return "" if self.whole else f"Not ranked: measured on {self.words}, and {WHY_NOT_RANKED}."

    def to_json(self) -> Json:
        return {"kind": self.kind, "samples": self.samples, "of": self.of, "choice": list(self.choice)}

    @classmethod
    def from_json(cls, document: Json) -> Coverage:
        return cls(document["kind"], document["samples"], document["of"], tuple(document["choice"]))


def coverage(run: Json, set_samples: int | None = None) -> Coverage:
    """What a run covers, from its run.json.

    A limit that took no sample away, or needles that are all there are, leave a whole set. Where they may have taken
    some away, only someone else's word that the set has no more samples shows that they did not: what run.json itself
    says of the set can make it a part, and never a whole. (`rh-bench evaluate` writes WHOLE_GRID for every choice
    that leaves all samples, so that no run of its own needs more.)

    Args:
        set_samples: samples of the set, from its manifest or from a run that was verified against it.
    """
    grid, samples, said = run["protocol"]["grid"], run["counts"]["samples"], run["haystack"].get("samples")
    choice = tuple(_choice(grid))
    if grid["kind"] == "made":
        return Coverage(OWN, samples, set_samples or said, choice)
    if set_samples is not None:
        whole = samples == set_samples
    else:
        unlimited = grid["needles"] is None and samples < (inf if grid["limit"] is None else grid["limit"])
        whole = unlimited and said in (None, samples)
    if whole:
        return Coverage(WHOLE, samples, samples, ())
    return Coverage(PART, samples, set_samples or (said if said != samples else None), choice)


def coverage_problems(run: Json, set_samples: int | None = None) -> Iterator[tuple[str, str]]:
    """Where run.json contradicts itself, or the set, about how many samples there are: (JSON pointer, message).

    Args:
        set_samples: as the set's manifest says.
    """
    grid, samples = run["protocol"]["grid"], run["counts"]["samples"]
    said = run["haystack"].get("samples")
    if said is not None and set_samples is not None and said != set_samples:
        yield "/haystack/samples", f"the set has {set_samples}"
        said = set_samples
    if grid["limit"] is not None and samples > grid["limit"]:
        yield "/counts/samples", f"more than its limit of {grid['limit']}"
    if grid["kind"] == "made":
        if grid["needles"] and grid["lengths"] and grid["depths"]:
            cells = len(grid["needles"]) * len(grid["lengths"]) * len(grid["depths"])
            yield from _not(samples, min(cells, grid["limit"] or cells), "its grid names")
    elif said is not None:
        if grid["needles"] is None:
            yield from _not(samples, min(said, grid["limit"] or said), "its grid names")
        elif samples > said:
            yield "/counts/samples", f"the set has {said}"


def _not(samples: int, expected: int, who: str) -> Iterator[tuple[str, str]]:
    if samples != expected:
        yield "/counts/samples", f"{who} {expected}"


def _choice(grid: Json) -> Iterator[str]:
    if grid["lengths"] is not None:
        yield "lengths " + _listed(f"{length:,}" for length in grid["lengths"])
    if grid["depths"] is not None:
        yield "depths " + _listed(f"{depth:g}%" for depth in grid["depths"])
    if grid["needles"] is not None:
        count = len(grid["needles"])
        yield f"{count} chosen {'needle' if count == 1 else 'needles'}"
    if grid["limit"] is not None:
        yield f"limit {grid['limit']}"


def _listed(items: Iterable[str]) -> str:
    texts = list(items)
    return ", ".join(texts) if len(texts) <= _MOST_LISTED else f"{texts[0]} to {texts[-1]} ({len(texts)})"


def _count(samples: int) -> str:
    return "1 sample" if samples == 1 else f"{samples:,} samples"
