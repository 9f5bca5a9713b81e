"""How far two honest measurements of one run may differ: measured, by type of the arithmetic and by pair of devices.

Along a given answer (:mod:`rh_bench.engines.follow`) two honest measurements differ only where a decision was close:
how often they do falls off exponentially with the margin by which it was made. One scale for each type and pair says
all of it; docs/verification.md has the measurement, `benchmarks/noise.py` makes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from rh_bench.records import Json

Floats = npt.NDArray[np.float64]

SAME, OTHER = "same", "other"
"""The run was measured on the same kind of device with the same versions; on another."""
_TIE = 0.5
"""How often two measurements differ about an exact tie, at most: one of two ways each, by chance."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What rounding does to decisions of one type of arithmetic.

    A decision made by a margin m comes out otherwise in another honest measurement with a probability of at most
    max(exp(-m / scale) / 2, floor).
    """

    dtype: str
    pair: str
    """SAME or OTHER."""
    events: float
    """Scale for where a head looks, in units of attention scores."""
    tokens: float
    """Scale for which token is produced, in units of logits."""
    event_floor: float
    token_floor: float
    """Where the exponential is smaller than what so many honest decisions can show."""

    def event_turns(self, margin: Floats) -> Floats:
        """Probability, at most, that an event decided by `margin` is claimed otherwise."""
        return _turns(margin, self.events, self.event_floor)

    def token_turns(self, margin: Floats) -> Floats:
        """Probability, at most, that a token decided by `margin` is claimed otherwise."""
        return _turns(margin, self.tokens, self.token_floor)


def _turns(margin: Floats, scale: float, floor: float) -> Floats:
    found: Floats = np.maximum(_TIE * np.exp(-np.maximum(margin, 0.0) / scale), floor)
    return found


def measured_noise(dtype: str, environment: Json, here: Json) -> Noise:
    """The noise between a run and what is measured here.

    Args:
        dtype: of the run.
        environment: of its run.json. It is a claim, and believing it costs little: it chooses between two narrow rows.
        here: see `rh_bench.system.environment.describe_environment`.
    """
    pair = SAME if all(environment.get(name) == here.get(name) for name in ALIKE) else OTHER
    row = _table()["rows"][dtype][pair]
    return Noise(dtype, pair, row["events"], row["tokens"], row["event_floor"], row["token_floor"])


ALIKE = ("device", "device_name", "torch", "transformers")


def _table() -> Json:
    document: Json = json.loads((files("rh_bench.verification") / "data" / "noise.json").read_text(encoding="utf-8"))
    return document
