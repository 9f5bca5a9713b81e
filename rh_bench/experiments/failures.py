"""Why an answer failed, by the names that the paper gives: incomplete retrieval, wrong extraction, hallucination.

The paper names the types and shows examples; the rule is ours, and uses no list of words. What only the needle can have
taught a response are its *own grams*: words and pairs of neighbouring words of the answer that stand neither in the
question nor in the haystack. A response with one of them retrieved something, though not enough. One without them that
repeats the haystack took its words from the wrong place. One that does neither made them up. A response that says
nothing beyond the question gives no answer, which the paper has no name for. See `docs/experiments/causal.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rh_bench.scores.rouge import words
from rh_bench.stats.bootstrap import rounded

RULE_VERSION = 1
"""Goes up whenever some response would get another type."""
INCOMPLETE, WRONG, HALLUCINATION, NO_ANSWER = "incomplete_retrieval", "wrong_extraction", "hallucination", "no_answer"
ERRORS = (INCOMPLETE, WRONG, HALLUCINATION, NO_ANSWER)
CONTEXT_SHARE = 0.5
"""From this share of a response's new words on, repeated from the haystack, they are taken from it."""
COMMON, COMMON_OF = 3, 200
RUN = 3
"""Words in a row that count as repeated."""


def own_grams(answer: str, question: str, haystack: str) -> tuple[str, ...]:
    """Words, and pairs of neighbouring words, of an answer that stand neither in the question nor in the haystack.

    A pair with a word that is common in the haystack (3 times or more, and once in 200 words or more) does not count:
    "to the" may be missing from a short haystack. Where nothing is left, it is the words and pairs of the answer that
    do not stand in the question: a response that has them is given the benefit of the doubt.

    Returns:
        Sorted; a pair has a space between its words.
    """
    asked, around, told = words(question), words(haystack), words(answer)
    counts = Counter(around)
    common = {word for word, count in counts.items() if count >= COMMON and count * COMMON_OF >= len(around)}
    known = {*_grams(asked, 1), *_grams(asked, 2)}
    pairs = {" ".join(pair) for pair in pairwise(told) if not common.intersection(pair)}
    own = {*told, *pairs} - known - counts.keys() - {*_grams(around, 2)}
    return tuple(sorted(own or {*told, *_grams(told, 2)} - known))


def said_own(text: str, own: Collection[str]) -> int:
    """How many different own grams a response says."""
    said = words(text)
    return len(set(own) & {*_grams(said, 1), *_grams(said, 2)})


def new_words(text: str, question: str) -> int:
    """How many words of a response do not stand in the question."""
    asked = set(words(question))
    return sum(word not in asked for word in words(text))


def rouge1_precision(answer: str, text: str) -> float | None:
    """Share of the response's words that are the answer's, each as often as it occurs; None for one without words."""
    said = Counter(words(text))
    return rounded((said & Counter(words(answer))).total() / said.total()) if said else None


@dataclass
class Haystack:
    """The words around a needle, to compare many responses with."""

    text: str
    _known: dict[int, frozenset[str]] = field(default_factory=dict, repr=False)

    def share_of(self, text: str, question: str) -> float | None:
        """Share of the response's new words that stand in one of its runs of 3 words (all, of a shorter response) that
        the haystack has, too. None for a response without new words."""
        said, asked = words(text), set(words(question))
        fresh = [place for place, word in enumerate(said) if word not in asked]
        if not fresh:
            return None
        size = min(RUN, len(said))
        if size not in self._known:
            self._known[size] = frozenset(_grams(words(self.text), size))
        found = {
            place + i for place, gram in enumerate(_grams(said, size)) if gram in self._known[size] for i in range(size)
        }
        return rounded(len(found.intersection(fresh)) / len(fresh))


def error_of(success: bool, new: int, own: int, share: float | None) -> str | None:
    """The type of a failure, None for a success.

    Args:
        new: words of the response beyond the question; own: own grams among what it says.
        share: of the new words that repeat the haystack.
    """
    if success:
        return None
    if own:
        return INCOMPLETE
    if not new:
        return NO_ANSWER
    return WRONG if share is not None and share >= CONTEXT_SHARE else HALLUCINATION


def _grams(sequence: Sequence[str], size: int) -> Iterator[str]:
    for place in range(len(sequence) - size + 1):
        yield " ".join(sequence[place : place + size])
