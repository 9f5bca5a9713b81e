"""What installed packages add, by entry points: found by name, and loaded only when it is asked for."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from rh_bench.errors import InputError
from rh_bench.system.files import shown


def plugin_names(group: str) -> list[str]:
    """Names of what installed packages add, sorted; nothing of them is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def load_plugin(group: str, name: str) -> Any:
    """What an installed package adds under a name; None if none does.

    Raises:
        InputError: several packages add it, or it cannot be loaded.
    """
    found = {
        (point.value, point.dist.name if point.dist else ""): point for point in entry_points(group=group, name=name)
    }
    if not found:
        return None
    if len(found) > 1:
        packages = ", ".join(sorted(shown(package) for _, package in found))
        raise InputError(
            f"several packages add {shown(name)!r} ({packages})", where=group, hint="uninstall all but one"
        )
    (((value, package), point),) = found.items()
    try:
        return point.load()
    except Exception as error:  # a package of someone else's fails in any way
        said = " ".join(str(error).split())[:200]
        where = f"{shown(value)} of the package {shown(package)}"
        raise InputError(f"cannot be loaded ({type(error).__name__}: {shown(said)})", where=where) from error
