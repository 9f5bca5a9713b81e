"""Collecting runs and rendering them: what is shown, what is left out, and that nothing is lost on the way."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import HOSTILE, HOSTILE_SHOWN, changed, renamed, uncounted
from fake_runs import make_run
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.display.axes import axis_top, whisker
from rh_bench.display.formatting import figure, interval, parameters, percent, visible
from rh_bench.display.palette import _INK, _PAPER, LEVELS, _rgb, contrast, rate_level, scale_css, score_level
from rh_bench.errors import InputError
from rh_bench.leaderboard import Collection, Entry, LeftOut, build_site
from rh_bench.leaderboard.briefs import page_path
from rh_bench.leaderboard.build import render
from rh_bench.leaderboard.charts import score_curve
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.model_page import reproduce_command
from rh_bench.leaderboard.open_run import brief_of
from rh_bench.leaderboard.overview import overview
from rh_bench.leaderboard.render import GENERATOR, Frame, Site

SCRIPTLESS = re.compile(
    r"<script(?! (?:defer )?src=| type=\"application/json\")|\son[a-z]+=\"|\sstyle=|javascript:", re.IGNORECASE
)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = tmp_path_factory.mktemp("runs")
    make_run(root)
    return collect(root).entries[0]


def contents(site: Path) -> dict[str, bytes]:
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}


# Collecting


def test_valid_runs_are_collected_in_order_of_their_models(tmp_path: Path) -> None:
    for model in ("zeta/last", "Alpha/first", "mid/dle"):
        make_run(tmp_path, model_id=model)
    found = collect(tmp_path)
    assert [entry.run["model"]["id"] for entry in found.entries] == ["Alpha/first", "mid/dle", "zeta/last"]
    assert found.left_out == ()
    assert all(len(entry.heads) == 16 for entry in found.entries)


def test_unfinished_run_is_left_out_and_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder / "run.json").unlink()
    found = collect(tmp_path)
    assert found.entries == ()
    assert found.left_out[0].folder == f"{folder.parent.name}/{folder.name}"
    assert "unfinished" in found.left_out[0].reasons[0]


@pytest.mark.parametrize("name", ["run.json", "summary.json", "heads.parquet"])
def test_broken_run_is_left_out_with_reasons_and_the_others_stay(tmp_path: Path, name: str) -> None:
    good, bad = make_run(tmp_path, model_id="acme/good"), make_run(tmp_path, model_id="acme/bad")
    (bad / name).write_bytes(b"{")
    found = collect(tmp_path)
    assert [entry.run_id for entry in found.entries] == [good.name]
    assert [left.folder for left in found.left_out] == [f"acme__bad/{bad.name}"]
    assert all(found.left_out[0].reasons)


def test_hidden_folders_and_loose_files_are_passed_over(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / ".git" / "objects").mkdir(parents=True)
    (tmp_path / "README.md").write_text("words")
    found = collect(tmp_path)
    assert len(found.entries) == 1
    assert found.left_out == ()


def test_runs_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        collect(tmp_path / "nowhere")


@pytest.mark.slow
def test_no_torch_on_the_way_to_a_site() -> None:
    program = (
        "import sys, leaderboard, rh_bench.cli.show; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# The site as files


def test_build_site_reports_what_it_did(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    (tmp_path / "runs" / "acme__half" / "0123").mkdir(parents=True)
    report = build_site(tmp_path / "runs", tmp_path / "site")
    assert (len(report.briefs), len(report.left_out)) == (1, 1)
    assert all(page.is_file() for page in report.pages)
    assert {tmp_path / "site" / name for name in ("index.html", report.briefs[0].page)} <= set(report.pages)


def test_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for model in ("acme/b", "acme/a"):
        make_run(tmp_path / "runs", model_id=model)
    build_site(tmp_path / "runs", tmp_path / "one")
    build_site(tmp_path / "runs", tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_rebuilding_drops_pages_of_runs_that_are_gone(tmp_path: Path, entry: Entry) -> None:
    render(Collection((entry, renamed(entry, "acme/gone")), ()), tmp_path / "site")
    render(Collection((entry,), ()), tmp_path / "site")
    assert not list((tmp_path / "site").glob("models/acme__gone/*"))
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_failed_build_leaves_the_old_site(tmp_path: Path, entry: Entry) -> None:
    site = tmp_path / "site"
    render(Collection((entry,), ()), site)
    before = contents(site)
    broken = changed(entry, lambda run, summary: summary.pop("claims"))
    with pytest.raises(KeyError):
        render(Collection((entry, broken), ()), site)
    assert contents(site) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_failed_swap_puts_the_old_site_back(tmp_path: Path, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    render(Collection((entry,), ()), site)
    before = contents(site)
    replace_path = Path.replace

    def refuse_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("disk full")
        return replace_path(self, target)

    monkeypatch.setattr(Path, "replace", refuse_new)
    with pytest.raises(OSError, match="disk full"):
        render(Collection((), ()), site)
    assert contents(site) == before


def test_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>my homepage</p>")
    with pytest.raises(InputError, match="something other than a site"):
        render(Collection((), ()), tmp_path)
    assert (tmp_path / "index.html").read_text() == "<p>my homepage</p>"


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("a file")
    with pytest.raises(InputError, match="not a folder"):
        render(Collection((), ()), tmp_path / "site")


def test_every_link_leads_to_a_file_of_the_site(tmp_path: Path, entry: Entry) -> None:
    pages = render(Collection((entry, renamed(entry, HOSTILE)), ()), tmp_path)
    for page in pages:
        links = re.findall(r'(?:href|src)="([^"]*)"', page.read_text(encoding="utf-8"))
        assert links
        for link in links:
            assert link.startswith("#") or (page.parent / link.split("#")[0]).is_file(), (page, link)


def test_generator_mark_is_in_every_page(tmp_path: Path, entry: Entry) -> None:
    for page in render(Collection((entry,), ()), tmp_path):
        assert GENERATOR in page.read_text(encoding="utf-8")


# What the pages say


def page_text(site: Path, entry: Entry) -> str:
    return (site / page_path(entry)).read_text(encoding="utf-8")


def test_empty_site_says_so(tmp_path: Path) -> None:
    render(Collection((), ()), tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "No runs yet" in text
    assert "<table" not in text


def test_left_out_runs_are_listed_with_reasons(tmp_path: Path) -> None:
    render(Collection((), (LeftOut("acme__<b>/0123", ("run.json /model: is <i>odd</i>",)),)), tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "acme__&lt;b&gt;/0123" in text
    assert "run.json /model: is &lt;i&gt;odd&lt;/i&gt;" in text


def test_hostile_names_stay_text(tmp_path: Path, entry: Entry) -> None:
    def change(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["model"]["architecture"] = run["model"]["model_type"] = run["model"]["revision"] = HOSTILE
        run["haystack"]["name"] = run["haystack"]["location"] = run["environment"]["device_name"] = HOSTILE
        run["model"]["layers"][0]["kind"] = HOSTILE
        summary["claims"][0]["statement"] = summary["claims"][0]["reason"] = HOSTILE

    # Without its folder and its first heads, since the first layer is now of another kind.
    heads = tuple(head for head in entry.heads if head.layer > 0)
    hostile = replace(changed(renamed(entry, HOSTILE), change), folder=None, heads=heads)
    for page in render(Collection((hostile,), ()), tmp_path):
        text = page.read_text(encoding="utf-8")
        assert not SCRIPTLESS.search(text), page
        assert "\u202e" not in text and "\u200b" not in text
        if page.name not in ("method.html", "about.html", "experiments.html"):  # which name no run without experiments
            assert HOSTILE_SHOWN in html.unescape(text.replace("<wbr>", ""))


def test_no_page_has_inline_script_or_style(tmp_path: Path, entry: Entry) -> None:
    for page in render(Collection((entry,), ()), tmp_path):
        assert not SCRIPTLESS.search(page.read_text(encoding="utf-8"))


def test_runs_of_other_sets_and_protocols_are_never_in_one_table(entry: Entry) -> None:
    def other_set(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["haystack"]["manifest_sha256"] = "0" * 64

    def other_template(run: dict[str, Any], summary: dict[str, Any]) -> None:
        run["protocol"]["template"] = "another"

    same = renamed(entry, "acme/same")
    entries = (entry, changed(entry, other_set), changed(entry, other_template), same)
    view = overview(Site([brief_of(one) for one in entries], [], [], Frame()))
    assert sorted(len(group.rows) for group in view.groups) == [1, 1, 2]
    assert all(group.differs for group in view.groups)
    assert len({group.anchor for group in view.groups}) == 3


def test_run_without_a_counted_sample_shows_reasons_and_no_zeros(tmp_path: Path, entry: Entry) -> None:
    empty = uncounted(entry)
    render(Collection((empty,), ()), tmp_path)
    text = page_text(tmp_path, empty)
    assert "Not computed: no sample counted" in text
    assert "No scores: no sample counted." in text
    assert "NaN" not in text and "None" not in re.sub(r"<script.*?</script>", "", text)


ADAPTER = {
    "method": "LORA",
    "revision": "e" * 40,
    "base": {
        "id": "acme/base",
        "revision": "d" * 40,
        "source": "hub",
        "files": [{"path": "base.safetensors", "sha256": "f" * 64, "bytes": 1}],
    },
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "hub", "id": "a/b", "revision": "c" * 40}, "a/b@" + "c" * 40),
        ({"source": "folder", "id": "my model"}, "'my model'"),
        ({"source": "gguf", "files": [{"path": "x y.gguf", "sha256": "0", "bytes": 1}]}, "'gguf:x y.gguf'"),
        ({"source": "folder", "id": "x; rm -rf ~"}, "'x; rm -rf ~'"),
        ({"source": "hub", "id": "a/b", "revision": "d" * 64, "adapter": ADAPTER}, "a/b@" + "e" * 40),
    ],
)
def test_reproduce_command_names_the_model_and_is_quoted(entry: Entry, change: dict[str, Any], words: str) -> None:
    run = changed(entry, lambda run, summary: run["model"].update(change)).run
    command = reproduce_command(run)
    assert command.startswith(f"rh-bench evaluate {words} --haystack ")


def test_what_the_user_stated_of_the_window_is_in_the_command(entry: Entry) -> None:
    for stated, words in (("option", " --window 9000"), ("configuration", ""), (None, "")):
        change = {"window": 9000, "window_from": stated}
        run = changed(entry, lambda run, summary, change=change: run["model"].update(change)).run
        assert ("--window" in reproduce_command(run)) == bool(words) and reproduce_command(run).endswith(words)


def test_an_adapter_and_what_was_noted_are_on_the_page(tmp_path: Path, entry: Entry) -> None:
    more = {"adapter": ADAPTER, "notes": ["merged <b>"], "text_part_of": "LlavaForConditionalGeneration"}
    changes = changed(entry, lambda run, summary: run["model"].update(more))
    render(Collection((changes,), ()), tmp_path)
    text = page_text(tmp_path, changes)
    for words in ("LORA, revision eee", "acme/base, revision ddd", "merged &lt;b&gt;", "LlavaForConditionalGeneration"):
        assert words in text
    assert "base.safetensors" in text


def test_reproduce_command_gives_a_made_grid_with_all_its_digits(entry: Entry) -> None:
    grid = {"kind": "made", "lengths": [512, 1_000_000], "depths": [0.0, 33.333333], "needles": ["n1"], "limit": 7}
    command = reproduce_command(changed(entry, lambda run, summary: run["protocol"].update(grid=grid)).run)
    assert "--lengths 512,1000000 --depths 0,33.333333 --needles n1 --limit 7" in command


# Names, numbers, colours, geometry


def test_page_paths_need_no_escaping_and_do_not_collide(entry: Entry) -> None:
    slugs = ["acme__m", "acme__m ", "acme__m-", "ácme__m", "a/../../b", '"><script>']
    paths = [page_path(replace(entry, slug=slug)) for slug in slugs]
    assert len(set(paths)) == len(slugs)
    assert paths[0] == f"models/acme__m/{entry.run_id}.html"
    assert all(re.fullmatch(r"models/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+\.html", path) for path in paths)


@pytest.mark.parametrize("name", ["..", "."])
def test_page_paths_stay_inside_the_site(entry: Entry, name: str) -> None:
    assert f"/{name}/" not in page_path(replace(entry, slug=name))


def test_visible_writes_out_what_cannot_be_seen() -> None:
    assert visible("a\u202eb\u200bc\n") == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+000A⟩"
    assert visible("Qwen/Qwen2.5 é 模型") == "Qwen/Qwen2.5 é 模型"


def test_numbers_read_well() -> None:
    assert [percent(share) for share in (0.0, 0.0444, 1.0)] == ["0%", "4.4%", "100%"]
    assert [parameters(n) for n in (999, 134_515_008, 7_241_732_096)] == ["999", "134.5M", "7.2B"]
    assert interval(0.03, 0.063, percent) == "3.0–6.3%"
    assert interval(None, 0.063, percent) == ""


def test_missing_figure_keeps_its_reason() -> None:
    shown = figure({"value": None, "low": None, "high": None, "n": 0, "reason": "no sample counted"}, percent)
    assert (shown.text, shown.reason, shown.sort_key) == ("–", "no sample counted", "")


@given(st.floats(0, 1), st.floats(0, 1))
def test_levels_rise_with_the_value_and_only_zero_is_level_zero(first: float, second: float) -> None:
    low, high = sorted((first, second))
    for level in (score_level, rate_level):
        assert 0 <= (level(low) or 0) <= (level(high) or 0) <= LEVELS
        assert (level(low) == 0) == (low == 0)


def test_text_on_every_colour_of_the_scale_can_be_read() -> None:
    pairs = re.findall(r"--(?:cell|on):light-dark\((#\w+),(#\w+)\)", scale_css())
    assert len(pairs) == 2 * LEVELS
    for cell, on in zip(pairs[::2], pairs[1::2], strict=True):
        for background, ink in zip(cell, on, strict=True):
            assert ink in (_INK, _PAPER)
            assert contrast(_rgb(background), _rgb(ink)) >= 4.5


@given(st.lists(st.floats(1e-6, 1), min_size=1), st.floats(1e-3, 1))
def test_axis_holds_every_value(values: list[float], least: float) -> None:
    top = axis_top(values, least=least)
    assert top >= max(*values, least) * (1 - 1e-8)
    assert top <= 10 * max(*values, least)


def test_whisker_keeps_order_and_leaves_out_what_is_unknown() -> None:
    shape = whisker({"value": 0.05, "low": 0.02, "high": 0.4, "n": 9, "reason": None}, 0.1, mark=0.05)
    assert shape is not None and shape.low is not None and shape.high is not None
    assert shape.low < shape.at == shape.mark < shape.high <= 96
    assert whisker({"value": None, "low": None, "high": None, "n": 0, "reason": "none"}, 0.1) is None


def test_curve_falls_and_spans_the_plane(entry: Entry) -> None:
    curve = score_curve(entry.heads, 0.1)
    assert curve is not None
    points = [tuple(map(float, point.split())) for point in curve.line.removeprefix("M").split("L")]
    assert [y for _, y in points] == sorted(y for _, y in points)
    assert points[0][0] == 0 and points[-1][0] == pytest.approx(curve.width)
    assert score_curve(uncounted(entry).heads, 0.1) is None
