"""What the pages across runs need of the experiments on one run: verdicts, and the numbers of one chart each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rh_bench.experiments.registry import registry, showings
from rh_bench.experiments.scorecard import Row, scorecard
from rh_bench.leaderboard.badges import badge
from rh_bench.leaderboard.collect import Entry
from rh_bench.leaderboard.experiment_badges import badge_names, folder_name
from rh_bench.records import Json


def scorecard_rows(entry: Entry) -> tuple[Json, ...]:
    """The scorecard of a run, a few words a row."""
    names = {entry.run_id: badge(entry.verification).name, **badge_names(entry.experiments, entry.records)}
    return tuple(_thin_row(row, names) for row in scorecard(entry.run, entry.summary, entry.experiments))


def _thin_row(row: Row, badges: Mapping[str, str]) -> Json:
    """`badges`: of the run and of each experiment, by id."""
    main = row.main
    return {
        "claim": row.claim,
        "statement": row.statement,
        "verdict": row.verdict,
        "reason": row.reason,
        "tests": len(row.evidence),
        "effect": None if main is None else main.effect,
        "p_value": None if main is None else main.p_value,
        "n": None if main is None else main.n,
        "source": None if main is None else main.source,
        "badge": None if main is None else badges.get(main.source_id),
    }


def thin_experiments(experiments: Iterable[Json], records: Mapping[str, Json]) -> tuple[Json, ...]:
    """Each experiment.json, thinned for a chart of its kind; a kind without a chart has its name and id alone.

    Args:
        records: of their verification, by the name of the folder.
    """
    shown, packages = showings(), registry().packages
    found = []
    for document in experiments:
        showing = shown.get(packages[document["kind"]])
        found.append(
            {
                "kind": document["kind"],
                "experiment_id": document["experiment_id"],
                "slug": document["model"]["slug"],
                "record": records.get(folder_name(document)),
                "chart": {} if showing is None else showing.thin(document),
            }
        )
    return tuple(found)
