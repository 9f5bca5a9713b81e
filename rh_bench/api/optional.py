"""Optional packages, and an error that says what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rh_bench.errors import InputError


def needed(package: str, install: str) -> Any:
    """Import a package.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        raise InputError("is not installed", where=package, hint=f"run: {install}") from None
