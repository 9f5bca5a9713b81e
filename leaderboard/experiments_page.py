"""experiments.html: the scorecards of all models that have experiments, and their charts side by side."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rh_bench.display import formatting as words
from rh_bench.display.formatting import signed
from rh_bench.experiments.registry import kinds, showings
from rh_bench.experiments.scorecard import standing_claims
from rh_bench.experiments.showing import Shown
from rh_bench.leaderboard.badges import ORDER
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.collect import Imported
from rh_bench.leaderboard.experiment_badges import ABOUT, Verified
from rh_bench.leaderboard.experiment_views import (
    Experiments,
    ScoreRow,
    experiments_view,
)
from rh_bench.leaderboard.kind_templates import card_template
from rh_bench.leaderboard.render import Document, Site
from rh_bench.stats.similarity import pairs, pearson

PAGE = "experiments.html"
MOST_WAITING = 24
MOST_LISTED = 400
"""Experiments listed with their badges."""


@dataclass(frozen=True, slots=True)
class CardRow:
    """A model's line in the table of scorecards."""

    page: str
    model: str
    set_name: str
    cells: tuple[ScoreRow, ...]
    """In the order of the columns."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A model and its base, as the model's brief names it, that nobody has compared."""

    names: tuple[str, str]
    pages: tuple[str, str]
    pearson: str
    """Correlation of the scores as they are; it has no interval."""
    command: str


@dataclass(frozen=True, slots=True)
class Section:
    """What is shown of the experiments of one folder, which its template draws."""

    template: str
    shown: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class ExperimentsPage:
    """Everything the template needs."""

    columns: tuple[str, ...]
    rows: tuple[CardRow, ...]
    without: int
    """Runs without an experiment."""
    sections: tuple[Section, ...]
    """In the order of the page: one a folder of experiments, even where there is nothing to show."""
    waiting: tuple[Waiting, ...]
    pages: Mapping[tuple[str, str], str]
    """Where the page of each run lies, by slug and run id."""
    rejected: tuple[tuple[str, str], ...]
    verified: tuple[tuple[str, str, Verified], ...]
    badges: tuple[tuple[str, str], ...]
    """Name and meaning of each badge that stands on the page, the best first."""


def documents(site: Site) -> Iterator[Document]:
    """The page of all experiments; there is one, even without any."""
    yield PAGE, site.frame.render("experiments_page.html", PAGE, view=experiments_page(site.briefs, site.imported))


def experiments_page(briefs: Sequence[RunBrief], imported: Sequence[Imported] = ()) -> ExperimentsPage:
    """The view of runs that have experiments, in the order of their models. Of imports, comparisons alone are shown."""
    chosen = [brief for brief in briefs if brief.experiments or brief.rejected]
    views = [(brief, experiments_view(brief.scorecard, brief.experiments, brief.rejected)) for brief in chosen]
    labelled = [(words.visible(brief.model), brief.page, view) for brief, view in views]
    others = [(one, experiments_view((), one.experiments, ())) for one in imported]
    listed = tuple(dict.fromkeys((name, page, one) for name, page, view in labelled for one in view.verified))
    names = {one.badge.name for _, _, one in listed}
    return ExperimentsPage(
        columns=tuple(claim.label for claim in standing_claims()),
        rows=tuple(_row(brief, view) for brief, view in views if brief.experiments),
        without=sum(not brief.experiments for brief in briefs),
        sections=tuple(_sections([*labelled, *((words.visible(one.folder), "", view) for one, view in others)])),
        waiting=tuple(_waiting(briefs))[:MOST_WAITING],
        pages={(brief.slug, brief.run_id): brief.page for brief in briefs},
        rejected=tuple(sorted({one for _, view in views for one in view.rejected})),
        verified=listed[:MOST_LISTED],
        badges=tuple((name, ABOUT[name]) for name in reversed(ORDER) if name in names),
    )


def _row(brief: RunBrief, view: Experiments) -> CardRow:
    by_claim = {row.claim: row for row in view.rows}
    cells = tuple(by_claim[claim.name] for claim in standing_claims())
    return CardRow(brief.page, words.visible(brief.model), words.visible(brief.set_name), cells)


def _sections(views: Sequence[tuple[str, str, Experiments]]) -> Iterator[Section]:
    """
    Args:
        views: how a model is called, the page of its run (of an import there is none), and what is said of it.
    """
    for package, showing in showings().items():
        shown = [
            Shown(name, page, one)
            for name, page, view in views
            for section in view.sections
            if section.package == package and (page or section.compares)
            for one in section.views
        ]
        yield Section(card_template(package), tuple(showing.arrange(shown)))


def _waiting(briefs: Sequence[RunBrief]) -> Iterator[Waiting]:
    """Pairs of a model with its base that have the same heads, were measured alike, and are in no experiment."""
    compared = {
        frozenset((run["slug"], run["run_id"]) for run in one["chart"].get("runs", ()))
        for brief in briefs
        for one in brief.experiments
        if kinds()[one["kind"]].compares
    }
    by_name: dict[tuple[str, str, str], list[RunBrief]] = {}
    for brief in briefs:
        by_name.setdefault((brief.model.casefold(), brief.group, brief.cross.grid), []).append(brief)
    for brief in briefs:
        for name in brief.bases:
            for base in by_name.get((name.casefold(), brief.group, brief.cross.grid), ()):
                both = {(one.slug, one.run_id) for one in (brief, base)}
                if len(both) == 2 and both not in compared:
                    yield _waiting_pair(brief, base)


def _waiting_pair(brief: RunBrief, base: RunBrief) -> Waiting:
    rows = [brief.cross.rows(), base.cross.rows()]
    value = math.nan
    if rows[0] is not None and rows[1] is not None:
        value = float(pairs(pearson(), rows[0][None], rows[1][None])[0])
    folders = " ".join(shlex.quote(f"runs/{one.slug}/{one.run_id}") for one in (brief, base))
    return Waiting(
        names=(words.visible(brief.model), words.visible(base.model)),
        pages=(brief.page, base.page),
        pearson=words.MISSING if math.isnan(value) else signed(value),
        command=words.visible(f"rh-bench compare {folders} --out experiments"),
    )
