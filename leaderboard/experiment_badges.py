"""How far an experiment has been verified: the badges of runs, with what they mean for experiments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rh_bench.display import formatting as words
from rh_bench.experiments.registry import kinds
from rh_bench.leaderboard.badges import Badge, badge
from rh_bench.records import Json

ABOUT = {
    "valid": "well formed and consistent; checked when this site was built",
    "recomputed": "its results follow from its tables, and its heads, draws, questions and prompts were reproduced",
    "rerun": "answers or scores that its author could not choose were measured again, and agree",
    "failed": "a level of its verification failed",
}


@dataclass(frozen=True, slots=True)
class Verified:
    """An experiment and its badge."""

    kind: str
    experiment_id: str
    slug: str
    badge: Badge


def experiment_badge(record: Json | None) -> Badge:
    """The badge of a valid experiment.

    Args:
        record: of a maintainer, of this experiment's very bytes, if there is one.
    """
    found = badge(record)
    return replace(found, about=ABOUT[found.name])


def badge_names(experiments: Iterable[Json], records: Mapping[str, Json]) -> dict[str, str]:
    """Name of the badge of each experiment, by its id."""
    return {one["experiment_id"]: experiment_badge(records.get(folder_name(one))).name for one in experiments}


def folder_name(experiment: Json) -> str:
    """What the folder of an experiment is called."""
    return f"{experiment['kind']}-{experiment['experiment_id']}"


def kind_label(name: str) -> str:
    """The name of a kind as readers see it."""
    kind = kinds().get(name)
    return words.visible(name if kind is None else kind.label or kind.name.replace("_", " "))


def verified(experiments: Iterable[Json]) -> tuple[Verified, ...]:
    """Experiments as a brief keeps them (`experiment_card.thin_experiments`), each with its badge."""
    return tuple(
        Verified(
            kind=kind_label(one["kind"]),
            experiment_id=one["experiment_id"],
            slug=words.visible(one["slug"]),
            badge=experiment_badge(one.get("record")),
        )
        for one in experiments
    )
