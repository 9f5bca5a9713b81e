"""Reviewing submissions: what a pull request may touch, what its run is worth, and taking it in when told to.

A pull request can change at any time, and the Hub cannot be told which commit of it to merge. Everything here is about
one commit, named by its hash; what is taken in are the very bytes that were verified, with the record of it, in one
commit of the maintainer's. The pull request is then closed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rh_bench.apart import verify_apart
from rh_bench.errors import InputError
from rh_bench.files import shown
from rh_bench.fingerprint import Fingerprint, same_samples, same_seconds
from rh_bench.hub import RepoRef, fetch_verifications, parse_repo
from rh_bench.hub_pulls import (
    Difference,
    Pull,
    add_to_main,
    address,
    close,
    comment,
    download,
    head_commit,
    open_pulls,
    own_comments,
    pull_difference,
    user_name,
)
from rh_bench.hub_write import Access, RemoteFile, list_files
from rh_bench.records import Json
from rh_bench.results import RUNS, VERIFICATION, read_mark, verification_document, verification_path
from rh_bench.schema import dump_json
from rh_bench.submit import MOST_BYTES, SUBMITTED
from rh_bench.verify import LEVELS, Evidence, Verification, markdown_code
from rh_bench.workshop import scratch

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
    mark: Fingerprint | None = None
    held: bool = False
    """Whether the main branch holds the very same files."""
    commit: str | None = None
    """By which it was taken in."""
    said: bool = False
    page: str = ""

    @property
    def merged(self) -> bool:
        return self.commit is not None

    def reaches(self, level: str) -> bool:
        """Whether it reached `level`, and no level failed."""
        if self.problems or self.verification is None:
            return False
        reached = [one.reached for one in self.verification.levels]
        return False not in reached and all(reached[: LEVELS.index(level) + 1])

    @property
    def failed(self) -> bool:
        if self.held:
            return False
        return bool(self.problems) or self.verification is None or self.verification.failed

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
            "held": self.held,
            "merged": self.merged,
            "commit": self.commit,
            "commented": self.said,
            "address": self.page,
        }

    def to_markdown(self) -> str:
        """The report, in which nothing that the pull request says is markup."""
        parts = []
        if self.held:
            parts.append(f"### The repository holds the run of pull request {self.pull.num} already\n")
        elif self.problems:
            what = "cannot be verified" if self.verification is None else "cannot be taken in"
            lines = [f"### Pull request {self.pull.num} {what}", ""]
            parts.append("\n".join([*lines, *(f"* {markdown_code(problem)}" for problem in self.problems)]) + "\n")
        if self.verification is not None:
            parts.append(self.verification.to_markdown())
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Ways:
    """How to review."""

    merge: bool = False
    """Take in what reaches `require`, ask for changes otherwise. Without it nothing is taken in."""
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
    """
    access, ref = access or Access(), parse_repo(repo)
    name = None if ways.quiet and not ways.merge else user_name(access)
    pulls = [pull for pull in open_pulls(ref, access) if only in (None, pull.num)]
    if only is not None and not pulls:
        raise InputError(f"has no open pull request {only}", where=f"dataset {ref}")
    marks = _known_marks(ref, access) if pulls else {}
    for pull in pulls:
        with examine(ref, pull, ways, access, marks) as found:
            found = replace(found, page=address(ref, pull.num, access))
            if ways.merge and found.reaches(ways.require):
                found = _take_in(ref, found, ways, access)
            if found.merged and found.run is not None and found.mark is not None:
                marks[found.run] = found.mark
            if not ways.quiet and name is not None:
                found = replace(found, said=_say(ref, found, ways, name, access))
            if ways.merge and (found.merged or found.held):
                close(ref, pull, _last_word(found), access)
            yield found


def _known_marks(ref: RepoRef, access: Access) -> dict[str, Fingerprint]:
    """By what copies of the runs in the main branch are recognised, as far as their records say it."""
    if not any(path.startswith(f"{VERIFICATION}/") for path in list_files(ref, "main", access)):
        return {}
    records = fetch_verifications(ref, endpoint=access.endpoint, token=access.token)
    marks = {"/".join(run): read_mark(path) for run, path in records.items()}
    return {run: mark for run, mark in marks.items() if mark is not None}


@contextmanager
def examine(ref: RepoRef, pull: Pull, ways: Ways, access: Access, marks: Mapping[str, Fingerprint]) -> Iterator[Found]:
    """Verify a pull request's run in a folder that is gone afterwards.

    Args:
        marks: of the runs that are there, to recognise copies.
    """
    salt = ways.salt if ways.salt is not None else secrets.token_hex(8)
    try:
        changed = pull_difference(ref, pull, access)
    except InputError as error:
        yield Found(pull, "", None, (str(error),), None, salt)
        return
    main = list_files(ref, "main", access)
    place, problems = submission_problems(changed, main)
    if place is None or problems:
        yield Found(pull, changed.head, None, tuple(problems), None, salt)
        return
    run = place.partition("/")[2]
    if all(path in main and main[path].hash == file.hash for path, file in changed.added.items()):
        yield Found(pull, changed.head, run, (), None, salt, held=True)
        return
    with scratch("review") as made:
        found = _verified(ref, pull, changed, place, made, replace(ways, salt=salt), access)
        yield replace(found, problems=found.problems + tuple(_copy_problems(found, marks)))


