"""Reviewing submissions: what a pull request may touch, what its run is worth, and taking it in when told to.

A pull request can change at any time. Everything here is about one commit of it, named by its hash; a verification is
kept for the bytes of that commit alone, so that nothing that comes later can wear its badge.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rh_bench.errors import CheckFailed, InputError
from rh_bench.files import shown
from rh_bench.hub import RepoRef, parse_repo
from rh_bench.hub_pulls import (
    Difference,
    Pull,
    add_to_main,
    address,
    comment,
    download,
    head_commit,
    merge,
    open_pulls,
    own_comments,
    pull_difference,
    user_name,
)
from rh_bench.hub_write import Access, RemoteFile, list_files
from rh_bench.records import Json
from rh_bench.results import verification_document, verification_path
from rh_bench.schema import dump_json
from rh_bench.submit import MOST_BYTES, SUBMITTED
from rh_bench.verify import Evidence, Verification, markdown_code, verify_run

LEVELS = ("valid", "recomputed", "rerun")
_RUN_FILE = re.compile(r"runs/([A-Za-z0-9_][A-Za-z0-9._-]{0,200})/([0-9a-f]{16})/([a-z]+\.[a-z]+)")
_PULL = re.compile(r"([^#\s]+)#([0-9]{1,9})")
_MOST_REASONS = 10


@dataclass(frozen=True, slots=True)
class Found:
    """What one pull request is worth. `verification` is None where `problems` say why nothing could be verified."""

    pull: Pull
    head: str
    run: str | None
    """`<slug>/<run_id>`, if it brings one run."""
    problems: tuple[str, ...]
    verification: Verification | None
    salt: str
    merged: bool = False
    said: bool = False
    page: str = ""

    def reaches(self, level: str) -> bool:
        """Whether it reached `level`, and no level failed."""
        if self.problems or self.verification is None:
            return False
        reached = [one.reached for one in self.verification.levels]
        return False not in reached and all(reached[: LEVELS.index(level) + 1])

    @property
    def failed(self) -> bool:
        return self.verification is None or any(level.reached is False for level in self.verification.levels)

    def to_json(self) -> Json:
        return {
            "pull_request": self.pull.num,
            "title": self.pull.title,
            "author": self.pull.author,
            "head": self.head,
            "run": self.run,
            "problems": list(self.problems),
            "levels": self.verification.to_json()["levels"] if self.verification else None,
            "salt": self.salt,
            "merged": self.merged,
            "commented": self.said,
            "address": self.page,
        }

    def to_markdown(self) -> str:
        """The report, in which nothing that the pull request says is markup."""
        if self.verification is not None:
            return self.verification.to_markdown()
        lines = [f"### Pull request {self.pull.num} cannot be verified", ""]
        return "\n".join([*lines, *(f"* {markdown_code(problem)}" for problem in self.problems)]) + "\n"


@dataclass(frozen=True, slots=True)
class Ways:
    """How to review."""

    merge: bool = False
    """Merge what reaches `require`, ask for changes otherwise. Without it nothing is merged."""
    require: str = "recomputed"
    rerun: int = 0
    salt: str | None = None
    """Drawn anew for each pull request without it."""
    haystack: str | None = None
    model: str | None = None
    device: str = "auto"
    quiet: bool = False
    """Say nothing on the pull requests."""


def parse_pull(text: str) -> tuple[RepoRef, int] | None:
    """`org/name#3` as its repository and number; None for anything else."""
    match = _PULL.fullmatch(text)
    return (parse_repo(match[1]), int(match[2])) if match else None


def review(repo: str, ways: Ways, *, only: int | None = None, access: Access | None = None) -> Iterator[Found]:
    """Verify the open pull requests of a results repository, one after the other.

    Args:
        only: the number of the one to look at.

    Raises:
        InputError: the repository cannot be read; there is no such open pull request; `ways.merge` and it cannot be
            written.
        CheckFailed: a pull request was changed while it was merged.
    """
    access, ref = access or Access(), parse_repo(repo)
    name = None if ways.quiet and not ways.merge else user_name(access)
    pulls = [pull for pull in open_pulls(ref, access) if only in (None, pull.num)]
    if only is not None and not pulls:
        raise InputError(f"has no open pull request {only}", where=f"dataset {ref}")
    for pull in pulls:
        with examine(ref, pull, ways, access) as found:
            found = replace(found, page=address(ref, pull.num, access))
            if not ways.quiet and name is not None:
                found = replace(found, said=_say(ref, found, ways, name, access))
            if ways.merge and found.reaches(ways.require):
                _take_in(ref, found, ways, access)
                found = replace(found, merged=True)
            yield found


@contextmanager
def examine(ref: RepoRef, pull: Pull, ways: Ways, access: Access) -> Iterator[Found]:
    """Verify a pull request's run in a folder that is gone afterwards."""
    salt = ways.salt if ways.salt is not None else secrets.token_hex(8)
    try:
        changed = pull_difference(ref, pull, access)
    except InputError as error:
        yield Found(pull, "", None, (str(error),), None, salt)
        return
    place, problems = submission_problems(changed, list_files(ref, "main", access))
    if place is None or problems:
        yield Found(pull, changed.head, None, tuple(problems), None, salt)
        return
    with tempfile.TemporaryDirectory(prefix="rh_bench-review-") as made:
        yield _verified(ref, pull, changed, place, Path(made), replace(ways, salt=salt), access)


