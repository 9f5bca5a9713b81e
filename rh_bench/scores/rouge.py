"""ROUGE-1 recall, which decides whether a sample counts.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", and the paper's released code, which calls
Google's ``rouge_score`` with stemming. This one differs in two ways: no stemmer, so that a result depends on no
word list, and words of any script, while ``rouge_score`` drops everything but ASCII letters and digits. On ASCII
text it equals ``rouge_score`` without stemming.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from rh_bench.protocol import SUCCESS_THRESHOLD

_ASCII_WORD = re.compile(r"[a-z0-9]+")


def rouge1_recall(answer: str, response: str) -> float:
    """Share of the answer's words that the response repeats, each as often as it occurs (clipped unigram recall).

    Returns:
        A number in [0, 1]: 1 if every word of the answer is in the response at least as often.

    Raises:
        ValueError: the answer has no words.
    """
    wanted = Counter(words(answer))
    if not wanted:
        raise ValueError(f"the answer {answer!r} has no words")
    return (wanted & Counter(words(response))).total() / wanted.total()


def succeeds(recall: float, threshold: float = SUCCESS_THRESHOLD) -> bool:
    """Whether a sample with this ROUGE-1 recall counts: it exceeds the threshold. Half of the words is not enough."""
    return recall > threshold


def words(text: str) -> list[str]:
    """Casefolded runs of letters, digits and combining marks of any script; everything else is a separator.

    Marks belong to words, because vowels are marks in many scripts. In scripts without spaces a
    whole run is one word, so answers must be repeated verbatim.
    """
    if text.isascii():  # equivalent to what follows, and ten times as fast
        return _ASCII_WORD.findall(text.lower())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(char if unicodedata.category(char)[0] in "LMN" else " " for char in folded).split()
