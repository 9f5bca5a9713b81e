"""What a run says about where it was measured."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rh_bench.system.environment import describe_environment, source_commit, usable_cores


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *settings, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    folder = tmp_path / "repo" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    git(tmp_path / "repo", "init", "-q")
    git(tmp_path / "repo", "add", ".")
    git(tmp_path / "repo", "commit", "-qm", "first")
    return folder


def test_the_commit_of_a_checkout_and_whether_it_was_changed(package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert source_commit(package) == (commit, False)
    (package / "notes.txt").write_text("untracked files change nothing that runs")
    assert source_commit(package) == (commit, False)
    (package / "__init__.py").write_text("changed = True")
    assert source_commit(package) == (commit, True)


def test_a_package_installed_inside_somebodys_repository_has_no_commit(package: Path, tmp_path: Path) -> None:
    installed = package.parent / "venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert source_commit(installed) == (None, None)
    outside = tmp_path / "outside"
    outside.mkdir()
    assert source_commit(outside) == (None, None)


def test_nothing_names_this_machine() -> None:
    found = describe_environment("cpu", "a processor")
    assert found["device"] == "cpu" and found["threads"] >= 1 and found["torch"] != ""
    text = str(found)
    assert os.uname().nodename not in text and str(Path.home()) not in text


def test_cores_are_those_of_the_container(tmp_path: Path) -> None:
    here = usable_cores(tmp_path)
    assert here >= 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == here
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 1
