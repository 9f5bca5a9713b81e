"""The source as a tree of rooms: which modules there are, and what each imports, read from the code without running it.

A room is a folder of `rh_bench/`, or a module that lies in it beside them (`records`, `errors`). The links in
`rh_bench/` are followed, so `data_builders` and `leaderboard` are rooms as the others are. `rh_bench/__init__.py` and
what it is made of is the front door; `__main__` belongs to the command line.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "rh_bench"
FRONT_DOOR = "front door"
_ROOM_OF = {"": FRONT_DOOR, "__main__": "cli"}

Arrow = tuple[str, str]
"""From a room to one that it imports."""


@dataclass(frozen=True, order=True)
class Import:
    """One name that a module imports."""

    name: str
    """In full: `from rh_bench.stats import bootstrap` gives `rh_bench.stats` and `rh_bench.stats.bootstrap`."""
    at_once: bool = True
    """Whether it is imported as soon as the module is; otherwise only within a function."""
    for_types: bool = False
    """Whether only a type checker sees it."""
    relative: bool = False


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module, by its full name, in order."""
    found = {}
    for folder, _, names in os.walk(root / PACKAGE, followlinks=True):
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return dict(sorted(found.items()))


def place_of(name: str, root: Path = ROOT) -> Path:
    """Where a file or folder of the checkout is, by its path there: in a source archive, what lies at the top of a
    checkout and is linked into `rh_bench/` is in `rh_bench/` alone."""
    path = root / name
    return path if path.exists() else root / PACKAGE / name


def room_of(module: str) -> str:
    inner = module.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]
    return _ROOM_OF.get(inner, inner)


def imports(source: str, module: str, *, is_package: bool = False) -> set[Import]:
    """All that a module imports: at its top or within functions, by a statement or by `import_module`."""
    package = module if is_package else module.rpartition(".")[0]
    return {
        found
        for node, at_once, for_types in _nodes(parsed(source), at_once=True, for_types=False)
        for found in _of_node(node, package, at_once, for_types)
    }


@cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of a source, made once."""
    return ast.parse(source)


def _of_node(node: ast.AST, package: str, at_once: bool, for_types: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, at_once, for_types) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package.rsplit(".", node.level - 1)[0] if node.level else ""
        origin = ".".join(filter(None, (base, node.module)))
        for name in (origin, *(f"{origin}.{alias.name}" for alias in node.names)):
            yield Import(name, at_once, for_types, relative=bool(node.level))
    elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
        for argument in node.args[:1]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield Import(argument.value, at_once, for_types, relative=argument.value.startswith("."))


def _called(function: ast.expr) -> str | None:
    """The last part of a name."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else None


def _nodes(node: ast.AST, *, at_once: bool, for_types: bool) -> Iterator[tuple[ast.AST, bool, bool]]:
    """Every node below one, with whether it runs when the module is imported, and whether it never runs."""
    yield node, at_once, for_types
    at_once = at_once and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    typing = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    never_run = list(node.body) if typing and isinstance(node, ast.If) else []
    for child in ast.iter_child_nodes(node):
        yield from _nodes(child, at_once=at_once, for_types=for_types or child in never_run)


def tree(root: Path = ROOT) -> dict[str, set[Import]]:
    """What every module imports, by the module's name."""
    return {
        name: imports(path.read_text(encoding="utf-8"), name, is_package=path.name == "__init__.py")
        for name, path in modules(root).items()
    }


def arrows(imported: Mapping[str, set[Import]]) -> dict[Arrow, set[Arrow]]:
    """Which room imports which, and by which modules. The package's version, which any may ask for, is no arrow."""
    found: dict[Arrow, set[Arrow]] = {}
    for module, names in imported.items():
        for one in names:
            if one.name in imported and one.name != PACKAGE and room_of(one.name) != room_of(module):
                found.setdefault((room_of(module), room_of(one.name)), set()).add((module, one.name))
    return dict(sorted(found.items()))


def reached(rooms: set[Arrow]) -> dict[str, set[str]]:
    """Which rooms each room reaches, itself only by a circle."""
    step: dict[str, set[str]] = {end: set() for arrow in rooms for end in arrow}
    for start, end in rooms:
        step[start].add(end)
    found = {}
    for room in step:
        seen: set[str] = set()
        ahead = [room]
        while ahead:
            new = step[ahead.pop()] - seen
            seen |= new
            ahead += new
        found[room] = seen
    return found


def circles(rooms: set[Arrow]) -> list[list[str]]:
    """Rooms that import one another, by whatever way."""
    reach = reached(rooms)
    found = {tuple(sorted(other for other in reach[room] if room in reach[other])) for room in reach}
    return sorted(list(circle) for circle in found if circle)


def floors(rooms: set[Arrow]) -> dict[str, int]:
    """On which floor each room is: 1 for a room that imports none, else the one above all that it imports.

    Raises:
        ValueError: there is a circle.
    """
    if circles(rooms):
        raise ValueError(f"rooms import one another: {circles(rooms)}")
    reach = reached(rooms)
    found: dict[str, int] = {}
    for room in sorted(reach, key=lambda one: (len(reach[one]), one)):
        found[room] = 1 + max((found[below] for below in reach[room]), default=0)
    return found


def needed(rooms: set[Arrow]) -> set[Arrow]:
    """The arrows that no longer way round implies."""
    reach = reached(rooms)
    return {
        (start, end)
        for start, end in rooms
        if not any(end in reach[other] for first, other in rooms if first == start and other != end)
    }
