"""The cross card of a run and universality.html: that the page says what the runs hold, and stays light."""

from __future__ import annotations

import ast
import csv
import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import HOSTILE, HOSTILE_SHOWN, changed, renamed, uncounted
from fake_runs import make_families, make_run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from measured import run_robustness
from source_tree import place_of

from rh_bench.artifacts.run import read_run
from rh_bench.leaderboard import Collection, Entry, RunBrief, brief_of, render
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.compared_heads import NO_EVENTS, SHUFFLES, ComparedHeads, packed, unpacked
from rh_bench.leaderboard.definitions import UNIVERSALITY
from rh_bench.leaderboard.render import Frame
from rh_bench.leaderboard.universality import MOST_MATRIX, MOST_MODELS, MOST_ROWS, OTHERS, universality
from rh_bench.leaderboard.universality_charts import curve_points, depth_shares, family_paths
from rh_bench.stats.bootstrap import NANO


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Entry, ...]:
    root = tmp_path_factory.mktemp("runs")
    make_families(root)
    return collect(root).entries


@pytest.fixture(scope="module")
def briefs(entries: tuple[Entry, ...]) -> list[RunBrief]:
    return [brief_of(entry) for entry in entries]


def zoo(brief: RunBrief, count: int) -> list[RunBrief]:
    """So many briefs of different models and families, all with the scores of one."""
    return [
        replace(brief, page=f"models/m{i}/r.html", slug=f"m{i}", model=f"acme/m{i:04d}", family=f"kin{i % 13:02d}")
        for i in range(count)
    ]


# The brief


@pytest.mark.slow
def test_card_holds_every_score_and_comes_back_from_json(entries: tuple[Entry, ...], briefs: list[RunBrief]) -> None:
    for entry, brief in zip(entries, briefs, strict=True):
        back = ComparedHeads.from_json(json.loads(json.dumps(brief.cross.to_json())))
        assert back == brief.cross
        rows = back.rows()
        assert rows is not None
        assert (rows / NANO).tolist() == [head.score for head in entry.heads]
        assert [layer for layer, heads in back.layers for _ in range(heads)] == [head.layer for head in entry.heads]


@pytest.mark.slow
def test_robustness_is_that_of_the_core(entries: tuple[Entry, ...], briefs: list[RunBrief]) -> None:
    entry, brief = entries[3], briefs[3]
    assert entry.folder is not None
    run = read_run(entry.folder)
    found = run_robustness(run.layers, run.results, shuffles=SHUFFLES)
    assert list(brief.cross.robustness) == [item.to_json() for item in found]


def test_without_events_or_counted_samples_numbers_are_missing_with_reasons(entries: tuple[Entry, ...]) -> None:
    bare = brief_of(replace(entries[0], folder=None))
    assert {item["spearman"]["reason"] for item in bare.cross.robustness} == {NO_EVENTS}
    assert brief_of(uncounted(entries[0])).cross.rows() is None


@given(arrays.arrays(np.float64, st.integers(1, 40), elements=st.integers(0, NANO).map(lambda nano: nano / NANO)))
def test_packing_loses_nothing(scores: Any) -> None:
    assert (unpacked(packed(scores)) / NANO).tolist() == scores.tolist()


def test_grids_are_equal_where_heads_are(briefs: list[RunBrief]) -> None:
    shapes = {(brief.shape, brief.cross.grid) for brief in briefs}
    assert len(shapes) == len({grid for _, grid in shapes}) == 5


# Geometry


@given(st.integers(1, 3000))
def test_a_curve_has_few_points_begins_with_the_strongest_and_ends_with_the_weakest(heads: int) -> None:
    rows = np.arange(heads, dtype=np.int64) * (NANO // heads)
    points = curve_points(rows)
    assert len(points) <= 64
    assert points[0] == (1 / heads, rows[-1] / NANO)
    assert points[-1] == (1.0, 0.0)
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))


