"""Question–passage pairs made from a seed."""

from __future__ import annotations

import re

import pytest

from rh_bench.data_builders.qa_pairs import COUNT, FACTS, _stock, synthetic_pairs
from rh_bench.errors import InputError
from rh_bench.scores.answers import extract_words, normalise


def test_answers_stand_in_their_passages_once() -> None:
    data = synthetic_pairs(0)
    assert len(data.questions) == COUNT and data.source["kind"] == "synthetic" and data.source["left_out"] == 0
    for question in data.questions:
        (answer,) = question.answers
        assert question.passage.count(answer) == 1 and question.question.endswith("?")
        assert normalise(question.passage).count(normalise(answer)) == 1
        assert extract_words(answer) == answer and len(normalise(answer).split()) >= 2
        assert not re.search(r"[{}]", question.passage + question.question)
    assert len({question.passage for question in data.questions}) == COUNT
    assert len({question.group for question in data.questions}) == len(_stock()[0])


def test_the_other_facts_of_a_passage_are_about_somebody_else() -> None:
    facts, slots = _stock()
    for question in synthetic_pairs(5, 48).questions:
        kind = facts[int(question.group.removeprefix("kind-"))]
        named = [word for word in slots[kind.key] if word in question.passage]
        assert len(named) == FACTS and sum(word in question.question for word in named) == 1


def test_a_seed_gives_the_same_pairs_everywhere() -> None:
    data = synthetic_pairs(7, 20)
    assert data == synthetic_pairs(7, 20) and data.questions == synthetic_pairs(7, 40).questions[:20]
    assert data.source["sha256"] == "31e2f210d2b51d148d3df39e03d88438aea18cdfd41c316afd1f61b0e30f4abd"
    assert data.questions[0].passage != synthetic_pairs(8, 1).questions[0].passage


@pytest.mark.parametrize(("seed", "count"), [(-1, 1), (10**16, 1), (0, 0), (0, 10_001)])
def test_arguments_are_bounded(seed: int, count: int) -> None:
    with pytest.raises(InputError, match="out of range"):
        synthetic_pairs(seed, count)


def test_every_template_can_be_filled() -> None:
    facts, slots = _stock()
    used = {name for fact in facts for name in re.findall(r"\{(\w+)\}", fact.fact)}
    assert used == set(slots)
    for fact in facts:
        assert set(re.findall(r"\{(\w+)\}", fact.question + fact.answer)) <= set(re.findall(r"\{(\w+)\}", fact.fact))
        assert fact.answer in fact.fact and fact.key in fact.fact and fact.key in fact.question
    for name, words in slots.items():
        assert len(set(words)) == len(words) >= 12, name
