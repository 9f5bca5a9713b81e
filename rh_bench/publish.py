"""Publishing a haystack set: checked, then made a dataset of the Hub, whole or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.hub import dataset_commit, parse_repo
from rh_bench.hub_write import Access, find_changes, name_commit, push
from rh_bench.records import Json
from rh_bench.sets import MANIFEST, read_set

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


@dataclass(frozen=True)
class Published:
    """What was sent, or would be; `commit` is None where nothing was."""

    repo: str
    sent: tuple[str, ...]
    removed: tuple[str, ...]
    commit: str | None
    tag: str | None
    manifest_sha256: str

    @property
    def address(self) -> str:
        return f"https://huggingface.co/datasets/{self.repo}"

    def to_json(self) -> Json:
        return {
            "repo": self.repo,
            "sent": list(self.sent),
            "removed": list(self.removed),
            "commit": self.commit,
            "tag": self.tag,
            "manifest_sha256": self.manifest_sha256,
        }


def publish_set(
    folder: Path,
    repo: str,
    *,
    tag: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    access: Access | None = None,
) -> Published:
    """Publish a set. Doing it again changes nothing.

    Args:
        repo: the dataset repository, made if it is not there.
        tag: a name for the commit.
        dry_run: find out what would change, and change nothing.

    Raises:
        InputError: the set is not sound, the repository cannot be written, or the tag is taken.
    """
    access = access or Access()
    ref = parse_repo(repo)
    if ref.revision is not None:
        raise InputError("a set is published on the main branch", where=repo, mend="leave out @" + ref.revision)
    if tag is not None and not _TAG.fullmatch(tag):
        raise InputError("is no name for a tag", where=repr(tag), mend="use letters, digits, '.', '_' and '-'")
    haystacks = read_set(folder)
    names = [MANIFEST, *sorted(haystacks.manifest["files"])]
    manifest = haystacks.manifest_sha256
    if dry_run:
        changes = find_changes(ref, folder, names, access)
        return Published(ref.repo_id, changes.sent, changes.removed, None, None, manifest)
    message = f"Haystack set {haystacks.manifest['name']}, manifest {manifest[:12]}"
    changes = push(ref, folder, names, message, private=private, access=access)
    commit = dataset_commit(ref, endpoint=access.endpoint, token=access.token)
    if tag is not None:
        name_commit(ref, tag, commit, access)
    return Published(ref.repo_id, changes.sent, changes.removed, commit, tag, manifest)
