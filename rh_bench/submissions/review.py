"""Reviewing submissions: one pull request after the other is verified, judged once, and taken in when told to.

A pull request can change at any time, and the Hub cannot be told which commit of it to merge. Everything here is about
one commit, named by its hash; what is accepted are the very bytes that were verified, with the record of it, in one
commit of the maintainer's. The pull request is then closed.

Which samples are measured again is drawn once for the bytes of a submission, and recorded before anything is measured;
what came of it is recorded, too (`rh_bench.submissions.judgement`). Whatever is wrong with one pull request, the others
follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rh_bench.artifacts.fingerprint import Fingerprint
from rh_bench.artifacts.levels import Evidence
from rh_bench.artifacts.results_repo import EXPERIMENTS, RUNS, VERIFICATION
from rh_bench.artifacts.verification_record import read_mark, verification_document
from rh_bench.errors import InputError
from rh_bench.experiments.record import experiment_record, read_experiment_mark
from rh_bench.hub.client import Access
from rh_bench.hub.download import MOST_DOWNLOAD
from rh_bench.hub.pulls import (
    Pull,
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
from rh_bench.hub.refs import RepoRef, parse_repo
from rh_bench.hub.sets import fetch_verifications
from rh_bench.hub.write import MayNotWrite, list_files
from rh_bench.submissions.attest import look_into
from rh_bench.submissions.judgement import (
    LONGEST_SALT,
    Draw,
    Judgement,
    Outcome,
    Submission,
    decided,
    failures,
    limits_exceeded,
    make_draw,
    make_verdict,
    open_judgement,
)
from rh_bench.submissions.ledger import Ledger
from rh_bench.submissions.place import Place
from rh_bench.submissions.review_report import Found, comment_on, last_word, marker
from rh_bench.submissions.submission import copy_problems, look_at, runs_of, submission_problems
from rh_bench.system.faults import explain
from rh_bench.system.limits import Limits
from rh_bench.system.schema import dump_json
from rh_bench.system.workshop import scratch
from rh_bench.verification.sandbox import verify_apart

_PULL = re.compile(r"([^#\s]+)#([0-9]{1,9})")
_MOVED = "it changed while it was being verified: review it again"


@dataclass(frozen=True, slots=True)
class Ways:
    """How to review."""

    merge: bool = False
    """Judge: take in what reaches `require`, refuse what fails. Without it nothing is judged."""
    require: str = "recomputed"
    rerun: int = 0
    """Samples to measure again of a first submission."""
    salt: str | None = None
    """Drawn anew for each submission without it."""
    haystack: str | None = None
    model: str | None = None
    device: str = "auto"
    quiet: bool = False
    """Say nothing on the pull requests."""
    again: bool = False
    """Judge once more what was set aside, with the samples that were drawn then."""
    most_download: int | None = MOST_DOWNLOAD
    """Bytes that the model or the set of a submission may take to download."""
    recorded: bool = True
    """Heed the judgements of the repository. Without it the draw is the caller's own."""
    attest: tuple[str, ...] = ()
    """Namespaces whose jobs are believed: attestations of runs are looked into where there are any."""
    limits: Limits | None = None
    """What verifying one may take; the usual without it."""


def parse_pull(text: str) -> tuple[RepoRef, int] | None:
    """`org/name#3` as its repository and number; None for anything else."""
    match = _PULL.fullmatch(text)
    return (parse_repo(match[1]), int(match[2])) if match else None


def review(repo: str, ways: Ways, *, only: int | None = None, access: Access | None = None) -> Iterator[Found]:
    """Verify the open pull requests of a results repository, one after the other. Whatever goes wrong with one of them
    is found of it, and the others follow.

    Args:
        only: the number of the one to look at.

    Raises:
        InputError: the repository cannot be read; there is no such open pull request; `ways.merge` and it cannot be
            written.
    """
    if ways.salt is not None and (len(ways.salt) > LONGEST_SALT or not ways.salt.isprintable()):
        raise InputError("is not a salt", where="--salt", hint=f"give up to {LONGEST_SALT} printable characters")
    access, ref = access or Access(), parse_repo(repo)
    name = None if ways.quiet and not ways.merge else user_name(access)
    pulls = [pull for pull in open_pulls(ref, access) if only in (None, pull.num)]
    if only is not None and not pulls:
        raise InputError(f"has no open pull request {only}", where=f"dataset {ref}")
    marks = _known_marks(ref, access) if pulls else {}
    reviewer = _Reviewer(ref, ways, access, marks, Ledger(ref, access), name)
    for pull in pulls:
        yield reviewer.review(pull)


def _known_marks(ref: RepoRef, access: Access) -> dict[str, Fingerprint]:
    """By what copies of what is in the main branch are recognised, by its folder, as far as records say it."""
    if not any(path.startswith(f"{VERIFICATION}/") for path in list_files(ref, "main", access)):
        return {}
    records = fetch_verifications(ref, endpoint=access.endpoint, token=access.token)
    marks = {}
    for (slug, name), path in records.items():
        root, read = (RUNS, read_mark) if "-" not in name else (EXPERIMENTS, read_experiment_mark)
        marks[f"{root}/{slug}/{name}"] = read(path)
    return {folder: mark for folder, mark in marks.items() if mark is not None}


