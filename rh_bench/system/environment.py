"""What a measurement ran on: versions, hardware, and the commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import rh_bench
from rh_bench.errors import InputError
from rh_bench.records import Json


def describe_environment(device: str, device_name: str) -> Json:
    """The `environment` object of run.json. Nothing in it identifies this machine or its user.

    Args:
        device: type of the device, "cpu" or "cuda".
        device_name: its product name.
    """
    commit, dirty = source_commit(Path(rh_bench.__file__).resolve().parent)
    return {
        "rh_bench": rh_bench.__version__,
        "python": platform.python_version(),
        "torch": _version("torch"),
        "transformers": _version("transformers"),
        "numpy": _version("numpy"),
        "device": device,
        "device_name": device_name,
        "threads": _threads(),
        "platform": f"{platform.system()} {platform.machine()}",
        "commit": commit,
        "dirty": dirty,
    }


def refuse_light_install(command: str) -> None:
    """Refuse to measure if only the part that reads runs is installed.

    Raises:
        InputError: torch or transformers is missing.
    """
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{command} needs {' and '.join(missing)}, missing from this installation",
            hint="run: pip install 'rh-bench[evaluate]'",
        )


def source_commit(package: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that `package` is part of, and whether tracked files differ from it.

    Both are None for an installed package, even if it is inside someone's repository.
    """
    try:
        if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
            return None, None
        commit = _git(package, "rev-parse", "HEAD")
        changes = _git(package, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None
    if commit is None or changes is None:
        return None, None
    return commit.strip(), bool(changes.strip())


def _git(folder: Path, *arguments: str) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout if done.returncode == 0 else None


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Number of cores this process may use: its CPU affinity, capped by the quota of its control group (v2)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max": no quota
        return allowed


def _threads() -> int:
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
