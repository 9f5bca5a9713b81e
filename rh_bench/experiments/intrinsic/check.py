"""What must hold of the tables of a comparison of two models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rh_bench.errors import InputError
from rh_bench.experiments.intrinsic.plan import relation_of
from rh_bench.experiments.intrinsic.tables import (
    SCORES,
    SIDES,
    side_scores,
)
from rh_bench.experiments.kind import Tables
from rh_bench.records import Json, Layer, Problem, head_grid
from rh_bench.stats.bootstrap import (
    NANO,
    NanoArray,
    mean,
)

LARGEST = 1e6
"""Of a score of a single sample, in size."""
_MOST_HEADS = 1 << 17
MOST_SAMPLES = 200_000
_MOST_CELLS = 1 << 24
_MOST_ORDERS = 1 << 28
"""Permutations × heads."""


def check(document: Json, tables: Tables) -> Iterator[Problem]:
    """What the columns alone do not say of the tables."""
    yield from _document_problems(document)
    heads, samples, scores = (tables[name] for name in ("heads", "samples", "scores"))
    too_much = list(_work_problems(document["settings"], len(heads), len(samples)))
    if too_much:
        yield from too_much
        return
    names = list(zip(*(heads.column(name).to_pylist() for name in ("layer", "head")), strict=True))
    if not names or names != sorted(set(names)) or names[0][0] < 0 or min(head for _, head in names) < 0:
        yield Problem("heads.parquet", "", "heads must be sorted and named once")
    model = document["model"]
    if "layers" in model and names != head_grid([Layer(**layer) for layer in model["layers"]]):
        yield Problem("heads.parquet", "", "its heads are not those of the model")
    for name in SIDES:
        if not (np.abs(heads.column(name).to_numpy()) <= LARGEST).all():  # also where one is not a number
            yield Problem("heads.parquet", f"/{name}", f"scores must be finite and at most {LARGEST:g} in size")
            return
    wrong = list(_sample_problems(samples)) or list(_score_problems(scores, samples, len(heads)))
    yield from wrong
    if not wrong:
        yield from _mean_problems(tables)


def _document_problems(document: Json) -> Iterator[Problem]:
    runs, settings, model = document["runs"], document["settings"], document["model"]
    if len(runs) != 2:
        yield Problem("experiment.json", "/runs", "two are compared")
        return
    if runs[0]["origin"] == "measured" and "layers" not in model:
        yield Problem("experiment.json", "/model", "must be as in run.json")
    for place, (run, one) in enumerate(zip(runs, settings["models"], strict=True)):
        if run["slug"] != one["slug"]:
            yield Problem("experiment.json", f"/settings/models/{place}/slug", f"is {one['slug']}, the run's differs")
    if any(model.get(name) != settings["models"][0][name] for name in ("id", "slug", "revision", "base_model")):
        yield Problem("experiment.json", "/settings/models/0", "is not the experiment's model")
    card = relation_of(*settings["models"])
    if settings["relation_by"] != "user" and (settings["relation"], settings["relation_by"]) != card:
        yield Problem("experiment.json", "/settings/relation", f"is {settings['relation']}, the cards say {card[0]}")


def _work_problems(settings: Json, heads: int, samples: int) -> Iterator[Problem]:
    """Settings that would make computing endless."""
    if heads > _MOST_HEADS:
        yield Problem("heads.parquet", "", f"has {heads} heads, at most {_MOST_HEADS} are compared")
    if samples > MOST_SAMPLES:
        yield Problem("samples.parquet", "", f"has {samples} samples, at most {MOST_SAMPLES} are compared")
    for name, number, most in (
        ("samples", samples, _MOST_CELLS),
        ("replicates", settings["bootstrap"]["replicates"], _MOST_CELLS),
        ("permutations", settings["permutations"], _MOST_ORDERS),
    ):
        if number * max(1, heads) > most:
            yield Problem("experiment.json", "/settings", f"{number} {name} of {heads} heads are too many")


def _sample_problems(samples: pa.Table) -> Iterator[Problem]:
    side, sample = (samples.column(name).to_numpy() for name in ("side", "sample"))
    counts = [int((side == number).sum()) for number in (0, 1)]
    wanted = np.concatenate([np.arange(count) for count in counts])
    if not np.array_equal(side, np.repeat([0, 1], counts)) or not np.array_equal(sample, wanted):
        yield Problem("samples.parquet", "", "samples must be sorted by side, 0 or 1, and count from 0 in each")
        return
    for number in (0, 1):
        for name in ("needle", "length", "depth"):
            missing = samples.column(name).filter(pa.array(side == number)).null_count
            if missing not in (0, counts[number]):
                yield Problem("samples.parquet", f"/{name}", f"is null in {missing} of {counts[number]} of a side")


def _score_problems(scores: pa.Table, samples: pa.Table, heads: int) -> Iterator[Problem]:
    side, sample, place, score = (scores.column(name).to_numpy() for name in SCORES.names)
    counts = np.bincount(samples.column("side").to_numpy().astype(np.int64), minlength=2)
    known = (side >= 0) & (side <= 1) & (sample >= 0) & (place >= 0) & (place < heads)
    known[known] = sample[known] < counts[side[known].astype(np.int64)]
    if not known.all():
        yield Problem("scores.parquet", f"/{int(np.argmin(known))}", "names a side, sample or head that is not there")
        return
    sound = (np.abs(score) <= LARGEST) & (score != 0)
    if not sound.all():
        yield Problem(
            "scores.parquet", f"/{int(np.argmin(sound))}/score", f"must be finite, at most {LARGEST:g}, not 0"
        )
        return
    keys: npt.NDArray[np.int64] = (side.astype(np.int64) * len(samples) + sample) * heads + place
    if len(keys) > 1 and not (np.diff(keys) > 0).all():
        yield Problem("scores.parquet", "", "must be sorted by side, sample and place, each once")


def _mean_problems(tables: Tables) -> Iterator[Problem]:
    """Scores of heads are the means of their samples, where there are any."""
    for side, name in enumerate(SIDES):
        scores = side_scores(tables, side)
        given: NanoArray = np.rint(tables["heads"].column(name).to_numpy() * NANO).astype(np.int64)
        try:
            wanted = mean(scores) if len(scores) else given
        except InputError as error:
            yield Problem("scores.parquet", "/score", error.problem)
            return
        exact = np.array_equal(wanted / NANO, tables["heads"].column(name).to_numpy()) if len(scores) else True
        if not exact:
            yield Problem("heads.parquet", f"/{name}", "is not the mean of the samples")
