"""How many differences are let pass, and what that leaves to a liar: against counting and simulation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rh_bench.experiments.kind import HeadsRemeasured, Remeasured
from rh_bench.experiments.remeasured import (
    LEVEL,
    NOISE,
    caught,
    choose_units,
    judge_answers,
    judge_heads,
    most_differing,
)


def answers(role: str, outcomes: list[bool]) -> list[Remeasured]:
    return [Remeasured(role, f"{role}/{i}", same, same, "") for i, same in enumerate(outcomes)]


@pytest.mark.parametrize(("n", "rate"), [(1, 0.00003), (4, 0.03), (16, 0.03), (16, 0.5), (60, 0.003)])
def test_honest_measurements_seldom_differ_more(n: int, rate: float) -> None:
    most = most_differing(n, rate)
    drawn = np.random.RandomState(0).binomial(n, rate, 1_000_000)
    assert (drawn > most).mean() <= LEVEL * 1.1
    assert most == 0 or (drawn > most - 1).mean() > LEVEL * 0.9, "and no more than that are let pass"


def test_what_is_caught_is_what_drawing_gives() -> None:
    random = np.random.RandomState(1)
    forged = np.arange(40) < 10
    drawn = np.array([random.permutation(forged)[:8].sum() for _ in range(20_000)])
    for most in (0, 1, 3):
        assert caught(40, 10, 8, most) == pytest.approx((drawn > most).mean(), abs=0.015)
    assert caught(40, 0, 8, 0) == pytest.approx(0) and caught(40, 40, 8, 3) == pytest.approx(1)


def test_units_come_from_all_roles_and_nobody_can_choose_them() -> None:
    roles = {"a": [f"a{i}" for i in range(100)], "b": [f"b{i}" for i in range(100)], "c": ["c0"]}
    chosen = choose_units(roles, 9, "0" * 64, "salt")
    assert Counter(unit[0] for unit in chosen) == {"a": 4, "b": 4, "c": 1}
    assert chosen == choose_units(dict(reversed(roles.items())), 9, "0" * 64, "salt")
    assert len({tuple(choose_units(roles, 9, "0" * 64, str(salt))) for salt in range(50)}) == 50
    assert len({tuple(choose_units(roles, 9, f"{i:064}", "salt")) for i in range(50)}) == 50
    assert sorted(choose_units(roles, 1000, "0" * 64, "")) == sorted(u for units in roles.values() for u in units)


def test_each_role_is_judged_by_itself() -> None:
    """Four lies in one role are not made good by hundreds of honest answers in another."""
    roles = {"top": ["x"] * 100, "random": ["x"] * 1000}
    honest = answers("random", [True] * 400)
    assert judge_answers([*honest, *answers("top", [True] * 8)], roles, "float32")[0]
    agreed, words = judge_answers([*honest, *answers("top", [True] * 7 + [False])], roles, "float32")
    assert not agreed and any(line.startswith("top: 7 of 8 outcomes equal (at least 8 needed") for line in words)
    assert judge_answers(answers("top", [True] * 7 + [False]), roles, "bfloat16")[0], "which rounds more"
    assert not judge_answers(answers("top", [False] * 8), roles, "bfloat16")[0]


def test_each_head_is_judged_by_itself() -> None:
    heads = [(layer, head) for layer in range(30) for head in range(9)]
    differing = [0] * len(heads)
    assert judge_heads([HeadsRemeasured("copy", 6, differing, heads)], "float32")[0]
    differing[10] = 5
    agreed, words = judge_heads([HeadsRemeasured("copy", 6, differing, heads)], "float32")
    assert not agreed and "copy: head 1-1 differs in 5 of 6" in words


def test_every_type_has_its_noise() -> None:
    assert set(NOISE) == {"float32", "bfloat16", "float16"}
