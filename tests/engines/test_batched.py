"""Many ablations at once say what each says alone in the fast engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from engine_prompts import NEVER, decode_all, make_prompts
from tiny import matrix, random_ids, tiny_model

from rh_bench.attention.ablation import HOW, PHASES, Head, ablate, mean_inputs
from rh_bench.engines.base import StopRule
from rh_bench.engines.batched import MOST_ROWS, BatchedEngine, rows_that_fit
from rh_bench.engines.fast import FastEngine
from rh_bench.engines.layers import find_layers
from rh_bench.errors import InputError
from rh_bench.records import Layer, Prompt, head_grid


def sets_of(model: Any) -> list[Sequence[Head]]:
    grid = head_grid(find_layers(model))
    return [[], [grid[0]], [grid[1], grid[-1]], grid[:4], grid[::3]]


def alone(model: Any, prompts: list[Prompt], stop: StopRule = NEVER, **given: Any) -> dict[tuple[int, str], list[int]]:
    """(set, sample) to the answer of the fast engine."""
    answers, layers = {}, find_layers(model)
    for place, heads in enumerate(sets_of(model)):
        with ablate(model, heads, **given):
            found = decode_all(FastEngine(model, layers, stop, 8), prompts)
        answers |= {(place, name): decoded.generated.tolist() for name, decoded in found.items()}
    return answers


def together(
    model: Any, prompts: list[Prompt], rows: int, stop: StopRule = NEVER, chunk: int | None = None, **given: Any
) -> dict[tuple[int, str], list[int]]:
    engine = BatchedEngine(model, find_layers(model), stop, 8, rows=rows, chunk=chunk)
    answers = {}
    for found in engine.answer(prompts, sets_of(model), **given):
        for place, generated in enumerate(found.generated):
            answers[found.batch * rows + place, found.sample_id] = list(generated)
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("name", matrix("llama"))
def test_every_row_says_what_its_set_says_alone(name: str) -> None:
    model, prompts = tiny_model(name), make_prompts(seed=3, haystack_length=40)[1:4]
    for phase in ("both", "decode"):
        given = {"how": "zero", "phase": phase}
        assert together(model, prompts, 3, **given) == alone(model, prompts, **given)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", HOW)
def test_in_every_way_and_phase(how: str, phase: str) -> None:
    model, prompts = tiny_model("mistral"), make_prompts(seed=5)[:4]
    means = mean_inputs(model, [random_ids(30, 1).tolist()]) if how == "mean" else None
    given: dict[str, Any] = {"how": how, "phase": phase, "means": means}
    expected = alone(model, prompts, **given)
    assert together(model, prompts, 5, **given) == together(model, prompts, 2, chunk=10, **given) == expected
    assert len({tuple(answer) for answer in expected.values()}) > 4


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_rows_end_at_their_own_stop_tokens_and_an_interruption_changes_nothing(phase: str) -> None:
    model, prompts, stop = tiny_model("llama"), make_prompts(seed=7), StopRule(frozenset({4, 7}))
    given: dict[str, Any] = {"how": "zero", "phase": phase}
    expected = alone(model, prompts, stop, **given)
    assert together(model, prompts, 2, stop, **given) == expected
    assert len({len(answer) for answer in expected.values()}) > 2
    engine = BatchedEngine(model, find_layers(model), stop, 8, rows=2)
    whole = list(engine.answer(prompts, sets_of(model), **given))
    done = {(found.batch, found.sample_id) for found in whole[::2]}
    rest = list(engine.answer(prompts, sets_of(model), done=done, **given))
    assert [(r.batch, r.sample_id, r.generated) for r in rest] == [
        (w.batch, w.sample_id, w.generated) for w in whole[1::2]
    ]


def test_the_batch_depends_on_the_model_alone() -> None:
    layers = (Layer(0, "full", 32, 8), Layer(1, "linear_attention"), Layer(2, "sliding", 32, 8, 4096))
    position = 2 * 2 * 8 * 128 * 2
    assert rows_that_fit(layers, 128, 2, (16 << 30) // position, "cuda") == 1
    assert rows_that_fit(layers, 128, 2, (2 << 30) // position // 5, "cpu") == 5
    assert rows_that_fit(layers, 128, 2, 2**40, "cpu") == 1
    assert rows_that_fit(layers, 128, 2, 1, "cpu") == MOST_ROWS


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    engine = BatchedEngine(model, find_layers(model), NEVER, 4, rows=4)

    def forward(**_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory, for a test")

    monkeypatch.setattr(model.model, "forward", forward)
    with pytest.raises(InputError, match="--rows 2"):
        list(engine.answer(make_prompts(seed=1), [[]], how="zero", phase="both"))
