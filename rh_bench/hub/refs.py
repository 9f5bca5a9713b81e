"""Names of repositories on the Hub, and how they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rh_bench.errors import InputError

Kind = Literal["model", "dataset", "space"]

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*")
_LONGEST_REPO_ID = 96


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository on the Hub, and optionally a branch, tag or commit."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision}" if self.revision else self.repo_id


def parse_repo(text: str) -> RepoRef:
    """Read `org/name` or `org/name@revision`.

    Raises:
        InputError: the text is anything else, or breaks the Hub's rules for names.
    """
    repo_id, at, revision = text.partition("@")
    owner, slash, name = repo_id.partition("/")
    if not (slash and _NAME.fullmatch(owner) and _NAME.fullmatch(name)):
        raise InputError(
            "is not a repository on the Hub", where=repr(text), hint="write it like org/name or org/name@revision"
        )
    if len(repo_id) > _LONGEST_REPO_ID or "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        raise InputError(
            f"breaks the Hub's rules for names: at most {_LONGEST_REPO_ID} characters, no '--' or '..', no '.git' at"
            " the end",
            where=repr(text),
            hint="copy the name from the repository's page",
        )
    if at and not _is_revision(revision):
        raise InputError(
            f"{revision!r} is not a revision", where=repr(text), hint="give a branch, a tag or a commit after the '@'"
        )
    return RepoRef(repo_id, revision or None)


def _is_revision(text: str) -> bool:
    """Whether git accepts `text` as the name of a branch, a tag or a commit."""
    return (
        _REVISION.fullmatch(text) is not None
        and not any(part in text for part in ("..", "//", "/."))
        and not text.endswith(("/", ".", ".lock"))
    )
