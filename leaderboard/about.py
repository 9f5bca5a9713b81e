"""method.html, data.html and about.html: what is measured and how far it goes, what to load, how to cite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata

from rh_bench import __version__
from rh_bench.display import formatting as words
from rh_bench.leaderboard.badges import ABOUT, ORDER
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.definitions import DEPTH, MEASUREMENT, ROBUSTNESS, SHARE, SPEARMAN, Definition
from rh_bench.leaderboard.render import Document, Site
from rh_bench.verification.power import caught, percent

LIMITS = (
    "A score says what a head does while a model retrieves. It does not say how able the model is, and a higher share "
    "of retrieval heads is not better.",
    "Scores are means over the samples that the model answers. A model that answers few has wide intervals, and one "
    "that answers none has no scores.",
    "Intervals show how much other samples of the same needles and haystacks might move a number, not other needles.",
    "Synthetic haystacks are plain sentences. Success on them is not comparable with success on essays, nor are runs "
    "of different sets or protocols with each other; this site never ranks them together. Nor does it rank runs that "
    "measured part of a set, or their own grid.",
    "A copy event is where attention and output agree. Only an experiment that removes heads shows that they cause the "
    "answer.",
    "Layers without softmax attention have no heads to score. They are listed, but not counted as zero.",
)
LICENCES = (
    ("The code", "Apache-2.0"),
    ("The results", "CC0-1.0: use them freely; citing helps others find them"),
    ("Sets with the embedded prose", "CC0-1.0"),
    ("Other sets", "the licence of their text, in the manifest of each"),
)


@dataclass(frozen=True, slots=True)
class SetView:
    """One haystack set that runs of the site were measured on."""

    name: str
    digest: str
    source: str
    licence: str
    repo: str
    """On the Hub; empty for a set that someone had on disk."""
    revision: str
    runs: int


@dataclass(frozen=True, slots=True)
class Worth:
    """What *rerun* is worth, in numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """How many samples are measured again, and the probability for each of `heads`."""


def documents(site: Site) -> Iterator[Document]:
    """The three pages."""
    frame = site.frame
    levels = tuple((name, ABOUT[name]) for name in reversed(ORDER))
    definitions: tuple[Definition, ...] = (*MEASUREMENT, SHARE, DEPTH, ROBUSTNESS, SPEARMAN)
    yield (
        "method.html",
        frame.render(
            "method.html",
            "method.html",
            definitions=definitions,
            levels=levels,
            limits=LIMITS,
            worth=worth(),
            repository=repository(),
        ),
    )
    sets = set_views(site.briefs)
    yield "data.html", frame.render("data.html", "data.html", sets=sets, runs=len(site.briefs), licences=LICENCES)
    values = {"version": __version__, "repository": repository(), "licences": LICENCES}
    yield "about.html", frame.render("about.html", "about.html", **values)


def worth(totals: Sequence[int] = (60, 600), shares: Sequence[float] = (0.1, 0.25)) -> Worth:
    """How often measuring some samples again meets a forged one."""
    heads = tuple(f"{share:.0%} of {total} forged" for share in shares for total in totals)
    rows = tuple(
        (
            str(drawn),
            *(percent(caught(total, math.ceil(share * total), drawn)) for share in shares for total in totals),
        )
        for drawn in (4, 8, 16, 32)
    )
    return Worth(heads, rows)


def set_views(briefs: Sequence[RunBrief]) -> tuple[SetView, ...]:
    """The sets, those with the most runs first."""
    found: dict[str, list[RunBrief]] = {}
    for brief in briefs:
        found.setdefault(brief.manifest_sha256, []).append(brief)
    views = [_set_view(members) for members in found.values()]
    return tuple(sorted(views, key=lambda view: (-view.runs, view.name, view.digest)))


def _set_view(briefs: Sequence[RunBrief]) -> SetView:
    """The same bytes may have been measured from a folder by one and from the Hub by another: the Hub is named."""
    haystack = next((brief.haystack for brief in briefs if brief.haystack["revision"] is not None), briefs[0].haystack)
    on_hub = haystack["revision"] is not None
    source = haystack["source"]
    return SetView(
        name=words.visible(haystack["name"]),
        digest=haystack["manifest_sha256"],
        source=words.visible(str(source.get("kind") or "")),
        licence=words.visible(str(source.get("licence") or "unknown")),
        repo=words.visible(haystack["location"]) if on_hub else "",
        revision=words.visible(haystack["revision"]) if on_hub else "",
        runs=len(briefs),
    )


def repository() -> str:
    """Address of the code, as the package names it; empty if it names none."""
    try:
        urls = metadata("rh-bench").get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    named = dict(url.split(", ", 1) for url in urls if ", " in url)
    found = next((named[label] for label in ("Repository", "Source", "Homepage") if label in named), "")
    return found if found.startswith("https://") else ""
