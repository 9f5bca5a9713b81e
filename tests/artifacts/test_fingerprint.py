"""Recognising a run, however its files were written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_runs import make_document, make_layers, make_results

from rh_bench.artifacts.fingerprint import (
    SKETCH,
    Fingerprint,
    common_samples,
    fingerprint,
    read_fingerprint,
    same_samples,
    same_seconds,
)
from rh_bench.records import SampleResult

LAYERS = make_layers(8, 8, 2)


def results(n: int, seed: int = 0) -> tuple[SampleResult, ...]:
    """Each in seconds of its own."""
    made = make_results(8, 8, n, seed=seed, failure_every=0)
    return tuple(replace(result, seconds=0.5 + place / 64) for place, result in enumerate(made))


def mark(made: tuple[SampleResult, ...], weights: str = "a") -> Fingerprint:
    document: dict[str, Any] = make_document(LAYERS, "acme/tiny")
    document["model"]["files"] = [{"path": "model.safetensors", "sha256": weights * 64, "bytes": 1}]
    return fingerprint(document, made)


def test_order_and_names_say_nothing() -> None:
    made = results(20)
    other = tuple(
        replace(result, events=result.events[::-1], prompt_sha256="0" * 64, text="x", answer="y")
        for result in reversed(made)
    )
    assert mark(other) == mark(made)
    assert read_fingerprint(mark(made).to_json()) == mark(made)


@pytest.mark.parametrize("n", [20, SKETCH, 500])
def test_a_part_of_a_run_has_all_of_its_samples_in_common_with_it(n: int) -> None:
    made = results(n)
    shared, most = common_samples(mark(made), mark(made[: n // 2]))
    assert shared == most > 0
    assert common_samples(mark(made), mark(results(n, seed=1)))[0] == 0


@pytest.mark.parametrize(("copied", "named"), [(0, False), (100, False), (300, True), (400, True)])
def test_what_is_copied_in_part(copied: int, named: bool) -> None:
    mixed = results(400)[:copied] + results(400, seed=1)[copied:]
    assert (same_samples(mark(mixed, "b"), mark(results(400))) is not None) == named


def test_the_same_weights_give_the_same_samples() -> None:
    made = results(20)
    again = tuple(replace(result, seconds=result.seconds + 0.125) for result in made)
    assert same_samples(mark(made), mark(again)) is None and not same_seconds(mark(made), mark(again))
    assert same_samples(mark(made), mark(again, "b")) is not None
    assert same_seconds(mark(made), mark(made, "b"))


def test_what_says_nothing_is_not_compared() -> None:
    few = tuple(replace(result, events=result.events[:3], seconds=0.5) for result in results(20))
    assert mark(few).samples == () and mark(few).seconds is None
    assert same_samples(mark(few), mark(few, "b")) is None and not same_seconds(mark(few), mark(few))
    assert mark(()).samples == ()
    assert same_samples(mark(results(2)), mark(results(2), "b")) is None, "too few"


def test_one_event_makes_another_sample() -> None:
    (one,) = results(1)
    other = replace(one, events=np.concatenate([one.events[1:], one.events[:1] + 1]))
    assert mark((one,)).samples != mark((other,)).samples