@dataclass(frozen=True, slots=True)
class _Reviewer:
    ref: RepoRef
    ways: Ways
    access: Access
    marks: dict[str, Fingerprint]
    """Of what is there, by its folder, to recognise copies; what is accepted is added."""
    ledger: Ledger
    name: str | None

    def review(self, pull: Pull) -> Found:
        """Everything about one pull request, with an answer on it."""
        with scratch("review") as made:
            found = _guarded(lambda: self._examine(pull, made), pull)
        found = replace(found, page=address(self.ref, pull.num, self.access))
        if found.merged and found.submission is not None and found.mark is not None:
            self.marks[found.submission.place.folder] = found.mark
        try:
            if not self.ways.quiet and self.name is not None:
                found = replace(found, said=self._say(found, self.name))
            if self.ways.merge and (found.merged or found.held):
                close(self.ref, pull, last_word(found), self.access)
        except InputError as error:  # what was found is not lost by it
            found = replace(found, unsaid=str(error))
        return found

    def _examine(self, pull: Pull, workshop: Path) -> Found:
        changed = pull_difference(self.ref, pull, self.access)
        main = list_files(self.ref, "main", self.access)
        place, problems = submission_problems(changed, main)
        found = Found(pull, changed.head)
        if place is None or problems:
            return replace(found, problems=tuple(problems))
        found = replace(found, run=place.label, word=place.kind.word)
        if all(path in main and main[path].hash == file.hash for path, file in changed.added.items()):
            return replace(found, held=True)
        download(self.ref, changed.head, [changed.added[path] for path in place.paths], workshop, self.access)
        submission, problems = look_at(workshop / place.folder, place, pull, changed.head)
        if place.kind.root == EXPERIMENTS:
            runs, lacking = runs_of(workshop / place.folder, place, main)
            problems += lacking
            if not problems:
                download(self.ref, head_commit(self.ref, "main", self.access), runs, workshop, self.access)
        found = replace(found, submission=submission, problems=tuple(problems))
        return found if problems else self._judge(found, submission, workshop)

    def _judge(self, found: Found, submission: Submission, workshop: Path) -> Found:
        """Verify bytes that were not judged before, by the draw that is theirs."""
        record = open_judgement(submission)
        if self.ways.recorded:
            record = self._draw(submission, record)
        else:
            record = replace(record, draw=self._new_draw(submission, []))
        if record.verdict is not None and not self._judged_again(record):
            return replace(found, earlier=record, problems=record.in_words())
        draw = record.draw
        if self.ways.merge and self.ways.salt is not None and draw is not None and draw.salt != self.ways.salt:
            words = f"its samples were already drawn on {draw.date}: leave out --salt"
            return replace(found, problems=(words,))
        found = self._verify(replace(found, draw=draw), submission.place, workshop)
        return self._decide(found, record, workshop) if self.ways.merge else found

    def _judged_again(self, record: Judgement) -> bool:
        aside = record.verdict is not None and record.verdict.outcome == "set aside"
        return aside and self.ways.merge and self.ways.again

    def _new_draw(self, submission: Submission, known: list[Judgement]) -> Draw | None:
        wanted = self.ways.rerun and submission.place.kind.units is not None
        return make_draw(submission, known, self.ways.rerun, self.ways.salt) if wanted else None

    def _draw(self, submission: Submission, record: Judgement) -> Judgement:
        """The record of these bytes, with a draw if any samples are to be measured again. When judging, a new draw is
        in the repository before this returns."""
        for _ in range(3):
            known = self.ledger.about(submission.place.slug)
            mine = next((one for one in known if one.path == record.path), record)
            if mine.draw is not None or (mine.verdict is not None and not self._judged_again(mine)):
                return mine
            drawn = replace(mine, draw=self._new_draw(submission, known))
            if drawn.draw is None or not self.ways.merge:
                return drawn
            title = f"Draw for {submission.place.folder} of pull request {submission.pull_request}"
            if self.ledger.write(drawn, title, "Before anything is measured.") is not None:
                return drawn
        raise InputError("another review is in progress", where=submission.path, hint="review it again later")

    def _verify(self, found: Found, place: Place, workshop: Path) -> Found:
        ways, draw = self.ways, found.draw
        evidence = Evidence(
            ways.haystack,
            ways.model,
            draw.samples if draw else 0,
            draw.salt if draw else "",
            ways.device,
            most_download=ways.most_download,
        )
        try:
            examined = verify_apart(workshop / place.folder, evidence, ways.limits)
        except InputError as error:
            return replace(found, problems=(f"could not be verified here: {error}",))
        except Exception as error:
            plain = explain(error)
            if plain is not None:
                return replace(found, problems=(f"could not be verified here: {plain}",))
            return replace(found, fault=error)
        copies = copy_problems(place, examined.fingerprint, examined.verification, self.marks)
        found = replace(found, verification=examined.verification, mark=examined.fingerprint, problems=tuple(copies))
        return self._attested(found, place, workshop)

    def _attested(self, found: Found, place: Place, workshop: Path) -> Found:
        """With what was found of the job that made the run; what a run says wrongly of it speaks against the run."""
        if not self.ways.attest or place.kind.root != RUNS or found.verification is None:
            return found
        valid = found.verification.levels[0].reached if found.verification.levels else None
        seen = look_into(workshop / place.folder, self.ref, self.ways.attest, self.access, valid=valid)
        against = tuple(f"attested: {reason}" for reason in seen.level.reasons) if seen.reached is False else ()
        return replace(found, attested=seen, problems=(*found.problems, *against))

    def _decide(self, found: Found, record: Judgement, workshop: Path) -> Found:
        """Record what came of it. What could not be tried is no verdict: the next review has the same draw."""
        place = found.submission.place if found.submission else None
        if place is None:
            return found
        if found.fault is not None:
            return self._record(found, record, "set aside", ("it broke the reviewer: a bug in rh-bench",))
        if found.verification is None or found.waits:
            return found
        if found.reaches(place.kind.reachable(self.ways.require)):
            return self._take_in(found, record, place, workshop)
        against, limits = (*found.problems, *failures(found.verification)), limits_exceeded(found.verification)
        if against:
            return self._record(found, record, "refused", against)
        return self._record(found, record, "set aside", limits) if limits else found

    def _record(self, found: Found, record: Judgement, outcome: Outcome, reasons: tuple[str, ...]) -> Found:
        verdict = make_verdict(outcome, reasons, found.verification, self.ways.require)
        title = f"Judgement of {record.place} of pull request {found.pull.num}: {outcome}"
        if self.ledger.write(decided(record, verdict), title) is None:
            raise InputError("someone else judged it in the meantime", where=record.path, hint="review it again")
        return replace(found, verdict=verdict)

    def _take_in(self, found: Found, record: Judgement, place: Place, workshop: Path) -> Found:
        """Put the files that were verified, and the records of it, into the main branch in one commit.

        What the pull request has become meanwhile cannot get in by this: its own bytes are not asked for again.
        """
        assert found.verification is not None
        if head_commit(self.ref, found.pull.ref, self.access) != found.head:
            return replace(found, problems=(_MOVED,))
        draw, verdict = found.draw, make_verdict("taken in", (), found.verification, self.ways.require)
        proof = found.attested.proof if found.attested else None
        seen = proof.to_json() if proof else None
        runs = partial(verification_document, attestation=seen)
        recorded = runs if place.kind.root == RUNS else experiment_record
        document = recorded(
            found.verification,
            rerun=draw.samples if draw else 0,
            salt=draw.salt if draw else "",
            pull_request=found.pull.num,
            author=found.pull.author,
            mark=found.mark,
        )
        files: dict[str, Path | bytes] = {path: workshop / path for path in place.paths}
        files[place.verification] = dump_json(document)
        title = f"{place.kind.word.capitalize()} {place.label} of pull request {found.pull.num}"
        by = f"Submitted by {found.pull.author} in pull request {found.pull.num}, commit {found.head}; verified."
        commit = self.ledger.write(decided(record, verdict), title, by, files)
        if commit is None:
            words = f"someone else accepted this {place.kind.word} in the meantime: review it again"
            return replace(found, problems=(words,))
        return replace(found, commit=commit, verdict=verdict)

    def _say(self, found: Found, name: str) -> bool:
        """Comment on a pull request, unless the same was said about the same commit."""
        mark = marker(found, self.ways)
        if any(mark in text for text in own_comments(self.ref, found.pull, name, self.access)):
            return False
        comment(self.ref, found.pull, comment_on(found, self.ways), self.access)
        return True


