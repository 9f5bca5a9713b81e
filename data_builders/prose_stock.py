"""What the embedded prose is made of: people, places, words and sentence templates, in ``data/prose``, licence CC0.

A file there is the stock of one domain; ``shared`` serves them all. A template starts in lower case, ends without a
full stop and holds slots in braces:

====================================  ===================================================================
``{A}``                               the person in focus as a subject: a name, or a pronoun where it is clear
``{N}``                               the same person, always by name
``{he}`` ``{him}`` ``{his}``          their pronouns; ``{role}`` is what they do
``{B}`` ``{bhe}`` ``{bhim}``          the other person, their pronouns (also ``{bhis}``) and ``{brole}``
``{place}`` ``{topic}``               where the sketch plays; the thing that its paragraph turns on
any other name                        a word of that list, which may hold slots of its own; ``{tool+}`` is its plural
====================================  ===================================================================

``a`` stands for ``a`` or ``an``. A mark before a template says which additions suit it: ``=`` none; ``~``, which is
for states and habits, none before it. A noun with an irregular plural gives it after a slash (``knife/knives``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

DOMAINS = (
    "harbour",
    "garden",
    "railway",
    "workshop",
    "kitchen",
    "weather",
    "library",
    "mountain",
    "music",
    "astronomy",
)
SHARED = "shared"

PRONOUNS: Mapping[str, Mapping[str, str]] = {
    "he": {"he": "he", "him": "him", "his": "his"},
    "she": {"he": "she", "him": "her", "his": "her"},
}
"""By a person's pronoun, what stands for the pronoun slots of a template."""

_ARTICLE = re.compile(r"\b([Aa])n? (?=(\w+))")
_SPOKEN_CONSONANT = re.compile(r"one\b|once|uni(?![nm])|us[eu]|eu|ewe", re.IGNORECASE)
_SILENT_H = re.compile(r"hour|honest|honour|heir", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    """First name and family name."""
    pronoun: str
    """A key of PRONOUNS."""
    role: str

    @property
    def given(self) -> str:
        return self.name.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Cast:
    """A place and those who belong to it, both pronouns among them."""

    place: str
    people: tuple[Person, ...]


@dataclass(frozen=True, slots=True)
class Stock:
    """The stock of a domain. The shared one has neither casts, topics nor openings."""

    casts: tuple[Cast, ...]
    topics: tuple[str, ...]
    openings: tuple[str, ...]
    """Templates of a sketch's first sentence."""
    sentences: tuple[str, ...]
    """Templates of all other sentences."""
    slots: Mapping[str, tuple[str, ...]]


@cache
def load_stock(name: str) -> Stock:
    """The stock of one of DOMAINS, or SHARED."""
    raw = json.loads((files("rh_bench.data_builders") / "data" / "prose" / f"{name}.json").read_text(encoding="utf-8"))
    return Stock(
        casts=tuple(Cast(place, tuple(_person(line) for line in people)) for place, people in raw["casts"].items()),
        topics=tuple(raw["topics"]),
        openings=tuple(raw["openings"]),
        sentences=tuple(raw["sentences"]),
        slots={slot: tuple(words) for slot, words in raw["slots"].items()},
    )


def _person(line: str) -> Person:
    name, pronoun, role = line.split(", ")
    return Person(name, pronoun, role)


def singular(noun: str) -> str:
    """A noun of the stock as it is used for one thing."""
    return noun.partition("/")[0]


def plural(noun: str) -> str:
    """A noun of the stock as it is used for several things."""
    one, slash, irregular = noun.partition("/")
    if slash:
        return irregular
    if re.search(r"(?:s|x|z|ch|sh)$", one):
        return f"{one}es"
    return f"{one[:-1]}ies" if re.search(r"[^aeiou]y$", one) else f"{one}s"


def with_articles(text: str) -> str:
    """`text` with every "a" turned into "an" where the next word sounds like it, and the reverse."""
    return _ARTICLE.sub(_article, text)


def _article(match: re.Match[str]) -> str:
    word = match[2]
    vowel = (word[0].lower() in "aeiou" and not _SPOKEN_CONSONANT.match(word)) or _SILENT_H.match(word)
    return f"{match[1]}n " if vowel else f"{match[1]} "
