"""The embedded prose: the same everywhere, no sentence twice, sound English, nothing of any needle in it."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rh_bench.data_builders.needles import builtin_needles
from rh_bench.data_builders.prose import MAX_CHARACTERS, synthetic_text
from rh_bench.data_builders.prose_stock import (
    DOMAINS,
    PRONOUNS,
    SHARED,
    Stock,
    load_stock,
    plural,
    singular,
    with_articles,
)
from rh_bench.errors import InputError

BOOK = 400_000
FIXED_SLOTS = {"A", "N", "B", "he", "him", "his", "bhe", "bhim", "bhis", "role", "brole", "place", "topic"}
ADDITIONS = {"opener_first", "opener_middle", "opener_last", "tail_person", "tail_thing", "tail_fact"}
LEADING = {
    "when",
    "first",
    "at",
    "in",
    "from",
    "through",
    "inside",
    "under",
    "on",
    "behind",
    "between",
    "over",
    "after",
}


@pytest.fixture(scope="module")
def book() -> str:
    return synthetic_text(0, BOOK)


@pytest.fixture(scope="module")
def sentences(book: str) -> list[str]:
    return split(book)


def split(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+|(?<=[.!?]\")\s+", text)


def slots_of(text: str) -> list[str]:
    return re.findall(r"\{([^{}]*)\}", text)


def templates(stock: Stock) -> list[str]:
    return [template.lstrip("=~") for template in (*stock.openings, *stock.sentences)]


def texts(stock: Stock) -> list[str]:
    """Everything in a stock that can reach the page."""
    people = [text for cast in stock.casts for text in (cast.place, *(f"{p.name}, {p.role}" for p in cast.people))]
    return [*people, *stock.topics, *templates(stock), *(word for words in stock.slots.values() for word in words)]


# --- the text ---------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_seed_never_change(book: str) -> None:
    """If this fails on purpose, raise PROSE_VERSION: sets that were built before have other haystacks."""
    assert (
        hashlib.sha256(book.encode()).hexdigest() == "6d40f0b7b84afe4027343cdfa91d632afb22ea030da95813b004efabd57d350a"
    )


def test_only_the_stable_stream_of_random_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strict(random.Random):
        def getrandbits(self, k: int) -> int:
            raise AssertionError("choice, shuffle, randrange and their like may change between Python versions")

    expected = synthetic_text(3, 5_000)
    monkeypatch.setattr("rh_bench.data_builders.prose.random.Random", Strict)
    assert synthetic_text(3, 5_000) == expected


@given(st.integers(0, 2**64), st.integers(1, 20_000), st.integers(1, 20_000))
@settings(max_examples=min(25, settings.default.max_examples), deadline=None)
def test_a_shorter_text_is_the_beginning_of_a_longer_one(seed: int, one: int, other: int) -> None:
    short, long = synthetic_text(seed, min(one, other)), synthetic_text(seed, max(one, other))
    paragraphs = short.split("\n\n")
    assert long.split("\n\n")[: len(paragraphs)] == paragraphs
    assert len(short) >= min(one, other)
    assert len("\n\n".join(paragraphs[:-1])) < min(one, other), "no paragraph more than was asked for"


def test_seeds_give_different_texts() -> None:
    assert len({synthetic_text(seed, 1_000) for seed in range(20)}) == 20


@pytest.mark.parametrize(("seed", "characters"), [(0, 0), (0, -1), (0, MAX_CHARACTERS + 1), (-1, 100)])
def test_what_is_out_of_range_is_refused(seed: int, characters: int) -> None:
    with pytest.raises(InputError, match="use"):
        synthetic_text(seed, characters)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_sentence_occurs_twice(seed: int) -> None:
    counts = Counter(sentence.casefold() for sentence in split(synthetic_text(seed, BOOK)))
    assert [sentence for sentence, count in counts.items() if count > 1] == []


@pytest.mark.slow
def test_the_stock_is_large_enough_for_the_longest_text() -> None:
    assert len(synthetic_text(9, MAX_CHARACTERS)) >= MAX_CHARACTERS


def test_no_word_of_an_answer_stands_in_the_text(book: str) -> None:
    assert answer_words() & set(words(book)) == set()


def test_sentences_vary_in_length_and_kind(sentences: list[str]) -> None:
    lengths = [len(sentence.split()) for sentence in sentences]
    assert sum(length <= 8 for length in lengths) > 0.05 * len(lengths)
    assert sum(length >= 20 for length in lengths) > 0.05 * len(lengths)
    assert sum(sentence.endswith(("?", '?"')) for sentence in sentences) > 0.02 * len(sentences)
    assert sum('"' in sentence for sentence in sentences) > 0.03 * len(sentences)


def test_no_template_rules_the_page(sentences: list[str]) -> None:
    """Three words that begin more than one sentence in fifty would catch the eye."""
    starts = Counter(" ".join(sentence.split()[:3]) for sentence in sentences)
    assert starts.most_common(1)[0][1] < len(sentences) / 50


def test_a_paragraph_stays_with_its_people(book: str) -> None:
    """All those whom a paragraph names belong to one place, and hardly any paragraph names nobody."""
    home = {person.given: cast.place for name in DOMAINS for cast in load_stock(name).casts for person in cast.people}
    paragraphs = book.split("\n\n")
    places = [{home[word] for word in re.findall(r"\w+", paragraph) if word in home} for paragraph in paragraphs]
    assert {len(named) for named in places} <= {0, 1}
    assert sum(not named for named in places) < 0.02 * len(places)


def test_everybody_comes_back(book: str) -> None:
    """A sketch gives the full name once."""
    for cast in itertools.chain.from_iterable(load_stock(name).casts for name in DOMAINS):
        assert max(book.count(person.name) for person in cast.people) >= 2, cast.place


def test_the_page_is_clean(book: str, sentences: list[str]) -> None:
    assert book.isascii()
    assert not re.search(r"[{}=~/\t]| {2}| [,.;?]|\n{3}|\n[^\nA-Z\"]|[,.;?][,.;]| \n|\n ", book)
    assert not re.search(r"\b(\w+) \1\b", book, re.IGNORECASE), "a word stands twice"
    assert not re.search(r"\b(he|she)'s\b", book, re.IGNORECASE)
    for sentence in sentences:
        assert re.match(r'"?[A-Z]', sentence), sentence
        assert re.search(r'[.?]"?$', sentence), sentence
        assert sentence.count('"') in (0, 2, 4), sentence


def test_articles_agree(book: str) -> None:
    assert len(re.findall(r"\ban (?:[aeiou]|hour)", book)) > 100
    assert not re.search(r"\ba (?!one\b|once|uni|us[eu]|eu|ewe)[aeiou]", book, re.IGNORECASE)
    assert not re.search(r"\ban (?!hour|honest|heir|honour)[^aeiou]", book, re.IGNORECASE)


# --- the words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a owl and a cat", "an owl and a cat"),
        ("A hour, a ewe", "An hour, a ewe"),
        ("an useful an unlit lamp", "a useful an unlit lamp"),
        ("a uniform, a eleven", "a uniform, an eleven"),
        ("plan a visit", "plan a visit"),
    ],
)
def test_articles(text: str, expected: str) -> None:
    assert with_articles(text) == expected


@pytest.mark.parametrize(
    ("noun", "one", "several"),
    [
        ("cat", "cat", "cats"),
        ("box", "box", "boxes"),
        ("lily", "lily", "lilies"),
        ("tray", "tray", "trays"),
        ("knife/knives", "knife", "knives"),
        ("ball of string/balls of string", "ball of string", "balls of string"),
    ],
)
def test_numbers(noun: str, one: str, several: str) -> None:
    assert (singular(noun), plural(noun)) == (one, several)


# --- the stock --------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.casefold())


def answer_words() -> set[str]:
    """Content words of the needles' answers, with their plain plurals and singulars."""
    found = {word for needle in builtin_needles() for word in words(needle.answer) if len(word) >= 4}
    singulars = {re.sub(r"(?<!s)s$", "", word) for word in found}
    return found | singulars | {f"{word}{ending}" for word in found for ending in ("s", "es")}


