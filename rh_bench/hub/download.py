"""Downloads from the Hub, within limits of bytes and files.

A download gives a folder and the full commit it was taken from, so that what was measured has a permanent name. When
the Hub cannot be reached, the local cache is used as it is (or `HF_HUB_OFFLINE=1` is set)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from rh_bench.errors import InputError, LimitError
from rh_bench.hub.client import Access, Most, again
from rh_bench.hub.failures import plain_errors
from rh_bench.hub.refs import Kind, RepoRef
from rh_bench.system.limits import DOWNLOADED

MOST_DOWNLOAD = 64 << 30
"""Default limit, in bytes, of a model or a set named by a stranger."""
MOST_FILES = 2_000
"""Most files to download of a model or a set named by a stranger."""
MOST_LISTED = 1_000_000
"""Most files of a commit that are listed."""
_SLACK = 1 << 20
"""Bytes sent in addition to the files, for redirections."""
_ALLOWED: ContextVar[int | None] = ContextVar("_ALLOWED", default=None)

_COMMIT = re.compile(r"[0-9a-f]{40}")


def repo_commit(ref: RepoRef, kind: Kind, *, endpoint: str | None = None, token: str | None = None) -> str:
    """The 40-digit commit that a repository's revision names now.

    Raises:
        InputError: the repository cannot be read.
    """
    from huggingface_hub import HfApi

    with plain_errors(ref, kind):
        api = HfApi(endpoint=endpoint, token=token)
        access = Access(endpoint, token)
        commit = again(lambda: api.repo_info(ref.repo_id, repo_type=kind, revision=ref.revision).sha, access)
    if commit is None or not _COMMIT.fullmatch(commit):
        raise InputError(f"the Hub returned {commit!r} instead of a commit", where=f"{kind} {ref}")
    return commit


@contextmanager
def allowing(most: int | None) -> Iterator[None]:
    """Limit every download inside the block to `most` bytes and :data:`MOST_FILES` files.

    The size is known from the list of files before anything is downloaded; anything sent beyond it is cut off.
    """
    before = _ALLOWED.set(most)
    try:
        yield
    finally:
        _ALLOWED.reset(before)


def download(
    ref: RepoRef,
    kind: Kind,
    wanted: list[str] | tuple[str, ...],
    unwanted: tuple[str, ...],
    cache_dir: Path | None,
    endpoint: str | None,
    token: str | None,
) -> tuple[Path, str]:
    """The files of a repository that match `wanted` and not `unwanted`, as a cached folder, and their commit.

    Raises:
        InputError: the repository cannot be read, or is larger than allowed here (see `allowing`).
    """
    from huggingface_hub import snapshot_download

    access, allowed = Access(endpoint, token), _ALLOWED.get()
    most = None if allowed is None else _announced(ref, kind, wanted, unwanted, allowed, access)

    def fetch() -> str:
        return snapshot_download(
            ref.repo_id,
            repo_type=kind,
            revision=ref.revision,
            cache_dir=cache_dir,
            endpoint=endpoint,
            token=token,
            allow_patterns=list(wanted),
            ignore_patterns=list(unwanted),
        )

    with plain_errors(ref, kind):
        folder = Path(again(fetch, access, most=most, patient=False))
    # The cache keeps each snapshot in a folder named after its commit, which saves asking the Hub a second time (and
    # perhaps getting a newer answer).
    if not _COMMIT.fullmatch(folder.name):
        raise InputError(f"the cache returned {folder.name!r} instead of a commit", where=f"{kind} {ref}")
    return folder, folder.name


def _announced(
    ref: RepoRef,
    kind: Kind,
    wanted: list[str] | tuple[str, ...],
    unwanted: tuple[str, ...],
    allowed: int,
    access: Access,
) -> Most:
    """The size of a download by the repository's own list of files. If the Hub cannot be reached, the cache is used as
    it is.

    Raises:
        InputError: it is more than `allowed`, or it is too many files.
    """
    from huggingface_hub.utils._paths import filter_repo_objects

    try:
        sizes = {path: size for path, _, size in listed(ref, kind, ref.revision, access, patient=False)}
    except InputError as error:
        if isinstance(error.__cause__, ConnectionError):
            return Most(allowed, "may be downloaded")
        raise
    names = list(filter_repo_objects(sizes, allow_patterns=list(wanted), ignore_patterns=list(unwanted)))
    total, where = sum(sizes[name] for name in names), f"{kind} {ref}"
    if len(names) > MOST_FILES:
        words = f"takes more than the {MOST_FILES:,} files that may be downloaded: {len(names):,}"
        raise LimitError(words, DOWNLOADED, where=where)
    if total > allowed:
        raise LimitError(
            f"takes more than the {size_text(allowed)} that may be downloaded: {size_text(total)}",
            DOWNLOADED,
            where=where,
            hint="raise the limit with --most-download",
        )
    return Most(total + _SLACK)


def listed(
    ref: RepoRef, kind: Kind, revision: str | None, access: Access, *, patient: bool = True
) -> list[tuple[str, str, int]]:
    """Path, hash and bytes of every file of a commit. The hash is SHA-256 for large files, else git's.

    Raises:
        InputError: it cannot be read, or it has more than :data:`MOST_LISTED` files.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=access.endpoint, token=access.token)

    def read() -> list[tuple[str, str, int]]:
        found: list[tuple[str, str, int]] = []
        for file in api.list_repo_tree(ref.repo_id, repo_type=kind, recursive=True, revision=revision):
            if len(found) >= MOST_LISTED:
                raise InputError(f"has more than {MOST_LISTED:,} files", where=f"{kind} {ref}")
            if isinstance(file, RepoFile):
                large = file.lfs
                found.append((file.path, large.sha256 if large else file.blob_id, large.size if large else file.size))
        return found

    with plain_errors(ref, kind):
        return again(read, access, patient=patient)


def size_text(count: int) -> str:
    """Bytes in readable units."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
