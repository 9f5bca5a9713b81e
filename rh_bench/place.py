"""Where submissions go in a results repository, and what they consist of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rh_bench.results import RUNS, VERIFICATION
from rh_bench.runs import RUN_FILES

SUBMITTED = ("run.json", *RUN_FILES)
"""The files of a submitted run, and no others."""
MOST_BYTES = 512 << 20
"""Of all files of a submission; a run of 600 samples and 1,024 heads has a few million."""
_SLUG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}"


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


KINDS = (Kind(RUNS, "run", re.compile(r"[0-9a-f]{16}"), SUBMITTED, "run.json"),)


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
        return f"{VERIFICATION}/{self.slug}/{self.name}.json"


def find_place(path: str) -> Place | None:
    """The place of a file of a submission, by its path in the repository; None for anything else."""
    parts = path.split("/")
    if len(parts) != 4:
        return None
    root, slug, name, file = parts
    kind = next((kind for kind in KINDS if kind.root == root and file in kind.files), None)
    if kind is None or not re.fullmatch(_SLUG, slug) or not kind.name.fullmatch(name):
        return None
    return Place(kind, slug, name)
