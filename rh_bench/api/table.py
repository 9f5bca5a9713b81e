"""Tables: rows to look at, columns for pandas, polars and Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rh_bench.api.notebook import table_html
from rh_bench.api.optional import needed

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_SHOWN = 10
"""Rows shown when a table is printed."""


class Table:
    """Rows with named columns. Iterating gives the rows as dictionaries; a column's name gives its values.

    ```python
    table = run.samples
    len(table), table.columns
    table[0]["sample_id"], table["success"]
    ```
    """

    def __init__(self, arrow: pa.Table) -> None:
        self._arrow = arrow

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        names: list[str] = self._arrow.column_names
        return names

    def to_arrow(self) -> pa.Table:
        """The table as `pyarrow.Table`, without a copy."""
        return self._arrow

    def to_pandas(self) -> pd.DataFrame:
        """The table as `pandas.DataFrame`.

        Raises:
            InputError: pandas is not installed.
        """
        needed("pandas", "pip install pandas")
        frame: pd.DataFrame = self._arrow.to_pandas()
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The table as `polars.DataFrame`.

        Raises:
            InputError: polars is not installed.
        """
        polars = needed("polars", "pip install polars")
        frame: pl.DataFrame = polars.from_arrow(self._arrow)
        return frame

    def __len__(self) -> int:
        return int(self._arrow.num_rows)

    def __iter__(self) -> Iterator[Any]:
        yield from self._arrow.to_pylist()

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self._arrow.column(key).to_pylist()
        place = key + len(self) if key < 0 else key
        if not 0 <= place < len(self):
            raise IndexError(f"row {key} of {len(self)}")
        return self._arrow.slice(place, 1).to_pylist()[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} rows of {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        return table_html(self.columns, self._arrow.slice(0, _SHOWN).to_pylist(), len(self))


@dataclass(frozen=True, slots=True)
class Head:
    """One attention head and its scores. All numbers except `n` are None if no sample counted.

    ```python
    strongest = run.heads.by_rank()[0]
    strongest.layer, strongest.head, strongest.score, strongest.score_low, strongest.score_high
    ```
    """

    layer: int
    head: int
    """The query head, counted within its layer."""
    score: float | None
    """The retrieval score: share of the answer that the head copies, averaged over the counted samples."""
    score_low: float | None
    score_high: float | None
    """Bounds of its 95% bootstrap interval; None if only one sample counted."""
    events_score: float | None
    """Score by the rule of the paper's released code: copy events / length of the answer, uncapped."""
    events_low: float | None
    events_high: float | None
    rank: int | None
    """1 is the strongest; heads of equal score share a rank."""
    rank_low: int | None
    rank_high: int | None
    activation_frequency: float | None
    """Share of the counted samples in which the head copies at least one token."""
    n: int
    """Number of counted samples."""

    @property
    def place(self) -> tuple[int, int]:
        """(layer, head), as `ablate` takes it."""
        return self.layer, self.head


class HeadTable(Table):
    """Every scored head of a run, by layer and head. Iterating gives `Head` objects; columns are those of `Head`.

    ```python
    run.heads.to_pandas(), run.heads.to_polars(), run.heads.to_arrow()
    run.heads["score"], run.heads[0], run.heads.by_rank()[:3]
    ```
    """

    def __iter__(self) -> Iterator[Head]:
        return (Head(**row) for row in self._arrow.to_pylist())

    def __getitem__(self, key: int | str) -> Any:
        found = super().__getitem__(key)
        return found if isinstance(key, str) else Head(**found)

    def by_rank(self) -> list[Head]:
        """All heads, the strongest first; equal ones in the model's order, as are heads without scores."""
        return sorted(self, key=lambda head: (head.rank or 0, head.layer, head.head))

    def _repr_html_(self) -> str:
        columns = ["layer", "head", "score", "score_low", "score_high", "rank", "activation_frequency", "n"]
        rows = [{name: getattr(head, name) for name in columns} for head in self.by_rank()[:_SHOWN]]
        return table_html(columns, rows, len(self))
