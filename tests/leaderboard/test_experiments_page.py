"""Views of experiments and the page of all of them: words, geometry, and what stands in the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import HOSTILE, HOSTILE_SHOWN
from experiment_pages import ANSWERS, CAUSAL, DETECTORS, with_charts
from fake_experiments import SMALL, make_dynamic, make_intrinsic, make_relatives

from rh_bench.artifacts.results_repo import verification_path
from rh_bench.display.formatting import p_text, signed
from rh_bench.experiments.causal.card import causal_view
from rh_bench.experiments.detectors.card import detectors_view
from rh_bench.experiments.dynamic.card import MOST_STRIP, dynamic_view
from rh_bench.experiments.intrinsic.card import pair_view
from rh_bench.experiments.qa.card import answers_view
from rh_bench.experiments.record import experiment_record
from rh_bench.experiments.registry import showings
from rh_bench.interchange.folder import import_file
from rh_bench.leaderboard import RunBrief, build_site
from rh_bench.leaderboard.build import SITE_PAGES
from rh_bench.leaderboard.collect import Entry, read_source, sources
from rh_bench.leaderboard.experiment_card import scorecard_rows
from rh_bench.leaderboard.experiment_views import experiments_view, score_rows
from rh_bench.leaderboard.experiments_page import documents, experiments_page
from rh_bench.leaderboard.open_run import brief_of
from rh_bench.leaderboard.render import Frame, Site
from rh_bench.system.schema import dump_json
from rh_bench.verification.verify import verify_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    base, chat, stranger = make_relatives(folder / "runs", n_samples=40)
    make_dynamic(folder / "experiments", base)
    make_intrinsic(folder / "experiments", chat, base)
    make_intrinsic(folder / "experiments", stranger, base, relation="unrelated")
    return folder


@pytest.fixture(scope="module")
def briefs(root: Path) -> list[RunBrief]:
    found = [read_source(source) for source in sources(root)]
    return [brief_of(entry) for entry in found if isinstance(entry, Entry)]


@pytest.fixture
def page(briefs: list[RunBrief]) -> Iterator[str]:
    ((path, text),) = documents(Site(briefs, (), (), Frame()))
    assert path == "experiments.html" and documents in SITE_PAGES
    assert isinstance(text, str)
    yield text


# Words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.845, "0.84"), (-0.42, "−0.42"), (0.0123, "0.012"), (0, "0.00"), (-0.0001, "0.000"), (1, "1.00")],
)
def test_correlations_and_differences(value: float, text: str) -> None:
    assert signed(value) == text


def test_p_values() -> None:
    assert (p_text(0.0004), p_text(0.0146), p_text(1.0), p_text(None)) == ("< 0.001", "0.015", "1.000", "–")


@pytest.mark.slow
def test_every_claim_has_a_column(briefs: list[RunBrief]) -> None:
    columns = ("Universal", "Sparse", "Intrinsic", "Dynamic", "Causal", "Reasoning")
    view = experiments_page(briefs)
    assert view.columns == columns and all(len(row.cells) == len(columns) for row in view.rows)


@pytest.mark.slow
def test_a_scorecard_says_what_and_why(root: Path) -> None:
    entry = read_source(sources(root)[0])
    assert isinstance(entry, Entry)
    rows = {row.claim: row for row in score_rows(scorecard_rows(entry))}
    assert rows["universality"].verdict_class == "yes" and rows["universality"].source == "the run"
    assert rows["intrinsic"].verdict == "holds" and rows["intrinsic"].effect is not None
    assert rows["causal"].tests == 0 and rows["causal"].effect is None and "rh-bench ablate" in rows["causal"].reason
    assert rows["intrinsic_control"].name == "Control: unrelated models"


# Charts


def test_the_causal_curve() -> None:
    view = causal_view(CAUSAL)
    assert [tick.label for tick in view.x_ticks] == ["0", "5", "10", "20"]
    top, uniform, matched = view.bands
    assert (top.colour, uniform.colour, matched.colour) == ("top", "uniform", "matched")
    assert [x for x, _, _ in top.dots] == [0.0, 186.7, 373.3, 560.0], "steps of equal width"
    assert [y for _, y, _ in top.dots] == [46.0, 115.0, 207.0, 230.0]
    assert len(matched.dots) == 3 and top.band.endswith("Z")
    assert view.retrieval_x == pytest.approx(186.7 + 0.4 * 186.7, abs=0.2)
    assert view.rows[0][0] == "5" and "p < 0.001" in view.rows[0][3] and view.rows[-1][-2] == "–"
    assert view.rows[0][-1] == "3 hallucination, 2 no answer"
    assert causal_view(CAUSAL | {"retrieval_heads": 90}).retrieval_x is None


def test_a_causal_curve_says_what_is_not_the_rule() -> None:
    assert causal_view(CAUSAL).about == "40 samples of 4 needles that the detection never saw"
    special = causal_view(CAUSAL | {"how": "uniform", "phase": "decode", "needles": 1}).about
    assert special == (
        "40 samples of one needle that the detection never saw; heads blurred, as in the paper's code, "
        "while the answer is produced only"
    )


def test_questions_by_heads_and_ways_of_asking() -> None:
    view = answers_view(ANSWERS)
    assert view.modes == ("answer at once", "chain of thought") and view.questions == "1,319"
    assert [name for name, _ in view.rows] == [
        "all heads",
        "without the strongest 20",
        "without random 20, mean of 5 draws",
    ]
    assert view.losses[0][2].text == "20.0" and view.more[1][1].text == "−5.0"
    assert answers_view(ANSWERS | {"chain_of_thought": None}).more == ()


def test_detectors_that_agree_and_do_not() -> None:
    view = detectors_view(DETECTORS)
    assert view.names == ("copy", "mass", "echo")
    rows = dict(view.rows)
    assert rows["copy"][0] == ("", None, "") and rows["copy"][1][0] == rows["mass"][0][0] == "0.60"
    assert rows["copy"][2][1] == 0, "a correlation below zero has the colour of none"
    assert view.heads == ("17-3", "18-6", "20-1") and view.count.text == "3.0"


@pytest.mark.slow
def test_the_strip_and_the_table_of_rates(briefs: list[RunBrief]) -> None:
    (chart,) = [one["chart"] for one in briefs[0].experiments if one["kind"] == "dynamic"]
    view = dynamic_view(chart, most=3)
    assert 3 < len(view.strip) <= MOST_STRIP and len(view.rows) == 3
    assert view.depths == ("0%", "50%", "100%") and view.parts == ("begin", "middle", "end")
    assert all(len(row.cells) == 4 and len(row.parts) == 3 for row in view.rows)
    assert [factor for factor, _, _ in view.factors] == ["needle", "haystack", "length", "depth"]


def test_a_pair_and_all_its_measures(briefs: list[RunBrief]) -> None:
    charts = [one["chart"] for one in briefs[0].experiments if one["kind"] == "intrinsic"]
    pairs = {view.relation: view for view in map(pair_view, charts)}
    assert set(pairs) == {"derived", "unrelated"}
    assert pairs["derived"].names == ("acme/chat", "acme/base") and pairs["derived"].shape is not None
    assert "Jaccard overlap above 0.1" in [name for name, _, _ in pairs["derived"].others]


# The page


def test_the_page_has_what_there_is(page: str, briefs: list[RunBrief]) -> None:
    for words in ("Scorecards", "Dynamic", "Intrinsic", "not tried", "acme/<wbr>chat", 'class="strip"', "Pearson"):
        assert words in page
    assert '<h2 id="causal">' not in page and "not shown" not in page
    view = experiments_page(briefs)
    sections = dict(zip(showings(), view.sections, strict=True))
    pairs = [one.view for one in sections["rh_bench.experiments.intrinsic"].shown]
    assert len(pairs) == 2, "a pair lies on two briefs and stands here once"
    assert [pair.relation for pair in pairs] == ["derived", "unrelated"]
    assert [row.model for row in view.rows] == ["acme/base", "acme/chat", "other/stranger"]


@pytest.mark.slow
def test_badges_say_how_far_each_experiment_is_verified(tmp_path: Path) -> None:
    """A record counts for the very bytes that it names, and shows at the verdict, at the chart and in the list."""
    base, chat, _ = make_relatives(tmp_path / "runs", n_samples=40)
    experiments = tmp_path / "experiments"
    recomputed = make_dynamic(experiments, base, permutations=2000)
    stale = make_dynamic(experiments, chat, permutations=2000)
    for folder in (recomputed, stale):
        found = verify_run(folder)
        path = tmp_path / verification_path(folder.parent.name, folder.name)
        path.parent.mkdir(parents=True)
        path.write_bytes(dump_json(experiment_record(found, author="somebody <b>", pull_request=3)))
    document = json.loads((stale / "experiment.json").read_text())
    (stale / "experiment.json").write_text(json.dumps(document))
    build_site(tmp_path, tmp_path / "site")
    page = (tmp_path / "site" / "experiments.html").read_text()
    chip = '<a class="badge recomputed"'
    assert page.count(chip) == 4, "verdict, chart, list and its meaning: of one experiment, since one is of other bytes"
    assert "from pull request 3, of somebody &lt;b&gt;" in page
    (own,) = (tmp_path / "site" / "models" / "acme__base").glob("*.html")
    assert own.read_text().count(chip) == 3 and "nothing is measured for dynamic beside its runs" in own.read_text()
    (other,) = (tmp_path / "site" / "models" / "acme__chat").glob("*.html")
    assert chip not in other.read_text() and "there is no record of a verification" in other.read_text()


def test_every_kind_is_drawn(briefs: list[RunBrief]) -> None:
    brief = with_charts(
        briefs[0],
        causal=CAUSAL,
        chain_of_thought=ANSWERS,
        detectors=DETECTORS,
        extractive_qa=ANSWERS | {"measure": "f1"},
    )
    ((_, text),) = documents(Site([brief], (), (), Frame()))
    assert isinstance(text, str)
    for words in (
        '<h2 id="causal">',
        "random heads of the same layers",
        '<h2 id="questions">',
        '<h2 id="detectors">',
        "17-3",
    ):
        assert words in text


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_real_artifact_of_every_kind_is_drawn(kind: str, tmp_path: Path) -> None:
    SMALL[kind](tmp_path)
    build_site(tmp_path, tmp_path / "site")
    text = (tmp_path / "site" / "experiments.html").read_text()
    section = {"chain_of_thought": "questions", "extractive_qa": "questions"}.get(kind, kind)
    assert f'<h2 id="{section}">' in text and "not shown" not in text


def test_a_site_without_experiments_says_how_to_make_one(briefs: list[RunBrief]) -> None:
    ((_, text),) = documents(Site([replace(brief, experiments=()) for brief in briefs], (), (), Frame()))
    assert "rh-bench dynamic" in text and 'class="cards"' not in text


def test_what_is_not_shown_is_named(briefs: list[RunBrief]) -> None:
    brief = replace(briefs[0], experiments=(), rejected=(("acme__base/dynamic-x", f"is {HOSTILE}"),))
    ((_, text),) = documents(Site([brief], (), (), Frame()))
    assert "Experiments that are not shown" in text and "<script>alert" not in text


@pytest.mark.slow
def test_pairs_of_imports_are_shown(root: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(root, tmp_path / "results"))
    for seed, name in enumerate(("org/a", "org/b")):
        rows = {f"{i // 4}-{i % 4}": (np.random.RandomState(seed).binomial(8, i / 8, 9) / 8).tolist() for i in range(8)}
        (tmp_path / "heads.json").write_text(json.dumps(rows))
        import_file(tmp_path / "heads.json", results / "runs", model=name)
    folders = [next((results / "runs" / slug).iterdir()) for slug in ("org__a", "org__b")]
    make_intrinsic(results / "experiments", *folders, relation="derived")
    build_site(results, tmp_path / "site")
    build_site(results, tmp_path / "site")  # from the cache
    text = (tmp_path / "site" / "experiments.html").read_text()
    assert text.count("org/<wbr>a") == text.count("org/<wbr>b") == 1


def test_a_base_that_nobody_compared_is_found_by_the_card(briefs: list[RunBrief]) -> None:
    assert experiments_page(briefs).waiting == ()
    alone = [replace(brief, experiments=()) for brief in briefs]
    (one,) = experiments_page(alone).waiting
    assert one.names == ("acme/chat", "acme/base") and one.pearson == "1.00"
    assert one.command.startswith("rh-bench compare runs/acme__chat/") and " runs/acme__base/" in one.command
    ((_, text),) = documents(Site(alone, (), (), Frame()))
    assert "Not compared yet" in text
    other_set = [replace(brief, group="other") if brief.bases else brief for brief in alone]
    assert experiments_page(other_set).waiting == ()
    nothing = [replace(brief, cross=replace(brief.cross, scores=None)) for brief in alone]
    assert experiments_page(nothing).waiting[0].pearson == "–"


def test_hostile_names_are_text(briefs: list[RunBrief]) -> None:
    pair = next(one for one in briefs[0].experiments if one["kind"] == "intrinsic")
    chart = pair["chart"] | {"models": [{"id": HOSTILE, "slug": "x"}, {"id": "b", "slug": "y"}]}
    brief = with_charts(
        briefs[0], intrinsic=chart, detectors=DETECTORS | {"pairs": [DETECTORS["pairs"][0] | {"a": HOSTILE}]}
    )
    ((_, text),) = documents(Site([brief], (), (), Frame()))
    assert "<script>alert" not in text and "alert(1)" in text
    assert HOSTILE_SHOWN.split("/")[0].replace("<", "&lt;").replace(">", "&gt;") in text


@pytest.mark.slow
def test_the_page_of_a_run_has_its_scorecard(root: Path, tmp_path: Path) -> None:
    build_site(root, tmp_path / "site")
    (text,) = [path.read_text() for path in (tmp_path / "site" / "models").glob("acme__base/*.html")]
    for words in ("A model and the models derived from it", "Heads by strength", "No experiment yet: rh-bench ablate"):
        assert words in text
    view = experiments_view((), (), ())
    assert view.rows == () and view.sections == ()
