"""Which runs may be compared, and what tells the others apart."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from fake_runs import make_run

from rh_bench.leaderboard import Entry, brief_of
from rh_bench.leaderboard.collect import collect

CLOSED = {
    "way": "closed",
    "variables": {},
    "appended": "\n</think>\n\n",
    "opening": "<think>",
    "closing": "</think>",
    "limit": None,
    "closing_ids": None,
}


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = tmp_path_factory.mktemp("runs")
    make_run(root)
    return collect(root).entries[0]


def with_protocol(entry: Entry, **changes: Any) -> Entry:
    run = copy.deepcopy(entry.run)
    run["protocol"] |= changes
    return replace(entry, run=run)


def test_how_a_template_ends_turns_and_closes_thoughts_keeps_no_models_apart(entry: Entry) -> None:
    plain = brief_of(entry)
    for changes in (
        {"stop": [*entry.run["protocol"]["stop"], "turn"], "turn_token": "<|im_end|>"},
        {"thinking": CLOSED},
        {"thinking": CLOSED | {"way": "switch", "variables": {"enable_thinking": False}, "appended": ""}},
    ):
        brief = brief_of(with_protocol(entry, **changes))
        assert (brief.group, brief.facts) == (plain.group, plain.facts)


def test_answers_after_thoughts_are_for_themselves(entry: Entry) -> None:
    briefs = [
        brief_of(with_protocol(entry, thinking=CLOSED | {"way": "after", "limit": limit, "closing_ids": [7]}))
        for limit in (100, 200)
    ]
    assert len({brief_of(entry).group, *(brief.group for brief in briefs)}) == 3
    assert "answers after a thought of up to 100 tokens" in briefs[0].facts
    other = brief_of(with_protocol(entry, thinking=CLOSED | {"way": "after", "limit": 100, "closing_ids": [9]}))
    assert other.group == briefs[0].group, "whichever token ends it"


def test_other_parts_of_a_protocol_keep_runs_apart(entry: Entry) -> None:
    for changes in ({"dtype": "bfloat16"}, {"template": "plain"}, {"max_new_tokens": 51}, {"stop": ["eos", "newline"]}):
        changed = with_protocol(entry, **changes)
        same = changed.run["protocol"] == entry.run["protocol"]
        assert (brief_of(changed).group == brief_of(entry).group) == same


def test_a_group_keeps_its_name(entry: Entry) -> None:
    """It is part of addresses: runs of versions that knew neither give the digest that they gave."""

    key = json.dumps([entry.run["haystack"]["manifest_sha256"], entry.run["protocol"]], sort_keys=True)
    assert brief_of(entry).group == hashlib.sha256(key.encode()).hexdigest()[:16]