def _verified(
    ref: RepoRef, pull: Pull, changed: Difference, place: str, workshop: Path, ways: Ways, access: Access
) -> Found:
    salt = ways.salt or ""
    run = place.partition("/")[2]
    try:
        download(ref, changed.head, [f"{place}/{name}" for name in SUBMITTED], workshop, access)
        evidence = Evidence(ways.haystack, ways.model, ways.rerun, salt, ways.device)
        examined = verify_apart(workshop / place, evidence)
    except InputError as error:
        return Found(pull, changed.head, run, (f"could not be verified here: {error}",), None, salt)
    return Found(pull, changed.head, run, (), examined.verification, salt, examined.fingerprint)


def _copy_problems(found: Found, marks: Mapping[str, Fingerprint]) -> Iterator[str]:
    """What shows that a run is a copy of one that is there, however its files were written.

    Samples that were measured again and agree show that the model does what the run says: the same weights, then, in
    other files, and no copy.
    """
    if found.mark is None or found.verification is None:
        return
    measured_again = found.verification.levels[-1].reached is True
    for run, mark in marks.items():
        common = None if measured_again else same_samples(found.mark, mark)
        if same_seconds(found.mark, mark):
            yield f"all of its samples took the very seconds of those of {RUNS}/{run}: a copy of another run"
        elif common is not None:
            yield f"its {common}, as those of {RUNS}/{run}: a copy of another model's run"


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
    other = [path for path, file in changed.added.items() if path in main and main[path].hash != file.hash]
    if other:  # it came after the pull request left the main branch
        yield f"the repository holds this run already, with another {other[0].rpartition('/')[2]}"
    # Every sample carries the seconds it took, so that two measurements never give the same bytes.
    samples = changed.added.get(f"{place}/samples.parquet")
    for path, file in main.items():
        copy = samples is not None and path.endswith("/samples.parquet") and file.hash == samples.hash
        if copy and path != f"{place}/samples.parquet":
            yield f"its samples.parquet is byte for byte that of {path.rpartition('/')[0]}: a copy of another run"


def _aim(ways: Ways) -> str:
    return ways.require if ways.merge else "no"


def _marker(found: Found, ways: Ways) -> str:
    """Stands in a comment, unseen: what was reviewed, and whether it was to be merged."""
    return f"<!-- rh_bench review {found.head} rerun={ways.rerun} merge={_aim(ways)} -->"


def _say(ref: RepoRef, found: Found, ways: Ways, name: str, access: Access) -> bool:
    """Comment on a pull request, unless the same was said about the same commit."""
    marker = _marker(found, ways)
    if any(marker in text for text in own_comments(ref, found.pull, name, access)):
        return False
    verdict = ""
    if ways.merge and not (found.merged or found.held):
        verdict = f"\n**Changes are needed:** level *{ways.require}* is required, and no level may fail.\n"
    note = f"\nCommit `{found.head}`"
    if ways.rerun and found.verification is not None:
        note += f", {ways.rerun} samples measured again with salt {markdown_code(found.salt)}"
    comment(ref, found.pull, f"{marker}\n{found.to_markdown()}{verdict}{note}.\n", access)
    return True


def _last_word(found: Found) -> str:
    if found.commit is None:
        return "The main branch holds these files already."
    return f"Taken in by commit `{found.commit}`: the files that were verified, and the record of it."


def _take_in(ref: RepoRef, found: Found, ways: Ways, access: Access) -> Found:
    """Put the files that were verified, and the record of it, into the main branch in one commit.

    What the pull request has become meanwhile cannot get in by this: its own bytes are not asked for again.
    """
    assert found.verification is not None and found.run is not None
    if head_commit(ref, found.pull.ref, access) != found.head:
        return replace(found, problems=("it was changed while it was verified: review it again",))
    record = verification_document(
        found.verification,
        rerun=ways.rerun,
        salt=found.salt,
        pull_request=found.pull.num,
        author=found.pull.author,
        mark=found.mark,
    )
    folder = found.verification.folder
    files: dict[str, Path | bytes] = {f"{RUNS}/{found.run}/{name}": folder / name for name in SUBMITTED}
    files[verification_path(*found.run.split("/"))] = dump_json(record)
    title = f"Run {found.run} of pull request {found.pull.num}"
    by = f"Submitted by {found.pull.author} in pull request {found.pull.num}, commit {found.head}; verified."
    commit = add_to_main(ref, files, title, by, access)
    if commit is None:
        return replace(found, problems=("somebody else took this run in meanwhile: review it again",))
    return replace(found, commit=commit)


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
