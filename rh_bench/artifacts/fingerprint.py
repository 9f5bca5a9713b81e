"""By what a run is recognised, however its files were written: what the model did in each sample, and the seconds.

No two models give the same tokens and the same hundreds of copy events in sample after sample, and no two measurements
take the same seconds. Names, hashes, order and encoding are left out, since whoever copies can change them for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rh_bench.records import Json, SampleResult

SKETCH = 64
"""Hashes of samples that are kept: the smallest, so that two runs with samples in common keep the same ones of them."""
_FEWEST_EVENTS = 10
"""In a sample that says something: an answer without events can be the same for many models."""
_FEWEST_SHARED = 3
WEIGHTS = (".safetensors", ".gguf")
"""How the names of files with weights end."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of a run to recognise it by."""

    weights: str
    """SHA-256 over the hashes of the weights that it names."""
    samples: tuple[str, ...]
    """The smallest hashes of samples, sorted, at most SKETCH."""
    seconds: str | None
    """SHA-256 over the seconds of all samples; None if they do not differ, so that they say nothing."""

    def to_json(self) -> Json:
        return {"weights": self.weights, "samples": list(self.samples), "seconds": self.seconds}


def fingerprint(document: Json, results: Iterable[SampleResult]) -> Fingerprint:
    """Of a valid run.

    Args:
        document: run.json.
    """
    results = sorted(results, key=lambda result: result.sample.sample_id)
    hashes = {_sample_hash(result) for result in results if len(result.events) >= _FEWEST_EVENTS}
    seconds = [result.seconds for result in results]
    files = sorted(file["sha256"] for file in document["model"]["files"] if file["path"].endswith(WEIGHTS))
    if "memory" in document["model"]:  # it has no files; its revision tells it from every other model
        files = [document["model"]["memory"]["weights_sha256"] or document["model"]["revision"]]
    return Fingerprint(
        weights=digest(files),
        samples=tuple(sorted(hashes)[:SKETCH]),
        seconds=digest(seconds) if len(set(seconds)) > 1 else None,
    )


def read_fingerprint(document: Json) -> Fingerprint:
    """The reverse of `Fingerprint.to_json`."""
    return Fingerprint(document["weights"], tuple(document["samples"]), document["seconds"])


def common_samples(one: Fingerprint, other: Fingerprint) -> tuple[int, int]:
    """How many samples two runs have in common, of how many that could be: of those whose hashes both sketches reach.

    A run that is a part of another has all of its samples in common with it.
    """
    reach = min((run.samples[-1] for run in (one, other) if len(run.samples) == SKETCH), default=None)
    mine, others = ({name for name in run.samples if reach is None or name <= reach} for run in (one, other))
    return len(mine & others), min(len(mine), len(others))


def same_seconds(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether one run must be a copy of the other, whatever model they are of."""
    return one.seconds is not None and one.seconds == other.seconds


def same_samples(one: Fingerprint, other: Fingerprint) -> str | None:
    """In words, how much two runs have in common that name different weights and agree in half of their samples or
    more; None otherwise. Measuring the same weights again gives the same samples, which is no copy."""
    shared, most = common_samples(one, other)
    if one.weights == other.weights or shared < _FEWEST_SHARED or 2 * shared < most:
        return None
    return f"tokens and copy events are the same in {shared} of {most} samples compared, of other weights"


def _sample_hash(result: SampleResult) -> str:
    events = result.events[np.lexsort(result.events.T[::-1])]
    return digest([list(result.generated_ids), events.tolist()])[:16]


def digest(value: object) -> str:
    """SHA-256 over JSON."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
