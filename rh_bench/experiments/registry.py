"""The kinds of experiments that there are: one folder each, in this package or in one that is installed beside it.

A folder is a Python package. Its `kind.py` declares its `KINDS`; `schema.json` says what settings and results of its
experiments look like; `again.py` has `VERIFYING`; `card.py` has `SHOWING` and `card.html` draws it, if the site shows
it. The folders are those in `rh_bench/experiments`, and those that other packages name as entry points of the group
`rh_bench.experiments`. Nothing else lists kinds by name.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.util import find_spec

from rh_bench import experiments
from rh_bench.errors import InputError
from rh_bench.experiments.kind import Kind, Verifying
from rh_bench.experiments.showing import Showing

GROUP = "rh_bench.experiments"
"""Entry points by which another package adds kinds: each names a folder, as in `coins = "my_package.coins"`."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of a kind, or of kinds that have their tables in common."""

    package: str
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Registry:
    """All folders: those of this package by name, then those of others."""

    folders: tuple[Folder, ...]
    kinds: Mapping[str, Kind]
    """By name."""
    packages: Mapping[str, str]
    """Which folder each is of."""


@cache
def registry() -> Registry:
    """Found once in a process, without torch.

    Raises:
        InputError: a folder of another package cannot be loaded, or names a kind that there is.
    """
    found = (*_own(), *_of_others())
    named: dict[str, Kind] = {}
    packages: dict[str, str] = {}
    for folder in found:
        for kind in folder.kinds:
            if kind.name in named or not _NAME.fullmatch(kind.name):
                why = f"as {packages[kind.name]} does" if kind.name in named else "which is no name of a kind"
                raise _unusable(folder.package, f"it adds {kind.name!r}, {why}")
            named[kind.name], packages[kind.name] = kind, folder.package
    return Registry(found, named, packages)


def kinds() -> Mapping[str, Kind]:
    """Every kind, by name."""
    return registry().kinds


def verifying(name: str) -> Verifying:
    """How experiments of a kind are made again. Imports prompts, but no engine until one is needed."""
    found: Verifying = import_module(f"{registry().packages[name]}.again").VERIFYING
    return found


def showings() -> Mapping[str, Showing]:
    """What the site shows of each folder, by package, in the order of the page; folders without `card.py` are left
    out."""
    packages = [folder.package for folder in registry().folders]
    found = {one: import_module(f"{one}.card").SHOWING for one in packages if find_spec(f"{one}.card") is not None}
    return dict(sorted(found.items(), key=lambda item: item[1].place))


def text_of(package: str, file: str) -> str:
    """A file of a folder.

    Raises:
        InputError: it is missing.
    """
    try:
        return (files(package) / file).read_text(encoding="utf-8")
    except OSError as error:
        raise _unusable(package, f"its {file} cannot be read: {error.strerror or error}") from None


def _own() -> Iterator[Folder]:
    for module in sorted(pkgutil.iter_modules(experiments.__path__), key=lambda module: module.name):
        if module.ispkg:
            yield _folder(f"{experiments.__name__}.{module.name}")


def _of_others() -> Iterator[Folder]:
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        try:
            yield _folder(entry.value)
        except Exception as error:
            raise _unusable(_name_of(entry), f"it cannot be loaded: {type(error).__name__}: {error}") from error


def _folder(package: str) -> Folder:
    return Folder(package, tuple(import_module(f"{package}.kind").KINDS))


def _name_of(entry: EntryPoint) -> str:
    return f"{entry.value} of {entry.dist.name}" if entry.dist is not None else entry.value


def _unusable(package: str, why: str) -> InputError:
    hint = "upgrade or uninstall the package that brings it"
    return InputError(f"this folder of experiments cannot be used ({why})", where=package, hint=hint)
