"""The page of an imported head list: what its file says, the findings, and that it never looks like a run."""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from browser import HOSTILE, HOSTILE_SHOWN
from fake_runs import make_run

from rh_bench.interchange.folder import import_file, read_import
from rh_bench.leaderboard import build_site
from rh_bench.leaderboard.collect import Imported, collect
from rh_bench.leaderboard.imported_page import LISTED, documents, import_path, imported_page
from rh_bench.leaderboard.render import Frame

SHARED = os.environ.get("RH_BENCH_SHARED_DATA")
needs_shared = pytest.mark.skipif(not SHARED, reason="RH_BENCH_SHARED_DATA is not set: no shared data to compare with")


def imported(folder: Path) -> Imported:
    document = json.loads((folder / "import.json").read_text(encoding="utf-8"))
    return Imported(f"{folder.parent.name}/{folder.name}", document, folder)


def view_of(folder: Path) -> Any:
    return imported_page(imported(folder), read_import(folder))


def text_of(folder: Path) -> str:
    ((_, text),) = documents(imported(folder), Frame())
    assert isinstance(text, str)
    return text


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    """Two layers of three heads; one head has no sample, one score is above 1."""
    scores = {"0-0": [0.5, 1.4, 0.3], "0-1": [0, 0, 0], "0-2": [0.2, 0.1, 0.0], "1-0": [0.9, 0.8, 1.0], "1-2": []}
    (tmp_path / "some-model.json").write_text(json.dumps(scores))
    return import_file(tmp_path / "some-model.json", tmp_path / "runs")


def test_map_has_the_numbers_of_the_file_and_says_what_is_missing(seed: Path) -> None:
    heat = view_of(seed).heat
    assert heat.numbers["value"].split(",") == ["0.7333", "0", "0.1", "0.9", "", ""]
    assert heat.numbers["exact"].split(",")[0] == "733333333"
    assert (heat.heads, heat.above, heat.columns) == (6, 2, 3)
    assert heat.body.count("<td class=none>") == 2
    assert 'data-missing="No number in the file"' in text_of(seed)


def test_list_is_in_order_of_the_scores_without_heads_that_have_none(seed: Path) -> None:
    assert [row.name for row in view_of(seed).listed] == ["1.0", "0.0", "0.2", "0.1"]


def test_page_is_marked_as_imported_and_names_every_finding(seed: Path) -> None:
    text = html.unescape(text_of(seed))
    assert "Imported, not measured." in text and '<span class="badge imported">imported</span>' in text
    found = json.loads((seed / "import.json").read_text())["findings"]
    assert {"over-one", "unequal-counts", "missing-heads", "no-model"} <= {finding["code"] for finding in found}
    for finding in found:
        assert finding["message"] in text


def test_samples_of_unequal_number_do_not_converge_and_equal_ones_do(seed: Path, tmp_path: Path) -> None:
    assert view_of(seed).settling is None
    (tmp_path / "equal.json").write_text(json.dumps({"0-0": [0.5, 1.4, 0.3], "0-1": [0, 0, 0.2]}))
    settling = view_of(import_file(tmp_path / "equal.json", tmp_path / "runs")).settling
    assert settling is not None and [line.label for line in settling.scores.lines] == ["0.0", "0.1"]


def test_list_of_members_keeps_its_order_and_has_no_map(tmp_path: Path) -> None:
    path = tmp_path / "heads.yaml"
    path.write_text("attn_head_set: 13-18,8-11,13-2\nmodel_name_or_path: acme/one\n")
    folder = import_file(path, tmp_path / "runs")
    view = view_of(folder)
    assert view.heat is None and view.curve is None and view.settling is None
    assert [row.name for row in view.listed] == ["13.18", "8.11", "13.2"]
    assert ("model_name_or_path", "acme/one") in view.said
    assert "there is no map to draw" in text_of(folder)


def test_gates_are_called_gates_and_have_a_threshold_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "full_attention_heads.tsv").write_text("0.9\t-0.01\n0.4\t1.0\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_name": "acme/gated", "nested": {"a": [1, 2], "b": {}}}))
    view = view_of(import_file(tmp_path / "full_attention_heads.tsv", tmp_path / "runs"))
    assert (view.heat.word, view.heat.threshold, view.heat.above) == ("Gate", 0.5, 2)
    assert view.curve is None and view.profile is None
    assert view.heat.numbers["value"] == "0.9,-0.01,0.4,1"
    assert ("config.nested.a", "[1, 2]") in view.said and not any("nested.b" in label for label, _ in view.said)


