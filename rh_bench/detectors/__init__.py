"""Detectors of retrieval heads: different ideas of what such a head does, measured on the same samples."""

from __future__ import annotations

from collections.abc import Sequence

from rh_bench.detectors.attention_mass import AttentionMass
from rh_bench.detectors.base import Detector
from rh_bench.detectors.copying import Copying
from rh_bench.detectors.repeats import Repeats
from rh_bench.errors import InputError
from rh_bench.system.files import shown

DETECTORS: tuple[Detector, ...] = (Copying(), AttentionMass(), Repeats())
"""Every detector, in the order in which they are measured."""


def choose_detectors(names: Sequence[str] | None) -> tuple[Detector, ...]:
    """The detectors of these names, in the order of DETECTORS; all without names.

    Raises:
        InputError: there is no such detector, or one is named twice.
    """
    if names is None:
        return DETECTORS
    known = [detector.name for detector in DETECTORS]
    for name in names:
        if name not in known:
            raise InputError(
                f"unknown detector {shown(name)!r}", where="--detectors", hint=f"choose from {', '.join(known)}"
            )
    if len(set(names)) != len(names):
        raise InputError("duplicate detector", where="--detectors", hint="give each once")
    return tuple(detector for detector in DETECTORS if detector.name in names)
