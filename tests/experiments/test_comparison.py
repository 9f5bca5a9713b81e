"""What a page shows of a comparison of detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_detectors import N, around, detector, made, rule, strengths
from fake_runs import make_run

from rh_bench.experiments.artifact import keep_experiment
from rh_bench.experiments.detectors.comparison import ComparisonView, comparison_view
from rh_bench.experiments.detectors.derive import derive
from rh_bench.leaderboard import build_site
from rh_bench.leaderboard.render import environment


def document_of(*args: Any, **kwargs: Any) -> dict[str, Any]:
    document, tables = made(*args, **kwargs)
    document["results"], document["claims"] = derive(document, tables)
    return document


def agreeing() -> dict[str, Any]:
    strength = strengths(0)
    return document_of({"copy": around(strength, 0.01, 1), "mass": around(strength * 0.3, 0.01, 2)})


def unanswered() -> dict[str, Any]:
    values = {"copy": around(strengths(0), 0.01, 1), "mass": around(strengths(1), 0.01, 2)}
    return document_of(values, success=[False] * N)


def html(view: ComparisonView) -> str:
    template = environment().from_string(
        "{% import 'rh_bench.experiments.detectors/card.html' as card with context %}{{ card.comparison(view) }}"
    )
    return template.render(view=view, root="")


def test_rows_in_words() -> None:
    view = comparison_view(agreeing())
    copy, mass = view.detectors
    assert (copy.rule, mass.rule) == ("copy above 0.1", "top 4 by mass")
    assert (mass.named, mass.share, mass.n) == ("4", "8.3%", N)
    (pair,) = view.pairs
    assert pair.beyond and pair.reason is None and "4 of 4" in pair.shared
    assert view.all_name.startswith("All detectors name 4 of 48 heads (") and "by chance" in view.all_name
    assert view.scores == ("copy", "mass") and len(view.heads) == 4
    first = view.heads[0]
    assert first.by_all and first.cells[0][2] == 1 and "." in first.name and "–" in first.cells[0][1]


def test_what_cannot_be_computed_is_a_reason() -> None:
    view = comparison_view(unanswered())
    assert view.detectors[0].named == "–" and "answered none" in (view.detectors[0].reason or "")
    assert view.pairs[0].value == "–" and not view.pairs[0].beyond
    assert view.all_name == "Heads that all detectors name: no sample counts for all detectors."
    assert view.scores == ("mass",) and view.heads == ()
    shown = html(view)
    assert "no sample counts for both" in shown and "None" not in shown


def test_the_part_shows_every_row_and_escapes_what_it_is_given() -> None:
    document = agreeing()
    view = comparison_view(document)
    shown = html(view)
    for text in ("copy – mass", "top 4 by mass", view.heads[3].name, view.experiment_id, "<strong>all</strong>"):
        assert text in shown
    document["settings"]["detectors"][0]["source"] = '"><script>x</script>'
    assert "<script>" not in html(comparison_view(document))


def test_shares_are_rules_in_words() -> None:
    share = detector("copy", "copy", rules=[rule("copy", "share", 0.14), rule("copy", "top", 2)])
    view = comparison_view(document_of({"copy": around(strengths(0), 0.01, 1)}, [share]))
    assert view.detectors[0].rule == "top 14% by copy or top 2 by copy"


def test_the_page_of_a_run_shows_a_comparison_on_its_model(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", model_id="acme/tiny", layers=6, heads=8, kv_heads=2, n_samples=6)
    strength = strengths(0)
    values = {"copy": around(strength, 0.01, 1), "mass": around(strength * 0.3, 0.01, 2)}
    keep_experiment(tmp_path / "experiments", *made(values))
    build_site(tmp_path / "runs", tmp_path / "site", experiments=tmp_path / "experiments")
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "site" / "models").rglob("*.html")]
    (page,) = [text for text in pages if "Heads that several detectors name" in text]
    assert "copy – mass" in page and "All detectors name 4 of 48 heads" in page