def test_other_measures_are_shown_under_their_own_name_and_without_a_threshold(tmp_path: Path) -> None:
    mass = {
        f"{layer}-{head}": [0.0123 * layer + 0.0457 * head + 0.00311, 0.9] for layer in range(3) for head in range(4)
    }
    (tmp_path / "mass.json").write_text(json.dumps(mass))
    folder = import_file(tmp_path / "mass.json", tmp_path / "runs", model="acme/mass")
    view = view_of(folder)
    assert (view.measure, view.word, view.other) == ("numbers of an unknown kind, of query heads", "Number", True)
    assert (view.heat.scored, view.heat.above, view.threshold) == (False, 0, "")
    assert view.curve is None and view.profile is None and view.settling is None
    assert " above" not in str(view.heat.body), "no head is marked"
    by_label = {hero.label: hero.figure for hero in view.heroes}
    assert by_label["Above 0.1"].text == by_label["Never retrieve"].text == "–"
    assert "not retrieval scores" in by_label["Above 0.1"].reason
    text = text_of(folder)
    assert "No retrieval scores." in text and 'id="threshold"' not in text and 'data-word="Number"' in text
    build_site(tmp_path / "runs", tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "numbers of an unknown kind" in index and "compared with none" in index


def test_shares_and_masses_of_other_projects_have_their_words(tmp_path: Path) -> None:
    grid = {"n_layers": 2, "n_heads": 2, "avg_mass": [[0.0002, 0.1337], [0.0, 0.4539]], "model_id": "acme/atlas"}
    (tmp_path / "atlas.json").write_text(json.dumps(grid))
    atlas = view_of(import_file(tmp_path / "atlas.json", tmp_path / "runs"))
    assert (atlas.word, atlas.heat.scored, atlas.project) == ("Mass", False, "retrieval-head-atlas")
    profile = {"n_layers": 1, "n_heads": 2, "argmax_heads": [[0, 1]], "argmax_scores": [[0.0, 0.5]], "hf_id": "acme/p"}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    shares = view_of(import_file(tmp_path / "profile.json", tmp_path / "runs"))
    assert (shares.word, shares.heat.threshold, shares.heat.above, shares.curve) == ("Share", 0.1, 1, None)
    assert shares.heat.verb == "have a share above"


def test_every_head_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "full.yaml").write_text('attn_head_set: "full_heads"\nmodel_name_or_path: acme/full\n')
    folder = import_file(tmp_path / "full.yaml", tmp_path / "runs")
    view = view_of(folder)
    assert (view.heroes[0].figure.text, view.heat, view.listed, view.more) == ("all", None, (), 0)
    assert "it chooses none" in text_of(folder)
    build_site(tmp_path / "runs", tmp_path / "site")
    assert "all query heads" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_hostile_words_of_a_file_are_text(tmp_path: Path) -> None:
    (tmp_path / "full_attention_heads.tsv").write_text("0.9\t0.1\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_name": HOSTILE, HOSTILE: HOSTILE}))
    text = text_of(import_file(tmp_path / "full_attention_heads.tsv", tmp_path / "runs"))
    assert not re.search(r"<script(?! src=)|\son[a-z]+=\"|\sstyle=|javascript:", text)
    assert "\u202e" not in text and html.unescape(text.replace("<wbr>", "")).count(HOSTILE_SHOWN) >= 4


def test_site_has_a_page_for_each_import_and_the_overview_leads_to_it(seed: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    report = build_site(tmp_path / "runs", tmp_path / "site")
    page = import_path(f"{seed.parent.name}/{seed.name}")
    assert tmp_path / "site" / page in report.pages
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert f'href="{page}"' in index
    assert [brief.model for brief in report.briefs] == ["acme/tiny-1"]


@needs_shared
@pytest.mark.parametrize(
    ("name", "share", "zero", "strongest"),
    [
        ("llama-2-7b-80k", "3.2%", "70.2%", [("16.19", "0.94"), ("11.15", "0.92"), ("8.26", "0.80")]),
        ("Mixtral-8x7B-v0.1", "6.2%", "57.6%", []),
        ("Qwen1.5-14B", "3.8%", "53.4%", []),
    ],
)
def test_released_detections_show_the_figures_that_their_data_gives(
    tmp_path: Path, name: str, share: str, zero: str, strongest: list[tuple[str, str]]
) -> None:
    folder = import_file(Path(SHARED or "") / "seed" / "head_score" / f"{name}.json", tmp_path)
    view = view_of(folder)
    by_label = {hero.label: hero.figure.text for hero in view.heroes}
    assert (by_label["Above 0.1"], by_label["Never retrieve"]) == (share, zero)
    assert [(row.name, row.value[:4]) for row in view.listed[: len(strongest)]] == strongest
    assert len(view.listed) == LISTED and view.heat.above_share == share
    assert view.settling is not None
    assert collect(tmp_path).imported
