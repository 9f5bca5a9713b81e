"""Measuring samples of a run again, those that its maker could not choose, and judging what it claims by them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from rh_bench.asking import ask_as, prompt_ids
from rh_bench.claims import asking_claims, loaded_claims
from rh_bench.errors import InputError
from rh_bench.events import copy_events
from rh_bench.files import sha256_file
from rh_bench.model_source import base_revision, hub_name
from rh_bench.records import Prompt, SampleResult
from rh_bench.reproduce import model_problems, set_of
from rh_bench.runs import Run
from rh_bench.thinking import thought_limit
from rh_bench.window import stated_window

TOLERANCE = {"float32": (0.9, 0.95), "bfloat16": (0.75, 0.8), "float16": (0.75, 0.8)}
"""By type of the run: least share of answers that must be equal, and least share of events (in both of those in either)
over all samples measured again. On one machine float32 gives equal events; other kernels round otherwise, so that near
ties fall otherwise. Half types on one processor gave 0.96 and 0.94 against float32 (docs/speed.md)."""


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
    haystacks, wrong = set_of(run, haystack)
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
    wrong += model_problems(run, loaded.source, loaded.model.config)
    wrong += loaded_claims(run.document, loaded)
    if wrong:
        return False, wrong
    try:
        asking = ask_as(loaded, haystacks, samples, run.document)
    except InputError as error:
        return False, [error.problem]
    wrong = asking_claims(run.document, asking)
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
