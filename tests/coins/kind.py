"""What the experiment is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from rh_bench.experiments.kind import Claim, Kind, Tables, claim, column
from rh_bench.records import Problem
from rh_bench.stats.bootstrap import wilson

TOSSES = pa.schema([column("toss", pa.int32()), column("heads", pa.bool_())])
STATEMENT = "This coin is fair."


def derive(document: dict[str, Any], tables: Tables) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    tosses = tables["tosses"].column("heads").to_pylist()
    share = wilson(sum(tosses), len(tosses), 0.95)
    return {"share": share.to_json()}, [claim("fair", STATEMENT, "holds", test="none", effect=share, n=len(tosses))]


def check(document: dict[str, Any], tables: Tables) -> Iterator[Problem]:
    for row, toss in enumerate(tables["tosses"].column("toss").to_pylist()):
        if toss != row:
            yield Problem("tosses.parquet", f"/{row}/toss", f"is {toss}, tosses are numbered from 0")


COIN = Kind(
    "coin",
    1,
    {"tosses": TOSSES},
    derive,
    check,
    label="Coin",
    claims=(
        Claim("fair", STATEMENT, label="Fair", effect="share of heads up", share=True, command="coins toss", place=70),
    ),
)
KINDS = (COIN,)
