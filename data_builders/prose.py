"""Original English prose from a seed: the embedded text of a haystack, of any length, licence CC0, without a network.

The text is a book of sketches. A sketch stays in one domain (a harbour, a garden, a railway, …), at one place and with
the people who belong to it; places and people come back later in the book. A sentence is a template of the domain, or
of the stock that all domains share, whose slots are filled from lists of words
(:mod:`rh_bench.data_builders.prose_stock`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rh_bench.data_builders.prose_stock import (
    DOMAINS,
    PRONOUNS,
    SHARED,
    Cast,
    Person,
    load_stock,
    plural,
    singular,
    with_articles,
)
from rh_bench.errors import InputError

PROSE_VERSION = 1
"""Goes up whenever a seed begins to give other text."""
MAX_CHARACTERS = 1_000_000

_SHARED_SHARE = 0.3
"""Share of sentences that come from the stock of all domains."""
_OPENER_SHARE = 0.3
_TAIL_SHARE = 0.28
_PRONOUN_SHARE = 0.65
"""Share of a person's mentions that are a pronoun, of those that can be."""
_MAX_TRIES = 1000

_SLOT = re.compile(r"\{(\w+)(\+?)\}")

_T = TypeVar("_T")
_Key = tuple[str, ...]


def synthetic_text(seed: int, characters: int) -> str:
    """Readable prose, paragraphs separated by a blank line, of at least `characters` characters.

    No sentence occurs twice. A shorter text of the same seed is the beginning of a longer one, up to the end of a
    paragraph. The same arguments give the same text on every machine and Python version.

    Args:
        seed: any integer from 0.
        characters: from 1 to MAX_CHARACTERS.

    Raises:
        InputError: an argument is out of range.
    """
    if seed < 0:
        raise InputError(f"{seed} is negative", where="seed", hint="use an integer from 0")
    if not 1 <= characters <= MAX_CHARACTERS:
        raise InputError(f"{characters} is out of range", where="characters", hint=f"use 1 to {MAX_CHARACTERS}")
    written: list[str] = []
    length = -2
    for paragraph in _paragraphs(_Decks(random.Random(seed))):
        written.append(paragraph)
        length += 2 + len(paragraph)
        if length >= characters:
            break
    return "\n\n".join(written)


