"""Measuring samples of a run again, those that its maker could not choose, and judging what it claims by them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rh_bench.artifacts.run import Run
from rh_bench.engines.follow import Claimed, Followed, Follower
from rh_bench.errors import InputError, LimitError
from rh_bench.measure.asking import ask_as, prompt_ids
from rh_bench.measure.claims import asking_claims, loaded_claims, unknown_weights
from rh_bench.measure.reproduce import model_problems, set_of
from rh_bench.models.source import base_revision, hub_name
from rh_bench.models.window import stated_window
from rh_bench.prompting.stopping import StopRule
from rh_bench.prompting.thinking import thought_limit
from rh_bench.records import Layer, SampleResult, head_grid
from rh_bench.system.environment import describe_environment
from rh_bench.system.files import sha256_file
from rh_bench.verification.agreement import agreement
from rh_bench.verification.judging import judge
from rh_bench.verification.noise import measured_noise
from rh_bench.verification.power import power_words

_MOST_IDS = 10


@dataclass(frozen=True, slots=True)
class Again:
    """What was found when samples were measured again."""

    rows: tuple[tuple[SampleResult, Claimed, Followed], ...]
    layers: tuple[Layer, ...]
    device: str
    device_name: str
    problems: tuple[str, ...] = ()
    """What is wrong with the run before any of it: nothing was measured then."""


def rerun(
    run: Run, haystack: str | None, model: str | None, count: int, salt: str, device: str
) -> tuple[bool, list[str]]:
    """Measure `count` samples again and judge the run's claims about them.

    Returns:
        Whether they are those of an honest run, and what was found, in words.
    """
    chosen = choose(run, count, salt)
    again = measure_again(run, chosen, haystack, model, device)
    if again.problems:
        return False, list(again.problems)
    environment = run.document["environment"]
    here = describe_environment(again.device, again.device_name)
    noise = measured_noise(run.document["protocol"]["dtype"], environment, here)
    found = [agreement(*row, again.layers, noise) for row in again.rows]
    judgement = judge(found, np.array(head_grid(again.layers), dtype=np.int32).reshape(-1, 2), noise)
    ids = ", ".join(result.sample.sample_id for result in chosen[:_MOST_IDS])
    more = f" and {len(chosen) - _MOST_IDS} more" if len(chosen) > _MOST_IDS else ""
    return judgement.agreed, [
        *judgement.problems,
        *judgement.words,
        power_words(run, chosen),
        *_weights_words(run),
        f"{len(chosen)} samples, chosen by the SHA-256 of run.json and the salt {salt!r}: {ids}{more}",
    ]


def _weights_words(run: Run) -> list[str]:
    """Said where only what the model did shows that it is the run's."""
    why = unknown_weights(run.document["model"])
    return [f"the model is the run's as far as what it does here shows: {why}"] if why else []


def measure_again(
    run: Run, chosen: Sequence[SampleResult], haystack: str | None, model: str | None, device: str
) -> Again:
    """Follow the claimed answers of some of a run's samples with its model.

    Args:
        haystack, model: the run's own without them.

    Raises:
        InputError: the set or the model cannot be fetched, or cannot be run here.
    """
    from rh_bench.models.load import load_model

    document, samples = run.document, [result.sample for result in chosen]
    haystacks, wrong = set_of(run, haystack)
    if wrong:
        return Again((), run.layers, device, "", tuple(wrong))
    named, protocol = document["model"], document["protocol"]
    longest = max(sample.length for sample in samples) + protocol["max_new_tokens"] + thought_limit(document)
    loaded = load_model(
        model or hub_name(named),
        dtype=protocol["dtype"],
        device=device,
        positions=longest,
        window=stated_window(named),
        base_revision=base_revision(named),
        prompts=lambda tokenizer, *_: prompt_ids(tokenizer, haystacks, samples, protocol["template"]),
    )
    wrong = [*model_problems(run, loaded.source, loaded.model.config), *loaded_claims(document, loaded)]
    if not wrong:
        try:
            asking = ask_as(loaded, haystacks, samples, document)
        except LimitError:
            raise
        except InputError as error:
            wrong = [error.problem]
        else:
            wrong = [*asking_claims(document, asking), *_answer_problems(run, chosen, asking.stop)]
    if wrong:
        return Again((), run.layers, loaded.device, loaded.device_name, tuple(wrong))
    follower = Follower(loaded.model, loaded.layers, asking.stop, loaded.memory.chunk if loaded.memory else None)
    claims = {result.sample.sample_id: claimed(run, result) for result in chosen}
    followed = {one.sample_id: one for one in follower.follow(asking.prompts, claims)}
    rows = tuple((r, claims[r.sample.sample_id], followed[r.sample.sample_id]) for r in chosen)
    return Again(rows, loaded.layers, loaded.device, loaded.device_name)


def claimed(run: Run, result: SampleResult) -> Claimed:
    """What a run says of how its model went on after a prompt."""
    protocol = run.document["protocol"]
    thought, answer = tuple(result.thought_ids or ()), tuple(result.generated_ids)
    limit = thought_limit(run.document)
    thinking = protocol.get("thinking") or {}
    closing = tuple(thinking.get("closing_ids") or ())
    if limit and thought[len(thought) - len(closing) :] != closing:  # it never came to an answer
        return Claimed(thought, (), len(thought) < limit)
    return Claimed(thought, answer, len(answer) < protocol["max_new_tokens"])


def _answer_problems(run: Run, chosen: Sequence[SampleResult], stop: StopRule) -> list[str]:
    """An answer goes on to where it must end, and no further."""
    problems = []
    for result in chosen:
        claim, name = claimed(run, result), f"sample {result.sample.sample_id}"
        early = next((place for place, token in enumerate(claim.answer) if stop(token)), None)
        if early is not None:
            problems.append(f"{name}: its answer goes on after token {early}, which ends it")
        if claim.answer != tuple(result.generated_ids):
            problems.append(f"{name}: it has an answer to a thought that did not end")
    return problems


def choose(run: Run, count: int, salt: str) -> list[SampleResult]:
    """Samples in an order that the bytes of run.json (which hold the hash of every other file) and a salt decide: the
    first `count`, and as many more of those that count as it takes to have `count` of them. Head scores are made of
    these alone."""
    seed = f"{sha256_file(run.folder / 'run.json')}\n{salt}\n"

    def place(result: SampleResult) -> str:
        return hashlib.sha256((seed + result.sample.sample_id).encode()).hexdigest()

    ordered = sorted(run.results, key=place)
    if not ordered:
        raise InputError("has no samples to measure again", where=run.folder)
    first, rest = ordered[:count], ordered[count:]
    lacking = count - sum(result.success for result in first)
    return first + [result for result in rest if result.success][: max(lacking, 0)]
