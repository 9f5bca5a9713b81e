"""Permutation tests of what heads depend on: known cases, exact small ones, and the error rates that they promise."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rh_bench.experiments.dynamic.dependence import MOST_LEVELS, design, factor_p_values, part_of, part_tests

GRID = list(itertools.product(("n0", "n1", "n2"), (512, 1024), (0.0, 50.0, 100.0), (0, 1)))
CROSSED = {
    "needle": [row[0] for row in GRID],
    "haystack": ["h" + row[0] for row in GRID],
    "length": [row[1] for row in GRID],
    "depth": [row[2] for row in GRID],
}


def test_other_factors_are_held_fixed_but_for_one_that_decides() -> None:
    how = design(CROSSED, "depth", len(GRID))
    assert how.levels == (0.0, 50.0, 100.0)
    assert how.within == ("needle", "haystack", "length") and how.confounded == ()
    assert how.permutable == len(GRID) and how.reason is None
    assert len(set(how.strata.tolist())) == 6
    needle = design(CROSSED, "needle", len(GRID))
    assert needle.confounded == ("haystack",) and needle.within == ("length", "depth")


def test_factors_are_let_go_where_they_leave_nothing_to_permute() -> None:
    n = 12
    factors = {
        "needle": [i % 3 for i in range(n)],
        "length": list(range(100, 100 + n)),
        "depth": [i % 2 for i in range(n)],
    }
    how = design(factors, "depth", n)
    assert "length" in how.confounded
    assert design({"a": [0] * n}, "a", n).reason == "every context has the same value"
    assert "at most" in str(design({"a": list(range(MOST_LEVELS + 1))}, "a", MOST_LEVELS + 1).reason)


def test_a_head_that_follows_the_depth_is_found_and_one_that_does_not_is_not() -> None:
    depth = np.array(CROSSED["depth"])
    random = np.random.RandomState(0)
    active = np.stack([depth == 0.0, random.rand(len(GRID)) < 0.5, np.ones(len(GRID), bool)], axis=1)
    p = factor_p_values(active, design(CROSSED, "depth", len(GRID)), permutations=500, seed=1)
    assert p[0] == pytest.approx(1 / 501, abs=1e-9) and p[1] > 0.05 and p[2] == 1.0
    other = factor_p_values(active, design(CROSSED, "length", len(GRID)), permutations=500, seed=1)
    assert min(other) > 0.05


def test_a_factor_is_not_blamed_for_what_another_does() -> None:
    """Only at 512 tokens is the head active, and there are more contexts of depth 0 among those."""
    rows = [("n", 512, 0.0)] * 12 + [("n", 512, 100.0)] * 4 + [("n", 1024, 0.0)] * 4 + [("n", 1024, 100.0)] * 12
    factors = dict(zip(("needle", "length", "depth"), (list(c) for c in zip(*rows, strict=True)), strict=True))
    active = np.array([[row[1] == 512] for row in rows])
    how = design(factors, "depth", len(rows))
    assert how.within == ("length",)
    assert factor_p_values(active, how, permutations=300, seed=0) == [1.0]
    free = design({"depth": factors["depth"]}, "depth", len(rows))
    assert factor_p_values(active, free, permutations=300, seed=0)[0] < 0.05


def exact_p(active: Sequence[bool], group: Sequence[int]) -> float:
    n, k = len(active), sum(active)

    def statistic(labels: Sequence[int]) -> float:
        total = 0.0
        for level in set(group):
            size = sum(x == level for x in group)
            count = sum(a for a, x in zip(active, labels, strict=True) if x == level)
            total += (count - size * k / n) ** 2 / size
        return round(total, 9)

    found = [statistic(order) >= statistic(group) for order in itertools.permutations(group)]
    return sum(found) / len(found)


@given(st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=8, deadline=None)
def test_drawn_orders_come_near_all_orders(active: list[bool]) -> None:
    group = [0, 0, 0, 1, 1, 2]
    how = design({"depth": group}, "depth", 6)
    (p,) = factor_p_values(np.array(active)[:, None], how, permutations=4000, seed=3)
    assert p == pytest.approx(exact_p(active, group), abs=0.035)


def test_factor_tests_reject_as_rarely_as_they_promise() -> None:
    active = np.random.RandomState(7).rand(len(GRID), 500) < 0.4
    p = np.array(factor_p_values(active, design(CROSSED, "depth", len(GRID)), permutations=300, seed=2))
    assert 0.02 < (p <= 0.05).mean() < 0.08
    assert p.tolist() == factor_p_values(active, design(CROSSED, "depth", len(GRID)), permutations=300, seed=2)


def test_the_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    active = np.random.RandomState(8).rand(len(GRID), 5) < 0.4
    copied = [np.random.RandomState(i).rand(5, 9) < 0.5 for i in range(10)]

    def both() -> tuple[object, object]:
        how = design(CROSSED, "needle", len(GRID))
        return factor_p_values(active, how, permutations=99, seed=2), part_tests(
            copied, parts=3, permutations=99, seed=2, fewest=2
        )

    whole = both()
    monkeypatch.setattr("rh_bench.experiments.dynamic.dependence._CHUNK", 100)
    assert both() == whole


# Parts of the answer


def test_parts_are_as_equal_as_can_be() -> None:
    assert part_of(np.arange(9), 9, 3).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert part_of(np.arange(4), 4, 3).tolist() == [0, 0, 1, 2]
    assert part_of(np.arange(2), 2, 3).tolist() == [0, 1]


def test_a_head_that_copies_the_beginning_is_found() -> None:
    everything, beginning, anywhere = np.ones(9, bool), np.arange(9) < 3, np.zeros(9, bool)
    random = np.random.RandomState(1)
    copied = []
    for _ in range(30):
        turned = anywhere.copy()
        turned[(np.arange(3) + random.randint(9)) % 9] = True
        copied.append(np.stack([everything, beginning, turned]))
    whole, first, some = part_tests(copied, parts=3, permutations=400, seed=0, fewest=5)
    assert whole.p_value is None and whole.contexts == 0 and whole.copied == (90, 90, 90)
    assert first.copied == (90, 0, 0) and first.expected == (30.0, 30.0, 30.0)
    assert first.p_value == pytest.approx(1 / 401, abs=1e-9)
    assert some.p_value is not None and some.p_value > 0.05


def test_what_nobody_copied_is_not_held_against_a_head() -> None:
    """The last third is never produced, so that no head could copy it."""
    copied = [np.array([[1, 1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0, 0]], dtype=bool)] * 20
    _, second = part_tests(copied, parts=3, permutations=200, seed=0, fewest=5)
    assert second.expected[2] == 0 and second.copied[2] == 0


def test_part_tests_reject_as_rarely_as_they_promise_of_runs_of_copies() -> None:
    """Copies lie side by side, which would fool a test that scattered them."""
    random = np.random.RandomState(5)
    copied = []
    for _ in range(25):
        one = np.zeros((300, 12), dtype=bool)
        starts = random.randint(12, size=300)
        for head in range(300):
            one[head, (np.arange(4) + starts[head]) % 12] = True
        copied.append(one)
    p = np.array([part.p_value for part in part_tests(copied, parts=3, permutations=300, seed=1, fewest=5)])
    assert 0.02 < (p <= 0.05).mean() < 0.09


def test_nothing_copied_is_no_test() -> None:
    assert part_tests([], parts=3, permutations=10, seed=0, fewest=1) == ()
    (none,) = part_tests([np.zeros((1, 4), bool)], parts=3, permutations=10, seed=0, fewest=1)
    assert none.copied == (0, 0, 0) and none.p_value is None
