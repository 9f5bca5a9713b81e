"""A results repository on disk: runs as they were submitted, and what a maintainer found when verifying them.

```
runs/<slug>/<run_id>/                  the run, as of `rh_bench.artifacts.run`
experiments/<slug>/<kind>-<id>/        experiments on these runs, as of `rh_bench.experiments.artifact`
verification/<slug>/<run_id>.json      written by the maintainer when the run is taken in
verification/<slug>/<kind>-<id>.json   the same of an experiment, see `rh_bench.experiments.record`
judgements/<place>/                    what was drawn for each submission, and what came of it, see `judgement`
attestations/<nonce>.json              what jobs of the Hub were ordered to measure, see `attest_order`
data/<config>/*.parquet                tables over all runs, made from the two above
```

Verifications, judgements and orders lie outside the run's folder, where no submission may write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rh_bench.errors import InputError

RUNS, EXPERIMENTS, VERIFICATION, DATA = "runs", "experiments", "verification", "data"
JUDGEMENTS = "judgements"
ATTESTATIONS = "attestations"
SITE_MARK = '<meta name="generator" content="rh_bench leaderboard">'
"""In the head of every page that is rendered from results: by it a folder is known as such a site."""


def verification_path(slug: str, name: str) -> str:
    """Path below the repository's root of what a maintainer found of a run, or of an experiment.

    Args:
        slug: folder of the model.
        name: folder of the run (its id) or of the experiment (`<kind>-<id>`).
    """
    return f"{VERIFICATION}/{slug}/{name}.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where runs, verifications and judgements lie; a plain folder of runs has none of the latter two."""

    runs: Path
    verification: Path | None
    judgements: Path | None = None


def find_layout(root: Path) -> Layout:
    """The layout of a results repository, or of a folder that `rh-bench evaluate --out` wrote to.

    Raises:
        InputError: `root` is not a folder.
    """
    if not root.is_dir():
        raise InputError("no such folder", where=root, hint="give the --out folder of rh-bench evaluate")
    if (root / RUNS).is_dir() and not (root / RUNS).is_symlink():
        verification, judgements = (
            folder if folder.is_dir() and not folder.is_symlink() else None
            for folder in (root / VERIFICATION, root / JUDGEMENTS)
        )
        return Layout(root / RUNS, verification, judgements)
    return Layout(root, None)


def run_folders(runs: Path) -> Iterator[Path]:
    """The folders two levels down, sorted; names with a leading dot belong to version control and temporary files."""
    for model in _subfolders(runs):
        yield from _subfolders(model)


def _subfolders(folder: Path) -> list[Path]:
    found = (child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    return sorted(found, key=lambda child: child.name)
