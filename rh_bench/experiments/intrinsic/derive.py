"""Intrinsic: whether two models have the same retrieval heads, as a model and one derived from it should.

Each side is a run, or a head list imported from another project, with scores of the same query heads. How similar they
are comes with what other samples might have given (bootstrap) and with what chance would give (heads in random order,
over the whole model and within layers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rh_bench.artifacts.run import read_run
from rh_bench.errors import InputError
from rh_bench.experiments.document import new_document, run_reference
from rh_bench.experiments.kind import Kind, Tables, Verdict, claim, column
from rh_bench.interchange.folder import DOCUMENT as IMPORT_DOCUMENT
from rh_bench.interchange.folder import is_import, read_import
from rh_bench.interchange.records import COMPARED, MEASURES
from rh_bench.interchange.records import Measure as Numbers
from rh_bench.protocol import BOOTSTRAP
from rh_bench.records import IntArray, Json, Layer, Problem, head_grid
from rh_bench.scores.heads import in_order, sample_scores
from rh_bench.stats.bootstrap import (
    NANO,
    Bootstrap,
    Estimate,
    FloatArray,
    Means,
    NanoArray,
    bootstrap_means,
    mean,
    stratify,
)
from rh_bench.stats.distribution import above
from rh_bench.stats.similarity import Measure, jaccard, pearson, permutation_null, similarity, spearman, top_overlap
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json

Relation = Literal["derived", "unrelated", "unknown"]

TOPS = (10, 20, 50)
PERMUTATIONS = 2_000
SIMILAR = 0.5
"""Pearson correlation from which heads count as the same: above it with its whole interval, the claim holds."""
UNLIKE = 0.2
"""Correlation below which heads of unrelated models count as different."""
LEVEL = 0.05
MIN_SAMPLES = 20
LARGEST = 1e6
"""Of a score of a single sample, in size."""

_STATEMENTS = {
    "derived": ("intrinsic", "A model and the models derived from it have the same retrieval heads."),
    "unknown": ("intrinsic", "A model and the models derived from it have the same retrieval heads."),
    "unrelated": ("intrinsic_control", "Models that are not derived from one another have different retrieval heads."),
}
_SIDES = ("first", "second")

HEADS = pa.schema(
    [
        column("layer", pa.int16()),
        column("head", pa.int16()),
        column("first", pa.float64()),
        column("second", pa.float64()),
    ]
)
SAMPLES = pa.schema(
    [
        column("side", pa.int8()),
        column("sample", pa.int32()),
        column("needle", pa.string(), nullable=True),
        column("length", pa.int32(), nullable=True),
        column("depth", pa.float64(), nullable=True),
    ]
)
SCORES = pa.schema(
    [
        column("side", pa.int8()),
        column("sample", pa.int32()),
        column("place", pa.int32()),
        column("score", pa.float64()),
    ]
)
_MOST_HEADS = 1 << 17
MOST_SAMPLES = 200_000
_MOST_CELLS = 1 << 24
_MOST_ORDERS = 1 << 28
"""Permutations × heads."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two: a run's counted samples, or an import's."""

    reference: Json
    model: Json
    """As in run.json; of an import, id and slug."""
    heads: tuple[tuple[int, int], ...]
    """Sorted by layer, head."""
    scores: FloatArray | None
    """float64 [n, H], one row a sample; None where an import has none of single samples."""
    values: FloatArray
    """float64 [H]: scores of the heads, rounded to 9 decimals."""
    labels: Mapping[str, Sequence[str | float]]
    """needle, length and depth of each sample; empty for an import."""
    numbers: Numbers = "score"
    """What the scores are; a run's are always copy scores."""

    @property
    def n(self) -> int:
        return 0 if self.scores is None else len(self.scores)


