"""Detectors made again: settings by the constants, prompts by the set and the tokenizer, scores by the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rh_bench.errors import InputError, LimitError
from rh_bench.experiments.detectors.derive import PERMUTATIONS, TOP
from rh_bench.experiments.kind import Again, HeadsRemeasured, Measuring, UntriedError, Verifying
from rh_bench.experiments.remeasured import NOISE
from rh_bench.experiments.sources import (
    constant_differences,
    load_again,
    row_differences,
    samples_of,
    set_of,
    tokenizer_of,
)
from rh_bench.measure.asking import ask_as, builder_as, fitting_prompts
from rh_bench.protocol import BOOTSTRAP, SUCCESS_THRESHOLD
from rh_bench.records import Json, Layer, head_grid
from rh_bench.stats.bootstrap import NANO
from rh_bench.system.files import shown

if TYPE_CHECKING:
    from rh_bench.artifacts.levels import Evidence
    from rh_bench.detectors.base import Detector
    from rh_bench.experiments.artifact import Experiment

CONSTANTS: Json = {
    "top": list(TOP),
    "permutations": PERMUTATIONS,
    "permutation_seed": 0,
    "success_threshold": SUCCESS_THRESHOLD,
    "bootstrap": BOOTSTRAP,
}
_PLACES = ("needle_id", "haystack_id", "length", "depth")


def planned(experiment: Experiment, runs: Sequence[Path]) -> Iterator[str]:
    """Detectors as this rh_bench has them, and the constants. What other people's detectors are is not known here."""
    from rh_bench.detectors import choose_detectors
    from rh_bench.detectors.base import describe

    settings = experiment.document["settings"]
    yield from constant_differences(settings, CONSTANTS)
    own = [one for one in settings["detectors"] if "foreign" not in one]
    try:
        known = [describe(detector) for detector in choose_detectors([one["name"] for one in own])] if own else []
    except InputError as error:
        yield error.problem
        return
    for claimed in own:
        if claimed not in known:
            yield f"its detector {claimed['name']} is not the one of that name that this rh_bench has"


def reproduced(experiment: Experiment, runs: Sequence[Path], evidence: Evidence) -> Iterable[str]:
    """Samples and prompts, from the set and the tokenizer."""
    haystacks, wrong = set_of(experiment, evidence.haystack)
    tokenizer, strange = tokenizer_of(experiment, evidence.model)
    if wrong or strange:
        return wrong + strange
    try:
        samples, wrong = samples_of(haystacks, experiment.document["settings"]["grid"])
        builder = builder_as(tokenizer, haystacks, samples, _asked(experiment))
        prompts = [builder.build(sample) for sample in samples]
    except LimitError:
        raise
    except InputError as error:
        return [error.problem]
    rows = [
        {
            "sample_id": prompt.sample.sample_id,
            **{name: getattr(prompt.sample, name) for name in _PLACES},
            "prompt_sha256": prompt.sha256,
        }
        for prompt in prompts
    ]
    return wrong + row_differences("samples.parquet", experiment.tables["samples"].to_pylist(), rows, "sample_id")


def _asked(experiment: Experiment) -> Json:
    """What of the experiment says how the model was asked, as a run says it."""
    return {"schema_version": "1.3", "protocol": experiment.document["settings"]}


def units(experiment: Experiment) -> Mapping[str, Sequence[str]]:
    """Every sample: it is measured by all detectors."""
    return {"samples": experiment.tables["samples"].column("sample_id").to_pylist()}


def measure(experiment: Experiment, runs: Sequence[Path], chosen: Sequence[str], evidence: Evidence) -> Again:
    """The scores of every head on these samples, by every detector."""
    settings, wanted = experiment.document["settings"], set(chosen)
    again = _detectors_again(settings["detectors"])
    haystacks, wrong = set_of(experiment, evidence.haystack)
    if wrong:
        return wrong
    samples = [one for one in samples_of(haystacks, settings["grid"])[0] if one.sample_id in wanted]
    limit = settings["max_new_tokens"]
    loaded, wrong = load_again(
        experiment,
        evidence,
        dtype=settings["dtype"],
        positions=max(sample.length for sample in samples) + limit,
        prompts=fitting_prompts(haystacks, samples, settings["template"], limit),
    )
    if wrong:
        return wrong
    from rh_bench.detectors.base import Subject

    try:
        asking = ask_as(loaded, haystacks, samples, _asked(experiment))
    except LimitError:
        raise
    except InputError as error:
        return [error.problem]
    if any(settings.get(name) != value for name, value in asking.protocol().items()):
        return ["its protocol is not how this model is asked and where its answers end"]
    subject = Subject(loaded, asking.builder, asking.stop, limit, settings["seed"])
    near, found = NOISE[settings["dtype"]].near, []
    for detector in again:
        measured = {one.sample_id: one.scores for one in detector.measure(subject, asking.prompts, {})}
        for place, score in enumerate(detector.scores):
            scores_again = {name: scores[place] for name, scores in measured.items()}
            found.append(_compare(experiment, score, scores_again, near))
    return found


def _detectors_again(claimed: Sequence[Json]) -> Sequence[Detector]:
    """The detectors that an experiment names, as they are here.

    Raises:
        UntriedError: one is of a package that is not installed here, or that has it otherwise.
    """
    from rh_bench.detectors import choose_detectors
    from rh_bench.detectors.foreign import described, installed

    for one in claimed:
        if "foreign" in one:
            here = installed(one["name"])
            if here is None or described(here) != one:
                package = one["foreign"]["package"] or one["foreign"]["class"]
                missing = "is not installed here" if here is None else "is another one here"
                raise UntriedError(f"its detector {one['name']} is not rh_bench's own, and {shown(package)} {missing}")
    return choose_detectors([one["name"] for one in claimed])


def _compare(experiment: Experiment, score: str, again: Mapping[str, object], near: float) -> HeadsRemeasured:
    layers = [Layer(**layer) for layer in experiment.document["model"]["layers"]]
    rows = experiment.tables["scores"].select(["score", "sample_id", "values"]).to_pylist()
    claimed = {row["sample_id"]: row["values"] for row in rows if row["score"] == score and row["sample_id"] in again}
    differences = [np.abs(np.asarray(values) / NANO - np.asarray(again[name])) for name, values in claimed.items()]
    differing = (np.stack(differences) > near).sum(axis=0)
    return HeadsRemeasured(score, len(claimed), differing.tolist(), head_grid(layers))


def notes(document: Json) -> Iterator[str]:
    """Choices that were free."""
    for one in document["settings"]["detectors"]:
        if "foreign" in one:
            yield f"its detector {one['name']} is not rh_bench's own ({shown(one['foreign']['class'])})"
    if document["settings"]["seed"] != 0:
        yield f"what detectors draw was drawn with seed {document['settings']['seed']}, not 0: a choice of its maker"


VERIFYING = Verifying(planned, reproduced, Measuring("samples", units, measure), notes)
