"""What every test shares. Nothing heavy is imported here: it would be paid for by every run, however small."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Machines are shared, and four times slower at times: no test is one of time.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("untimed"), max_examples=15)
settings.load_profile("quick" if os.environ.get("RH_BENCH_QUICK") else "untimed")

# Before any test imports the libraries that read these once: no test leaves this machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with `slow_but_first(n)`, all but the first n sets of parameters are slow tests."""
    seen: Counter[tuple[Path, str]] = Counter()
    for item in items:
        marker = item.get_closest_marker("slow_but_first")
        if marker is not None:
            of = (item.path, getattr(item, "originalname", item.name))
            seen[of] += 1
            if seen[of] > marker.args[0]:
                item.add_marker("slow")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder, named by RH_BENCH_SHARED_DATA, of data that is not in the repository: released head lists, the
    paper's needles. Tests that compare with it are skipped where it is not set."""
    named = os.environ.get("RH_BENCH_SHARED_DATA")
    if not named:
        pytest.skip("RH_BENCH_SHARED_DATA is not set: no shared data to compare with")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"RH_BENCH_SHARED_DATA names {folder}, which is not a folder")
    return folder
