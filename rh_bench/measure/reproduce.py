"""What a run says of its set, its model and its prompts, made again from the set and the model's tokenizer.

The set and the model that are named here must be the very ones of the run: by manifest and by revision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rh_bench.artifacts.coverage import Coverage, coverage, coverage_problems
from rh_bench.artifacts.fingerprint import WEIGHTS
from rh_bench.artifacts.run import Run
from rh_bench.errors import InputError, LimitError
from rh_bench.measure.asking import builder_as
from rh_bench.measure.claims import grid_claims, model_claims, set_claims
from rh_bench.models.source import base_revision, hub_name
from rh_bench.models.window import find_window
from rh_bench.prompting.stopping import turn_token
from rh_bench.records import Layer, Sample, SampleResult
from rh_bench.sets.choose import choice_of, choose_samples, grid_in_words
from rh_bench.sets.dataset import HaystackSet
from rh_bench.sets.find import find_set
from rh_bench.sets.prompts import PromptBuilder

if TYPE_CHECKING:
    from rh_bench.models.load import LoadedModel, ModelSource


def prompt_problems(run: Run, haystack: str | None, model: str | None) -> list[str]:
    """What of a run's samples cannot be reproduced from its set and its model's tokenizer: nothing if all can."""
    from rh_bench.models.load import describe_named, outline, read_config, resolve_model, tokenizer_of

    haystacks, wrong = set_of(run, haystack)
    named = run.document["model"]
    source = resolve_model(model or hub_name(named), base_revision=base_revision(named))
    config = read_config(source)
    wrong += model_problems(run, source, config)
    if wrong:
        return wrong
    tokenizer = tokenizer_of(source)
    found = describe_named(source, find_window(config), tokenizer)
    wrong = model_claims(named, found, outline(source, config)) + _sample_problems(run, haystacks)
    if wrong:
        return wrong
    try:
        builder = builder_as(tokenizer, haystacks, [result.sample for result in run.results], run.document)
    except LimitError:
        raise
    except InputError as error:
        return [error.problem]
    wrong = _stop_problems(run, builder)
    return wrong + [
        f"sample {result.sample.sample_id}: {problem}"
        for result in run.results
        for problem in _prompt_problems(builder, result)
    ]


def set_of(run: Run, haystack: str | None) -> tuple[HaystackSet, list[str]]:
    """The set of a run, and what the run says otherwise of it."""
    named = run.document["haystack"]
    haystacks, location, commit = find_set(haystack or f"{named['location']}@{named['revision']}")
    if haystacks.manifest_sha256 != named["manifest_sha256"]:
        return haystacks, ["this is not the run's set: the SHA-256 of its manifest.json differs"]
    return haystacks, set_claims(named, haystacks, location, commit)


def covered(run: Run, haystack: str | None) -> Coverage:
    """What a run of which nothing failed to be reproduced covers of its set."""
    size = run.document["haystack"].get("samples") or set_of(run, haystack)[0].manifest["counts"]["samples"]
    return coverage(run.document, size)


def model_problems(run: Run, source: ModelSource, config: Any) -> list[str]:
    """The revision, the weights' hashes, and what the model's configuration says of its layers and heads. A model that
    was measured in memory has neither revision nor files to compare: see `rh_bench.measure.claims.memory_claims`."""
    wrong = [] if "memory" in run.document["model"] else _file_problems(run, source)
    if wrong:
        return wrong
    from rh_bench.system.memory import model_shape

    shape, text = model_shape(config, 0), config.get_text_config(decoder=True)
    layers = int(getattr(text, "num_hidden_layers", 0) or getattr(text, "n_layer", 0))
    problems = []
    if layers and layers != len(run.layers):
        problems.append(f"run.json has {len(run.layers)} layers, the model's configuration {layers}")
    heads = max((layer.query_heads for layer in run.layers), default=0)
    if heads != shape.query_heads:
        problems.append(f"run.json has {heads} query heads per layer, the model's configuration {shape.query_heads}")
    return problems


def _file_problems(run: Run, source: ModelSource) -> list[str]:
    """The revision, and the weights' hashes."""
    if source.revision != run.document["model"]["revision"]:
        return ["this is not the run's model: its revision differs"]
    bases = (run.document["model"].get("adapter") or {}).get("base") or {}
    claimed = [*run.document["model"]["files"], *bases.get("files", [])]
    found = [*source.files, *(source.adapter.base.files if source.adapter else ())]
    hashes = sorted(file["sha256"] for file in claimed if file["path"].endswith(WEIGHTS))
    if hashes != sorted(digest for name, digest, _ in found if name.endswith(WEIGHTS)):
        return ["the weights that run.json names are not those of the model: their SHA-256 differ"]
    return []


