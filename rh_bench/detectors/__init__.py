"""Detectors of retrieval heads: different ideas of what such a head does, measured on the same samples."""

from __future__ import annotations

from collections.abc import Sequence

from rh_bench.detectors.attention_mass import AttentionMass
from rh_bench.detectors.base import Detector
from rh_bench.detectors.copying import Copying
from rh_bench.detectors.foreign import installed, refuse_unfit
from rh_bench.detectors.repeats import Repeats
from rh_bench.errors import InputError
from rh_bench.system.files import shown

DETECTORS: tuple[Detector, ...] = (Copying(), AttentionMass(), Repeats())
"""The detectors of this package, in the order in which they are measured."""


def choose_detectors(wanted: Sequence[str | Detector] | None) -> tuple[Detector, ...]:
    """The detectors of these names, those of DETECTORS first and in its order; DETECTORS without names.

    Args:
        wanted: names of DETECTORS or of detectors that an installed package adds (entry points of the group
            `rh_bench.detectors`), and detectors of the caller's own.

    Raises:
        InputError: there is no such detector, one is no detector, or two have the same name or a score of the same
            name.
    """
    if wanted is None:
        return DETECTORS
    own = {detector.name: detector for detector in DETECTORS}
    chosen: list[Detector] = []
    for one in wanted:
        if isinstance(one, str):
            chosen.append(own[one] if one in own else _installed(one, own))
        else:
            refuse_unfit(one)
            if own.get(one.name, one) != one:
                hint = "rename it"
                raise InputError(f"{one.name!r} is a detector of rh_bench", where="--detectors", hint=hint)
            chosen.append(own.get(one.name, one))
    _refuse_same(chosen)
    if not chosen:
        raise InputError("give at least one detector", where="--detectors", hint=f"choose from {', '.join(own)}")
    places = {id(detector): place for place, detector in enumerate(DETECTORS)}
    return tuple(sorted(chosen, key=lambda detector: places.get(id(detector), len(places))))


def _installed(name: str, own: dict[str, Detector]) -> Detector:
    found = installed(name)
    if found is None:
        hint = f"choose from {', '.join(own)}, or install the package that adds it"
        raise InputError(f"unknown detector {shown(name)!r}", where="--detectors", hint=hint)
    return found


def _refuse_same(chosen: Sequence[Detector]) -> None:
    names = [detector.name for detector in chosen]
    if len(set(names)) != len(names):
        raise InputError("duplicate detector", where="--detectors", hint="give each once")
    scores = [score for detector in chosen for score in detector.scores]
    for score in scores:
        if scores.count(score) > 1:
            raise InputError(f"two detectors have a score {score!r}", where="--detectors", hint="rename one of them")
