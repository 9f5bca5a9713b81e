"""What is fixed before two models are compared, and how they are related."""

from __future__ import annotations

from typing import Literal

from rh_bench.records import Json

Relation = Literal["derived", "unrelated", "unknown"]


TOPS = (10, 20, 50)
PERMUTATIONS = 2_000


def relation_of(first: Json, second: Json) -> tuple[Relation, str | None]:
    """What the cards of two models say of each other, and who says it."""
    for one, other in ((first, second), (second, first)):
        bases = [name.casefold() for name in one.get("base_model") or ()]
        if other["id"].casefold() in bases:
            return "derived", "card"
    return "unknown", None