class _Decks:
    """Random draws that keep equal things apart: an item comes back only after half of its deck has been drawn.

    Only ``random()`` is called, whose stream Python keeps from version to version; ``shuffle`` and ``choice`` are free
    to change.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._order: dict[_Key, list[int]] = {}

    def chance(self, share: float) -> bool:
        return self._rng.random() < share

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self._rng.random() * (high - low + 1))

    def draw(self, key: _Key, items: Sequence[_T]) -> _T:
        """An item of the deck named `key`: one of the half that was drawn the longest ago."""
        order = self._order.get(key)
        if order is None:
            order = self._order[key] = self._shuffled(len(items))
        drawn = order.pop(self.between(0, (len(order) - 1) // 2))
        order.append(drawn)
        return items[drawn]

    def _shuffled(self, count: int) -> list[int]:
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.between(0, last)
            order[last], order[other] = order[other], order[last]
        return order


@dataclass(slots=True)
class _Scene:
    """What the sentences of a paragraph share, and what they have said so far."""

    domain: str
    place: str
    focus: Person
    other: Person
    topic: str
    introduced: set[str]
    """Those whom this sketch has named in full."""
    focus_is_clear: bool = False
    """The last sentence was about the focus and nobody else, so that a pronoun will be understood."""


@dataclass(slots=True)
class _Renderer:
    """Fills the slots of one template."""

    scene: _Scene
    decks: _Decks
    by_pronoun: bool
    used: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)

    def render(self, template: str) -> str:
        self.used.add(self.scene.topic)
        text = with_articles(self._fill(template))
        return text[0].upper() + text[1:] + ("" if text[-1] in '.?!"' else ".")

    def _fill(self, template: str) -> str:
        return _SLOT.sub(lambda match: self._value(match[1], several=bool(match[2])), template)

    def _value(self, slot: str, *, several: bool) -> str:
        scene = self.scene
        match slot:
            case "A" if self.by_pronoun and scene.focus.name not in self.named:
                return scene.focus.pronoun
            case "A" | "N":
                return self._name(scene.focus)
            case "B":
                return self._name(scene.other)
            case "he" | "him" | "his":
                return PRONOUNS[scene.focus.pronoun][slot]
            case "bhe" | "bhim" | "bhis":
                return PRONOUNS[scene.other.pronoun][slot[1:]]
            case "role":
                return scene.focus.role
            case "brole":
                return scene.other.role
            case "place":
                return scene.place
        word = scene.topic if slot == "topic" else self._word(slot)
        return self._fill(plural(word) if several else singular(word))

    def _name(self, person: Person) -> str:
        """The full name when the sketch gives it for the first time, then the given name."""
        known = person.name in self.scene.introduced or person.name in self.named
        self.named.add(person.name)
        return person.given if known else person.name

    def _word(self, slot: str) -> str:
        """A word of the list `slot`, one that this sentence has not used where there is one."""
        owner = self.scene.domain if slot in load_stock(self.scene.domain).slots else SHARED
        words = load_stock(owner).slots[slot]
        for _ in words:
            word = self.decks.draw((owner, slot), words)
            if word not in self.used:
                break
        self.used.add(word)
        return word


@dataclass(slots=True)
class _Writer:
    """Writes one paragraph."""

    scene: _Scene
    decks: _Decks
    seen: set[str]
    """Every sentence of the book so far, without regard to case."""

    def paragraph(self, *, opens_sketch: bool) -> str:
        last = self.decks.between(4, 8) - 1
        positions = ["first", *["middle"] * (last - 1), "last"]
        return " ".join(self._nth(position, opens_sketch and number == 0) for number, position in enumerate(positions))

    def _nth(self, position: str, is_opening: bool) -> str:
        domain = self.scene.domain
        if is_opening:
            return self._sentence((domain, "openings"), load_stock(domain).openings, None)
        shared = position != "first" and self.decks.chance(_SHARED_SHARE)
        source = SHARED if shared else domain
        return self._sentence((source, "sentences"), load_stock(source).sentences, position)

    def _sentence(self, key: _Key, templates: Sequence[str], position: str | None) -> str:
        """A sentence that the book does not have yet. `position` is where in the paragraph it stands, None for one that
        takes no addition."""
        scene = self.scene
        for _ in range(_MAX_TRIES):
            template = self._dressed(self.decks.draw(key, templates), position)
            by_pronoun = scene.focus_is_clear and self.decks.chance(_PRONOUN_SHARE)
            renderer = _Renderer(scene, self.decks, by_pronoun)
            sentence = renderer.render(template)
            if sentence.casefold() not in self.seen:
                self.seen.add(sentence.casefold())
                scene.introduced |= renderer.named
                scene.focus_is_clear = ("{A}" in template or "{N}" in template) and "{B}" not in template
                return sentence
        raise RuntimeError(f"the stock {key} is too small for a text of this length")

    def _dressed(self, template: str, position: str | None) -> str:
        """A template with, at times, an opener, which gives the time or joins it to what went before, and a tail, which
        one with a comma of its own does without."""
        mark, core = (template[0], template[1:]) if template[0] in "=~" else ("", template)
        if mark == "=" or position is None or core[-1] in '?"':
            return core
        slots, simple = load_stock(SHARED).slots, "," not in core
        if not mark and self.decks.chance(_OPENER_SHARE):
            core = f"{self.decks.draw(('opener', position), slots[f'opener_{position}'])}, {core}"
        if simple and self.decks.chance(_TAIL_SHARE):
            kind = "tail_fact" if mark else "tail_person" if "{A}" in core else "tail_thing"
            core += self.decks.draw((kind,), slots[kind])
        return core


def _paragraphs(decks: _Decks) -> Iterator[str]:
    """The paragraphs of the whole book, without end."""
    seen: set[str] = set()
    while True:
        domain = decks.draw(("domains",), DOMAINS)
        cast = decks.draw((domain, "casts"), load_stock(domain).casts)
        introduced: set[str] = set()
        for number in range(decks.between(4, 6)):
            scene = _scene(domain, cast, introduced, decks)
            yield _Writer(scene, decks, seen).paragraph(opens_sketch=number == 0)


def _scene(domain: str, cast: Cast, introduced: set[str], decks: _Decks) -> _Scene:
    """Two people of the cast, whom pronouns tell apart, and a thing for their paragraph to turn on."""
    focus = decks.draw((domain, cast.place), cast.people)
    others = [person for person in cast.people if person.pronoun != focus.pronoun]
    other = others[decks.between(0, len(others) - 1)]
    topic = decks.draw((domain, "topics"), load_stock(domain).topics)
    return _Scene(domain, cast.place, focus, other, topic, introduced)
