"""A package beside this one that adds kinds of experiments: a copy of `tests/coins`, installed in a folder."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rh_bench.experiments.registry import registry

PACKAGE = "coins_of_others"


def install(site: Path, package: str = PACKAGE) -> Path:
    """Put the package, and what pip writes about it, into the folder `site`. Returns the package's own folder."""
    folder = Path(shutil.copytree(Path(__file__).parent / "coins", site / package))
    about = site / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[rh_bench.experiments]\ncoins = {package}\n")
    return folder


@contextmanager
def installed(site: Path) -> Iterator[None]:
    """Within the block, what lies in `site` is installed."""
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    registry.cache_clear()
    try:
        yield
    finally:
        sys.path.remove(str(site))
        added = {path.name for path in site.iterdir()}
        for name in [name for name in sys.modules if name.partition(".")[0] in added]:
            del sys.modules[name]
        registry.cache_clear()