def _guarded(examine: Callable[[], Found], pull: Pull) -> Found:
    """What is found of a pull request, also where finding it went wrong: the next one is not to wait for it.

    Raises:
        MayNotWrite: nothing can be written, so that there is no sense in going on.
    """
    try:
        return examine()
    except MayNotWrite:
        raise
    except Exception as error:
        plain = error if isinstance(error, InputError) else explain(error)
        return Found(pull, fault=error) if plain is None else Found(pull, problems=(str(plain),), error=plain)


def verify_pull(
    ref: RepoRef,
    num: int,
    evidence: Evidence,
    access: Access | None = None,
    *,
    limits: Limits | None = None,
    attest: tuple[str, ...] = (),
) -> Found:
    """Verify the run of one pull request, and say and change nothing.

    Args:
        attest: see :class:`Ways`.

    Raises:
        InputError: there is no such open pull request, or it cannot be fetched.
    """
    ways = Ways(
        rerun=evidence.rerun,
        salt=evidence.salt,
        haystack=evidence.haystack,
        model=evidence.model,
        device=evidence.device,
        quiet=True,
        most_download=evidence.most_download,
        recorded=False,
        attest=attest,
        limits=limits,
    )
    found = next(review(str(ref), ways, only=num, access=access))
    wrong = found.error or found.fault
    if wrong is not None:
        raise wrong
    return found
