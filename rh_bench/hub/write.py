"""Writing to the Hub: one commit that makes a repository match a folder, retried while that can help."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rh_bench.errors import InputError
from rh_bench.hub.client import Access, again
from rh_bench.hub.download import listed
from rh_bench.hub.failures import plain_errors
from rh_bench.hub.refs import Kind, RepoRef

if TYPE_CHECKING:
    from huggingface_hub import HfApi


class MayNotWrite(InputError):
    """The user has no write access, so nothing else can be written either."""


KEPT = (".gitattributes",)
"""Files that the Hub makes in a repository, and that are left alone."""


@dataclass(frozen=True)
class Changes:
    """What a commit would change in a repository whose newest commit is `parent` (None: it does not exist)."""

    parent: str | None
    sent: tuple[str, ...]
    removed: tuple[str, ...]
    replaced: tuple[str, ...] = ()
    """Those of `sent` that exist with other content."""

    @property
    def nothing(self) -> bool:
        return not self.sent and not self.removed


def find_changes(ref: RepoRef, files: Mapping[str, Path | bytes], access: Access, kind: Kind = "dataset") -> Changes:
    """Which of `files`, by path, are missing or different in a repository, and what else it has.

    Raises:
        InputError: the repository cannot be read.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    api = api_of(access)
    with plain_errors(ref, kind):
        try:
            parent = again(lambda: api.repo_info(ref.repo_id, repo_type=kind).sha, access)
        except RepositoryNotFoundError:
            return Changes(None, tuple(files), ())
    there = {
        path: file.hash for path, file in list_files(ref, parent or "main", access, kind).items() if path not in KEPT
    }
    differing = tuple(name for name, content in files.items() if there.get(name) not in file_hashes(content))
    replaced = tuple(name for name in differing if name in there)
    return Changes(parent, differing, tuple(sorted(set(there) - set(files))), replaced)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a commit: `hash` is one of :func:`file_hashes`; the Hub gives either."""

    path: str
    hash: str
    bytes: int


def list_files(ref: RepoRef, revision: str, access: Access, kind: Kind = "dataset") -> dict[str, RemoteFile]:
    """Every file of a repository's commit, by path.

    Raises:
        InputError: it cannot be read.
    """
    found = listed(ref, kind, revision, access)
    return {path: RemoteFile(path, digest, size) for path, digest, size in found}


def push(
    ref: RepoRef,
    files: Mapping[str, Path | bytes],
    message: str,
    *,
    private: bool,
    access: Access,
    kind: Kind = "dataset",
    check: Callable[[Changes], None] = lambda changes: None,
) -> Changes:
    """Make a repository contain exactly `files`, by path, in one commit. Idempotent.

    If someone commits in between, the changes are recomputed. Large files sent before a connection broke are not
    sent again.

    Args:
        kind: "dataset", or "space" for a static one; created if it does not exist.
        check: called with the changes before anything is sent; raises to forbid them.

    Raises:
        InputError: the repository cannot be created or written; says why in one line.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    api = api_of(access)
    sdk = "static" if kind == "space" else None
    with write_errors(ref, kind), plain_errors(ref, kind):
        again(
            lambda: api.create_repo(ref.repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk), access
        )

        def commit() -> Changes:
            changes = find_changes(ref, files, access, kind)
            check(changes)
            if not changes.nothing:
                operations: list[CommitOperationAdd | CommitOperationDelete | CommitOperationCopy] = [
                    *(CommitOperationAdd(name, _sent(files[name])) for name in changes.sent),
                    *(CommitOperationDelete(name, is_folder=False) for name in changes.removed),
                ]
                api.create_commit(
                    ref.repo_id,
                    operations,
                    commit_message=message,
                    repo_type=kind,
                    parent_commit=changes.parent,
                )
            return changes

        return again(commit, access)


def _sent(content: Path | bytes) -> str | bytes:
    return content if isinstance(content, bytes) else str(content)


def name_commit(ref: RepoRef, tag: str, commit: str, access: Access, kind: Kind = "dataset") -> None:
    """Tag a commit of a repository. Tags are never moved.

    Raises:
        InputError: the tag names another commit.
    """
    api = api_of(access)
    with write_errors(ref, kind), plain_errors(ref, kind):
        refs = again(lambda: api.list_repo_refs(ref.repo_id, repo_type=kind), access)
        named = {one.name: one.target_commit for one in refs.tags}
        if tag in named:
            if named[tag] != commit:
                raise InputError(
                    f"the tag {tag!r} already names {named[tag]}", where=f"{kind} {ref}", hint="choose another --tag"
                )
            return
        again(lambda: api.create_tag(ref.repo_id, tag=tag, revision=commit, repo_type=kind), access)


def api_of(access: Access) -> HfApi:
    """The client, for that Hub and that token."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=access.endpoint, token=access.token)


def file_hashes(content: Path | bytes) -> tuple[str, str]:
    """The Hub's hash of a file's content: SHA-256 if it is large, else git's."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return hashlib.sha256(data).hexdigest(), git


@contextmanager
def write_errors(ref: RepoRef, kind: Kind = "dataset") -> Iterator[None]:
    """What refusals mean to someone who writes."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError) and cause.response.status_code in (401, 403):
            raise MayNotWrite(
                "the Hub does not let you write here",
                where=f"{kind} {ref}",
                hint="log in with `hf auth login`, with a token that can write to it",
            ) from cause
        raise
    except ValueError as error:
        raise InputError(str(error)[:300], where=f"{kind} {ref}") from error
