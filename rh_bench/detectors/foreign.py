"""Detectors that are not of this package: those that a user passes in, and those that an installed package adds.

A package adds one by an entry point of the group `rh_bench.detectors`, whose object is a detector or a class of which
one can be made without arguments. Nothing of such a package is imported before its detector is asked for by name.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from rh_bench.detectors.base import Detector, Rule, describe
from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.system.files import shown
from rh_bench.system.plugins import load_plugin

GROUP = "rh_bench.detectors"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_KINDS = ("above", "top", "share")
_OURS = "rh_bench"


def installed(name: str) -> Detector | None:
    """The detector of this name that an installed package adds; None if none does.

    Raises:
        InputError: it cannot be loaded, is no detector, or several packages add one of this name.
    """
    found = load_plugin(GROUP, name)
    if found is None:
        return None
    detector: Any = found() if inspect.isclass(found) else found
    refuse_unfit(detector)
    if detector.name != name:
        raise InputError(f"is named {shown(detector.name)!r}", where=f"the installed detector {shown(name)!r}")
    made: Detector = detector
    return made


def refuse_unfit(detector: Any) -> None:
    """Refuse what is no detector, before anything is measured with it.

    Raises:
        InputError: names what it lacks, or what of it cannot stand in an experiment.
    """
    where = f"detector {shown(type(detector).__name__)}"
    if inspect.isclass(detector):
        raise InputError(
            "is a class", where=f"detector {shown(detector.__name__)}", hint="pass an instance: MyDetector()"
        )
    for name in ("name", "version", "source", "scores", "rules", "needs_data", "counted_only", "measure"):
        if not hasattr(detector, name):
            raise InputError(f"has no {name}", where=where, hint="see docs/extending.md for what a detector needs")
    for problem in _problems(detector):
        raise InputError(problem, where=where)


def _problems(detector: Any) -> list[str]:
    found = []
    scores, rules = detector.scores, detector.rules
    if not (isinstance(detector.name, str) and _NAME.fullmatch(detector.name)):
        found.append("its name must be at most 40 lower-case letters, digits and hyphens")
    if isinstance(scores, str) or not scores or not all(isinstance(s, str) and _NAME.fullmatch(s) for s in scores):
        found.append("its scores must be a tuple of names of at most 40 lower-case letters, digits and hyphens")
    elif not 1 <= len(set(scores)) == len(scores) <= 8:
        found.append("has more than 8 scores, or two of the same name")
    if type(detector.version) is not int or not 1 <= detector.version <= 10_000:
        found.append("its version must be a number from 1 to 10000")
    if not isinstance(detector.source, str) or len(detector.source) > 1000:
        found.append("its source must be a string of at most 1000 characters")
    if not 1 <= len(rules) <= 8 or not all(isinstance(rule, Rule) for rule in rules):
        found.append("its rules must be a tuple of one to eight rh_bench.Rule")
    elif any(rule.score not in scores or rule.kind not in _KINDS or not 0 <= rule.value <= 100_000 for rule in rules):
        found.append("a rule names an unknown score, or has an invalid kind or value")
    if not callable(detector.measure) or any(
        type(getattr(detector, n)) is not bool for n in ("needs_data", "counted_only")
    ):
        found.append("measure must be a method; needs_data and counted_only must be true or false")
    return found


def origin(detector: Detector) -> Json | None:
    """Where a detector comes from, for an experiment; None for those of this package."""
    kind = type(detector)
    top = kind.__module__.partition(".")[0]
    if top == _OURS:
        return None
    package = next(iter(packages_distributions().get(top, [])), None)
    try:
        source = hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):  # a class of a session that kept no source
        source = None
    return {
        "class": shown(f"{kind.__module__}:{kind.__qualname__}")[:300],
        "package": package,
        "package_version": _version(package),
        "source_sha256": source,
    }


def described(detector: Detector) -> Json:
    """The detector in an experiment's settings; one that is not of this package says so."""
    foreign = origin(detector)
    return {**describe(detector), **({"foreign": foreign} if foreign else {})}


def foreign_notes(detectors: Iterable[Detector]) -> Iterator[str]:
    """A line for each detector that is not of this package."""
    for detector in detectors:
        foreign = origin(detector)
        if foreign is not None:
            package = f" of the package {foreign['package']} {foreign['package_version']}" if foreign["package"] else ""
            yield f"the detector {detector.name} is not rh_bench's own: {foreign['class']}{package}"


def _version(package: str | None) -> str | None:
    try:
        return None if package is None else version(package)
    except PackageNotFoundError:
        return None
