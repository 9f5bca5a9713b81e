"""The pages of one run: its heat map, its list, its files, its heads. What they say against what the run says."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import HOSTILE, HOSTILE_SHOWN, changed, renamed, uncounted
from fake_runs import ANSWER, make_document, make_layers, make_results, make_run, spelt

from rh_bench.artifacts.run import read_run, run_folder, write_run
from rh_bench.artifacts.tables import HEADS, read_table
from rh_bench.interchange.export import export_run
from rh_bench.leaderboard import Entry
from rh_bench.leaderboard.activity import activity_of
from rh_bench.leaderboard.collect import Head, collect
from rh_bench.leaderboard.convergence_chart import HEIGHT, WIDTH, _apart, score_chart, share_chart
from rh_bench.leaderboard.head_files import MOST_SCORES
from rh_bench.leaderboard.head_page import LEAST, MOST, chosen_heads, head_page
from rh_bench.leaderboard.heat import heat_map, numbers
from rh_bench.leaderboard.model_page import LISTED, documents, model_page
from rh_bench.leaderboard.open_run import OpenRun
from rh_bench.leaderboard.render import Frame
from rh_bench.leaderboard.token_markup import first_pieces, marked, strip, token_numbers
from rh_bench.stats.convergence import converge

NONE = {"kind": "linear_attention", "query_heads": 0, "kv_heads": 0, "window": None}


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = tmp_path_factory.mktemp("runs")
    make_run(root, layers=5, heads=12, kv_heads=4, n_samples=24)
    return collect(root).entries[0]


@pytest.fixture(scope="module")
def written(entry: Entry) -> dict[str, str | bytes]:
    return dict(documents(OpenRun(entry), Frame()))


def page_of(written: dict[str, str | bytes]) -> str:
    text = next(text for name, text in written.items() if name.count("/") == 2)
    assert isinstance(text, str)
    return text


# Heat map


def plain_map(layers: list[dict[str, Any]], heads: tuple[Head, ...]) -> Any:
    return heat_map(layers, heads, 0.1, linked=(), page="")


def test_heat_map_has_a_cell_for_every_head_and_names_other_layers(entry: Entry) -> None:
    layers = [*entry.run["model"]["layers"], {"index": 5, **NONE}]
    heat = plain_map(layers, entry.heads)
    cells = re.findall(r'<td class="v(\d+)([^"]*)"><span>([^<]+)</span>', heat.body)
    assert len(cells) == len(entry.heads)
    assert (
        sum("above" in marks for _, marks, _ in cells) == heat.above == sum((h.score or 0) > 0.1 for h in entry.heads)
    )
    for head, (level, _, text) in zip(entry.heads, cells, strict=True):
        assert (level == "0") == (head.score == 0) and float(text) == pytest.approx(head.score, abs=0.005)
    assert "linear_attention" in heat.body.splitlines()[-1]


def test_layers_of_unequal_width_and_windows_are_padded_and_named() -> None:
    layers = [
        {"index": 0, "kind": "sliding", "query_heads": 2, "kv_heads": 1, "window": 512},
        {"index": 1, "kind": "full", "query_heads": 3, "kv_heads": 1, "window": None},
    ]
    heads = tuple(Head(layer, head, 0.2, 0.1, 0.3, 1, 1, 5, 0.5) for layer, n in ((0, 2), (1, 3)) for head in range(n))
    first, second = plain_map(layers, heads).body.splitlines()
    assert first.count('class="absent"') == 1 and "Sliding window of 512 tokens" in first
    assert second.count("<td") == 3


def test_numbers_of_the_map_are_those_of_the_heads(entry: Entry) -> None:
    lists = {name: text.split(",") for name, text in numbers(entry.heads).items()}
    for place, head in enumerate(entry.heads):
        assert head.score is not None and head.activation_frequency is not None
        assert int(lists["exact"][place]) == round(head.score * 1e9)
        assert f"{int(lists['score'][place]) / 1000:.3f}" == f"{head.score:.3f}"
        assert f"{int(lists['low'][place]) / 1000:.3f}" == f"{head.score_low:.3f}"
        assert [int(lists[name][place]) for name in ("rank", "rank-low", "rank-high")] == [
            head.rank,
            head.rank_low,
            head.rank_high,
        ]
        assert f"{int(lists['active'][place]) / 10:.1f}" == f"{head.activation_frequency * 100:.1f}"


def test_run_without_scores_has_empty_numbers_and_marks_no_cell(entry: Entry) -> None:
    empty = uncounted(entry)
    heat = plain_map(empty.run["model"]["layers"], empty.heads)
    assert set("".join(heat.numbers.values())) == {","}
    assert not heat.scored and heat.above == 0 and heat.body.count("<td class=none>") == len(entry.heads)


def test_hostile_kind_of_layer_is_text() -> None:
    body = plain_map([{"index": 0, **NONE, "kind": HOSTILE}], ()).body
    assert "<script>" not in body and "\u202e" not in body and HOSTILE_SHOWN in html.unescape(body)


# The page and its files


def test_list_has_the_strongest_heads_by_rank_and_leads_to_their_panels(entry: Entry) -> None:
    view = model_page(entry, activity_of(entry), (), "x/heads.html")
    scoring = sorted((h for h in entry.heads if h.score), key=lambda h: (-(h.score or 0), h.layer, h.head))
    assert [row.name for row in view.listed] == [f"{h.layer}.{h.head}" for h in scoring[:LISTED]]
    linked = [row.link for row in view.listed if row.link]
    assert linked == [f"x/heads.html#h{h.layer}-{h.head}" for h in chosen_heads(entry.heads, 0.1)]


def test_every_link_to_a_file_or_a_head_leads_somewhere(entry: Entry, written: dict[str, str | bytes]) -> None:
    page = f"models/{entry.slug}/{entry.run_id}.html"
    text = page_of(written)
    links = [link for link in re.findall(r'href="([^"#]+)', text) if not link.startswith("../../")]
    assert links
    folder = f"models/{entry.slug}/{entry.run_id}"
    assert {f"models/{entry.slug}/{link}" for link in links} == written.keys() - {page, f"{folder}/activity.tsv"}
    assert 'href="activity.tsv"' in str(written[f"{folder}/heads.html"])
    heads = str(written[f"models/{entry.slug}/{entry.run_id}/heads.html"])
    for anchor in re.findall(r'href="[^"]+heads\.html#([^"]+)"', text):
        assert f'id="{anchor}"' in heads
    assert f'href="../{entry.run_id}.html"' in heads


def test_tables_of_heads_hold_every_column_and_digit_of_the_run(entry: Entry, written: dict[str, str | bytes]) -> None:
    assert entry.folder is not None
    table = read_table(entry.folder / "heads.parquet", HEADS)
    folder = f"models/{entry.slug}/{entry.run_id}"
    document = json.loads(written[f"{folder}/heads.json"])
    assert document["columns"] == table.to_pydict()
    assert (document["run_id"], document["model"]) == (entry.run_id, entry.run["model"]["id"])
    tsv = written[f"{folder}/heads.tsv"]
    assert isinstance(tsv, bytes)
    header, *rows = [line.split("\t") for line in tsv.decode().splitlines()]
    assert header == table.column_names and len(rows) == len(table)
    for row, wanted in zip(rows, table.to_pylist(), strict=True):
        assert [float(text) if text else None for text in row] == list(wanted.values())


@pytest.mark.parametrize("format", ["seed", "profile", "duo", "qrhead"])
def test_files_are_those_that_export_writes(entry: Entry, written: dict[str, str | bytes], format: str) -> None:
    assert entry.folder is not None
    wanted = export_run(entry.folder, format)
    start = f"models/{entry.slug}/{entry.run_id}/{format}-"
    found = {name.removeprefix(start): data for name, data in written.items() if name.startswith(start)}
    assert found == wanted.files
    assert html.escape("; ".join(wanted.losses), quote=False).replace("'", "&#39;") in page_of(written)


def test_formats_that_cannot_carry_a_run_say_why(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page_of(dict(documents(OpenRun(uncounted(entry)), Frame())))
    assert text.count("No file: no sample counts, so no head has a score") == 4

    def uneven(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["model"]["layers"][0]["kv_heads"] = 2

    assert "a table needs one number" in page_of(dict(documents(OpenRun(changed(entry, uneven)), Frame())))
    monkeypatch.setattr("rh_bench.leaderboard.head_files.MOST_SCORES", 10)
    large = dict(documents(OpenRun(replace(entry, run_id="large")), Frame()))
    assert not any("/seed-" in name for name in large)
    assert f"rh-bench export runs/{entry.slug}/large --format seed --out heads" in page_of(large)
    assert MOST_SCORES > 10


def test_page_without_a_counted_sample_says_why_and_has_no_page_of_heads(entry: Entry) -> None:
    found = dict(documents(OpenRun(uncounted(entry)), Frame()))
    assert len(found) == 1
    text = page_of(found)
    assert "Needs two counted samples." in text and "No scores: no sample counted." in text
    assert 'id="threshold"' not in text and "NaN" not in text and "None" not in text


def test_page_names_what_the_model_was_derived_from(entry: Entry) -> None:
    derived = changed(entry, lambda run, summary: run["model"].update(base_model=["acme/base", HOSTILE]))
    assert ("Derived from", f"acme/base, {HOSTILE_SHOWN}") in model_page(derived).provenance
    assert "Derived from" not in dict(model_page(entry).provenance)


def test_hostile_names_are_text_on_every_page(entry: Entry) -> None:
    for name, text in documents(OpenRun(renamed(entry, HOSTILE)), Frame()):
        if name.endswith(".html"):
            assert isinstance(text, str)
            assert not re.search(r"<script(?! src=)|\son[a-z]+=\"|\sstyle=|javascript:", text)
            assert "\u202e" not in text and HOSTILE_SHOWN in html.unescape(text.replace("<wbr>", ""))


def test_table_of_samples_says_what_each_head_of_the_page_copied(entry: Entry, written: dict[str, str | bytes]) -> None:
    activity = activity_of(entry)
    text = written[f"models/{entry.slug}/{entry.run_id}/activity.tsv"]
    assert activity is not None and isinstance(text, bytes)
    header, *rows = [line.split("\t") for line in text.decode().splitlines()]
    assert header[6:] == [f"{head.layer}.{head.head}" for head in chosen_heads(entry.heads, 0.1)]
    columns = [activity.heads.index((head.layer, head.head)) for head in chosen_heads(entry.heads, 0.1)]
    assert [row[0] for row in rows] == [sample.sample_id for sample in activity.samples]
    for row, sample, copied in zip(rows, activity.samples, activity.copied[:, columns], strict=True):
        assert row[1:6] == [
            sample.needle_id, str(sample.length), str(sample.depth), str(int(sample.success)), str(sample.span)
        ]  # fmt: skip
        assert list(map(int, row[6:])) == copied.tolist()


# How the numbers settle


def test_charts_of_convergence_end_at_the_run_and_stay_in_their_plane(entry: Entry) -> None:
    activity = activity_of(entry)
    assert activity is not None
    found = converge(activity.shares, 0.1)
    assert found is not None
    names = ["a", "b", "c", "d", "e"][: len(found.top)]
    charts = [share_chart(found), score_chart(found, names, 0.1)]
    for chart in charts:
        assert chart is not None
        for line in chart.lines:
            points = [tuple(map(float, point.split())) for point in line.line.removeprefix("M").split("L")]
            assert len(points) == len(found.sizes)
            assert points[0][0] == 0 and points[-1][0] == WIDTH
            assert all(0 <= y <= HEIGHT for _, y in points)
            assert 0 <= line.label_y <= HEIGHT
    assert score_chart(replace(found, top=(), scores=()), [], 0.1) is None


@pytest.mark.parametrize("places", [[0, 1, 2, 3], [220, 219, 218], [100, 5, 100, 100, 220], [50.0]])
def test_labels_keep_apart_and_in_order(places: list[float]) -> None:
    found = _apart(places)
    ordered = sorted(found)
    assert all(b - a >= 16.9 for a, b in pairwise(ordered))
    assert np.argsort(found, kind="stable").tolist() == np.argsort(places, kind="stable").tolist()
    assert ordered[-1] <= HEIGHT


# Heads


def test_heads_above_the_threshold_are_chosen_within_bounds() -> None:
    def heads(*scores: float) -> list[Head]:
        return [Head(0, place, score, None, None, 1, None, None, 0.5) for place, score in enumerate(scores)]

    assert len(chosen_heads(heads(*[0.2] * 100, *[0.05] * 9), 0.1)) == MOST
    assert len(chosen_heads(heads(*[0.2] * 30, *[0.05] * 9), 0.1)) == 30
    assert len(chosen_heads(heads(*[0.2] * 3, *[0.05] * 40, *[0.0] * 9), 0.1)) == LEAST
    assert [head.head for head in chosen_heads(heads(0.0, 0.3, 0.0, 0.5), 0.1)] == [3, 1]
    assert chosen_heads([Head(0, 0, None, None, None, None, None, None, None)], 0.1) == []


def test_codes_say_what_each_head_copied_in_each_sample(entry: Entry) -> None:
    activity = activity_of(entry)
    assert activity is not None
    view = head_page(entry, activity, "p", "b")
    assert view is not None and view.digits == 1
    samples = [list(map(int, text.split(","))) for text in view.samples.split(";")]
    names = json.loads(view.needles_json)
    for sample, (needle, length, depth, span) in zip(activity.samples, samples, strict=True):
        assert names[needle] == sample.needle_id and span == sample.span
        assert view.lengths[length] == f"{sample.length:,}" and view.depths[depth] == f"{sample.depth:g}%"
    for panel in view.panels:
        layer, head = map(int, panel.short.split("."))
        column = activity.heads.index((layer, head))
        for place, code in enumerate(panel.codes):
            if activity.samples[place].success:
                assert int(code, 36) == activity.copied[place, column]
            else:
                assert code == "-"


def test_examples_are_the_samples_of_each_needle_in_which_a_head_copies_most(entry: Entry) -> None:
    activity = activity_of(entry)
    assert activity is not None
    view = head_page(entry, activity, "p", "b")
    assert view is not None
    for panel in view.panels:
        layer, head = map(int, panel.short.split("."))
        column = activity.heads.index((layer, head))
        for example in panel.examples:
            most = max(
                activity.copied[place, column]
                for place, sample in enumerate(activity.samples)
                if sample.success and sample.needle_id == example.needle
            )
            assert example.copied == f"{most} of 7 tokens"
            assert example.strip is not None and example.strip.label.endswith("of 7")
            assert example.strip.copied.count("M") == most


def test_long_answers_take_more_digits_and_silent_samples_are_named(tmp_path: Path) -> None:
    layers = make_layers(2, 4, 2)
    span = tuple(range(100, 140))
    results = [
        replace(result, span_ids=span, events=result.events * (0 if place == 0 else 1))
        for place, result in enumerate(make_results(2, 4, 10))
    ]
    results[0] = replace(results[0], events=np.empty((0, 4), dtype=np.int32))
    results = [
        replace(
            result, generated_ids=span[: len(result.generated_ids)] if result.success else (1,), events=result.events
        )
        if result.success
        else replace(result, generated_ids=(1,), events=np.empty((0, 4), dtype=np.int32))
        for result in results
    ]
    document = make_document(layers, "acme/long")
    folder = run_folder(tmp_path, "acme__long", document["run_id"])
    folder.mkdir(parents=True)
    write_run(folder, document, layers, results)
    found = collect(tmp_path).entries
    assert found, collect(tmp_path).left_out
    activity = activity_of(found[0])
    assert activity is not None
    view = head_page(found[0], activity, "p", "b")
    assert view is not None and view.digits == 2
    best = view.panels[0]
    assert len(best.codes) == 2 * len(activity.samples)
    assert re.match(r"Silent in \d+ of 8 counted samples: n0 at 512 tokens, depth 0%", best.silent)
    assert len(read_run(folder).results) == 10


def test_grid_shows_means_of_counted_samples_and_names_them(entry: Entry) -> None:
    activity = activity_of(entry)
    assert activity is not None
    view = head_page(entry, activity, "p", "b")
    assert view is not None
    panel = view.panels[0]
    layer, head = map(int, panel.short.split("."))
    column = activity.heads.index((layer, head))
    counted = [sample for sample in activity.samples if sample.success]
    for length in view.lengths:
        own = [share for share, s in zip(activity.shares[:, column], counted, strict=True) if f"{s.length:,}" == length]
        cells: dict[float, list[float]] = {}
        for share, sample in zip(activity.shares[:, column], counted, strict=True):
            if f"{sample.length:,}" == length:
                cells.setdefault(sample.depth, []).append(share)
        wanted = np.mean([np.mean(values) for values in cells.values()])
        assert own and f"{length.replace(',', '')} {wanted:.2f}" in panel.spots_label
    squares = panel.spots.count("M")
    assert squares == len(
        {(s.length, s.depth) for s, v in zip(counted, activity.shares[:, column], strict=True) if v > 0}
    )


@pytest.mark.parametrize(
    ("copied", "words"),
    [([], "no token"), ([2], "token 3"), ([0, 1, 2, 4], "tokens 1–3, 5"), ([1, 3, 5], "tokens 2, 4, 6")],
)
def test_tokens_are_named_by_number(copied: list[int], words: str) -> None:
    assert token_numbers(copied) == words
    assert strip(7, copied, 99).copied.count("M") == len(copied)
    assert strip(7, copied, 99).all.count("M") == 7


def test_marks_join_neighbours_and_leave_spaces_and_hostile_text_outside() -> None:
    pieces = ["The", " slow", " waltz", " <b>", "\u202eand", "\n"]
    assert marked(pieces, {1, 2, 4}) == "The <mark>slow waltz</mark> &lt;b&gt;<mark>⟨U+202E⟩and</mark> ↵"
    assert marked(pieces, set()) == "The slow waltz &lt;b&gt;⟨U+202E⟩and ↵"
    assert marked([], set()) == ""


def test_a_run_that_spells_its_tokens_has_them_marked_in_answer_and_response(tmp_path: Path) -> None:
    make_run(tmp_path, layers=5, heads=12, kv_heads=4, n_samples=24, spell=True)
    entry = collect(tmp_path).entries[0]
    activity = activity_of(entry)
    assert activity is not None
    view = head_page(entry, activity, "p", "b")
    assert view is not None and view.pieces
    words = ANSWER.split()
    for panel in view.panels:
        layer, head = map(int, panel.short.split("."))
        column = activity.heads.index((layer, head))
        for example in panel.examples:
            place = next(
                place
                for place, sample in enumerate(activity.samples)
                if sample.needle_id == example.needle
                and f"{sample.length:,} tokens, depth {sample.depth:g}%" == example.where
                and f"{activity.copied[place, column]} of 7 tokens" == example.copied
            )
            offsets = sorted(set(activity.of(place, column)[:, 1].tolist()))
            marks = re.findall(r"<mark>([^<]*)</mark>", example.answer)
            assert " ".join(marks).split() == [words[offset] for offset in offsets]
            assert re.sub("</?mark>", "", example.answer) == ANSWER
            assert example.text == example.answer and example.strip is None


def test_samples_without_a_spelling_have_no_pieces(entry: Entry) -> None:
    activity = activity_of(entry)
    assert activity is not None and activity.spelling is None and activity.pieces_of(0) is None


# What a submitter could make too large


def test_a_grid_without_end_is_not_drawn_and_the_rest_of_the_page_is(tmp_path: Path) -> None:
    layers = make_layers(2, 4, 2)
    results = [
        replace(result, sample=replace(result.sample, length=512 + place, depth=place / 4))
        for place, result in enumerate(make_results(2, 4, 80))
    ]
    document = make_document(layers, "acme/endless")
    folder = run_folder(tmp_path, "acme__endless", document["run_id"])
    folder.mkdir(parents=True)
    write_run(folder, document, layers, results)
    found = dict(documents(OpenRun(collect(tmp_path).entries[0]), Frame()))
    assert not any(name.endswith("/heads.html") for name in found)
    text = page_of(found)
    assert "too many cells to be drawn" in text and "heads.html" not in text
    assert '<h2 id="settling">' in text and text.count("<td") < 400


def test_long_texts_and_names_are_cut_on_the_page_of_heads(tmp_path: Path) -> None:
    layers = make_layers(2, 4, 2)
    long = "word " * 5000
    results = [
        replace(
            result,
            sample=replace(result.sample, needle_id="n" * 5000),
            text=f"{result.answer} {long}",
            rouge1_recall=1.0,
            success=True,
        )
        for result in make_results(2, 4, 10, failure_every=0)
    ]
    for name, own in (("plain", results), ("spelt", list(spelt(tuple(results))))):
        own = [
            replace(one, generated_ids=(*one.generated_ids, 1))
            if one.spelling is None
            else replace(
                one, spelling=replace(one.spelling, generated_ends=(*one.spelling.generated_ends[:6], len(one.text)))
            )
            for one in own
        ]
        document = make_document(layers, f"acme/{name}", schema_version="1.2")
        folder = run_folder(tmp_path / name, f"acme__{name}", document["run_id"])
        folder.mkdir(parents=True)
        write_run(folder, document, layers, own)
        found = collect(tmp_path / name)
        assert found.entries, found.left_out
        heads = next(
            text for page, text in documents(OpenRun(found.entries[0]), Frame()) if page.endswith("heads.html")
        )
        assert len(heads) < 60_000 and "…" in heads


def test_pieces_and_boxes_end_where_there_are_too_many() -> None:
    assert first_pieces(["ab", "cd", "ef"], 6) == ["ab", "cd", "ef"]
    assert first_pieces(["ab", "cd", "ef"], 5) == ["ab", "cd", "…"]
    drawn = strip(1000, range(0, 1000, 2), 100)
    assert (drawn.all.count("M"), drawn.copied.count("M")) == (100, 50)
    assert drawn.label.endswith(", … of 1000") and len(drawn.label) < 300
