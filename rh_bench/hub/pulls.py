"""Pull requests of a dataset on the Hub: listing them, what they change, comments, commits, closing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.hub.client import MOST_SECONDS, Access, Most, again
from rh_bench.hub.failures import plain_errors
from rh_bench.hub.refs import RepoRef
from rh_bench.hub.write import RemoteFile, api_of, file_hashes, list_files, write_errors

_SLACK = 1 << 16
"""Bytes sent in addition to a file, for redirections."""


@dataclass(frozen=True, slots=True)
class Pull:
    """An open pull request."""

    num: int
    title: str
    author: str

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"


@dataclass(frozen=True, slots=True)
class Difference:
    """What a pull request changes in the commit it started from."""

    head: str
    """Its newest commit."""
    added: Mapping[str, RemoteFile]
    """New and changed files, by path."""
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    """Those of `added` that existed before."""


def user_name(access: Access) -> str:
    """The user whose token is in use.

    Raises:
        InputError: there is no token, or the Hub does not know it.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = api_of(access)
    try:
        return str(again(api.whoami, access)["name"])
    except LocalTokenNotFoundError as error:
        raise _unknown() from error
    except Exception as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status in (401, 403):
            raise _unknown() from error
        with plain_errors(None, "dataset"):
            raise


def _unknown() -> InputError:
    return InputError("the Hub does not know who you are", hint="log in with `hf auth login`, or set HF_TOKEN")


def open_pulls(ref: RepoRef, access: Access, author: str | None = None) -> list[Pull]:
    """The open pull requests of a dataset, oldest first.

    Raises:
        InputError: they cannot be read.
    """
    api = api_of(access)
    with plain_errors(ref, "dataset"):
        found = again(
            lambda: list(
                api.get_repo_discussions(
                    ref.repo_id,
                    repo_type="dataset",
                    author=author,
                    discussion_type="pull_request",
                    discussion_status="open",
                )
            ),
            access,
        )
    # The Hub is asked for open ones by this author, but its answer is checked all the same.
    wanted = (d for d in found if d.is_pull_request and d.status in ("open", "draft") and author in (None, d.author))
    return sorted((Pull(d.num, d.title, d.author) for d in wanted), key=lambda pull: pull.num)


def pull_difference(ref: RepoRef, pull: Pull, access: Access) -> Difference:
    """What a pull request changes since it branched off the main branch, which may have moved on.

    Raises:
        InputError: it cannot be read, or it shares no commit with the main branch.
    """
    head = _commits(ref, pull.ref, access)
    main = set(_commits(ref, "main", access))
    base = next((commit for commit in head if commit in main), None)
    if base is None:
        raise InputError("shares no commit with the main branch", where=f"{ref}#{pull.num}")
    before, after = list_files(ref, base, access), list_files(ref, head[0], access)
    return difference(head[0], before, after)


def difference(head: str, before: Mapping[str, RemoteFile], after: Mapping[str, RemoteFile]) -> Difference:
    """What one tree has that is missing or different in another."""
    added = {path: file for path, file in after.items() if path not in before or before[path].hash != file.hash}
    removed = tuple(sorted(set(before) - set(after)))
    return Difference(head, added, removed, tuple(sorted(set(added) & set(before))))


def _commits(ref: RepoRef, revision: str, access: Access) -> list[str]:
    """Commits of a branch, the newest first."""
    api = api_of(access)
    with plain_errors(ref, "dataset"):
        found = again(lambda: api.list_repo_commits(ref.repo_id, repo_type="dataset", revision=revision), access)
    return [commit.commit_id for commit in found]


def head_commit(ref: RepoRef, revision: str, access: Access) -> str:
    """The newest commit of a branch or a pull request."""
    return _commits(ref, revision, access)[0]


def download(ref: RepoRef, commit: str, files: Sequence[RemoteFile], folder: Path, access: Access) -> None:
    """Put files of a commit below `folder`, as plain files, and check that each is complete and as its commit lists it.

    Raises:
        InputError: one cannot be downloaded, or differs from the list.
    """
    for file in files:
        most = Most(file.bytes + _SLACK, seconds=MOST_SECONDS)
        got = Path(_download_one(ref, commit, file, folder, most, access))
        if got.stat().st_size != file.bytes or file.hash not in file_hashes(got):
            raise InputError(
                f"sent a different {file.path} than it lists", where=f"dataset {ref}", hint="try again later"
            )


