"""By what the answers of a model are recognised; see :mod:`rh_bench.artifacts.fingerprint`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from rh_bench.artifacts.fingerprint import digest

_FEWEST_TEXTS = 3
"""Different answers to one prompt that say something: a model that is right under every condition is like any other."""


def sketch_texts(table: pa.Table, unit: str) -> Iterator[str]:
    """A hash of all texts of each unit, in their order.

    Args:
        table: with a column `text`.
        unit: the column that names the unit: a sample, a question.
    """
    said: dict[str, list[str]] = {}
    for row in table.select([unit, "text"]).to_pylist():
        said.setdefault(row[unit], []).append(row["text"])
    yield from (digest(texts)[:16] for texts in said.values() if len(set(texts)) >= _FEWEST_TEXTS)
