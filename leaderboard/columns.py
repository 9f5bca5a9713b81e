"""The columns of the overview: what stands in each, and the values that its script sorts by and downloads hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rh_bench.leaderboard.badges import ORDER as BADGES
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.records import Json

Value = str | int | float | None
ORDER = "share"
"""Key of the column that tables are ordered by at first, the largest value first."""


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a run, as it is downloaded: `kind` is "string", "int" or "double"."""

    name: str
    kind: str
    of: Callable[[RunBrief], Value]


@dataclass(frozen=True, slots=True)
class Column:
    """`about` is what the head of the column says when it is pointed at; the first field is what it sorts by."""

    key: str
    label: str
    about: str
    width: int
    """In CSS pixels."""
    fields: tuple[Field, ...]
    numeric: bool = True
    hidden: bool = False
    """Not shown at first: what it says stands above the table, too."""

    @property
    def name(self) -> str:
        """The label without what tells where it may break."""
        return self.label.replace("\u00ad", "").replace("\u00a0", " ")


def _estimate(name: str, of: Callable[[RunBrief], Json]) -> tuple[Field, ...]:
    """The fields of an estimate: value, interval, n, and why a value or an interval is missing."""
    return (
        Field(name, "double", lambda brief: of(brief)["value"]),
        Field(f"{name}_low", "double", lambda brief: of(brief)["low"]),
        Field(f"{name}_high", "double", lambda brief: of(brief)["high"]),
        Field(f"{name}_n", "int", lambda brief: of(brief)["n"]),
        Field(f"{name}_reason", "string", lambda brief: of(brief)["reason"]),
    )


COLUMNS = (
    Column(
        "rank",
        "Rank",
        "Place within the table by the column it is sorted by, among the runs over the whole set; equal values "
        "share a place. Not a verdict: no order says that one model is better than another",
        52,
        (),
    ),
    Column(
        "model",
        "Model",
        "The model, and the first digits of its revision",
        154,
        (
            Field("model", "string", lambda brief: brief.model),
            Field("revision", "string", lambda brief: brief.revision),
            Field("run", "string", lambda brief: brief.key),
            Field("coverage", "string", lambda brief: brief.coverage.kind),
            Field("measured_on", "string", lambda brief: brief.coverage.words),
        ),
        numeric=False,
    ),
    Column(
        "family",
        "Family",
        "The model type in its configuration",
        96,
        (
            Field("family", "string", lambda brief: brief.family),
            Field("architecture", "string", lambda brief: brief.architecture),
        ),
        numeric=False,
    ),
    Column(
        "parameters",
        "Para\u00admeters",
        "Number of weights",
        64,
        (Field("parameters", "int", lambda brief: brief.parameters),),
    ),
    Column(
        "heads",
        "Layers\u00a0× heads",
        "Layers × query heads in each, and what kinds of attention the layers have; sorted by the number of heads",
        72,
        (
            Field("heads", "int", lambda brief: brief.heads),
            Field("layers", "int", lambda brief: brief.layers),
            Field("attention", "string", lambda brief: brief.attention),
        ),
    ),
    Column(
        "share",
        "Share above\u00a00.1",
        "Share of heads with a score above 0.1, the paper's retrieval heads, with its interval; the mark is at 5%",
        108,
        _estimate("share_above_0.1", lambda brief: brief.share),
    ),
    Column(
        "zero",
        "Share at zero",
        "Share of heads with a score of exactly zero",
        82,
        _estimate("share_zero", lambda brief: brief.zero),
    ),
    Column(
        "half",
        "Share above\u00a00.5",
        "Share of heads with a score above 0.5: those that copy most of the needle",
        82,
        _estimate("share_above_0.5", lambda brief: brief.half),
    ),
    Column(
        "gini",
        "Gini",
        "How unequally the scores are spread over the heads: 0 if all are equal, near 1 if one head has everything",
        88,
        _estimate("gini", lambda brief: brief.gini),
    ),
    Column(
        "effective",
        "Effective heads",
        "The number of equally strong heads with the same concentration",
        74,
        _estimate("effective_heads", lambda brief: brief.effective),
    ),
    Column(
        "always",
        "Always on",
        "Heads that copy at least once in every counted sample",
        56,
        (
            Field("always_on", "int", lambda brief: brief.always_on),
            Field("always_on_reason", "string", lambda brief: brief.always_on_reason or None),
        ),
    ),
    Column(
        "success",
        "NIAH success",
        "Needle in a haystack: share of samples answered, with the number counted and the total",
        80,
        (
            *_estimate("niah_success", lambda brief: brief.success),
            Field("counted", "int", lambda brief: brief.counted),
            Field("samples", "int", lambda brief: brief.samples),
            Field("set_samples", "int", lambda brief: brief.coverage.of),
        ),
    ),
    Column(
        "universality",
        "Univer\u00adsality",
        "Whether the heads are the same everywhere: mean Spearman correlation of all scores between two needles. "
        "1 if all needles rank the heads the same, 0 if they are unrelated",
        68,
        _estimate("universality", lambda brief: brief.stability),
    ),
    Column(
        "badge",
        "Verified",
        "How far a maintainer has verified the run",
        88,
        (Field("verified", "string", lambda brief: brief.badge),),
        numeric=False,
    ),
    Column(
        "set",
        "Set, protocol",
        "The haystack set with the first digits of its hash, and the version of the protocol",
        108,
        (
            Field("set", "string", lambda brief: brief.set_name),
            Field("set_sha256", "string", lambda brief: brief.manifest_sha256),
            Field("protocol", "string", lambda brief: "; ".join(brief.table_facts[1:])),
        ),
        numeric=False,
        hidden=True,
    ),
    Column(
        "date",
        "Date",
        "Day on which the measurement started, as claimed by the submitter",
        84,
        (
            Field("started", "string", lambda brief: brief.started),
            Field("rh_bench", "string", lambda brief: brief.rh_bench),
        ),
        numeric=False,
    ),
)


def data(briefs: Sequence[RunBrief]) -> Json:
    """The values behind the table, for its script: a list per field, in the order of `briefs`.

    Texts are numbered in the order in which they sort, so that every column sorts by numbers; `null` sorts last.
    """
    return {
        "columns": [
            {
                "key": column.key,
                "label": column.name,
                "numeric": column.numeric,
                "fields": [field.name for field in column.fields],
            }
            for column in COLUMNS
        ],
        "fields": {field.name: _values(field, briefs) for field in fields()},
        "apart": [not brief.coverage.whole for brief in briefs],
    }


def fields() -> Iterator[Field]:
    return (field for column in COLUMNS for field in column.fields)


def _values(field: Field, briefs: Sequence[RunBrief]) -> Json:
    found = [field.of(brief) for brief in briefs]
    if field.kind != "string":
        return {"kind": field.kind, "data": found}
    texts = [text for text in found if isinstance(text, str)]
    ordered = list(BADGES) if field.name == "verified" else sorted(set(texts), key=lambda text: (text.casefold(), text))
    places = {text: place for place, text in enumerate(ordered)}
    numbers = [places[text] if isinstance(text, str) else None for text in found]
    return {"kind": field.kind, "values": ordered, "data": numbers}
