"""compare.html as files: the two models it shows without script, and what each run leaves for the script."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import HOSTILE, changed, renamed, uncounted
from fake_runs import make_families

from rh_bench.display.palette import DIFFERENCE_LEVELS, difference_class, difference_css
from rh_bench.leaderboard import Collection, Entry, RunBrief, brief_of, render
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.compare import comparison, data_path, first_two, names, run_data, script
from rh_bench.stats.bootstrap import NANO
from rh_bench.stats.similarity import jaccard, matrix, pearson, spearman, top_overlap


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Entry, ...]:
    root = tmp_path_factory.mktemp("runs")
    make_families(root)
    return collect(root).entries


@pytest.fixture(scope="module")
def briefs(entries: tuple[Entry, ...]) -> list[RunBrief]:
    return [brief_of(entry) for entry in entries]


def parsed(text: str) -> dict[str, Any]:
    found = re.fullmatch(r"rhRun\((.*)\);\n", text)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.mark.slow
def test_a_run_leaves_every_score_with_its_interval(entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        data = parsed(script(run_data(entry, brief_of(entry))))
        assert [score / NANO for score in data["scores"]] == [head.score for head in entry.heads]
        assert [score / NANO for score in data["low"]] == [head.score_low for head in entry.heads]
        assert sum(heads for _, heads in data["layers"]) == len(entry.heads)


@pytest.mark.slow
def test_what_a_run_leaves_is_data_and_nothing_else(entries: tuple[Entry, ...]) -> None:
    hostile = "</script><script>alert(1)</script>\u2028\u2029'\"\\);alert(1)//"

    def change(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["haystack"]["name"] = run["model"]["layers"][0]["kind"] = hostile

    entry = changed(renamed(entries[0], hostile), change)
    text = script(run_data(entry, brief_of(entry)))
    assert text.isascii()
    assert "<" not in text
    assert parsed(text)["model"].startswith("</script><script>")


def test_a_run_without_scores_leaves_none(entries: tuple[Entry, ...]) -> None:
    entry = uncounted(entries[0])
    data = parsed(script(run_data(entry, brief_of(entry))))
    assert (data["scores"], data["low"], data["high"]) == (None, None, None)
    assert data["figures"][0] == ["–", "", "no sample counted"]


def test_without_script_the_first_two_with_the_same_heads_are_shown(briefs: list[RunBrief]) -> None:
    assert [brief.model for brief in first_two(briefs)] == ["acme/llama-1b", "acme/llama-1b-80k"]
    assert len({brief.group for brief in first_two(briefs)}) == 1
    apart = [brief for brief in briefs if brief.model in ("beta/qwen-3b", "gamma/gemma-270m")]
    assert {brief.model for brief in first_two(apart)} == {"beta/qwen-3b", "gamma/gemma-270m"}
    assert [first_two(briefs[:1]), first_two([])] == [briefs[:1], []]


def test_a_model_and_its_base_come_first(briefs: list[RunBrief]) -> None:
    derived = [
        replace(brief, bases=("delta/mistral-7b",)) if brief.model.endswith("yarn") else brief for brief in briefs
    ]
    assert [brief.model for brief in first_two(derived)] == ["delta/mistral-7b", "delta/mistral-7b-yarn"]
    backwards = [
        replace(brief, bases=("acme/llama-1b-80k",)) if brief.model == "acme/llama-1b" else brief for brief in briefs
    ]
    difference = comparison(backwards).difference
    assert difference is not None
    assert (difference.base, difference.variant) == ("acme/llama-1b-80k", "acme/llama-1b")
    alone = [replace(brief, bases=(brief.model, "not/here")) for brief in briefs]
    assert first_two(alone) == [replace(brief, bases=(brief.model, "not/here")) for brief in first_two(briefs)]


def test_numbers_are_those_of_the_core(briefs: list[RunBrief]) -> None:
    view = comparison(briefs)
    first, second = first_two(briefs)
    x, y = first.cross.rows(), second.cross.rows()
    assert x is not None and y is not None
    expected = [
        matrix(measure, np.stack([x, y]))[0, 1] for measure in (pearson(), spearman(), jaccard(), top_overlap(10))
    ]
    assert view.similarity[0].texts[:4] == tuple(f"{value:.3f}" for value in expected)
    assert view.difference is not None
    shown = view.difference.changes[0]
    place = int(np.argmax(np.abs(y - x)))
    assert shown.head == f"({place // 8}, {place % 8})"
    assert float(shown.difference.replace("−", "-")) == pytest.approx((y - x)[place] / NANO, abs=5e-4)
    assert len(view.difference.map.cells) == np.count_nonzero(y - x)
    assert view.sides[0].map is not None
    assert len(view.sides[0].map.cells) == np.count_nonzero(x)


def test_runs_of_different_sets_are_told_apart_and_said_to_differ(briefs: list[RunBrief]) -> None:
    pair = [brief for brief in briefs if brief.model == "acme/llama-1b"]
    assert names(pair) == ["acme/llama-1b · essays-quick", "acme/llama-1b · synthetic-quick"]
    twin = replace(pair[0], run_id="0" * 16)
    assert names([pair[0], twin]) == [
        f"acme/llama-1b · essays-quick · {pair[0].run_id[:8]}",
        "acme/llama-1b · essays-quick · 00000000",
    ]
    view = comparison(pair)
    assert view.differs == (
        "acme/llama-1b · essays-quick: set dddddddd",
        "acme/llama-1b · synthetic-quick: set bbbbbbbb",
    )
    assert comparison([pair[0], twin]).differs == ()


@pytest.mark.slow
def test_every_run_can_be_chosen_and_its_data_is_there(entries: tuple[Entry, ...], tmp_path: Path) -> None:
    render(Collection((*entries, renamed(entries[0], HOSTILE)), ()), tmp_path)
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    found = re.search(r'data-choices="([^"]*)"', text)
    assert found
    choices = [line.split("\t") for line in html.unescape(found[1]).split("\n")]
    assert len(choices) == 16
    assert {len(choice) for choice in choices} == {7}
    for key, *_ in choices:
        assert re.fullmatch(r"[A-Za-z0-9._/-]+", key)
        assert (tmp_path / f"models/{key}.html").is_file()
        assert parsed((tmp_path / f"models/{key}.heads.js").read_text(encoding="ascii"))["key"] == key
    assert {data_path(brief_of(entry)) for entry in entries} == {
        f"models/{key}.heads.js" for key, *_ in choices if "script" not in key
    }


def test_difference_levels_are_symmetric_and_rise() -> None:
    assert difference_class(0) == ""
    assert [difference_class(x) for x in (1e-9, 0.25, 1.0)] == ["up1", "up4", f"up{DIFFERENCE_LEVELS}"]
    assert [difference_class(-x) for x in (1e-9, 0.25, 1.0)] == ["down1", "down4", f"down{DIFFERENCE_LEVELS}"]
    assert difference_css().count("--cell") == 2 * DIFFERENCE_LEVELS


def test_empty_site_has_nothing_to_compare(tmp_path: Path) -> None:
    render(Collection((), ()), tmp_path)
    assert "No runs yet" in (tmp_path / "compare.html").read_text(encoding="utf-8")
