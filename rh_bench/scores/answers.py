"""Reads answers from responses: a number, a letter or a few words from free text, and how correct they are.

The rules are fixed and part of an experiment's version. They look for what a model *says* its answer is, and fall back
to the conventions of each benchmark; they repair nothing. A response without an answer has None, and is wrong.

Exact match and token F1 are those of SQuAD's official evaluation (Rajpurkar et al. 2016, arXiv 1606.05250): lower case,
ASCII punctuation and the articles a, an, the left out, words split at white space, the best of several references.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

RULES_VERSION = 1
"""Incremented whenever some response would be read differently."""

LETTERS = "ABCDEFGH"
MAX_DIGITS = 30
"""Longer runs of digits are loops, not answers."""

_IS = (
    r"(?:\s*,\s*\w+\s*,)?(?:\s+to\s+[^.\n]{1,80}?)?\s*"
    r"(?:\b(?:is|are|was|were|would\s+be|will\s+be|should\s+be)\b|[:=])\s*:?"
)
_SAID = re.compile(rf"\banswers?\b{_IS}|####", re.IGNORECASE)
"""Phrases that introduce an answer."""
_CHOSEN = re.compile(rf"\b(?:answer|option|choice)\b{_IS}|####", re.IGNORECASE)

# --- numbers ---

_CLEANED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}"), r" \1/\2 "),
    (re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|,\\!)(?=\d{3})"), ","),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"[−‒–—](?=[$€£]?[\d.])"), "-"),
)
"""LaTeX and typography, as plain text."""
_NUMBER = re.compile(
    r"""(?P<sign>(?<![\w)\].])-(?=[$€£]?[\d.]))?[$€£]?(?P<inner>(?<=[$€£])-)?\ ?
        (?:
            (?<![\d.,/])(?:(?P<whole>\d{1,15})\ )?(?P<over>\d{1,15})\ ?/\ ?(?P<under>\d{1,15})(?![\d/,.]*\d)
          | (?P<plain>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)
        )""",
    re.VERBOSE,
)
_HEADING = re.compile(r"\banswers?\s*:", re.IGNORECASE)
_AT_ONCE = re.compile(r"[\s*_$€£(\\.-]*\d")
_SUM = re.compile(r"(?:[\s\d.,$€£+\-*/x×÷()%]*=)+")
"""A calculation before its result."""


def extract_number(text: str) -> str | None:
    """The number that a response gives as its answer, in canonical form: ``1234``, ``-2.5``, ``3/7``.

    After the first ``####``; else the last one in the last box (``\\boxed{…}``); else after the last phrase like "the
    answer is" followed by a number on the same line ("Answer:" alone: immediately), where a calculation with its result
    counts as the result; else the last number. Thousands separators, currencies, units and a full stop are not part of
    a number; fractions and mixed numbers are. Numbers spelled out are not read.
    """
    text = _clean(text)
    if "####" in text:
        return _first_number(_line(text.split("####", 1)[1]))
    boxed = re.findall(r"\\boxed\s*\{([^{}]{1,200})\}", text)
    if boxed:
        return _last_number(boxed[-1])
    for match in reversed(list(_SAID.finditer(text))):
        line = _line(text[match.end() :])
        # "Answer:" alone may head a whole solution, which then starts with words.
        found = None if _HEADING.search(match[0]) and not _AT_ONCE.match(line) else _first_number(line)
        if found is not None:
            return found
    return _last_number(text)


def _clean(text: str) -> str:
    for pattern, by in _CLEANED:
        text = pattern.sub(by, text)
    return text


def _line(text: str) -> str:
    """The first non-empty line."""
    return text.lstrip().split("\n", 1)[0]


def _first_number(line: str) -> str | None:
    calculation = _SUM.match(line)
    return next(_numbers(line[calculation.end() if calculation else 0 :]), None)


def _last_number(text: str) -> str | None:
    return next(iter(list(_numbers(text))[-1:]), None)


def _numbers(text: str) -> Iterator[str]:
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            yield number_text(value)


def _value(match: re.Match[str]) -> Fraction | None:
    part = match.groupdict()
    negative = part["sign"] or part["inner"]
    if part["over"] is not None:
        if int(part["under"]) == 0:
            return None
        value = int(part["whole"] or 0) + Fraction(int(part["over"]), int(part["under"]))
    else:
        digits = part["plain"].replace(",", "")
        if len(digits) > MAX_DIGITS:
            return None
        value = Fraction(digits)
    return -value if negative else value


def number_text(value: Fraction) -> str:
    """Whole and decimal numbers in full, others as a fraction in lowest terms."""
    places = 0
    while places <= MAX_DIGITS and 10**places % value.denominator:
        places += 1
    if places > MAX_DIGITS:
        return f"{value.numerator}/{value.denominator}"
    whole, rest = divmod(abs(value.numerator) * 10**places // value.denominator, 10**places)
    return ("-" if value < 0 else "") + (f"{whole}.{rest:0{places}d}" if places else str(whole))


# --- letters ---


def extract_choice(text: str, choices: int) -> str | None:
    """The letter that a response chooses, of the first `choices` letters.

    After the last phrase like "the answer is" followed by a letter; else a letter at the very start, alone or before
    punctuation; else the last letter in parentheses; else the only letter that stands alone anywhere (an "A" followed
    by a lower-case word is an article). None if there are several and none is said to be the answer.
    """
    capital, either = f"[{LETTERS[:choices]}]", f"[{LETTERS[:choices]}{LETTERS[:choices].lower()}]"
    skipped = r"(?:[\s*_`\"'$\\{]|(?:boxed|text|option|choice|Option|Choice)\b)*"
    for match in reversed(list(_CHOSEN.finditer(text))):
        rest = text[match.end() : match.end() + 80]
        found = re.match(rf"{skipped}(?:\(({either})\)|({either})\)|({capital})\b(?!['’]))", rest)
        if found and not _article(rest, found.end(), found[0]):
            return _letter(found)
    first = rf"[\s*_`\"']*(?:\(({either})\)|({either})[).:](?=\s|$)|({capital})[*_`\"']*[ \t]*(?:$|[\n,;]))"
    start = re.match(first, text)
    if start:
        return _letter(start)
    enclosed = re.findall(rf"\(({capital})\)", text)
    if enclosed:
        return str(enclosed[-1])
    lone = re.finditer(rf"\b{capital}\b(?!['’])", text)
    alone = {match[0] for match in lone if not _article(text, match.end(), match[0])}
    return alone.pop() if len(alone) == 1 else None


def _letter(match: re.Match[str]) -> str:
    return str(next(group for group in match.groups() if group)).upper()


def _article(text: str, end: int, found: str) -> bool:
    return found.endswith("A") and re.match(r"\s+[a-z]", text[end : end + 8]) is not None


# --- words ---


def extract_words(text: str) -> str | None:
    """The words that a response gives as its answer: what follows the last "answer is" on its line, else its first
    non-empty line, without surrounding quotation marks and the final full stop."""
    said = list(_SAID.finditer(text))
    line = _line(text[said[-1].end() :] if said else text)
    return line.strip().strip("*_`").removesuffix(".").strip("\"“”'‘’ ") or None


# --- how right ---

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def normalise(text: str) -> str:
    """As SQuAD's official evaluation: lower case, no ASCII punctuation, no articles, single spaces."""
    bare = "".join(char for char in text.lower() if char not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, references: Sequence[str]) -> bool:
    """Whether an answer equals a reference after normalising."""
    return any(normalise(answer) == normalise(reference) for reference in references)


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the words of an answer against those of a reference, the best over the references, in [0, 1]."""
    return max((_f1(normalise(answer).split(), normalise(reference).split()) for reference in references), default=0.0)


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    shared = (Counter(answer) & Counter(reference)).total()
    return 2 * shared / (len(answer) + len(reference))
