"""What a review found of one pull request: as a record, as a report, and as a comment on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rh_bench.artifacts.fingerprint import Fingerprint
from rh_bench.artifacts.levels import LEVELS, Verification, markdown_code
from rh_bench.errors import InputError
from rh_bench.hub.pulls import Pull
from rh_bench.records import Json
from rh_bench.submissions.attest_check import Attested
from rh_bench.submissions.judgement import Draw, Judgement, Submission, Verdict
from rh_bench.system.faults import our_fault


@dataclass(frozen=True, slots=True)
class Found:
    """What one pull request is worth. `verification` is None if `problems` say why nothing was verified."""

    pull: Pull
    head: str = ""
    run: str | None = None
    """`<slug>/<run_id>`, if it brings one run; `<slug>/<kind>-<id>`, if it brings one experiment."""
    word: str = "run"
    """What it brings."""
    problems: tuple[str, ...] = ()
    verification: Verification | None = None
    attested: Attested | None = None
    """What was found of the job that made it, where that was looked into."""
    draw: Draw | None = None
    """By which samples were measured again, if any were."""
    submission: Submission | None = None
    mark: Fingerprint | None = None
    held: bool = False
    """Whether the main branch holds the very same files."""
    earlier: Judgement | None = None
    """The verdict on these very bytes that is recorded already: nothing was judged now."""
    verdict: Verdict | None = None
    """What was recorded now."""
    commit: str | None = None
    """By which it was taken in."""
    said: bool = False
    unsaid: str | None = None
    """Why something could not be said on the pull request, or it not be closed."""
    page: str = ""
    fault: Exception | None = None
    """What went wrong in rh_bench itself."""
    error: InputError | None = None
    """Why nothing could be found out, which is also one of `problems`."""

    @property
    def merged(self) -> bool:
        return self.commit is not None

    @property
    def salt(self) -> str:
        return self.draw.salt if self.draw else ""

    @property
    def outcome(self) -> str | None:
        """What is recorded of it, now or before."""
        known = self.verdict or (self.earlier.verdict if self.earlier else None)
        return known.outcome if known else None

    def reaches(self, level: str) -> bool:
        """Whether it reached `level`, and no level failed."""
        if self.problems or self.verification is None:
            return False
        reached = [one.reached for one in self.verification.levels]
        return len(reached) == len(LEVELS) and False not in reached and all(reached[: LEVELS.index(level) + 1])

    @property
    def waits(self) -> bool:
        """Whether it says that a job made it, and nobody knows yet: taken in now, it would never be attested."""
        return self.attested is not None and self.attested.claimed and self.attested.reached is None

    @property
    def failed(self) -> bool:
        if self.held:
            return False
        wrong = bool(self.problems) or self.fault is not None or self.verification is None
        return wrong or (self.verification is not None and self.verification.failed)

    def to_json(self) -> Json:
        draw = self.draw
        return {
            "pull_request": self.pull.num,
            "title": self.pull.title,
            "author": self.pull.author,
            "head": self.head,
            "run": self.run,
            "brings": self.word if self.run is not None else None,
            "sha256": self.submission.sha256 if self.submission else None,
            "problems": list(self.problems),
            "levels": self.verification.to_json()["levels"] if self.verification else None,
            "attested": self.attested.to_json() if self.attested else None,
            "salt": self.salt,
            "samples": draw.samples if draw else 0,
            "held": self.held,
            "judged_before": self.earlier.to_json()["verdict"] if self.earlier else None,
            "outcome": self.outcome,
            "merged": self.merged,
            "commit": self.commit,
            "commented": self.said,
            "not_commented": self.unsaid,
            "fault": our_fault(self.fault) if self.fault else None,
            "address": self.page,
        }

    def to_markdown(self) -> str:
        """The report, in which nothing that the pull request says is markup."""
        parts = []
        if self.held:
            parts.append(f"### The repository already has the {self.word} of pull request {self.pull.num}\n")
        elif self.problems:
            parts.append(_list(f"### Pull request {self.pull.num} {self._what()}", self.problems))
        if self.fault is not None:
            parts.append(f"### Pull request {self.pull.num} could not be reviewed because of a bug in rh-bench\n")
        if self.verification is not None:
            parts.append(self.verification.to_markdown())
        if self.attested is not None:
            said = {True: "✅ yes", False: "❌ no", None: "– not shown"}[self.attested.reached]
            parts.append(_list(f"**attested**: {said}", self.attested.level.reasons))
        return "\n".join(parts)

    def _what(self) -> str:
        if self.earlier is not None:
            return "was judged before"
        return "cannot be verified" if self.verification is None else "cannot be accepted"


def _list(title: str, lines: tuple[str, ...]) -> str:
    return "\n".join([title, "", *(f"* {markdown_code(line)}" for line in lines)]) + "\n"


def marker(found: Found, ways: Any) -> str:
    """Stands in a comment, unseen: what was reviewed, how, and what came of it."""
    aim = ways.require if ways.merge else "no"
    levels = found.verification.levels if found.verification else ()
    reached = "".join({True: "y", False: "n", None: "-"}[level.reached] for level in levels) or "none"
    if found.attested is not None:
        reached += {True: "a", False: "n", None: "-"}[found.attested.reached]
    outcome = (found.outcome or ("fault" if found.fault else "open")).replace(" ", "-")
    return f"<!-- rh_bench review {found.head} rerun={ways.rerun} merge={aim} levels={reached} outcome={outcome} -->"


def comment_on(found: Found, ways: Any) -> str:
    """The comment on a pull request.

    Args:
        ways: `rh_bench.submissions.review.Ways`.
    """
    note = f"\nCommit `{found.head}`" if found.head else ""
    if found.draw is not None and found.verification is not None:
        many = f"{found.draw.samples} {'samples' if found.word == 'run' else 'units'}"
        note += f", {many} measured again with salt {markdown_code(found.draw.salt)}"
    note += ".\n" if note else ""
    return f"{marker(found, ways)}\n{found.to_markdown()}{_verdict(found, ways)}{note}"


def _verdict(found: Found, ways: Any) -> str:
    if not ways.merge:
        return "\nThis is only a look: nothing is accepted or refused.\n"
    if found.merged or found.held:
        return ""
    if found.outcome == "refused":
        return (
            f"\n**Changes are needed:** level *{ways.require}* is required, and no level may fail. These files are not"
            " judged again, in this pull request or another. For other files of the same run, or of the same model by"
            " the same submitter, twice as many samples are measured again.\n"
        )
    if found.outcome == "set aside":
        return "\n**Set aside:** it exceeds this reviewer's limits. The maintainers decide whether to try again.\n"
    if found.waits:
        return (
            "\n**Waiting:** it says that a job made it, which could not be confirmed yet. The next review continues"
            " with the same samples.\n"
        )
    if found.fault is not None or found.verification is None:
        return "\n**Changes are needed**, or another review.\n"
    return (
        f"\n**Changes are needed:** level *{ways.require}* is required, and no level may fail. What could not be tried"
        " does not count against it: the next review continues with the same samples.\n"
    )


def last_word(found: Found) -> str:
    """With which a pull request is closed."""
    if found.commit is None:
        return "The main branch already has these files."
    return f"Accepted in commit `{found.commit}`: the verified files, and the record of the verification."
