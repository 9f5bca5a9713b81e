"""An experiment, as users see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rh_bench.api.notebook import facts_html, table_html
from rh_bench.api.table import Table
from rh_bench.artifacts.save import save_files
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import (
    DOCUMENT,
    MadeExperiment,
    experiment_files,
    read_experiment,
    validate_experiment,
)
from rh_bench.experiments.document import experiment_folder
from rh_bench.experiments.kind import Tables
from rh_bench.records import Json
from rh_bench.system.files import shown
from rh_bench.system.schema import dump_json


@dataclass(frozen=True, repr=False, eq=False)
class Experiment:
    """An experiment about the heads of a model: raw observations, and the results and claims that follow from them.

    Experiments come from `detect` and `load_experiment`.

    ```python
    experiment.kind, list(experiment.tables), experiment.claims
    ```
    """

    document: Json
    """experiment.json."""
    folder: Path | None
    """Its folder; None if it was not written."""
    _tables: Tables = field(repr=False)

    @classmethod
    def of(cls, made: MadeExperiment) -> Experiment:
        """An experiment just made."""
        return cls(made.document, None, made.tables)

    @classmethod
    def read(cls, folder: Path) -> Experiment:
        """An experiment in a folder.

        Raises:
            InputError: it is invalid.
        """
        problems = validate_experiment(folder)
        if problems:
            first = problems[0]
            raise InputError(
                first.message, where=f"{shown(folder / first.file)}{first.pointer and '#' + first.pointer}"
            )
        read = read_experiment(folder)
        return cls(read.document, folder, read.tables)

    @property
    def kind(self) -> str:
        """Its kind: detectors, causal, dynamic, …"""
        return str(self.document["kind"])

    @property
    def results(self) -> Json:
        """What follows from the tables; its form depends on the kind."""
        found: Json = self.document["results"]
        return found

    @property
    def claims(self) -> list[Json]:
        """Rows of the model's scorecard: a statement, whether it holds, and how that was decided."""
        found: list[Json] = self.document["claims"]
        return found

    @property
    def notes(self) -> list[str]:
        """Notes on how it was made."""
        return list((self.document["engine"] or {}).get("notes", []))

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """The raw observations, by name."""
        return {name: Table(table) for name, table in self._tables.items()}

    def named(self, detector: str) -> list[tuple[int, int]]:
        """For a comparison of detectors: the heads that a detector names by its own rule, in the model's order.

        Raises:
            InputError: this is not such an experiment, has no such detector, or the detector could name no heads.
        """
        found = {one["name"]: one for one in self.results["detectors"]} if self.kind == "detectors" else {}
        if detector not in found:
            hint = f"it has {', '.join(found)}" if found else "only a comparison of detectors has detectors"
            raise InputError(f"there is no detector {shown(detector)!r}", where=f"{self.kind} experiment", hint=hint)
        if found[detector]["named"] is None:
            raise InputError(str(found[detector]["reason"]), where=detector)
        return [(layer, head) for layer, head in found[detector]["named"]]

    def save(self, out: str | Path) -> Path:
        """Write it below a folder of experiments, and return its own folder.

        Raises:
            InputError: the folder cannot be written, or another experiment is there.
        """
        folder = experiment_folder(Path(out), self.document)
        save_files(folder, experiment_files(self._tables), DOCUMENT, dump_json(self.document))
        return folder

    def _facts(self) -> list[tuple[str, str]]:
        return [
            ("kind", self.kind),
            ("experiment", str(self.document["experiment_id"])),
            *((f"table {name}", f"{len(table)} rows") for name, table in self._tables.items()),
            ("stored in", "memory" if self.folder is None else str(self.folder)),
        ]

    def __repr__(self) -> str:
        return f"<Experiment {self.kind} {self.document['experiment_id']} of {self.document['model']['id']!r}>"

    def _repr_html_(self) -> str:
        claims = [{name: one[name] for name in ("claim", "verdict", "statement", "n")} for one in self.claims]
        listed = table_html(["claim", "verdict", "statement", "n"], claims, len(claims)) if claims else ""
        return facts_html(str(self.document["model"]["id"]), self._facts(), self.notes) + listed
