"""How far a run has been verified, as a word and as reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rh_bench.display import formatting as words
from rh_bench.records import Json

ABOUT = {
    "valid": "well formed and consistent; checked when this site was built",
    "recomputed": "its numbers follow from its events, and its prompts were reproduced",
    "rerun": "samples that its author could not choose were measured again, and agree",
    "failed": "a level of its verification failed",
}

ATTESTED = "made by a Hub job that a maintainer ordered, from pinned versions; its record and log were checked"
"""What the badge beside the others says: who made the run, which says nothing about its numbers."""

ORDER = ("failed", "valid", "recomputed", "rerun")
"""Badges by how much they say."""


@dataclass(frozen=True, slots=True)
class Badge:
    """`name` is a key of ABOUT; `order` sorts badges by how much they say."""

    name: str
    about: str
    order: int
    levels: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """(level, "yes", "no" or "not tried", reasons), where a maintainer verified the run."""
    note: str = ""
    """Who verified what and when, in one sentence."""
    attested: str = ""
    """By which job the run was made, in one sentence, where a maintainer saw that; a level of its own, beside the
    others."""


def badge(verification: Json | None) -> Badge:
    """The badge of a run that the validator has nothing against.

    Args:
        verification: the record of a maintainer, of this run's very bytes, if there is one.
    """
    if verification is None:
        return _badge("valid", (), "It has not been verified further: there is no record of a verification.")
    levels = verification["levels"]
    if any(level["reached"] is False for level in levels):
        name = "failed"
    else:
        name = next((level["level"] for level in reversed(levels) if level["reached"]), "valid")
    says = {True: "yes", False: "no", None: "not tried"}
    listed = tuple(
        (level["level"], says[level["reached"]], tuple(words.visible(reason) for reason in level["reasons"]))
        for level in levels
    )
    found = _badge(name, listed, _note(verification))
    seen = verification.get("attestation")
    return replace(found, attested=_attested(seen)) if seen and name != "failed" else found


def badge_of(name: str) -> Badge:
    """The badge called `name`, where its levels are not shown."""
    return _badge(name, (), "")


def _badge(name: str, levels: tuple[tuple[str, str, tuple[str, ...]], ...], note: str) -> Badge:
    return Badge(name, ABOUT[name], ORDER.index(name), levels, note)


def _attested(seen: Json) -> str:
    parts = [f"Job {seen['job']} of {seen['namespace']}, on {seen['flavor']}, image {seen['image']}"]
    if seen["started"] and seen["finished"]:
        parts.append(f"from {seen['started']} to {seen['finished']}")
    parts.append(f"order {seen['nonce']}, command with SHA-256 {seen['command_sha256'][:12]}…")
    return words.visible(", ".join(parts) + ".")


def _note(verification: Json) -> str:
    parts = [f"Verified on {verification['date'][:10]} with rh_bench {verification['rh_bench']}"]
    if verification["pull_request"] is not None:
        parts.append(f"from pull request {verification['pull_request']}")
    if verification["author"] is not None:
        parts.append(f"of {verification['author']}")
    if verification["rerun"] is not None:
        rerun = verification["rerun"]
        many = "sample" if rerun["samples"] == 1 else "samples"
        parts.append(f"with {rerun['samples']} {many} measured again, chosen with salt “{rerun['salt']}”")
    return words.visible(", ".join(parts) + ".")
