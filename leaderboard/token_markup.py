"""Texts with the tokens marked that a head copied; where a run does not say what its tokens spell, their numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from markupsafe import Markup, escape

from rh_bench.display import formatting as words

_BOX, _GAP, _HEIGHT = 9, 2, 12
_MOST_RUNS = 30


@dataclass(frozen=True, slots=True)
class Strip:
    """The tokens of an answer as a row of boxes."""

    width: int
    height: int
    all: str
    copied: str
    """Paths of the boxes."""
    label: str
    """As in "tokens 1–5 and 7 of 9"."""


def marked(pieces: Sequence[str], copied: Collection[int]) -> Markup:
    """A text given as its tokens' pieces, with the copied tokens in `mark` elements; neighbours share one."""
    parts: list[str] = []
    for is_copied, group in groupby(range(len(pieces)), key=lambda place: place in copied):
        text = shown("".join(pieces[place] for place in group))
        bare = text.lstrip(" ")
        space = text[: len(text) - len(bare)]
        parts.append(f"{space}<mark>{escape(bare)}</mark>" if is_copied and bare else str(escape(text)))
    return Markup("".join(parts).strip())


def shown(text: str) -> str:
    """A text of a model on one line, with what cannot be seen written out."""
    return words.visible(text.replace("\r\n", "\n").replace("\n", " ↵ ").replace("\t", " "))


def first_pieces(pieces: Sequence[str], longest: int) -> list[str]:
    """The pieces that make at most `longest` characters, and dots where there are more."""
    ends = accumulate(map(len, pieces))
    kept = [piece for piece, end in zip(pieces, ends, strict=True) if end <= longest]
    return kept if len(kept) == len(pieces) else [*kept, "…"]


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def strip(tokens: int, copied: Collection[int], most: int) -> Strip:
    """
    Args:
        tokens: of the answer.
        copied: their numbers, from 0.
        most: boxes to draw; the label names all tokens.
    """

    def boxes(places: Collection[int]) -> str:
        return "".join(f"M{place * (_BOX + _GAP)} 0h{_BOX}v{_HEIGHT}h-{_BOX}z" for place in sorted(places))

    drawn = min(tokens, most)
    width = drawn * (_BOX + _GAP) - _GAP
    inside = [place for place in copied if place < drawn]
    return Strip(width, _HEIGHT, boxes(range(drawn)), boxes(inside), f"{token_numbers(copied)} of {tokens}")


def token_numbers(copied: Collection[int]) -> str:
    """Numbers from 1, runs of them as ranges: "token 3", "tokens 1–5, 7"; "no token"."""
    if not copied:
        return "no token"
    ordered = sorted(copied)
    breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(ordered)) if b != a + 1), len(ordered)]
    runs = [(ordered[first] + 1, ordered[last - 1] + 1) for first, last in pairwise(breaks)]
    listed = ", ".join(f"{first}–{last}" if last > first else str(first) for first, last in runs[:_MOST_RUNS])
    listed += ", …" if len(runs) > _MOST_RUNS else ""
    return f"{'token' if len(ordered) == 1 else 'tokens'} {listed}"
