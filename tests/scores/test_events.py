"""Copy events against a loop that spells the definition out, and counting them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from measured import GRID, LAYERS

from rh_bench.errors import InputError
from rh_bench.records import Decoded, IntArray, Prompt, Sample, head_grid
from rh_bench.scores.events import copy_events, count_copies, head_places

SAMPLE = Sample("s0", "n0", "h0", 10, 50.0)


def prompt(ids: list[int], span_start: int, span_length: int) -> Prompt:
    return Prompt(SAMPLE, np.array(ids, dtype=np.int32), 2, 4, span_start, span_length, "answer", "0" * 64)


def decoded(generated: list[int], targets: npt.NDArray[Any]) -> Decoded:
    return Decoded("s0", np.array(generated, dtype=np.int32), targets.astype(np.int32), 0.1)


def rows(*events: tuple[int, int, int, int]) -> IntArray:
    return np.array(events, dtype=np.int32).reshape(-1, 4)


def test_worked_case() -> None:
    given_prompt = prompt([9, 9, 9, 7, 8, 7, 9, 7], span_start=3, span_length=3)
    targets = np.array(
        [
            # layer 0 has two heads and a padding place; layer 2 has three
            [[3, 5, -1], [7, 2, 4]],  # 7: copied from 3 and from 5; 7 after the span; 4 holds another token
            [[4, 4, -1], [3, 4, 6]],  # 8: copied from 4 three times; 3 holds another token; 6 after the span
        ]
    )
    found = copy_events(given_prompt, decoded([7, 8], targets), LAYERS)
    assert found.tolist() == [[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 1, 1], [0, 1, 1, 1], [2, 1, 1, 1]]
    assert found.dtype == np.int32


def test_nothing_generated_gives_no_events() -> None:
    found = copy_events(prompt([1, 2, 3], 1, 1), decoded([], np.empty((0, 2, 3))), LAYERS)
    assert found.shape == (0, 4)


def test_span_at_the_start_does_not_take_padding_for_a_position() -> None:
    found = copy_events(prompt([5, 5, 5], 0, 3), decoded([5], np.full((1, 2, 3), -1)), LAYERS)
    assert len(found) == 0


@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 3, 3), (1, 6)])
def test_arrays_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        copy_events(prompt([1, 2, 3], 1, 1), decoded([2], np.zeros(shape)), LAYERS)


@given(
    ids=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    generated=st.lists(st.integers(0, 3), max_size=4),
    span=st.integers(0, 5).flatmap(lambda start: st.tuples(st.just(start), st.integers(1, 6 - start))),
    data=st.data(),
)
def test_equals_the_definition(
    ids: list[int], generated: list[int], span: tuple[int, int], data: st.DataObject
) -> None:
    start, length = span
    targets = data.draw(hnp.arrays(np.int32, (len(generated), 2, 3), elements=st.integers(-1, 5)))
    expected = [
        (layer, head, step, targets[step, place, head] - start)
        for step in range(len(generated))
        for place, layer in enumerate((0, 2))
        for head in range(3)
        if start <= targets[step, place, head] < start + length and ids[targets[step, place, head]] == generated[step]
    ]
    found = copy_events(prompt(ids, start, length), decoded(generated, targets), LAYERS)
    assert [tuple(row) for row in found.tolist()] == expected


def test_places_follow_the_head_grid() -> None:
    places = head_places(LAYERS)
    assert [int(places[layer, head]) for layer, head in head_grid(LAYERS)] == list(range(5))
    assert (places >= 0).sum() == 5
    assert head_places([]).shape == (0, 0)


def test_counting_tells_distinct_positions_from_events() -> None:
    events = rows((0, 1, 0, 2), (0, 1, 1, 2), (0, 1, 2, 0), (2, 2, 2, 1))
    distinct, total = count_copies(events, 3, head_places(LAYERS), len(GRID))
    assert distinct.tolist() == [0, 2, 0, 0, 1]
    assert total.tolist() == [0, 3, 0, 0, 1]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ((1, 0, 0, 0), "layer 1 head 0 is not a scored head"),
        ((0, 2, 0, 0), "layer 0 head 2 is not"),
        ((9, 0, 0, 0), "layer 9 head 0 is not"),
        ((-1, 0, 0, 0), "layer -1 head 0 is not"),
        ((0, 0, 0, 3), "3 lies outside the span of 3 tokens"),
        ((0, 0, 0, -1), "-1 lies outside the span"),
    ],
)
def test_events_that_cannot_be_are_refused(event: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        count_copies(rows((0, 0, 0, 0), event), 3, head_places(LAYERS), len(GRID))
