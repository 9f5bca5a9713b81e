"""The loopback Hub as tests use it, within the process and in commands."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
from loopback_hub import NO_PROXY
from loopback_write import STRANGER, TOKEN, WritableHub

import rh_bench.hub.client
from rh_bench.hub.client import Access

RESULTS = "org/results"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WritableHub]:
    """A Hub that the clients of this process may talk to, with a cache of their own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, NO_PROXY)
    huggingface_hub.close_session()
    with WritableHub() as running:
        yield running
    huggingface_hub.close_session()


def commands_ask(hub: WritableHub, monkeypatch: pytest.MonkeyPatch, token: str = TOKEN) -> None:
    """From now on `rh_bench.cli.main.main` in this process asks that Hub, as whoever has the token, and never waits."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(rh_bench.hub.client, "time", _Hurry)


class _Hurry:
    """Time without waiting."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def sleep(seconds: float) -> None:
        """Not at all."""


def owner(hub: WritableHub, waits: list[float] | None = None) -> Access:
    return Access(hub.url, TOKEN, (waits if waits is not None else []).append)


def stranger(hub: WritableHub, waits: list[float] | None = None) -> Access:
    return Access(hub.url, STRANGER, (waits if waits is not None else []).append)


def empty_results(hub: WritableHub, tmp_path: Path) -> None:
    """A results repository that holds a card and no runs."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "README.md").write_text("# Results\n")
    hub.add("datasets", RESULTS, folder)


def command(hub: WritableHub, home: Path, *arguments: object, token: str = STRANGER) -> tuple[int, str, str]:
    """Run `rh-bench` as a user of that Hub: exit status, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "rh_bench", *map(str, arguments)],
        env=hub.environment(home) | {"HF_TOKEN": token, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr
