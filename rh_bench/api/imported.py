"""A head list of another project, as users see it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from rh_bench.api.choose import choose_top
from rh_bench.api.export import Exported, export
from rh_bench.api.notebook import facts_html
from rh_bench.api.table import Table
from rh_bench.errors import InputError
from rh_bench.interchange.folder import DOCUMENT, HEADS, read_import
from rh_bench.interchange.records import MEASURES, HeadList
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Json
from rh_bench.system.schema import load_json

_COLUMNS = ("layer", "head", "value", "selected")


@dataclass(frozen=True, repr=False, eq=False)
class ImportedHeads:
    """Heads that another project published, as imported by `rh-bench import`. There are no events behind them.

    ```python
    heads = rh.load_run(imported)
    heads.measure, heads.top(3)
    ```
    """

    document: Json
    """import.json: the origin of the list, and what is wrong with it."""
    folder: Path
    record: HeadList
    """The list, as the package's own record."""

    @classmethod
    def read(cls, folder: Path) -> ImportedHeads:
        """An import in a folder.

        Raises:
            InputError: it is damaged.
        """
        found = read_import(folder)
        return cls(load_json(folder / DOCUMENT), folder, found)

    @property
    def model(self) -> str | None:
        """The model's name, if known."""
        return self.record.model

    @property
    def measure(self) -> str:
        """What the numbers are. Only retrieval scores can be compared with a run's."""
        return MEASURES[self.record.measure]

    @cached_property
    def heads(self) -> Table:
        """One row per head: layer, head, value, whether the list chooses it."""
        values = self.record.values or (None,) * len(self.record.heads)
        chosen = self.record.selected
        rows = [
            {
                "layer": layer,
                "head": head,
                "value": None if value is None or math.isnan(value) else value,
                "selected": None if chosen is None else (layer, head) in chosen,
            }
            for (layer, head), value in zip(self.record.heads, values, strict=True)
        ]
        return Table(pa.Table.from_pylist(rows, schema=pa.schema([HEADS.field(name) for name in _COLUMNS])))

    def top(
        self, k: int | None = None, *, above: float | None = None, share: float | None = None
    ) -> list[tuple[int, int]]:
        """Like `Run.top`, by the list's own numbers. A list without numbers gives its heads in its own order, and
        without arguments all heads that it chooses.

        Raises:
            InputError: see `Run.top`; also if the list stands for every head, or 0.1 is no threshold for its numbers.
        """
        if self.record.values is None:
            if above is not None or share is not None or not self.record.heads:
                raise InputError("has no numbers to choose by", where=self.folder)
            order = list(self.record.order or self.record.heads)
            return choose_top([(head, 1.0) for head in order], len(order) if k is None else k, None, None, 0.0)
        numbers = zip(self.record.heads, self.record.values, strict=True)
        ranked = sorted((one for one in numbers if not math.isnan(one[1])), key=lambda one: (-one[1], one[0]))
        if k is None and above is None and share is None and self.record.measure != "score":
            chosen = self.record.selected
            if chosen is None:
                raise InputError(f"its numbers are {self.measure}, for which 0.1 is not a threshold", where=self.folder)
            return [head for head, _ in ranked if head in chosen]
        return choose_top(ranked, k, above, share, HEAD_THRESHOLD)

    def to(self, format: str, path: str | Path, **options: Any) -> Exported:
        """Write the heads in another format; see `Run.to`."""
        return export(self.folder, format, Path(path), options)

    def _facts(self) -> list[tuple[str, str]]:
        return [
            ("format", str(self.document["format"])),
            ("measure", self.measure),
            ("heads", str(len(self.record.heads))),
            ("stored in", str(self.folder)),
        ]

    def __repr__(self) -> str:
        return f"<ImportedHeads of {self.model!r}: " + ", ".join(f"{a} {b}" for a, b in self._facts()[:3]) + ">"

    def _repr_html_(self) -> str:
        findings = [str(one["message"]) for one in self.document["findings"]]
        return facts_html(self.model or "model unknown", self._facts(), findings) + self.heads._repr_html_()
