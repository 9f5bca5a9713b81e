"""What is wrong with a foreign file of head scores, in words that its author can act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rh_bench.interchange.formats import READERS, guess_format, head_names, read
from rh_bench.interchange.measures import LONGEST_ANSWER, Evidence, evidence_of_means, evidence_of_samples
from rh_bench.interchange.records import COMPARED, MEASURES, HeadList
from rh_bench.protocol import HEAD_THRESHOLD

_ROUNDING = 1e-9
"""A score is over 1 when it is over by more than sums of floating-point numbers are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is stable, for programs; `message` is for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Audit:
    """What a file holds, and what is wrong with it."""

    format: str
    heads: HeadList
    findings: tuple[Finding, ...]


def audit_file(path: Path, format: str | None = None) -> Audit:
    """Look for what makes scores wrong or impossible to check.

    Raises:
        InputError: it cannot be read as any known format.
    """
    name = format or guess_format(path)
    heads = read(path, name)
    return Audit(name, heads, tuple(_findings(heads)))


def _findings(heads: HeadList) -> Iterator[Finding]:
    if heads.format not in READERS:
        yield Finding(
            "foreign-format", "it was read by a package that is not rh_bench's, which says what its numbers are"
        )
    yield from (Finding("not-json", note) for note in heads.notes)
    yield from _measure(heads)
    if heads.model is None:
        yield Finding("no-model", "it does not name the model")
    if heads.unit == "key_value":
        yield Finding("key-value-heads", "its heads are key/value heads, not query heads")
    if heads.every_head:
        yield Finding("all-heads", "it stands for every head of the model: it chooses none, and does not say how many")
    elif heads.measure == "membership":
        yield Finding("no-scores", "it lists heads without scores, so no threshold and no ranking can be checked")
    if heads.layers is None:
        yield Finding("no-grid", "it does not say how many layers and heads the model has, so no share can be computed")
    yield from _grid(heads)
    if heads.values is not None:
        yield from _values(heads, heads.values)
    if heads.instances is not None:
        yield from _instances(heads, heads.instances)
    elif heads.measure not in ("gate", "membership"):
        yield Finding("no-samples", "it has no scores of single samples, so no mean and no interval can be recomputed")


def _measure(heads: HeadList) -> Iterator[Finding]:
    """Numbers that are not what this package calls a score, or that do not show it."""
    if heads.measure in ("argmax", "attention"):
        yield Finding(
            "other-measure",
            f"its numbers are {MEASURES[heads.measure]}, not shares of an answer that a head copies: they are compared "
            "with no copy score",
        )
    evidence = _evidence(heads)
    if evidence is None:
        return
    if heads.measure == "unknown":
        yield Finding("other-measure", _no_copies(heads, evidence))
    elif heads.instances is None and evidence.places in (1, 2):
        yield Finding(
            "rounded",
            f"its numbers have at most {evidence.places} decimal places, too few to show whether they are copy scores; "
            "they are taken for some",
        )


def _evidence(heads: HeadList) -> Evidence | None:
    """What the numbers show, where the format leaves it open."""
    if heads.measure not in ("score", "unknown") or heads.values is None:
        return None
    return evidence_of_means(heads.values) if heads.instances is None else evidence_of_samples(heads.instances)


def _no_copies(heads: HeadList, evidence: Evidence) -> str:
    means = "" if heads.instances is not None else ", nor are they means of such shares"
    rounded = "" if evidence.places is None else f" (rounded to {evidence.places} decimal places, they may hide it)"
    return (
        f"{evidence.shares} of its {evidence.numbers} different numbers are k/n of an answer of at most "
        f"{LONGEST_ANSWER} tokens{means}{rounded}: they are no copy scores (attention mass?) and are compared with none"
    )


def _grid(heads: HeadList) -> Iterator[Finding]:
    if heads.layers is None or heads.heads_per_layer is None:
        return
    known = set(heads.heads)
    missing = [
        (layer, head)
        for layer in range(heads.layers)
        for head in range(heads.heads_per_layer)
        if (layer, head) not in known
    ]
    if missing:
        yield Finding("missing-heads", f"{len(missing)} heads of its own grid are missing: {head_names(missing)}")


def _values(heads: HeadList, values: tuple[float, ...]) -> Iterator[Finding]:
    name = {"gate": "gates", "score": "scores"}.get(heads.measure, "numbers")
    outside = [head for head, value in zip(heads.heads, values, strict=True) if value < 0 or value > 1 + _ROUNDING]
    if outside:
        low, high = min(values), max(values)
        yield Finding(
            "out-of-range", f"{len(outside)} {name} lie outside [0, 1], from {low:g} to {high:g}: {head_names(outside)}"
        )
    if heads.selected is None or heads.measure not in COMPARED:
        return
    above = {head for head, value in zip(heads.heads, values, strict=True) if value > HEAD_THRESHOLD}
    if above != heads.selected:
        yield Finding(
            "selection-differs",
            f"it chooses {len(heads.selected)} heads, {len(above)} have a score above {HEAD_THRESHOLD}, "
            f"{len(above & heads.selected)} are both",
        )


def _instances(heads: HeadList, rows: tuple[tuple[float, ...], ...]) -> Iterator[Finding]:
    yield Finding("no-labels", "its samples carry no needle, length or depth, so none of them can be run again")
    lengths = Counter(len(row) for row in rows)
    if len(lengths) > 1:
        usual = lengths.most_common(1)[0][0]
        odd = [head for head, row in zip(heads.heads, rows, strict=True) if len(row) != usual]
        yield Finding(
            "unequal-counts", f"{len(odd)} heads have another number of samples than {usual}: {head_names(odd)}"
        )
    over = [score for row in rows for score in row if score > 1 + _ROUNDING]
    if over and heads.measure == "score":
        yield Finding(
            "over-one",
            f"{len(over)} scores of single samples exceed 1, up to {max(over):.3g}: a head cannot copy more of an "
            "answer than there is",
        )
    negative = sum(score < 0 for row in rows for score in row)
    if negative:
        yield Finding("negative", f"{negative} scores of single samples are below 0")
    if len(lengths) == 1 and heads.measure == "score":
        silent = np.flatnonzero(~np.array(rows).any(axis=0))
        if len(silent):
            yield Finding(
                "silent-samples",
                f"in {len(silent)} of {next(iter(lengths))} samples no head scores at all, although they are counted "
                "as successful",
            )
