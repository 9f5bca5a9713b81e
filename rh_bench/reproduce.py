"""Doing a run's work again: its prompts with the model's tokenizer, some of its samples with the model.

The set and the model that are named here must be the very ones of the run: by manifest and by revision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rh_bench.asking import Asking, ask_as, builder_as, prompt_ids
from rh_bench.errors import InputError
from rh_bench.evaluate import Request, choose_samples, find_set
from rh_bench.events import copy_events
from rh_bench.files import sha256_file
from rh_bench.fingerprint import WEIGHTS
from rh_bench.model_source import base_revision, hub_name
from rh_bench.prompts import PromptBuilder
from rh_bench.records import Layer, Prompt, Sample, SampleResult
from rh_bench.runs import Run
from rh_bench.sets import HaystackSet
from rh_bench.thinking import thought_limit
from rh_bench.window import stated_window

if TYPE_CHECKING:
    from rh_bench.models import LoadedModel, ModelSource

TOLERANCE = {"float32": (0.9, 0.95), "bfloat16": (0.75, 0.8), "float16": (0.75, 0.8)}
"""By type of the run: least share of answers that must be equal, and least share of events (in both of those in either)
over all samples measured again. On one machine float32 gives equal events; other kernels round otherwise, so that near
ties fall otherwise. Half types on one processor gave 0.96 and 0.94 against float32 (docs/speed.md)."""


def prompt_problems(run: Run, haystack: str | None, model: str | None) -> list[str]:
    """What of a run's samples cannot be reproduced from its set and its model's tokenizer: nothing if all can."""
    from rh_bench.models import read_config, resolve_model, tokenizer_of

    haystacks, wrong = _set_of(run, haystack)
    named = run.document["model"]
    source = resolve_model(model or hub_name(named), base_revision=base_revision(named))
    wrong += _model_problems(run, source, read_config(source))
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


def rerun(
    run: Run, haystack: str | None, model: str | None, count: int, salt: str, device: str
) -> tuple[bool, list[str]]:
    """Measure `count` samples again and compare.

    Returns:
        Whether they agree within TOLERANCE, and what was found, in words.
    """
    from rh_bench.engines import make_engine
    from rh_bench.models import load_model

    dtype = run.document["protocol"]["dtype"]
    chosen = choose(run, count, salt)
    samples = [result.sample for result in chosen]
    limit = run.document["protocol"]["max_new_tokens"]
    longest = max(result.sample.length for result in chosen) + limit + thought_limit(run.document)
    haystacks, wrong = _set_of(run, haystack)
    named = run.document["model"]
    if wrong:
        return False, wrong
    loaded = load_model(
        model or hub_name(named),
        dtype=dtype,
        device=device,
        positions=longest,
        window=stated_window(named),
        base_revision=base_revision(named),
        prompts=lambda tokenizer, *_: prompt_ids(tokenizer, haystacks, samples, run.document["protocol"]["template"]),
    )
    wrong += _model_problems(run, loaded.source, loaded.model.config)
    wrong += _layer_problems(run.layers, loaded)
    if wrong:
        return False, wrong
    try:
        asking = ask_as(loaded, haystacks, samples, run.document)
    except InputError as error:
        return False, [error.problem]
    wrong = _stop_problems(run, asking)
    if wrong:
        return False, wrong
    chunk = loaded.memory.chunk if loaded.memory else None
    engine = make_engine(
        "fast",
        loaded.model,
        loaded.layers,
        asking.stop,
        max_new_tokens=limit,
        chunk=chunk,
        thought=asking.thought,
    )
    again = {decoded.sample_id: decoded for decoded in engine.decode(asking.prompts)}
    return _compare(run, chosen, asking.prompts, again, dtype, salt)


def _stop_problems(run: Run, asking: Asking) -> list[str]:
    """Answers end where the run says that they do."""
    claimed, found = run.document["protocol"].get("turn_token"), asking.stop.turn[1] if asking.stop.turn else None
    return [] if claimed == found else [f"run.json says that a turn ends at {claimed!r}, it ends at {found!r}"]


def _compare(
    run: Run, chosen: list[SampleResult], prompts: Sequence[Prompt], again: Any, dtype: str, salt: str
) -> tuple[bool, list[str]]:
    equal, both, either, differing = 0, 0, 0, []
    for result, prompt in zip(chosen, prompts, strict=True):
        decoded = again[result.sample.sample_id]
        same = decoded.generated.tolist() == list(result.generated_ids)
        same &= decoded.thought.tolist() == list(result.thought_ids or ())
        events = {tuple(row) for row in copy_events(prompt, decoded, run.layers).tolist()}
        claimed = {tuple(row) for row in result.events.tolist()}
        equal += same
        both += len(events & claimed)
        either += len(events | claimed)
        if not same or events != claimed:
            answers = "equal answers" if same else "another answer"
            shared = f"{len(events & claimed)} events in both of {len(claimed)} claimed and {len(events)} found"
            differing.append(f"sample {result.sample.sample_id}: {answers}, {shared}")
    least_answers, least_events = TOLERANCE[dtype]
    share = both / either if either else 1.0
    agreed = equal >= least_answers * len(chosen) and share >= least_events
    ids = ", ".join(result.sample.sample_id for result in chosen[:10])
    words = [
        f"{equal} of {len(chosen)} answers equal (at least {least_answers:.0%} needed)",
        f"{both} of {either} events in both ({share:.1%}; at least {least_events:.0%} needed for {dtype})",
        f"samples chosen by the SHA-256 of run.json and the salt {salt!r}: {ids}{' …' if len(chosen) > 10 else ''}",
        *differing,
    ]
    return agreed, words


def choose(run: Run, count: int, salt: str) -> list[SampleResult]:
    """Samples in an order that the bytes of run.json (which hold the hash of every other file) and a salt decide."""
    seed = f"{sha256_file(run.folder / 'run.json')}\n{salt}\n"

    def place(result: SampleResult) -> str:
        return hashlib.sha256((seed + result.sample.sample_id).encode()).hexdigest()

    chosen = sorted(run.results, key=place)[:count]
    if not chosen:
        raise InputError("has no samples to measure again", where=run.folder)
    return chosen


def _set_of(run: Run, haystack: str | None) -> tuple[HaystackSet, list[str]]:
    named = run.document["haystack"]
    haystacks = find_set(haystack or f"{named['location']}@{named['revision']}")[0]
    if haystacks.manifest_sha256 != named["manifest_sha256"]:
        return haystacks, ["this is another set than the run's: the SHA-256 of its manifest.json differs"]
    return haystacks, []


def _model_problems(run: Run, source: ModelSource, config: Any) -> list[str]:
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


def _layer_problems(layers: tuple[Layer, ...], loaded: LoadedModel) -> list[str]:
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
    expected = {sample.sample_id: sample for sample in choose_samples(haystacks, request)[0]}
    found: dict[str, Sample] = {result.sample.sample_id: result.sample for result in run.results}
    problems = [f"sample {name} is missing" for name in expected if name not in found]
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
