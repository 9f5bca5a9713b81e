"""What a run says of its set, its model and its prompts, made again from the set and the model's tokenizer.

The set and the model that are named here must be the very ones of the run: by manifest and by revision.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rh_bench.asking import builder_as
from rh_bench.coverage import Coverage, coverage, coverage_problems
from rh_bench.errors import InputError
from rh_bench.evaluate import Request, choose_samples, find_set
from rh_bench.fingerprint import WEIGHTS
from rh_bench.model_source import base_revision, hub_name
from rh_bench.prompts import PromptBuilder
from rh_bench.records import Layer, Sample, SampleResult
from rh_bench.runs import Run
from rh_bench.sets import HaystackSet

if TYPE_CHECKING:
    from rh_bench.models import LoadedModel, ModelSource


def prompt_problems(run: Run, haystack: str | None, model: str | None) -> list[str]:
    """What of a run's samples cannot be reproduced from its set and its model's tokenizer: nothing if all can."""
    from rh_bench.models import read_config, resolve_model, tokenizer_of

    haystacks, wrong = set_of(run, haystack)
    named = run.document["model"]
    source = resolve_model(model or hub_name(named), base_revision=base_revision(named))
    wrong += model_problems(run, source, read_config(source))
    if wrong:
        return wrong
    tokenizer = tokenizer_of(source)
    wrong = _sample_problems(run, haystacks)
    if wrong:
        return wrong
    try:
        builder = builder_as(tokenizer, haystacks, [result.sample for result in run.results], run.document)
    except InputError as error:
        return [error.problem]
    return [
        f"sample {result.sample.sample_id}: {problem}"
        for result in run.results
        for problem in _prompt_problems(builder, result)
    ]


def set_of(run: Run, haystack: str | None) -> tuple[HaystackSet, list[str]]:
    named = run.document["haystack"]
    haystacks = find_set(haystack or f"{named['location']}@{named['revision']}")[0]
    if haystacks.manifest_sha256 != named["manifest_sha256"]:
        return haystacks, ["this is another set than the run's: the SHA-256 of its manifest.json differs"]
    return haystacks, []


def covered(run: Run, haystack: str | None) -> Coverage:
    """What a run of which nothing failed to be reproduced covers of its set."""
    size = run.document["haystack"].get("samples") or set_of(run, haystack)[0].manifest["counts"]["samples"]
    return coverage(run.document, size)


def model_problems(run: Run, source: ModelSource, config: Any) -> list[str]:
    """The revision, the weights' hashes, and what the model's configuration says of its layers and heads."""
    if source.revision != run.document["model"]["revision"]:
        return ["this is another model than the run's: its revision differs"]
    bases = (run.document["model"].get("adapter") or {}).get("base") or {}
    claimed = [*run.document["model"]["files"], *bases.get("files", [])]
    found = [*source.files, *(source.adapter.base.files if source.adapter else ())]
    hashes = sorted(file["sha256"] for file in claimed if file["path"].endswith(WEIGHTS))
    if hashes != sorted(digest for name, digest, _ in found if name.endswith(WEIGHTS)):
        return ["the weights that run.json names are not those of the model: their SHA-256 differ"]
    from rh_bench.memory import model_shape

    shape, text = model_shape(config, 0), config.get_text_config(decoder=True)
    layers = int(getattr(text, "num_hidden_layers", 0) or getattr(text, "n_layer", 0))
    problems = []
    if layers and layers != len(run.layers):
        problems.append(f"run.json has {len(run.layers)} layers, the model's configuration {layers}")
    heads = max((layer.query_heads for layer in run.layers), default=0)
    if heads != shape.query_heads:
        problems.append(f"run.json has {heads} query heads a layer, the model's configuration {shape.query_heads}")
    return problems


def layer_problems(layers: tuple[Layer, ...], loaded: LoadedModel) -> list[str]:
    """Index, kind, heads and window of each layer are those of the model. How a layer is run is not compared: runs of
    older versions do not say it."""

    def shape(some: tuple[Layer, ...]) -> list[tuple[int, str, int, int, int | None]]:
        return [(layer.index, layer.kind, layer.query_heads, layer.kv_heads, layer.window) for layer in some]

    return [] if shape(layers) == shape(loaded.layers) else ["the layers in run.json are not those of the model"]


def _sample_problems(run: Run, haystacks: HaystackSet) -> list[str]:
    """The run has every sample that its protocol names, and no other: none was dropped, none made up."""
    grid = run.document["protocol"]["grid"]
    request = Request(
        model="",
        haystack=run.document["haystack"]["location"],
        out=Path(),
        lengths=_tuple(grid["lengths"]),
        depths=_tuple(grid["depths"]),
        needles=_tuple(grid["needles"]),
        limit=grid["limit"],
    )
    size = haystacks.manifest["counts"]["samples"]
    problems = [f"run.json{pointer}: {words}" for pointer, words in coverage_problems(run.document, size)]
    expected = {sample.sample_id: sample for sample in choose_samples(haystacks, request)[0]}
    found: dict[str, Sample] = {result.sample.sample_id: result.sample for result in run.results}
    problems += [f"sample {name} is missing" for name in expected if name not in found]
    problems += [f"sample {name} is not in the set" for name in found if name not in expected]
    return problems + [
        f"sample {name} is another one in the set"
        for name in found
        if name in expected and found[name] != expected[name]
    ]


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return tuple(values) if values is not None else None


def _prompt_problems(builder: PromptBuilder, result: SampleResult) -> Iterator[str]:
    prompt = builder.build(result.sample)
    if prompt.sha256 != result.prompt_sha256:
        yield "its prompt is not reproduced"
    if (prompt.insert_at, prompt.span_start) != (result.insert_at, result.span_start):
        yield "its needle stands elsewhere"
    if tuple(prompt.span_ids.tolist()) != result.span_ids or prompt.answer != result.answer:
        yield "its answer is another one"
    if builder.text(list(result.generated_ids)) != result.text:
        yield "its text is not what its tokens say"
