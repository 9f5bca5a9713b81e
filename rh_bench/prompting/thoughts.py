"""How reasoning models write their thoughts.

Neither torch nor transformers is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Markers:
    """The format of a thought for a kind of model: ``opening + lead + thought + tail + closing + gap + answer``."""

    opening: str
    closing: str
    lead: str = "\n"
    tail: str = "\n"
    gap: str = "\n\n"
    signs: tuple[str, ...] = ()
    """Texts that a template must all contain to write such thoughts; if empty, the opening or the closing."""

    def close(self, prompt: str) -> str:
        """What immediately ends a thought that the prompt has opened, and the tags opened inside it."""
        after = prompt[prompt.rindex(self.opening) + len(self.opening) :]
        inside = [name for name in re.findall(r"<([\w:.-]+)>", after) if f"</{name}>" not in after]
        nested = "".join(f"</{name}>" for name in reversed(inside))
        return ("" if after else self.lead) + nested + self.tail + self.closing + self.gap

    @property
    def empty(self) -> str:
        """A thought without content, up to the start of the answer."""
        return self.opening + self.lead + self.tail + self.closing + self.gap

    def begins(self, answer: str) -> bool:
        """Whether a response, including special tokens, starts with such a thought."""
        return answer.lstrip().startswith(self.opening)

    def in_template(self, source: str) -> bool:
        """Whether a chat template supports such thoughts."""
        if self.signs:
            return all(sign in source for sign in self.signs)
        return self.opening in source or self.closing in source


_CHANNELS = ("<|channel|>", "<|message|>", "final")
_OPEN_CLOSE = ("<|open|>", "<|close|>", "<|sep|>", "'think'")
FAMILIES = (
    Markers("<think>", "</think>"),
    Markers("[THINK]", "[/THINK]", "", "", ""),
    Markers("<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "", "", "", signs=_CHANNELS),
    Markers("<|channel>thought", "<channel|>", "\n", "", "", signs=("<|channel>", "<channel|>")),
    Markers("<|START_THINKING|>", "<|END_THINKING|>", "", "", ""),
    Markers("<|think|>", "<|end|><|begin|>assistant<|content|>", "", "", "", signs=("<|think|>", "<|content|>")),
    Markers("<seed:think>", "</seed:think>", "", "", "\n"),
    Markers("<thought>", "</thought>"),
    Markers("<thinking>", "</thinking>"),
    Markers("<reasoning>", "</reasoning>"),
    Markers("<longcat_think>", "</longcat_think>"),
    Markers("<|begin_of_thought|>", "<|end_of_thought|>"),
    Markers("◁think▷", "◁/think▷"),
    Markers("<|open|>think<|sep|>", "<|close|>think<|sep|>", "", "", "<|open|>response<|sep|>", signs=_OPEN_CLOSE),
    Markers("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", gap="\n"),
)
"""Known kinds of thoughts. Others, written as a tag with "think", "thought" or "reason" in its name, are read off a
template (:func:`tags_in`)."""

_TAG = re.compile(r"<([\w:.-]*(?:think|thought|reason)[\w:.-]*)>|\[([A-Z_]*(?:THINK|THOUGHT|REASON)[A-Z_]*)\]", re.I)
_SAYS_SO = r"(?:<\|?|\[|◁)[^<>\[\]|/]*(?:think|thought|reason|scratch|analysis)[^<>\[\]|/]*(?:\|?>|\]|▷)"
"""A tag or control token whose name says that a thought starts."""
_OPENED = re.compile(_SAYS_SO + r"\s*\Z", re.I)
"""What looks like an open thought at the end of a prompt."""
_BEGUN = re.compile(r"\s*(?:<\|im_start\|>\s*(?:think|thought|reason|analysis)|" + _SAYS_SO + ")", re.I)
"""What looks like a thought at the start of an answer, of whatever kind of model."""


def tags_in(source: str) -> list[Markers]:
    """Thoughts that a template writes as a tag with such a name, and its counterpart."""
    found = []
    for angle, square in dict.fromkeys(_TAG.findall(source)):
        name, opens, closes = (angle, "<", ">") if angle else (square, "[", "]")
        opening, closing = f"{opens}{name}{closes}", f"{opens}/{name}{closes}"
        if closing in source:
            found.append(Markers(opening, closing) if angle else Markers(opening, closing, "", "", ""))
    return found


def opens_unknown(prompt: str) -> str | None:
    """The end of a prompt, if it looks like the start of a thought."""
    found = _OPENED.search(prompt)
    return found[0].strip() if found else None


def begins_thought(answer: str) -> bool:
    """Whether a response, including special tokens, starts with a thought."""
    return any(markers.begins(answer) for markers in FAMILIES) or _BEGUN.match(answer) is not None


def ends_with(thought: Sequence[int], closing: Sequence[int]) -> bool:
    """Whether the tokens of a thought include its end."""
    return len(closing) > 0 and tuple(thought[-len(closing) :]) == tuple(closing)


def mostly_thoughts(answers: Iterable[str]) -> bool:
    """Whether more than half of the responses (including special tokens) start with a thought."""
    begun = [begins_thought(answer) for answer in answers]
    return 2 * sum(begun) > len(begun)


def begun_notes(answers: Iterable[str]) -> list[str]:
    """Notes about responses (including special tokens) that start with a thought all the same."""
    begun = [begins_thought(answer) for answer in answers]
    return [f"{sum(begun)} of {len(begun)} answers begin with a thought, and count as they are"] if any(begun) else []
