"""What the pages across runs need of one run's heads: all scores, and whether they are the same everywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Hashable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import groupby

import numpy as np

from rh_bench.leaderboard.activity import Activity
from rh_bench.leaderboard.collect import Entry
from rh_bench.records import Json
from rh_bench.scores.robustness import FACTORS, Robustness, robustness
from rh_bench.stats.bootstrap import NANO, Estimate, NanoArray

SHUFFLES = 4
"""Shuffles behind the numbers *at random*; each is a mean over all pairs of parts already."""
NO_EVENTS = "its samples and events are not available"


@dataclass(frozen=True, slots=True)
class ComparedHeads:
    """The heads of one run, as JSON can hold them."""

    grid: str
    """Equal for models with the same query heads in the same scored layers."""
    layers: tuple[tuple[int, int], ...]
    """Index and query heads of each scored layer, in order."""
    depth: int
    """All layers of the model, scored or not."""
    scores: str | None
    """Of each head in the order of the grid, in nano units, little-endian int32 in Base64; None if none counted."""
    robustness: tuple[Json, ...]
    """`Robustness.to_json` for each of `robustness.FACTORS`."""

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Json) -> ComparedHeads:
        """Of what `to_json` gave, after any way through JSON."""
        values = {field.name: document[field.name] for field in fields(cls)}
        layers = tuple((int(layer), int(heads)) for layer, heads in document["layers"])
        return cls(**values | {"layers": layers, "robustness": tuple(document["robustness"])})

    @property
    def heads(self) -> int:
        return sum(heads for _, heads in self.layers)

    def rows(self) -> NanoArray | None:
        """Head scores in nano units, int64 [H]; None if there are none."""
        return None if self.scores is None else unpacked(self.scores)


def compared_heads(entry: Entry, activity: Activity | None) -> ComparedHeads:
    """The heads of a valid run, as pages compare them. The same run gives the same bytes."""
    layers = tuple((layer, len(list(heads))) for layer, heads in groupby(head.layer for head in entry.heads))
    scores = [head.score for head in entry.heads]
    return ComparedHeads(
        grid=hashlib.sha256(json.dumps(layers).encode()).hexdigest()[:16],
        layers=layers,
        depth=len(entry.run["model"]["layers"]),
        scores=None if not scores or None in scores else packed(np.array(scores, dtype=np.float64)),
        robustness=tuple(item.to_json() for item in _robustness(activity)),
    )


def packed(scores: np.typing.NDArray[np.float64]) -> str:
    """Scores in [0, 1] as Base64 of their nano units."""
    return base64.b64encode(np.rint(scores * NANO).astype("<i4").tobytes()).decode("ascii")


@lru_cache(maxsize=4096)
def unpacked(text: str) -> NanoArray:
    """The inverse of `packed`, in nano units. Read only: it may be shared."""
    rows: NanoArray = np.frombuffer(base64.b64decode(text), dtype="<i4").astype(np.int64)
    rows.flags.writeable = False
    return rows


def _robustness(activity: Activity | None) -> tuple[Robustness, ...]:
    if activity is None:
        missing = Estimate.missing(0, NO_EVENTS)
        return tuple(Robustness(factor, 0, 0, missing, missing, None, None, None, (), 0, 0) for factor in FACTORS)
    return robustness_of(activity)


def robustness_of(activity: Activity) -> tuple[Robustness, ...]:
    """Robustness over each factor, from the scores of the single samples."""
    counted = [sample for sample in activity.samples if sample.success]
    labels: dict[str, list[Hashable]] = {
        "needle": [sample.needle_id for sample in counted],
        "length": [sample.length for sample in counted],
        "depth": [sample.depth for sample in counted],
    }
    return robustness(activity.shares, labels, shuffles=SHUFFLES)