def _download_one(ref: RepoRef, commit: str, file: RemoteFile, folder: Path, most: Most, access: Access) -> str:
    from huggingface_hub import hf_hub_download

    def fetch() -> str:
        return hf_hub_download(
            ref.repo_id,
            file.path,
            repo_type="dataset",
            revision=commit,
            local_dir=folder,
            endpoint=access.endpoint,
            token=access.token,
        )

    with plain_errors(ref, "dataset"):
        return again(fetch, access, most=most)


def commit_files(
    ref: RepoRef,
    files: Mapping[str, Path | bytes],
    message: str,
    *,
    description: str = "",
    pull: Pull | None = None,
    new_pull: bool = False,
    parent: str | None = None,
    access: Access,
) -> tuple[str, int | None]:
    """Add `files`, by their paths in the repository, in one commit: to the main branch, to an existing pull request, or
    as a new one. Not retried here: the caller knows what to look up first.

    Returns:
        The commit, and the number of the pull request if it is on one.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    operations: list[CommitOperationAdd | CommitOperationDelete | CommitOperationCopy] = [
        CommitOperationAdd(path, data if isinstance(data, bytes) else str(data)) for path, data in files.items()
    ]
    info = api_of(access).create_commit(
        ref.repo_id,
        operations,
        commit_message=message,
        commit_description=description,
        repo_type="dataset",
        revision=pull.ref if pull else None,
        create_pr=new_pull,
        parent_commit=parent,
    )
    number = info.pr_num if new_pull else pull.num if pull else None
    return info.oid, int(number) if number is not None else None


def add_to_main(
    ref: RepoRef,
    files: Mapping[str, Path | bytes],
    message: str,
    description: str,
    access: Access,
    over: Mapping[str, bytes] | None = None,
) -> str | None:
    """Add new files to the main branch in one commit, retried while that can help. Each commit names its parent, so
    that nothing comes in between.

    Args:
        over: content that some of `files` may replace, by path.

    Returns:
        The commit that has `files` on the main branch; None if one of them is already there with other content, which
        is left as it is.

    Raises:
        InputError: it cannot be written.
    """
    replaced = over or {}

    def commit() -> str | None:
        parent = head_commit(ref, "main", access)
        there = list_files(ref, parent, access)
        lacking = {path: data for path, data in files.items() if path not in there}
        for path in files.keys() - lacking.keys():
            if there[path].hash in file_hashes(files[path]):
                continue
            if path not in replaced or there[path].hash not in file_hashes(replaced[path]):
                return None
            lacking[path] = files[path]
        if not lacking:
            return parent
        return commit_files(ref, lacking, message, description=description, parent=parent, access=access)[0]

    with write_errors(ref), plain_errors(ref, "dataset"):
        return again(commit, access)


def own_comments(ref: RepoRef, pull: Pull, name: str, access: Access) -> list[str]:
    """The comments of `name` on a pull request."""
    from huggingface_hub import DiscussionComment

    api = api_of(access)
    with plain_errors(ref, "dataset"):
        details = again(lambda: api.get_discussion_details(ref.repo_id, pull.num, repo_type="dataset"), access)
    return [e.content for e in details.events if isinstance(e, DiscussionComment) and e.author == name]


def comment(ref: RepoRef, pull: Pull, text: str, access: Access) -> None:
    """Comment on a pull request."""
    api = api_of(access)
    with write_errors(ref), plain_errors(ref, "dataset"):
        again(lambda: api.comment_discussion(ref.repo_id, pull.num, text, repo_type="dataset"), access)


def close(ref: RepoRef, pull: Pull, text: str, access: Access) -> None:
    """Close a pull request with a final comment, unless it is closed."""
    api = api_of(access)

    def shut() -> None:
        if api.get_discussion_details(ref.repo_id, pull.num, repo_type="dataset").status in ("open", "draft"):
            api.change_discussion_status(ref.repo_id, pull.num, "closed", comment=text, repo_type="dataset")

    with write_errors(ref), plain_errors(ref, "dataset"):
        again(shut, access)


def address(ref: RepoRef, num: int, access: Access) -> str:
    """The page of a pull request."""
    return f"{api_of(access).endpoint}/datasets/{ref.repo_id}/discussions/{num}"
