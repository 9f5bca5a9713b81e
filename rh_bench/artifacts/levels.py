"""How far a run or an experiment can be believed: the levels, what is found about each, and what to verify with.

*valid*: it is well formed, and agrees with itself and with its model's public configuration. *recomputed*: what it
says is what its observations give, and every prompt is reproduced. *rerun*: samples that its maker could not choose,
measured again, agree. A level for which there is no evidence is not reached, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rh_bench.errors import InputError, LimitError
from rh_bench.records import Json
from rh_bench.system.faults import is_host_memory
from rh_bench.system.limits import RENDERED

LEVELS = ("valid", "recomputed", "rerun")


@dataclass(frozen=True, slots=True)
class Level:
    """One level: `reached` is None if it was not tried, because a lower level failed or there is no evidence."""

    name: str
    reached: bool | None
    reasons: tuple[str, ...] = ()
    exceeded: str | None = None
    """The limit that trying it exceeded, as `rh_bench.system.limits` names them: nobody knows then whether the level
    would be reached, and if it is failed, it is not for what the run says. None for every other level."""

    def to_json(self) -> Json:
        more = {"exceeded": self.exceeded} if self.exceeded else {}
        return {"level": self.name, "reached": self.reached, "reasons": list(self.reasons), **more}


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found about a run, from the lowest level up."""

    folder: Path
    levels: tuple[Level, ...]

    @property
    def failed(self) -> bool:
        return any(level.reached is False for level in self.levels)

    @property
    def exceeded(self) -> str | None:
        """The limit that a level exceeded; None if none did."""
        return next((level.exceeded for level in self.levels if level.exceeded), None)

    def to_json(self) -> Json:
        return {
            "folder": str(self.folder),
            "levels": [level.to_json() for level in self.levels],
        }

    def to_markdown(self) -> str:
        """A report for a pull request. What comes from the run stands in code spans, so that none of it is markup."""
        marks = {True: "✅ yes", False: "❌ no", None: "– not tried"}
        lines = [
            f"### Verification of {markdown_code('/'.join(self.folder.resolve().parts[-2:]))}",
            "",
            "| level | reached |",
        ]
        lines += ["|---|---|", *(f"| {level.name} | {marks[level.reached]} |" for level in self.levels)]
        for level in self.levels:
            if level.reasons:
                lines += ["", f"**{level.name}**", "", *(f"* {markdown_code(reason)}" for reason in level.reasons)]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What to verify with; what is None or 0 is taken from the run, or left untried."""

    haystack: str | None = None
    """Folder of the set, or its repository."""
    model: str | None = None
    """As of `rh-bench evaluate`."""
    rerun: int = 0
    """How many samples to measure again."""
    salt: str | None = None
    """Mixed into the choice of samples; drawn where it is None, and told with what was found. The bytes of a run can be
    varied until they choose pleasant samples; a salt that was drawn when the run had arrived cannot be known before."""
    device: str = "auto"
    runs: tuple[str, ...] = ()
    """Folders of runs that an experiment is about; those beside it without them."""
    most_download: int | None = None
    """Bytes that the model or the set may take to download from the Hub; None for any number."""


def untried(name: str, error: InputError, evidence: Evidence) -> Level:
    """A level that could not be tried; one that failed where rendering with the model's template has no end.

    Raises:
        InputError: `error`, where it is about what was named as evidence, or about this machine.
    """
    exceeded = error.exceeded if isinstance(error, LimitError) else None
    if exceeded == RENDERED:
        return Level(name, False, (str(error),), exceeded)
    if evidence.haystack is not None or evidence.model is not None or is_host_memory(error):
        raise error
    return Level(name, None, (f"could not be tried here: {error}",), exceeded)


def markdown_code(text: str) -> str:
    """A Markdown code span of any text: on one line, in more backticks than it holds."""
    flat = " ".join(text.split())
    fence = "`"
    while fence in flat:
        fence += "`"
    space = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{space}{flat}{space}{fence}"
