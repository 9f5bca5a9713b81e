"""Where submissions go in a results repository, and what they consist of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rh_bench.artifacts.results_repo import EXPERIMENTS, RUNS, verification_path
from rh_bench.artifacts.run import RUN_FILES
from rh_bench.experiments.kind import Kind as ExperimentKind
from rh_bench.experiments.registry import kinds
from rh_bench.records import Json
from rh_bench.system.slugs import SLUG

SUBMITTED = ("run.json", *RUN_FILES)
"""The files of a submitted run, and no others."""
MOST_BYTES = 512 << 20
"""Of all files of a submission; a run of 600 samples and 1,024 heads has a few million."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be submitted: its folder in the repository, how its own folders are called, and its files."""

    root: str
    word: str
    """As in "brings no run"."""
    name: re.Pattern[str]
    files: tuple[str, ...]
    document: str
    """The file that names the hash of every other one, so that its own is that of the whole submission."""
    telling: str | None
    """The table that no two models and no two measurements give alike, byte for byte."""
    units: str | None
    """Which of `counts` in the document says how many units could be measured again; None if nothing is measured,
    so that no level above *recomputed* is to be reached."""

    def reachable(self, level: str) -> str:
        """The level that is to be reached where `level` is required."""
        return "recomputed" if self.units is None and level == "rerun" else level

    def named(self, document: Json) -> object:
        """What its own folder is called, by its document, which is not to be believed."""
        if self.root == RUNS:
            return document.get("run_id")
        return f"{document.get('kind')}-{document.get('experiment_id')}"


OF_RUNS = Kind(RUNS, "run", re.compile(r"[0-9a-f]{16}"), SUBMITTED, "run.json", "samples.parquet", "samples")


def _of_experiments(kind: ExperimentKind) -> Kind:
    observed = kind.observed
    return Kind(
        EXPERIMENTS,
        "experiment",
        re.compile(rf"{kind.name}-[0-9a-f]{{16}}"),
        ("experiment.json", *(f"{table}.parquet" for table in kind.tables)),
        "experiment.json",
        None if observed is None else f"{observed.table}.parquet",
        None if observed is None else observed.units,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where one submission goes: `<kind>/<slug>/<name>`."""

    kind: Kind
    slug: str
    name: str

    @property
    def folder(self) -> str:
        return f"{self.kind.root}/{self.slug}/{self.name}"

    @property
    def label(self) -> str:
        return f"{self.slug}/{self.name}"

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(f"{self.folder}/{name}" for name in self.kind.files)

    @property
    def verification(self) -> str:
        """Path of what a maintainer found."""
        return verification_path(self.slug, self.name)


def find_place(path: str) -> Place | None:
    """The place of a file of a submission, by its path in the repository; None for anything else."""
    parts = path.split("/")
    if len(parts) != 4:
        return None
    root, slug, name, file = parts
    possible = (OF_RUNS, *map(_of_experiments, kinds().values()))
    fitting = (kind for kind in possible if kind.root == root and file in kind.files and kind.name.fullmatch(name))
    kind = next(fitting, None)
    return Place(kind, slug, name) if kind is not None and re.fullmatch(SLUG, slug) else None