def observe(
    first: Path, second: Path, *, relation: Relation | None = None, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[Json, dict[str, pa.Table]]:
    """The experiment on two runs or imports: document and tables, to be written.

    Args:
        relation: of the two models; without it, what their cards say of their bases.

    Raises:
        InputError: one is damaged, has no scores of query heads, or their heads are not the same.
    """
    sides = read_side(first), read_side(second)
    if sides[0].heads != sides[1].heads:
        one, two = (_grid_words(side.heads) for side in sides)
        raise InputError(
            f"its heads ({two}) are not those of {shown(first)} ({one})",
            where=shown(second),
            hint="only models with equal layers and query heads can be compared head by head",
        )
    if sides[0].numbers != sides[1].numbers:
        one, two = (MEASURES[side.numbers] for side in sides)
        raise InputError(
            f"its numbers are {two}, those of {shown(first)} are {one}",
            where=shown(second),
            hint="only lists of one measure can be compared",
        )
    if sides[0].reference == sides[1].reference:
        raise InputError("is compared with itself", where=shown(second), hint="give two runs")
    found, by = (relation, "user") if relation else _relation(sides[0].model, sides[1].model)
    names = ("id", "slug", "revision", "base_model")
    settings: Json = {
        "models": [{name: side.model.get(name) for name in names} for side in sides],
        "relation": found,
        "relation_by": by,
        "top": [k for k in TOPS if k < len(sides[0].heads)],
        "permutations": permutations,
        "seed": seed,
        "bootstrap": dict(BOOTSTRAP),
    }
    if sides[0].numbers != "score":
        settings["numbers"] = sides[0].numbers
    runs = [side.reference for side in sides]
    return new_document(KIND, model=sides[0].model, runs=runs, settings=settings), _tables(sides)


def read_side(folder: Path) -> Side:
    """A run's or an import's scores.

    Raises:
        InputError: see :func:`observe`.
    """
    return _imported_side(folder) if is_import(folder) else _measured_side(folder)


def _measured_side(folder: Path) -> Side:
    run = read_run(folder)
    counted = [result for result in in_order(run.results) if result.success]
    if not counted:
        raise InputError("no sample of this run counted, so no head has a score", where=shown(folder))
    scores, _ = sample_scores(run.layers, counted)
    labels: dict[str, list[str | float]] = {
        "needle": [result.sample.needle_id for result in counted],
        "length": [result.sample.length for result in counted],
        "depth": [result.sample.depth for result in counted],
    }
    heads = tuple(head_grid(list(run.layers)))
    return Side(run_reference(folder), run.document["model"], heads, scores, mean(scores) / NANO, labels)


def _imported_side(folder: Path) -> Side:
    heads = read_import(folder)
    if heads.unit != "query" or heads.values is None:
        raise InputError("has no scores of query heads to compare", where=shown(folder))
    if heads.measure not in COMPARED:
        raise InputError(
            f"its numbers are {MEASURES[heads.measure]}, which are compared with nothing",
            where=shown(folder),
            hint="give a run, or an import of retrieval scores",
        )
    if heads.model is None:
        hint = "import it again with --model"
        raise InputError("nobody said which model this is", where=shown(folder), hint=hint)
    if heads.layers is None or any(math.isnan(value) for value in heads.values):
        raise InputError("some heads have no score", where=shown(folder))
    named = load_json(folder / IMPORT_DOCUMENT)["model"]
    model = {"id": named["id"], "slug": named["slug"]}
    if heads.instances is None or heads.samples is None or heads.samples == 0:
        values = np.round(np.array(heads.values), 9) + 0.0
        return Side(run_reference(folder), model, heads.heads, None, values, {}, heads.measure)
    scores = np.array(heads.instances, dtype=np.float64).T
    return Side(run_reference(folder), model, heads.heads, scores, mean(scores) / NANO, {}, heads.measure)


def _relation(first: Json, second: Json) -> tuple[Relation, str | None]:
    """What the cards of the two models say of each other."""
    for one, other in ((first, second), (second, first)):
        bases = [name.casefold() for name in one.get("base_model") or ()]
        if other["id"].casefold() in bases:
            return "derived", "card"
    return "unknown", None


def _grid_words(heads: Sequence[tuple[int, int]]) -> str:
    return f"{len(heads)} in {len({layer for layer, _ in heads})} layers"


def _tables(sides: tuple[Side, Side]) -> dict[str, pa.Table]:
    layer, head = (np.array(part) for part in zip(*sides[0].heads, strict=True))
    values = [pa.array(x, type=f.type) for x, f in zip((layer, head, *(s.values for s in sides)), HEADS, strict=True)]
    samples: list[Json] = []
    scores = [np.empty((4, 0))]
    for number, side in enumerate(sides):
        unlabelled: dict[str, Sequence[Any]] = dict.fromkeys(("needle", "length", "depth"), [None] * side.n)
        labels = side.labels or unlabelled
        rows = zip(labels["needle"], labels["length"], labels["depth"], strict=True)
        samples += [
            {"side": number, "sample": place, "needle": needle, "length": length, "depth": depth}
            for place, (needle, length, depth) in enumerate(rows)
        ]
        if side.scores is not None:
            sample, place = np.nonzero(side.scores)
            scores.append(np.stack([np.full(len(sample), number), sample, place, side.scores[sample, place]]))
    columns = np.concatenate(scores, axis=1)
    arrays = [pa.array(columns[i].astype(f.type.to_pandas_dtype()), type=f.type) for i, f in enumerate(SCORES)]
    return {
        "heads": pa.Table.from_arrays(values, schema=HEADS),
        "samples": pa.Table.from_pylist(samples, schema=SAMPLES),
        "scores": pa.Table.from_arrays(arrays, schema=SCORES),
    }


# What the tables give


def _side_scores(tables: Tables, side: int) -> FloatArray:
    """float64 [n, H]; n is 0 where a side has no single samples."""
    own = tables["samples"].column("side").to_numpy() == side
    scores = np.zeros((int(own.sum()), len(tables["heads"])))
    columns = {name: tables["scores"].column(name).to_numpy() for name in SCORES.names}
    mine = columns["side"] == side
    scores[columns["sample"][mine], columns["place"][mine]] = columns["score"][mine]
    return scores


def _side_means(tables: Tables, side: int, bootstrap: Bootstrap) -> Means:
    """Each side draws its samples by a seed of its own."""
    scores = _side_scores(tables, side)
    if len(scores) == 0:
        column = tables["heads"].column(_SIDES[side]).to_numpy()
        return Means(np.rint(column * NANO).astype(np.int64), None)
    samples = tables["samples"]
    own = np.flatnonzero(samples.column("side").to_numpy() == side)
    chosen = samples.take(pa.array(own))
    labels = {name: chosen.column(name).to_pylist() for name in ("needle", "length", "depth")}
    seed = (bootstrap.seed + side) % 2**32
    strata = stratify(labels, len(own))
    return bootstrap_means(scores, strata, Bootstrap(bootstrap.replicates, seed, bootstrap.confidence))


def derive(document: Json, tables: Tables) -> tuple[Json, list[Json]]:
    """Results and claim of the experiment, see `docs/experiments/intrinsic.md`."""
    settings = document["settings"]
    bootstrap = Bootstrap(**settings["bootstrap"])
    first, second = (_side_means(tables, side, bootstrap) for side in (0, 1))
    layers = tables["heads"].column("layer").to_numpy().astype(np.int32)
    sides = tables["samples"].column("side").to_numpy()
    counts = [int((sides == side).sum()) for side in (0, 1)]
    rows = [
        _measure_row(measure, first, second, layers, min(counts), settings, bootstrap)
        for measure in (pearson(), spearman(), jaccard(), *(top_overlap(k) for k in settings["top"]))
    ]
    results: Json = {
        "heads": len(layers),
        "samples": counts,
        "retrieval_heads": [int(above(means.value).sum()) for means in (first, second)],
        "shared_retrieval_heads": int((above(first.value) & above(second.value)).sum()),
        "measures": rows,
    }
    return results, [_claim(settings, rows[0], results)]


def _measure_row(
    measure: Measure,
    first: Means,
    second: Means,
    layers: IntArray,
    n: int,
    settings: Json,
    bootstrap: Bootstrap,
) -> Json:
    """One measure: its estimate, and what it would be with heads in random order."""
    found = similarity(first, second, measure, bootstrap, n)
    if found.value is not None and (first.replicates is None or second.replicates is None):
        found = Estimate(found.value, None, None, n, "no interval: a side has no scores of several single samples")
    chance = {"permutations": settings["permutations"], "seed": settings["seed"]}
    whole = permutation_null(measure, first.value, second.value, **chance)
    within = permutation_null(measure, first.value, second.value, groups=layers, **chance)
    names = ("mean", "p_value", "reason")
    return {
        "measure": measure.name,
        "similarity": found.to_json(),
        "at_random": {name: asdict(whole)[name] for name in names},
        "at_random_within_layers": {name: asdict(within)[name] for name in names},
    }


def _claim(settings: Json, row: Json, results: Json) -> Json:
    relation: Relation = settings["relation"]
    name, statement = _STATEMENTS[relation]
    found = Estimate(**row["similarity"])
    p_value = row["at_random_within_layers"]["p_value"]
    verdict, reason = _verdict(relation, found, p_value, results["samples"])
    one, two = (model["id"] for model in settings["models"])
    heads = "head scores" if "numbers" not in settings else MEASURES[settings["numbers"]]
    limit = (
        f"Does not hold when the interval begins above {UNLIKE}; holds when it ends below."
        if relation == "unrelated"
        else f"Holds when the interval begins above {SIMILAR} and p is at most {LEVEL}; does not when it ends below."
    )
    return claim(
        name,
        statement,
        verdict,
        test=(
            f"Pearson correlation of the {heads} of {shown(one[:200])} and {shown(two[:200])} (both with their"
            f" samples resampled), against heads in random order within their layers. {limit}"
        ),
        effect=found,
        p_value=p_value,
        n=min(results["samples"]),
        reason=reason,
    )


def _verdict(
    relation: Relation, found: Estimate, p_value: float | None, samples: Sequence[int]
) -> tuple[Verdict, str | None]:
    if found.value is None:
        return "not_enough_evidence", f"The similarity is not defined: {found.reason}."
    if relation == "unknown":
        reason = "Nothing says whether one model was derived from the other; say so with --relation."
        return "not_enough_evidence", reason
    if found.low is None or found.high is None:
        return "not_enough_evidence", f"There is {found.reason}."
    if min(samples) < MIN_SAMPLES:
        return "not_enough_evidence", f"Needs {MIN_SAMPLES} counted samples of each, there are {min(samples)}."
    if relation == "unrelated":
        if found.high < UNLIKE:
            return "holds", None
        if found.low > UNLIKE:
            return "does_not_hold", None
        return "not_enough_evidence", f"The interval of the correlation includes {UNLIKE}."
    if found.low > SIMILAR and p_value is not None and p_value <= LEVEL:
        return "holds", None
    if found.high < SIMILAR:
        return "does_not_hold", None
    return "not_enough_evidence", f"The interval of the correlation includes {SIMILAR}, or chance would give as much."


# What must hold of the tables


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
    for name in _SIDES:
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
    card = _relation(*settings["models"])
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
    for side, name in enumerate(_SIDES):
        scores = _side_scores(tables, side)
        given: NanoArray = np.rint(tables["heads"].column(name).to_numpy() * NANO).astype(np.int64)
        try:
            wanted = mean(scores) if len(scores) else given
        except InputError as error:
            yield Problem("scores.parquet", "/score", error.problem)
            return
        exact = np.array_equal(wanted / NANO, tables["heads"].column(name).to_numpy()) if len(scores) else True
        if not exact:
            yield Problem("heads.parquet", f"/{name}", "is not the mean of the samples")


def against_runs(document: Json, tables: Tables, runs: Sequence[Path | None]) -> Iterator[Problem]:
    """Each side must be what its run, or its import, gives."""
    for place, (name, folder) in enumerate(zip(_SIDES, runs, strict=True)):
        if folder is None:
            continue
        side = read_side(folder)
        if list(side.heads) != list(
            zip(*(tables["heads"].column(c).to_pylist() for c in HEADS.names[:2]), strict=True)
        ):
            yield Problem("heads.parquet", "", f"its heads are not those of {shown(side.model['id'])}")
            continue
        scores = _side_scores(tables, place)
        given = np.zeros((0, len(side.heads))) if side.scores is None else side.scores
        same_values = np.array_equal(tables["heads"].column(name).to_numpy(), side.values)
        if not same_values or not np.array_equal(scores, given):
            yield Problem("scores.parquet", "", f"is not what the run of {shown(side.model['id'])} gives")


KIND = Kind(
    "intrinsic",
    1,
    {"heads": HEADS, "samples": SAMPLES, "scores": SCORES},
    derive,
    check,
    most_rows=8_000_000,
    against_runs=against_runs,
)
