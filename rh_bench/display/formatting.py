"""Numbers and names as a reader sees them: sensible digits, intervals that travel along, names that cannot deceive."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rh_bench.records import Json

MISSING = "–"

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate ready to print. `interval` is empty if there is none; `reason` says why a value is missing."""

    text: str
    interval: str
    reason: str
    n: int
    sort_key: str
    """The unrounded value, for sorting; empty if there is none."""


def figure(estimate: Json, form: Format) -> Figure:
    """An estimate object of summary.json, printed with `form`."""
    value = estimate["value"]
    if value is None:
        return Figure(MISSING, "", estimate["reason"] or "not computed", estimate["n"], "")
    return Figure(form(value), interval(estimate["low"], estimate["high"], form), "", estimate["n"], repr(float(value)))


def interval(low: float | None, high: float | None, form: Format) -> str:
    """`low–high`, or nothing if either end is missing. A percent sign is written once."""
    if low is None or high is None:
        return ""
    start, end = form(low), form(high)
    return f"{start.removesuffix('%')}–{end}"


def percent(share: float) -> str:
    """0.0444 as 4.4%; whole ends stay whole (0%, 100%)."""
    return f"{share * 100:.0f}%" if share in (0, 1) else f"{share * 100:.1f}%"


def whole_percent(share: float) -> str:
    return f"{share * 100:.0f}%"


def score(value: float) -> str:
    return f"{value:.3f}"


def count(value: float) -> str:
    """A number that need not be whole, as the effective number of heads: 8.3, 114."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def parameters(number: int) -> str:
    """134515008 as 134.5M, 7241732096 as 7.2B."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def thousands(number: int) -> str:
    return f"{number:,}"


def depth(value: float) -> str:
    return f"{value:g}%"


def duration(seconds: float) -> str:
    """3725.2 as 1 h 2 min; 12.3 as 12 s."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def visible(text: str) -> str:
    """`text` with every invisible control written out, as in ⟨U+202E⟩.

    Names come from whoever submits a run. A right-to-left override or a zero-width joiner in one would let it pass for
    another; escaping HTML does not help against that.
    """
    if text.isprintable():  # as nearly all are: no character of the categories below
        return text
    return "".join(f"⟨U+{ord(char):04X}⟩" if _invisible(char) else char for char in text)


def _invisible(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def signed(value: float) -> str:
    """0.845, −0.42: a true minus sign, and two digits that tell."""
    text = f"{abs(value):.2f}" if abs(value) >= 0.1 or value == 0 else f"{abs(value):.3f}"
    return f"−{text}" if value < 0 and float(text) else text


def p_text(value: float | None) -> str:
    """A p value; three digits, and no zeros alone."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def points(value: float) -> str:
    """0.123 as 12.3: percentage points, with a true minus sign."""
    text = f"{abs(value) * 100:.1f}"
    return f"−{text}" if value < 0 and float(text) else text


def inline(figure: Figure) -> str:
    """A figure within a sentence, its interval in brackets."""
    return f"{figure.text} ({figure.interval})" if figure.interval else figure.text


def head_name(head: Sequence[int]) -> str:
    """[17, 3] as 17-3: layer and query head."""
    return f"{head[0]}-{head[1]}"
