"""What question answering with heads removed is: two kinds with the same tables."""

from __future__ import annotations

from collections.abc import Iterator

from rh_bench.experiments.kind import Claim, Kind, Observed, Tables
from rh_bench.experiments.qa.check import check
from rh_bench.experiments.qa.derive import ITEMS, RESPONSES, STATEMENTS, derive
from rh_bench.experiments.sketch import sketch_texts

_TABLES = {"items": ITEMS, "responses": RESPONSES}
_MOST_ROWS = 1_000_000
_EFFECT = "loss, beyond that without random heads"


def _sketch(tables: Tables) -> Iterator[str]:
    return sketch_texts(tables["responses"], "item_id")


_OBSERVED = Observed("responses", "responses", _sketch)

EXTRACTIVE_QA = Kind(
    "extractive_qa",
    1,
    _TABLES,
    derive,
    check,
    _MOST_ROWS,
    label="Extractive questions",
    claims=(Claim("extractive_qa", STATEMENTS["extractive_qa"], label="Extractive questions", effect=_EFFECT),),
    observed=_OBSERVED,
)
CHAIN_OF_THOUGHT = Kind(
    "chain_of_thought",
    1,
    _TABLES,
    derive,
    check,
    _MOST_ROWS,
    label="Chain of thought",
    claims=(
        Claim(
            "reasoning",
            STATEMENTS["reasoning"],
            label="Reasoning",
            effect=_EFFECT,
            command="rh-bench reason",
            place=60,
        ),
        Claim(
            "reasoning_more_than_direct",
            STATEMENTS["reasoning_more_than_direct"],
            label="Reasoning more than answering",
            effect="loss with chain of thought, less that without",
        ),
    ),
    observed=_OBSERVED,
)
KINDS = (EXTRACTIVE_QA, CHAIN_OF_THOUGHT)
