"""A measured run, as users see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rh_bench.api.choose import choose_top
from rh_bench.api.export import Exported, export
from rh_bench.api.notebook import facts_html
from rh_bench.api.table import HeadTable, Table
from rh_bench.artifacts.coverage import coverage
from rh_bench.artifacts.run import MadeRun, run_folder
from rh_bench.artifacts.save import save_files
from rh_bench.errors import InputError
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.records import Json, Layer, SampleResult
from rh_bench.system.schema import dump_json, parse_json
from rh_bench.system.workshop import scratch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class Run:
    """A measured run: every head's score with its interval, and every sample and copy event behind it.

    Runs come from `evaluate`, `load_run` and `load_runs`.

    ```python
    run.summary["success"]["rate"]["value"], len(run.heads), run.top(3)
    ```
    """

    document: Json
    """run.json: model, set, protocol, engine, environment, counts."""
    layers: tuple[Layer, ...]
    """Every decoder layer of the model."""
    results: tuple[SampleResult, ...]
    """Every sample with its copy events, as the package's own records."""
    folder: Path | None
    """The run's folder; None if it was not written."""
    _files: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, made: MadeRun, folder: Path | None = None) -> Run:
        """A run just measured."""
        return cls(made.document, made.layers, made.results, folder, made.files)

    @property
    def id(self) -> str:
        """The run's id, a hash of everything that determines its events."""
        return str(self.document["run_id"])

    @property
    def model(self) -> str:
        """The model's id."""
        return str(self.document["model"]["id"])

    @property
    def notes(self) -> list[str]:
        """Notes on how it was measured."""
        found = [*self.document["model"].get("notes", []), *self.document["engine"]["notes"]]
        note = coverage(self.document).note
        return [*found, note] if note else found

    @cached_property
    def heads(self) -> HeadTable:
        """Every head: layer, head, score, interval, rank …; see `Head`.

        ```python
        run.heads.to_pandas()
        ```
        """
        return HeadTable(_table(self._files["heads.parquet"]))

    @cached_property
    def samples(self) -> Table:
        """One row per sample: needle, length, depth, the answer, the model's response, whether it counts."""
        return Table(_table(self._files["samples.parquet"]))

    @cached_property
    def events(self) -> Table:
        """One row per copy event: sample, layer, head, step of the answer, offset in the answer's span."""
        return Table(_table(self._files["events.parquet"]))

    @cached_property
    def summary(self) -> Json:
        """summary.json: success, sparsity, heads that are always on."""
        found: Json = parse_json(self._files["summary.json"].decode())
        return found

    def top(
        self, k: int | None = None, *, above: float | None = None, share: float | None = None
    ) -> list[tuple[int, int]]:
        """The strongest heads as (layer, head), the strongest first; heads of equal score by layer, then head.

        Heads that never copy are never included, so fewer heads may be returned.

        Args:
            k: number of heads.
            above: heads with a score above this. Without any argument it is 0.1, the threshold of retrieval heads.
            share: share of all heads, the strongest; rounded down, at least one.

        Raises:
            InputError: no sample counted, so no head has a score; or more than one argument is given.

        ```python
        run.top(10), run.top(above=0.1), run.top(share=0.05)
        ```
        """
        ranked = [(head.place, head.score) for head in self.heads.by_rank() if head.score is not None]
        if not ranked:
            raise InputError("no sample counts, so no head has a score", where=f"run {self.id}")
        return choose_top(ranked, k, above, share, HEAD_THRESHOLD)

    def to(self, format: str, path: str | Path, **options: Any) -> Exported:
        """Write the heads in another project's format; `docs/interchange.md` describes the formats.

        Args:
            format: seed, pairs, duo, qrhead, profile, atlas, eee, eval-results, or one added by an installed package.
            path: the file, or a folder. If a format has several files, the others are written beside it.
            options: as for `rh-bench export`: `rule`, `threshold`, `top`, `reduce`, `dataset`, `developer`.

        Returns:
            The files written, and what the format cannot hold.

        Raises:
            InputError: there is no such format, or the run lacks data it needs.

        ```python
        run.to("duo", "heads.tsv").losses
        ```
        """
        with self._on_disk() as folder:
            return export(folder, format, Path(path), options)

    def save(self, out: str | Path) -> Path:
        """Write the run below a folder of runs, like `rh-bench evaluate --out`, and return its own folder.

        Raises:
            InputError: the folder cannot be written, or another run is there.

        ```python
        folder = run.save("runs")
        ```
        """
        folder = run_folder(Path(out), self.document["model"]["slug"], self.id)
        save_files(folder, self._files, "run.json", dump_json(self.document))
        return folder

    def plot(self, *, size: tuple[float, float] | None = None) -> Figure:
        """A heat map of the scores, layers × heads, as a matplotlib figure. Retrieval heads are marked.

        Args:
            size: width and height in inches.

        Raises:
            InputError: matplotlib is not installed (`pip install 'rh-bench[plot]'`).

        ```python
        run.plot().savefig("heads.png")
        ```
        """
        from rh_bench.api.plot import heat_map

        return heat_map(self, size)

    @contextmanager
    def _on_disk(self) -> Iterator[Path]:
        if self.folder is not None:
            yield self.folder
            return
        with scratch("run") as place:
            yield self.save(place)

    def _facts(self) -> list[tuple[str, str]]:
        rate, counts = self.summary["success"]["rate"], self.document["counts"]
        interval = "" if rate["low"] is None else f" ({rate['low']:.3f} to {rate['high']:.3f})"
        success = "–" if rate["value"] is None else f"{rate['value']:.3f}{interval}"
        found = "–" if not counts["counted"] else f"{len(self.top())} of {counts['heads']}"
        return [
            ("run", self.id),
            ("measured on", coverage(self.document).words),
            ("success", success),
            ("retrieval heads", found),
            ("stored in", "memory" if self.folder is None else str(self.folder)),
        ]

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.model!r}: " + ", ".join(f"{a} {b}" for a, b in self._facts()[1:4]) + ">"

    def _repr_html_(self) -> str:
        return facts_html(self.model, self._facts(), self.notes) + self.heads._repr_html_()


def _table(data: bytes) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(data))
