"""Guesses at what a model says next. A guess changes how fast an answer is found, never which answer it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Draft = Callable[[Sequence[int], Sequence[Sequence[int]], int], list[int]]
"""(tokens generated so far, texts to copy from, most tokens wanted) -> a guess at the tokens that follow."""

_LONGEST_MATCH = 4


def propose(generated: Sequence[int], sources: Sequence[Sequence[int]], most: int) -> list[int]:
    """Prompt lookup: what followed the last few generated tokens where they stand in one of the `sources`.

    Source: Saxena 2023, "Prompt Lookup Decoding"; the longest match wins, then the earlier source. Before anything is
    generated the guess is the first source itself. A match of a single token is weak, so it is followed for a few
    tokens only.

    Args:
        generated: tokens so far.
        sources: an earlier answer to the same question, the answer's span, the needle: the likeliest first.
        most: tokens wanted at most.
    """
    if most <= 0:
        return []
    if not generated:
        return list(sources[0][:most]) if sources else []
    for size in range(min(_LONGEST_MATCH, len(generated)), 0, -1):
        tail = list(generated[-size:])
        for source in sources:
            for end in range(size, len(source)):
                if list(source[end - size : end]) == tail:
                    return list(source[end : end + min(most, 4 * size * size)])
    return []
