"""Where an answer can be had without the needle: from the haystack, or from the question itself."""

from __future__ import annotations

from collections.abc import Mapping

from rh_bench.errors import InputError
from rh_bench.records import Needle
from rh_bench.scores.rouge import rouge1_recall, succeeds, words
from rh_bench.system.files import shown


def folded(text: str) -> str:
    """Text without regard to case and to where its lines break."""
    return " ".join(text.casefold().split())


def question_problem(question: str, answer: str) -> str | None:
    """Why a question gives its answer away, if it does: a response could copy from there, or count for repeating it.

    Words are compared, without regard to case, punctuation and white space. In writing without spaces, where a run of
    words counts as one, the answer's characters are.
    """
    wanted, asked = words(answer), words(question)
    size = len(wanted)
    stands = size and any(asked[i : i + size] == wanted for i in range(len(asked) - size + 1))
    if stands or (not answer.isascii() and folded(answer) in folded(question)):
        return f"the answer {shown(answer[:80])!r} is in the question"
    if size and succeeds(rouge1_recall(answer, question)):
        return f"more than half of the words of the answer {shown(answer[:80])!r} are in the question"
    return None


def refuse_given_away(haystacks: Mapping[str, str], needles: Mapping[str, Needle]) -> None:
    """Refuse needles whose answer stands in their haystack or their question.

    Args:
        haystacks: text by haystack id.

    Raises:
        InputError: names the needle and where its answer stands.
    """
    texts = {key: folded(text) for key, text in haystacks.items()}
    for needle in needles.values():
        if folded(needle.answer) in texts.get(needle.haystack_id, ""):
            raise InputError(
                f"the answer {needle.answer!r} is already in haystack {needle.haystack_id!r}",
                where=needle.needle_id,
                hint="choose another needle",
            )
        problem = question_problem(needle.question, needle.answer)
        if problem:
            raise InputError(problem, where=needle.needle_id, hint="ask without them, or choose another answer")