def test_family_is_the_median_of_its_models_at_each_rank() -> None:
    flat = [np.full(10, level * NANO // 10, dtype=np.int64) for level in (1, 2, 6)]
    line, band = family_paths(flat)
    heights = {float(y) for y in re.findall(r" ([\d.]+)", line)}
    assert heights == {256.0}  # a score of 0.2 on a plane of 320
    assert {float(y) for y in re.findall(r" ([\d.]+)", band)} == {288.0, 128.0}
    assert family_paths(flat[:2])[0].count(" 272") == 64  # the middle of 0.1 and 0.2


def test_depth_is_counted_in_tenths(briefs: list[RunBrief]) -> None:
    for brief in briefs:
        shares, rows = depth_shares(brief.cross, 0.1), brief.cross.rows()
        assert shares is not None and rows is not None
        layers = [layer for layer, heads in brief.cross.layers for _ in range(heads)]
        retrieval = [layer for layer, score in zip(layers, rows, strict=True) if score > NANO // 10]
        for tenth, share in enumerate(shares):
            inside = [layer for layer in retrieval if tenth <= layer * 10 // brief.layers < tenth + 1]
            assert share == len(inside) / len(retrieval)


# The page


def test_groups_hold_one_set_and_protocol_each_the_largest_first(briefs: list[RunBrief]) -> None:
    view = universality(briefs)
    assert [(group.title, group.runs) for group in view.groups] == [("synthetic-quick", 10), ("essays-quick", 5)]
    for group in view.groups:
        assert group.curves is not None
        assert len(group.curves.lines) == len(group.tiles) == len(group.robust) == group.runs
        assert [row.whole for row in group.shares].count(False) == group.runs


def test_models_over_several_sets_are_compared_with_themselves(briefs: list[RunBrief]) -> None:
    view = universality(briefs)
    assert [row.label for row in view.sets] == sorted(
        {brief.model for brief in briefs if brief.set_name == "essays-quick"}
    )
    assert all(row.sets == ("essays-quick", "synthetic-quick") for row in view.sets)
    other = replace(briefs[0], revision="0" * 40, manifest_sha256="e" * 64)
    assert len(universality([*briefs, other]).sets) == len(view.sets)


def test_agreement_is_between_models_with_the_same_heads_and_says_what_chance_gives(briefs: list[RunBrief]) -> None:
    matrices = universality(briefs).groups[0].matrices
    assert [row.label for row in matrices[0].rows] == [
        "acme/llama-1b",
        "acme/llama-1b-80k",
        "acme/llama-1b-chat",
    ]
    data = json.loads(matrices[0].data)
    by_name = {brief.model: brief for brief in briefs if brief.set_name == "synthetic-quick"}
    first, second = (by_name[row.label].cross.rows() for row in matrices[0].rows[:2])
    assert first is not None and second is not None
    assert data["pearson"][0][1] == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-4)
    a, b = first > NANO // 10, second > NANO // 10
    assert data["jaccard"][0][1] == pytest.approx((a & b).sum() / (a | b).sum(), abs=1e-4)
    cell = matrices[0].rows[0].cells[1]
    assert cell.text == f"{data['spearman'][0][1]:.2f}"
    assert matrices[0].rows[1].cells[0].text == f"{data['jaccard'][1][0]:.2f}"
    assert f"{a.sum() * b.sum() / 128:.1f} heads" in cell.about


def test_with_many_models_families_are_drawn_and_nothing_grows_without_bound(briefs: list[RunBrief]) -> None:
    view = universality(zoo(briefs[0], 300))
    group = view.groups[0]
    assert not group.one_by_one and group.runs == 300 > MOST_MODELS
    assert group.curves is not None
    assert len(group.curves.lines) == len(group.tiles) == len(group.shares) == 9
    assert [family.name for family in group.families][-1] == OTHERS
    assert sum(family.runs for family in group.families) == 300
    assert len(group.robust) == MOST_ROWS and group.robust_left == 300 - MOST_ROWS
    assert len(group.matrices[0].rows) == MOST_MATRIX and group.matrices[0].left == 300 - MOST_MATRIX
    assert len({row.family for row in group.robust}) == 13


def test_small_groups_beside_many_are_named(briefs: list[RunBrief], tmp_path: Path) -> None:
    many = [replace(brief, group=f"{i:016x}") for i, brief in enumerate(zoo(briefs[0], 60))]
    view = universality(many)
    assert len(view.groups) == 8
    assert len(view.others) == 52 and view.others[0] == "essays-quick: 1 run"
    text = Frame().render("universality.html", "universality.html", view=view)
    assert "<li>and 12 more</li>" in text


def test_family_interval_is_over_its_models(briefs: list[RunBrief]) -> None:
    def with_share(brief: RunBrief, name: str, value: float) -> RunBrief:
        share = {"value": value, "low": value, "high": value, "n": 9, "reason": None}
        return replace(brief, model=name, page=f"models/{name}/r.html", share=share)

    pair = [with_share(briefs[0], "a", 0.02), with_share(briefs[0], "b", 0.06)]
    row = universality(pair).groups[0].shares[0]
    assert (row.whole, row.figure.text, row.figure.interval) == (True, "4.0%", "2.0–6.0%")
    alone = universality(pair[:1]).groups[0].shares
    assert [(row.whole, row.figure.text) for row in alone] == [(False, "2.0%")]


def test_every_definition_names_code_that_is_there() -> None:
    for definition in UNIVERSALITY:
        tree = ast.parse(place_of(definition.module).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert definition.function in names, definition
        assert definition.module.removesuffix(".py").split("/")[0] in ("rh_bench", "leaderboard")
    assert len({definition.anchor for definition in UNIVERSALITY}) == len(UNIVERSALITY)


@pytest.mark.slow
def test_page_says_it_in_html_and_links_only_to_what_is_there(entries: tuple[Entry, ...], tmp_path: Path) -> None:
    render(Collection(entries, ()), tmp_path)
    text = (tmp_path / "universality.html").read_text(encoding="utf-8")
    assert text.count('class="curve ') == 15
    for link in re.findall(r'(?:href|src)="([^"]*)"', text):
        name, _, anchor = link.partition("#")
        assert not name or (tmp_path / name).is_file(), link
        assert name or f'id="{anchor}"' in text, link


@pytest.mark.slow
def test_csv_has_a_row_a_run_and_no_formulas(
    entries: tuple[Entry, ...], briefs: list[RunBrief], tmp_path: Path
) -> None:
    render(Collection((*entries, renamed(entries[0], "=1+1")), ()), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "universality.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 16
    assert [row["model"] for row in rows].count("'=1+1") == 1
    by_key = {row["run"]: row for row in rows}
    for brief in briefs:
        row = by_key[brief.key]
        assert float(row["share"]) == brief.share["value"]
        assert float(row["length_spearman_at_random"]) == brief.cross.robustness[1]["spearman_at_random"]


def test_hostile_names_and_empty_sites_are_text(entries: tuple[Entry, ...], tmp_path: Path) -> None:
    def hostile(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["model"]["model_type"] = run["haystack"]["name"] = HOSTILE

    render(Collection((changed(renamed(entries[0], HOSTILE), hostile),), ()), tmp_path)
    text = (tmp_path / "universality.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text and "\u202e" not in text
    assert text.count(html.escape(HOSTILE_SHOWN, quote=False)[:20]) >= 4
    render(Collection((), ()), tmp_path)
    assert "No runs yet" in (tmp_path / "universality.html").read_text(encoding="utf-8")


def test_a_run_without_a_counted_sample_shows_reasons(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    entry = uncounted(collect(tmp_path / "runs").entries[0])
    render(Collection((entry,), ()), tmp_path / "site")
    text = (tmp_path / "site" / "universality.html").read_text(encoding="utf-8")
    assert "No scores: no sample counted" in text and "not scored" in text
    assert "nan" not in text.lower().replace("nano", "")
