"""What a kind of experiment is: its tables, what they give, and what must hold of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from rh_bench.errors import InputError
from rh_bench.records import Json, Problem
from rh_bench.stats.bootstrap import Estimate, rounded

if TYPE_CHECKING:
    from rh_bench.artifacts.levels import Evidence
    from rh_bench.experiments.artifact import Experiment

Tables = Mapping[str, pa.Table]
"""Tables by name, without `.parquet`."""
Derive = Callable[[Json, Tables], tuple[Json, list[Json]]]
"""From experiment.json (its `results`, `claims`, `counts` and `files` are not to be read) and the tables to results and
claims. Pure: the same input gives the same numbers on every machine. Raises InputError where tables do not add up."""
Check = Callable[[Json, Tables], Iterable[Problem]]
"""What is wrong with a document (valid by its schema) and tables (of the right columns). Bounds the work of `derive`,
which is only called where nothing is wrong."""

Against = Callable[[Json, Tables, Sequence[Path | None]], Iterable[Problem]]
"""What contradicts the runs that an experiment names, whose folders are given in their order, None for one that is not
available. Document and tables are sound, and the runs have the very bytes that the document names."""

Verdict = Literal["holds", "does_not_hold", "not_enough_evidence"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A row of the scorecard that experiments of a kind make."""

    name: str
    """As `claim` of the rows that `derive` gives."""
    statement: str
    label: str
    """As the row, or its column, is headed."""
    effect: str
    """What its effect is, in words."""
    share: bool = False
    """Whether the effect is a share, shown in percent; a difference or a correlation otherwise."""
    command: str = ""
    """The command that gives evidence."""
    place: int | None = None
    """Where its row stands on every scorecard, in ascending order; None for one that only scorecards with such an
    experiment have."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a model gave, of a kind that runs one."""

    table: str
    """The table that no two models and no two measurements give alike, byte for byte, without `.parquet`."""
    units: str
    """Which of `counts` says how many units could be measured again."""
    sketch: Callable[[Tables], Iterable[str]]
    """Hashes of what the model did in each unit, without names, order and encoding."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of experiment, as `KINDS` of `kind.py` in its folder declares it.

    See `docs/experiments.md` for the other files of the folder, and :mod:`rh_bench.experiments.registry` for how they
    are found.
    """

    name: str
    """Of small letters, digits and underscores, 40 at most: it is part of the names of folders."""
    version: int
    """Raised when tables or computation change: it is part of the experiment's id."""
    tables: Mapping[str, pa.Schema]
    """Columns of each table, by its name without `.parquet`."""
    derive: Derive
    check: Check
    most_rows: int = 2_000_000
    """Rows of a table, at most."""
    most_bytes: int = 256 << 20
    """Uncompressed bytes of a table, at most."""
    against_runs: Against | None = None
    """None if the runs say nothing about the tables."""
    label: str = ""
    """As readers see its name."""
    claims: Sequence[Claim] = ()
    observed: Observed | None = None
    """None if the tables follow from runs alone, so that nothing can be measured again."""
    compares: bool = False
    """Whether it is about all models whose runs it names alike, rather than about the first."""


@dataclass(frozen=True, slots=True)
class Remeasured:
    """What came out where a unit of measurement was measured again."""

    role: str
    """What is judged together: a kind of condition, a score of a detector."""
    unit: str
    same: bool
    """Whether the model said exactly the same."""
    outcome: bool
    """Whether what is counted (success, a right answer) is the same."""
    words: str = ""
    """What differs."""


@dataclass(frozen=True, slots=True)
class HeadsRemeasured:
    """Scores of every head measured again: in how many of `n` samples the score of a head differs, by the head."""

    role: str
    n: int
    differing: Sequence[int]
    heads: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Measuring:
    """How a kind's units of measurement are measured again. What runs a model is imported when it is called."""

    unit: str
    """What they are, in words, in the plural."""
    units: Callable[[Experiment], Mapping[str, Sequence[str]]]
    """Ids of all units by role; units are drawn from the roles in turn, so that none is left out by chance."""
    measure: Callable[[Experiment, Sequence[Path], Sequence[str], Evidence], Again]
    """Measure the units of these ids again: experiment, folders of its runs, ids, and where set and model are."""


Again = Sequence[Remeasured] | Sequence[HeadsRemeasured] | Sequence[str]
"""What came out; texts are problems that kept anything from being measured: another model, another set."""


class UntriedError(InputError):
    """What was observed cannot be observed again here, whatever was named as evidence."""


@dataclass(frozen=True, slots=True)
class Verifying:
    """How someone else makes again what an experiment of a kind says: `VERIFYING` of `again.py` in its folder."""

    planned: Callable[[Experiment, Sequence[Path]], Iterable[str]]
    """What of its plan is not what its runs (all available, of the very bytes that it names, in its order) and the
    constants of the kind give: heads removed, random heads and their seeds, settings of the statistics."""
    reproduced: Callable[[Experiment, Sequence[Path], Evidence], Iterable[str]] | None = None
    """What of its samples or questions and prompts is not what its data and its model's tokenizer give. None if
    there are no prompts."""
    measuring: Measuring | None = None
    """None if nothing is measured beside the runs."""
    notes: Callable[[Json], Iterable[str]] = lambda document: ()
    """What is right and a reader should know all the same: choices that its maker was free to make."""


def column(name: str, kind: pa.DataType, *, nullable: bool = False) -> pa.Field:
    """A column of a table's schema; without `nullable` no value may be missing."""
    return pa.field(name, kind, nullable=nullable)


def claim(
    name: str,
    statement: str,
    verdict: Verdict,
    *,
    test: str,
    n: int,
    effect: Estimate | None = None,
    p_value: float | None = None,
    reason: str | None = None,
) -> Json:
    """A row of the scorecard.

    Args:
        name: causal, dynamic, intrinsic, reasoning …
        test: how it was decided: the statistic, the test, the limits.
        n: units of observation behind it.
        reason: why there is not enough evidence, or what qualifies the verdict.

    Raises:
        ValueError: there is not enough evidence and no reason says why.
    """
    if verdict == "not_enough_evidence" and not reason:
        raise ValueError(f"claim {name} lacks a reason")
    return {
        "claim": name,
        "statement": statement,
        "verdict": verdict,
        "test": test,
        "effect": None if effect is None else effect.to_json(),
        "p_value": None if p_value is None else rounded(p_value),
        "n": n,
        "reason": reason,
    }
