"""Experiments as a reader sees them: verdicts in words, and what the folder of each kind shows. Templates draw them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rh_bench.display import formatting as words
from rh_bench.display.formatting import Figure, p_text, signed
from rh_bench.experiments.kind import Claim
from rh_bench.experiments.registry import registry, showings
from rh_bench.experiments.scorecard import all_claims
from rh_bench.leaderboard.experiment_badges import Verified, experiment_badge, kind_label, verified
from rh_bench.leaderboard.kind_templates import card_template
from rh_bench.records import Json

VERDICTS = {
    "holds": ("holds", "yes", "✓"),
    "does_not_hold": ("does not hold", "no", "✕"),
    "not_enough_evidence": ("not enough evidence", "open", "?"),
}
"""Words, class and sign of each verdict."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A claim about one model."""

    claim: str
    name: str
    statement: str
    verdict: str
    verdict_class: str
    sign: str
    effect: Figure | None
    effect_about: str
    p_value: str
    n: str
    source: str
    reason: str
    tests: int
    badge: str = ""
    """How far that which the verdict rests on is verified: a key of `badges.ABOUT`."""


def score_rows(rows: Sequence[Json]) -> tuple[ScoreRow, ...]:
    """A scorecard, of the rows that a card keeps."""
    return tuple(_score_row(row) for row in rows)


def _score_row(row: Json) -> ScoreRow:
    verdict, verdict_class, sign = VERDICTS[row["verdict"]]
    claim = row["claim"]
    about = all_claims().get(claim) or _unknown(claim)
    form = words.percent if about.share else signed
    known = row["effect"] is not None and row["effect"]["value"] is not None
    return ScoreRow(
        claim=claim,
        name=about.label,
        statement=words.visible(row["statement"]),
        verdict=verdict,
        verdict_class=verdict_class,
        sign=sign,
        effect=words.figure(row["effect"], form) if known else None,
        effect_about=about.effect if known else "",
        p_value="" if row["p_value"] is None else p_text(row["p_value"]),
        n="" if row["n"] is None else words.thousands(row["n"]),
        source=_source(row["source"]),
        reason=words.visible(row["reason"] or ""),
        tests=row["tests"],
        badge=row.get("badge") or "",
    )


def _unknown(claim: str) -> Claim:
    """Of a row that nobody declares."""
    return Claim(claim, "", label=words.visible(claim.replace("_", " ")), effect="effect")


def _source(name: str | None) -> str:
    """What a verdict rests on: the run, or an experiment of this kind."""
    if name is None:
        return ""
    return "the run" if name == "run" else kind_label(name).lower()


# One run


@dataclass(frozen=True, slots=True)
class Section:
    """The experiments of one folder, on one run."""

    package: str
    compares: bool
    """Whether they are about several runs alike, and so also about imports."""
    views: tuple[Any, ...]
    """As `view` of the folder's `SHOWING` gives them."""
    details: tuple[Any, ...]
    """As `detail` gives them."""

    @property
    def template(self) -> str:
        return card_template(self.package)


@dataclass(frozen=True, slots=True)
class Experiments:
    """Everything about one run."""

    rows: tuple[ScoreRow, ...]
    sections: tuple[Section, ...]
    """In the order of the page; those that have nothing to show are left out."""
    rejected: tuple[tuple[str, str], ...]
    verified: tuple[Verified, ...]
    """All of them, with how far each is verified."""


def experiments_view(
    scorecard: Sequence[Json],
    experiments: Sequence[Json],
    rejected: Sequence[tuple[str, str]],
    documents: Sequence[Json] = (),
) -> Experiments:
    """Scorecard and charts of one run, from what its card keeps.

    Args:
        documents: experiment.json of the same experiments, for the page of the run alone.
    """
    return Experiments(
        rows=score_rows(scorecard),
        sections=tuple(_sections(experiments, documents)),
        rejected=tuple((words.visible(folder), words.visible(why)) for folder, why in rejected),
        verified=verified(experiments),
    )


def _sections(experiments: Sequence[Json], documents: Sequence[Json]) -> Iterator[Section]:
    kinds = {folder.package: folder.kinds for folder in registry().folders}
    for package, showing in showings().items():
        names = [kind.name for kind in kinds[package]]
        charts = [
            {**one["chart"], "badge": experiment_badge(one.get("record")).name}
            for name in names
            for one in experiments
            if one["kind"] == name
        ]
        if charts:
            detail = showing.detail
            details = () if detail is None else tuple(detail(one) for one in documents if one["kind"] in names)
            compares = any(kind.compares for kind in kinds[package])
            yield Section(package, compares, tuple(map(showing.view, charts)), details)
