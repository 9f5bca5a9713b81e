"""A haystack set by the name that a user or a document gives it: a folder, or a repository of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rh_bench.errors import InputError
from rh_bench.sets.dataset import HaystackSet, read_set


class FoundSet(NamedTuple):
    """A set, and where it was found."""

    haystacks: HaystackSet
    location: str
    """Its name for a document."""
    commit: str | None
    """Its commit on the Hub; None for a folder."""


def find_set(text: str) -> FoundSet:
    """The set in a folder or in a repository.

    Args:
        text: a folder, or ``org/name[@revision]`` on the Hub.

    Raises:
        InputError: it cannot be fetched, or something is wrong with it.
    """
    path = Path(text).expanduser()
    if path.exists() or text.startswith((".", "/", "~")) or text.count("/") != 1:
        return FoundSet(read_set(path), path.resolve().name, None)
    from rh_bench.hub.refs import parse_repo
    from rh_bench.hub.sets import fetch_set  # no command that reads folders alone needs it

    try:
        ref = parse_repo(text)
    except InputError:
        return FoundSet(read_set(path), path.name, None)
    folder, commit = fetch_set(ref)
    return FoundSet(read_set(folder), ref.repo_id, commit)
