"""The set and the model that an experiment names, got again: they must be the very ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rh_bench.artifacts.run import Run
from rh_bench.experiments.heads import Ranking
from rh_bench.experiments.run_evidence import model_differences
from rh_bench.measure.claims import memory_claims
from rh_bench.measure.reproduce import layer_problems, model_problems
from rh_bench.models.source import base_revision, hub_name
from rh_bench.models.window import stated_window
from rh_bench.records import Json, Layer, Sample
from rh_bench.sets.choose import choice_of, choose_samples
from rh_bench.sets.dataset import HaystackSet
from rh_bench.sets.find import find_set

if TYPE_CHECKING:
    from rh_bench.artifacts.levels import Evidence
    from rh_bench.experiments.artifact import Experiment
    from rh_bench.models.load import LoadedModel


def set_of(experiment: Experiment, haystack: str | None) -> tuple[HaystackSet, list[str]]:
    """The haystack set of an experiment, and what shows that it is another."""
    data = experiment.document["data"]
    found, _, _ = find_set(haystack or f"{data['source']}@{data['revision']}")
    if found.manifest_sha256 != data["sha256"]:
        return found, ["this is another set than the experiment's: the SHA-256 of its manifest.json differs"]
    return found, []


def tokenizer_of(experiment: Experiment, model: str | None) -> tuple[Any, list[str]]:
    """The tokenizer of an experiment's model, and what shows that it is another model."""
    from rh_bench.models.load import read_config, resolve_model
    from rh_bench.models.load import tokenizer_of as tokenizer_of_source

    named = experiment.document["model"]
    source = resolve_model(model or hub_name(named), base_revision=base_revision(named))
    wrong = model_problems(as_run(experiment), source, read_config(source))
    return (None, wrong) if wrong else (tokenizer_of_source(source), [])


def load_again(
    experiment: Experiment, evidence: Evidence, *, dtype: str, positions: int | None = None, prompts: Any = None
) -> tuple[LoadedModel, list[str]]:
    """An experiment's model, in the type that it was measured in, and what shows that it is another."""
    from rh_bench.models.load import load_model

    named = experiment.document["model"]
    loaded = load_model(
        evidence.model or hub_name(named),
        dtype=dtype,
        device=evidence.device,
        positions=positions,
        window=stated_window(named),
        base_revision=base_revision(named),
        prompts=prompts,
    )
    run = as_run(experiment)
    wrong = model_problems(run, loaded.source, loaded.model.config)
    return loaded, wrong + memory_claims(named, loaded) + layer_problems(run.layers, loaded)


def as_run(experiment: Experiment) -> Run:
    """What an experiment says of its model, as those take it who compare a run with a model."""
    layers = tuple(Layer(**layer) for layer in experiment.document["model"]["layers"])
    return Run(experiment.folder, experiment.document, layers, ())


def samples_of(haystacks: HaystackSet, grid: Json) -> tuple[tuple[Sample, ...], list[str]]:
    """The samples that a `grid` names in a set, and what is wrong with it.

    Raises:
        InputError: it names a needle that the set does not have, or no samples.
    """
    samples, again = choose_samples(haystacks, choice_of(grid))
    return samples, [] if again == grid else ["its grid is not what its own lengths, depths and needles give"]


def row_differences(table: str, claimed: list[Json], expected: list[Json], key: str) -> list[str]:
    """What of a table's rows is not what was made again, up to the first few.

    Args:
        key: the column that names a row.
    """
    names = [row[key] for row in claimed], [row[key] for row in expected]
    if names[0] != names[1]:
        missing, strange = ([name for name in one if name not in set(other)] for one, other in (names[::-1], names))
        words = [f"{table} lacks {name}" for name in missing] + [f"{name} of {table} is not there" for name in strange]
        return words or [f"{table}: its rows are in another order"]
    return [
        f"{table}, {one[key]}: its {', '.join(differing)} is not reproduced"
        for one, other in zip(claimed, expected, strict=True)
        if (differing := [name for name, value in other.items() if one[name] != value])
    ]


def run_differences(document: Json, run: Run, ranking: Ranking, constants: Json) -> Iterator[str]:
    """What of an experiment that removes a run's heads is not the run's, or not the constants of its kind."""
    settings = document["settings"]
    yield from model_differences(document, run.document)
    yield from constant_differences(settings, constants)
    if settings["retrieval_heads"] != [list(head) for head in ranking.retrieval]:
        yield "its retrieval heads are not those that the run's ranking gives"


def constant_differences(settings: Json, constants: Json) -> list[str]:
    """Which settings are not the constants that every experiment of a kind has."""
    return [
        f"settings/{name} is {str(settings.get(name))[:80]}; for all experiments it is {value}"
        for name, value in constants.items()
        if settings.get(name) != value
    ]