@pytest.mark.parametrize("name", [*DOMAINS, SHARED])
def test_stock_keeps_away_from_the_answers(name: str) -> None:
    used = {word for text in texts(load_stock(name)) for form in (singular(text), plural(text)) for word in words(form)}
    assert used & answer_words() == set()


@pytest.mark.parametrize("name", [*DOMAINS, SHARED])
def test_every_slot_is_filled_and_every_list_is_used(name: str) -> None:
    stock, shared = load_stock(name), load_stock(SHARED)
    asked = {slot.removesuffix("+") for text in texts(stock) for slot in slots_of(text)}
    known = FIXED_SLOTS | set(stock.slots) | set(shared.slots)
    assert asked <= known, asked - known
    everywhere = {
        slot.removesuffix("+") for part in DOMAINS for text in texts(load_stock(part)) for slot in slots_of(text)
    }
    used = asked | ADDITIONS | (everywhere if name == SHARED else set())
    assert set(stock.slots) <= used, set(stock.slots) - used


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_is_rich(name: str) -> None:
    stock = load_stock(name)
    assert len(stock.sentences) >= 25
    assert len(stock.openings) >= 5
    assert len(stock.topics) >= 15
    assert len(stock.casts) >= 4
    for cast in stock.casts:
        assert {person.pronoun for person in cast.people} == set(PRONOUNS), cast.place


def test_there_are_enough_domains_and_shared_templates() -> None:
    assert len(DOMAINS) >= 8
    assert len(load_stock(SHARED).sentences) >= 25


@pytest.mark.parametrize("name", [*DOMAINS, SHARED])
def test_nothing_stands_twice_in_a_list(name: str) -> None:
    stock = load_stock(name)
    for items in (stock.topics, stock.openings, stock.sentences, *stock.slots.values()):
        assert [item for item, count in Counter(items).items() if count > 1] == []


def test_nobody_shares_a_given_name() -> None:
    casts = itertools.chain.from_iterable(load_stock(name).casts for name in DOMAINS)
    counts = Counter(person.given for cast in casts for person in cast.people)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("name", [*DOMAINS, SHARED])
def test_templates_keep_the_notation(name: str) -> None:
    stock = load_stock(name)
    for text in texts(stock):
        assert text.isascii(), text
        assert "{A}'s" not in text, f"a pronoun has no such form: {text}"
        assert not re.search(r"\b[Aa]n \{", text), f"write a, it becomes an: {text}"
    for template in templates(stock):
        core = re.sub(r"\{\w+\+?\}", "x", template)
        assert re.fullmatch(r'[^.!?{}=~]*(?:[?.]"|[^.!{}=~])', core), f"one sentence without a full stop: {template}"
        assert core[0].islower() or core[0] == '"', template


@pytest.mark.parametrize("name", [*DOMAINS, SHARED])
def test_what_begins_with_a_time_or_a_place_takes_no_opener(name: str) -> None:
    """Not "On Monday, in the end, …"."""
    marked = [template for template in load_stock(name).sentences if template.split()[0] in LEADING]
    assert marked == []
