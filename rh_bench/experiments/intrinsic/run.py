"""The experiment on two runs, or imports, that are there: no model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from rh_bench.errors import InputError
from rh_bench.experiments.document import new_document
from rh_bench.experiments.intrinsic.kind import KIND
from rh_bench.experiments.intrinsic.plan import PERMUTATIONS, TOPS, Relation, relation_of
from rh_bench.experiments.intrinsic.tables import (
    read_side,
    tables_of,
)
from rh_bench.interchange.records import MEASURES
from rh_bench.protocol import BOOTSTRAP
from rh_bench.records import Json
from rh_bench.system.files import shown


def observe(
    first: Path, second: Path, *, relation: Relation | None = None, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[Json, dict[str, pa.Table]]:
    """The experiment on two runs or imports: document and tables, to be written.

    Args:
        relation: of the two models; without it, what their cards say of their bases.

    Raises:
        InputError: one is damaged, has no scores of query heads, or their heads are not the same.
    """
    sides = read_side(first), read_side(second)
    if sides[0].heads != sides[1].heads:
        one, two = (_grid_words(side.heads) for side in sides)
        raise InputError(
            f"its heads ({two}) are not those of {shown(first)} ({one})",
            where=shown(second),
            hint="only models with equal layers and query heads can be compared head by head",
        )
    if sides[0].numbers != sides[1].numbers:
        one, two = (MEASURES[side.numbers] for side in sides)
        raise InputError(
            f"its numbers are {two}, those of {shown(first)} are {one}",
            where=shown(second),
            hint="only lists of one measure can be compared",
        )
    if sides[0].reference == sides[1].reference:
        raise InputError("is compared with itself", where=shown(second), hint="give two runs")
    found, by = (relation, "user") if relation else relation_of(sides[0].model, sides[1].model)
    names = ("id", "slug", "revision", "base_model")
    settings: Json = {
        "models": [{name: side.model.get(name) for name in names} for side in sides],
        "relation": found,
        "relation_by": by,
        "top": [k for k in TOPS if k < len(sides[0].heads)],
        "permutations": permutations,
        "seed": seed,
        "bootstrap": dict(BOOTSTRAP),
    }
    if sides[0].numbers != "score":
        settings["numbers"] = sides[0].numbers
    runs = [side.reference for side in sides]
    return new_document(KIND, model=sides[0].model, runs=runs, settings=settings), tables_of(sides)


def _grid_words(heads: Sequence[tuple[int, int]]) -> str:
    return f"{len(heads)} in {len({layer for layer, _ in heads})} layers"
