"""What ends an answer: end-of-sequence tokens, the token that ends a turn of the chat template, a newline.

Neither torch nor transformers is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rh_bench.prompting.chat import ChatTemplate, Variable, control_tokens, encode_template

_QUESTIONS = ("RHBENCH0QUESTION0GOES0HERE", "RHBENCH0SECOND0QUESTION0GOES0HERE")
_ANSWER = "RHBENCH0ANSWER0GOES0HERE"


@dataclass(frozen=True)
class StopRule:
    """Ends an answer at an end-of-sequence token, at the token that ends a turn and, for plain prompts, at the first
    token that contains a newline."""

    eos_ids: frozenset[int]
    decode: Callable[[list[int]], str] | None = None
    """Ids to text if newlines stop the answer, else None."""
    turn: tuple[int, str] | None = None
    """The token that ends a turn, if no end-of-sequence token does: its id and text."""
    _known: dict[int, bool] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, token: int) -> bool:
        if token in self.ends:
            return True
        if self.decode is None:
            return False
        if token not in self._known:
            self._known[token] = "\n" in self.decode([token])
        return self._known[token]

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer wherever they occur."""
        return self.eos_ids if self.turn is None else self.eos_ids | {self.turn[0]}

    @property
    def names(self) -> list[str]:
        """As recorded in a protocol."""
        return ["eos", *(["turn"] if self.turn else []), *(["newline"] if self.decode else [])]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for readers of the run."""
        if self.turn is None:
            return ()
        return (f"an answer ends at {self.turn[1]!r}, too: it ends a turn, and no end-of-sequence token of the model",)


def stop_rule(
    model: Any,
    tokenizer: Any,
    decode: Callable[[list[int]], str] | None,
    chat: ChatTemplate | None = None,
    variables: Mapping[str, Variable] | None = None,
) -> StopRule:
    """The rule for a model: every end-of-sequence token named by its configurations or tokenizer, and the token
    that ends a turn of its chat template.

    Args:
        decode: see :class:`StopRule`.
        chat: the chat template of the prompts, if any.
        variables: its variables.
    """
    generation = getattr(model, "generation_config", None)
    named = [getattr(source, "eos_token_id", None) for source in (generation, model.config, tokenizer)]
    ids = {int(i) for one in named if one is not None for i in (one if isinstance(one, list | tuple) else [one])}
    return StopRule(frozenset(ids), decode, None if chat is None else turn_token(chat, frozenset(ids), variables))


def turn_token(
    chat: ChatTemplate, eos_ids: frozenset[int], variables: Mapping[str, Variable] | None = None
) -> tuple[int, str] | None:
    """The token by which a model ends its turn, if no end-of-sequence token does: id and text.

    It is the first control token after an answer that the template renders: in the last turn first, since some
    templates end that differently; if nothing ends it, the first token of the next turn.
    """
    control = control_tokens(chat.tokenizer)
    first, second = ({"role": "user", "content": question} for question in _QUESTIONS)
    answer = {"role": "assistant", "content": _ANSWER}
    for turns, end in (([first, answer], ""), ([first, answer, second], _QUESTIONS[1])):
        written = chat.attempt(turns, variables, answer=False)
        if written is None:
            continue
        after = written[written.rindex(_ANSWER) + len(_ANSWER) :]
        ids = [i for i in encode_template(chat.tokenizer, after.partition(end)[0] if end else after) if i in control]
        if ids:
            return None if eos_ids & set(ids) else (ids[0], control[ids[0]])
    return None