def _verified(
    ref: RepoRef, pull: Pull, changed: Difference, place: str, workshop: Path, ways: Ways, access: Access
) -> Found:
    salt = ways.salt or ""
    run = place.partition("/")[2]
    try:
        download(ref, changed.head, [f"{place}/{name}" for name in SUBMITTED], workshop, access)
        evidence = Evidence(ways.haystack, ways.model, ways.rerun, salt, ways.device)
        verification = verify_run(workshop / place, evidence)
    except InputError as error:
        return Found(pull, changed.head, run, (f"could not be verified here: {error}",), None, salt)
    return Found(pull, changed.head, run, (), verification, salt)


def submission_problems(changed: Difference, main: Mapping[str, RemoteFile]) -> tuple[str | None, list[str]]:
    """What a pull request does that a submission may not, from names and sizes alone: nothing is fetched before.

    Args:
        main: the files of the main branch.

    Returns:
        The run's folder, if there is just one, and what is wrong.
    """
    problems = [f"removes {shown(path)}" for path in changed.removed]
    problems += [f"changes {shown(path)}, which is there already" for path in changed.replaced]
    places: set[str] = set()
    for path in changed.added:
        match = _RUN_FILE.fullmatch(path)
        if match is None or match[3] not in SUBMITTED:
            problems.append(f"adds {shown(path)[:200]}, which is no file of a run")
        else:
            places.add(path.rpartition("/")[0])
    if len(places) > 1:
        problems.append(f"brings {len(places)} runs: submit them one by one")
    if not places:
        problems.append("brings no run")
    place = min(places) if len(places) == 1 else None
    if place is not None:
        problems += _file_problems(place, changed, main)
    more = len(problems) - _MOST_REASONS
    return place, problems[:_MOST_REASONS] + ([f"and {more} more"] if more > 0 else [])


def _file_problems(place: str, changed: Difference, main: Mapping[str, RemoteFile]) -> Iterator[str]:
    yield from (f"lacks {place}/{name}" for name in SUBMITTED if f"{place}/{name}" not in changed.added)
    size = sum(file.bytes for file in changed.added.values())
    if size > MOST_BYTES:
        yield f"has {size} bytes, at most {MOST_BYTES} are taken"
    # Every sample carries the seconds it took, so that two measurements never give the same bytes.
    samples = changed.added.get(f"{place}/samples.parquet")
    for path, file in main.items():
        if samples and path.endswith("/samples.parquet") and file.hash == samples.hash:
            yield f"its samples.parquet is byte for byte that of {path.rpartition('/')[0]}: a copy of another run"


def _marker(found: Found, ways: Ways) -> str:
    """Stands in a comment, unseen: what was reviewed, and whether it was to be merged."""
    return f"<!-- rh_bench review {found.head} rerun={ways.rerun} merge={ways.merge} -->"


def _say(ref: RepoRef, found: Found, ways: Ways, name: str, access: Access) -> bool:
    """Comment on a pull request, unless the same was said about the same commit."""
    marker = _marker(found, ways)
    if any(marker in text for text in own_comments(ref, found.pull, name, access)):
        return False
    verdict = ""
    if ways.merge and not found.reaches(ways.require):
        verdict = f"\n**Changes are needed:** level *{ways.require}* is required, and no level may fail.\n"
    elif ways.merge:
        verdict = "\nTaken in.\n"
    note = f"\nCommit `{found.head}`"
    if ways.rerun and found.verification is not None:
        note += f", {ways.rerun} samples measured again with salt {markdown_code(found.salt)}"
    comment(ref, found.pull, f"{marker}\n{found.to_markdown()}{verdict}{note}.\n", access)
    return True


def _take_in(ref: RepoRef, found: Found, ways: Ways, access: Access) -> None:
    """Merge, and keep the verification beside the runs.

    The Hub cannot be told which commit to merge, so what was merged is looked at afterwards.
    """
    assert found.verification is not None and found.run is not None
    if head_commit(ref, found.pull.ref, access) != found.head:
        raise CheckFailed(f"{ref}#{found.pull.num}: changed while it was verified; review it again")
    merge(ref, found.pull, access)
    if head_commit(ref, found.pull.ref, access) != found.head:
        raise CheckFailed(
            f"{ref}#{found.pull.num}: changed while it was merged: the main branch may hold what nobody verified."
            f" Compare it with {found.head} and take back what is not in it; no verification was kept"
        )
    record = verification_document(
        found.verification, rerun=ways.rerun, salt=found.salt, pull_request=found.pull.num, author=found.pull.author
    )
    path = verification_path(*found.run.split("/"))
    add_to_main(ref, {path: dump_json(record)}, f"Verification of {found.run}", access)


def verify_pull(ref: RepoRef, num: int, evidence: Evidence, access: Access | None = None) -> Found:
    """Verify the run of one pull request, and say and change nothing.

    Raises:
        InputError: there is no such open pull request.
    """
    ways = Ways(
        rerun=evidence.rerun,
        salt=evidence.salt or None,
        haystack=evidence.haystack,
        model=evidence.model,
        device=evidence.device,
        quiet=True,
    )
    return next(review(str(ref), ways, only=num, access=access))