def layer_problems(layers: tuple[Layer, ...], loaded: LoadedModel) -> list[str]:
    """Index, kind, heads and window of each layer are those of the model. `rh_bench.measure.claims.loaded_claims`
    compares all that a run says of them, and of the model."""

    def shape(some: tuple[Layer, ...]) -> list[tuple[int, str, int, int, int | None]]:
        return [(layer.index, layer.kind, layer.query_heads, layer.kv_heads, layer.window) for layer in some]

    return [] if shape(layers) == shape(loaded.layers) else ["the layers in run.json are not those of the model"]


def _sample_problems(run: Run, haystacks: HaystackSet) -> list[str]:
    """The run has every sample that its protocol names, and no other: none was dropped, none made up."""
    grid = run.document["protocol"]["grid"]
    choice = choice_of(grid)
    samples, made = choose_samples(haystacks, choice, run.document["haystack"]["location"])
    expected = {sample.sample_id: sample for sample in samples}
    found: dict[str, Sample] = {result.sample.sample_id: result.sample for result in run.results}
    size = haystacks.manifest["counts"]["samples"]
    problems = [f"run.json#{pointer}: {words}" for pointer, words in coverage_problems(run.document, size)]
    if grid != grid_in_words(haystacks, choice):
        problems += grid_claims(run.document["protocol"], made)
    problems += [f"sample {name} is missing" for name in expected if name not in found]
    problems += [f"sample {name} is not in the set" for name in found if name not in expected]
    return problems + [
        f"sample {name} differs from that of the set"
        for name in found
        if name in expected and found[name] != expected[name]
    ]


def _stop_problems(run: Run, builder: PromptBuilder) -> list[str]:
    """What ends an answer, as far as it can be told without the model's own end-of-sequence tokens: newlines end those
    to plain prompts, and a turn's token is the one that the chat template ends a turn with."""
    protocol = run.document["protocol"]
    stops, problems = set(protocol["stop"]), []
    expected = {"eos", *(["newline"] if builder.stops_at_newline else [])}
    if stops - {"turn"} != expected:
        problems.append(f"run.json#/protocol/stop is {sorted(stops)}, it must be {sorted(expected)}")
    claimed = protocol.get("turn_token")
    if claimed is not None:
        variables = dict(builder.thinking.variables) if builder.thinking else None
        turn = None if builder.chat is None else turn_token(builder.chat, frozenset(), variables)
        if turn is None or turn[1] != claimed:
            problems.append(f"run.json#/protocol/turn_token is {claimed!r}, the template ends a turn differently")
    return problems


def _prompt_problems(builder: PromptBuilder, result: SampleResult) -> Iterator[str]:
    prompt = builder.build(result.sample)
    if prompt.sha256 != result.prompt_sha256:
        yield "its prompt is not reproduced"
    if (prompt.insert_at, prompt.span_start) != (result.insert_at, result.span_start):
        yield "its needle is elsewhere"
    if tuple(prompt.span_ids.tolist()) != result.span_ids or prompt.answer != result.answer:
        yield "its answer differs"
    if builder.text(list(result.generated_ids)) != result.text:
        yield "its text does not match its tokens"
