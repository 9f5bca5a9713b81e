"""The judgements of a results repository: read from a commit of its main branch, and written to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rh_bench.artifacts.results_repo import JUDGEMENTS
from rh_bench.errors import InputError
from rh_bench.hub.client import Access
from rh_bench.hub.pulls import add_to_main, download, head_commit
from rh_bench.hub.refs import RepoRef
from rh_bench.hub.write import RemoteFile, file_hashes, list_files
from rh_bench.submissions.judgement import Judgement, read_judgement
from rh_bench.system.schema import dump_json
from rh_bench.system.workshop import scratch

_MOST_RECORD = 1 << 20


class Ledger:
    """The judgements of one repository. What was read is kept by its hash, so that it is read once."""

    def __init__(self, ref: RepoRef, access: Access) -> None:
        self._ref, self._access = ref, access
        self._read: dict[tuple[str, str], Judgement] = {}
        self._bytes: dict[str, bytes] = {}

    def about(self, slug: str) -> list[Judgement]:
        """All records of submissions to a model's folder, whatever they are, as the main branch has them now.

        Raises:
            InputError: they cannot be read.
        """
        commit = head_commit(self._ref, "main", self._access)
        files = list_files(self._ref, commit, self._access)
        wanted = [file for path, file in files.items() if _slug_of(path) == slug]
        lacking = [file for file in wanted if (file.path, file.hash) not in self._read]
        large = next((file for file in lacking if file.bytes > _MOST_RECORD), None)
        if large is not None:
            raise InputError(f"has {large.bytes} bytes, which no record has", where=large.path)
        with scratch("ledger") as made:
            download(self._ref, commit, lacking, made, self._access)
            for file in lacking:
                self._keep(file, made / file.path)
        return [self._read[file.path, file.hash] for file in wanted]

    def _keep(self, file: RemoteFile, path: Path) -> None:
        self._read[file.path, file.hash] = read_judgement(path, file.path)
        self._bytes[file.path] = path.read_bytes()

    def write(
        self,
        judgement: Judgement,
        title: str,
        description: str = "",
        files: Mapping[str, Path | bytes] | None = None,
    ) -> str | None:
        """Put a record into the main branch, in place of the one that was read or written here, in one commit with
        `files`, which are new.

        Returns:
            The commit; None if the repository holds one of the files, or another record, by someone else.

        Raises:
            InputError: it cannot be written.
        """
        data = dump_json(judgement.to_json())
        before = self._bytes.get(judgement.path)
        over = {} if before is None else {judgement.path: before}
        commit = add_to_main(
            self._ref, {**(files or {}), judgement.path: data}, title, description, self._access, over=over
        )
        if commit is not None:
            self._bytes[judgement.path] = data
            for digest in file_hashes(data):
                self._read[judgement.path, digest] = judgement
        return commit


def _slug_of(path: str) -> str | None:
    """The model's folder of a record, by its path; None for any other file."""
    parts = path.split("/")
    return parts[2] if len(parts) == 5 and parts[0] == JUDGEMENTS and path.endswith(".json") else None
