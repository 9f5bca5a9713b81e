"""A tokenizer's chat template: rendered the same every day, and only if it prints everything it was given.

A chat template is a program that comes with the model. It may print today's date, expect its text in typed parts, fail,
or drop what it does not expect. A prompt must not depend on the date, and the last two are refused by name.

Neither torch nor transformers is imported: everything goes through the tokenizer's own ``apply_chat_template``, called
by `rh_bench.prompting.rendering`, which enforces limits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rh_bench.errors import InputError
from rh_bench.prompting.rendering import Renderer, RenderingLimitError
from rh_bench.system.files import shown

TEMPLATES = ("auto", "plain", "chat")
PLAIN, CHAT = TEMPLATES[1:]

Variable = bool | int | str
"""A variable passed to a template besides the messages."""
Message = Mapping[str, Any]
"""A turn: "role", "content", and further keys that some templates read."""

DATE = {
    "%Y": "2024", "%m": "07", "%d": "26", "%B": "July", "%b": "Jul", "%h": "Jul", "%A": "Friday", "%a": "Fri",
    "%y": "24", "%C": "20", "%G": "2024", "%V": "30", "%u": "5", "%w": "5", "%j": "208", "%U": "29", "%W": "30",
    "%e": "26", "%F": "2024-07-26", "%D": "07/26/24", "%x": "07/26/24", "%c": "Fri Jul 26 00:00:00 2024",
    "%H": "00", "%I": "12", "%k": " 0", "%l": "12", "%M": "00", "%S": "00", "%f": "000000", "%p": "AM", "%P": "am",
    "%T": "00:00:00", "%X": "00:00:00", "%R": "00:00", "%r": "12:00:00 AM", "%z": "", "%Z": "", "%s": "1721952000",
    "%n": "\n", "%t": "\t",
    "%-d": "26", "%-m": "7", "%-y": "24", "%-j": "208", "%-H": "0", "%-I": "12", "%-M": "0", "%-S": "0",
}  # fmt: skip
"""The moment that every prompt is from, for each directive of strftime: 26 July 2024, 00:00. In English on every
machine, unlike strftime itself."""

_VARIABLES: Mapping[str, Variable] = {"date_string": f"{DATE['%d']} {DATE['%b']} {DATE['%Y']}"}
"""Variables passed to every template. Templates that do not use them are unaffected."""

_CHANCE = re.compile(r"\|\s*random\b|['\"]random['\"]|\blipsum\s*\(")
"""Jinja features whose output differs each time."""
_LONGEST = 1 << 20
"""Most characters of a template; the longest of well-known models have some 20,000."""
_ADDRESS = re.compile(r" object at 0x[0-9a-f]+")
"""How Python prints an object without a text of its own: differently in each process."""

_CONTROL = re.compile(r"<.+>|\[.+\]|.*[|｜].*", re.DOTALL)
"""What tokens for turns, tools and reasoning look like. Not all tokenizers declare theirs special."""


def _frozen_clock() -> str:
    """A macro put before a template to replace transformers' ``strftime_now``.

    A function cannot be passed: since 5.23 templates get plain data only. The line break after it is removed with the
    tag, so that the template itself starts at the start of a line.
    """
    doubled = "\\x01"
    steps = [("%%", doubled), *DATE.items(), (doubled, "%")]
    quoted = ((old, new.replace("\n", "\\n").replace("\t", "\\t")) for old, new in steps)
    chain = "".join(f'|replace("{old}","{new}")' for old, new in quoted)
    return "{%- macro strftime_now(format) -%}{{- format" + chain + " -}}{%- endmacro %}\n"


_CLOCK = _frozen_clock()


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer, made by :func:`chat_template`."""

    tokenizer: Any
    source: str
    """The template's own text."""
    _renderer: Renderer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_renderer", Renderer(self.tokenizer, self.name))

    @property
    def name(self) -> str:
        return tokenizer_name(self.tokenizer)

    def render(
        self, messages: Sequence[Message], variables: Mapping[str, Variable] | None = None, *, answer: bool = True
    ) -> str:
        """Turns as the template writes them.

        Messages are given as text first, and as typed parts (``[{"type": "text", "text": …}]``) to a template that
        fails on text or does not print it.

        Args:
            variables: further variables for the template.
            answer: end where the model's answer begins; otherwise at the end of the last turn.

        Raises:
            InputError: the template fails on them, does not print each text unchanged, once and in order, or exceeds
                the limits of rendering.
        """
        problems = []
        for form in (list(messages), [_in_parts(message) for message in messages]):
            rendered, problem = self._attempt(form, variables or {}, answer)
            problem = problem or _unprinted(messages, rendered)
            if problem is None:
                return rendered
            problems.append(problem)
        raise InputError(problems[0], where=self.name, hint="use --template plain")

    def attempt(
        self, messages: Sequence[Message], variables: Mapping[str, Variable] | None = None, *, answer: bool = True
    ) -> str | None:
        """What the template prints for messages it need not support; None if it fails or does not print them.

        Raises:
            RenderingLimitError: it exceeds the limits of rendering.
        """
        try:
            return self.render(messages, variables, answer=answer)
        except RenderingLimitError:
            raise
        except InputError:
            return None

    def _attempt(
        self, messages: Sequence[Message], variables: Mapping[str, Variable], answer: bool
    ) -> tuple[str, str | None]:
        """What it prints, and how it failed, if it did."""
        source = _CLOCK + self.source if "strftime_now" in self.source else self.source
        rendered, problem = self._renderer.render(messages, source, {**_VARIABLES, **variables}, answer=answer)
        if problem is not None:
            turns = "one message of the user" if len(messages) == 1 else f"{len(messages)} turns of user and assistant"
            return "", f"its chat template fails on {turns} ({shown(problem)})"
        if _ADDRESS.search(rendered):
            return "", "its chat template prints the memory address of an object, which differs each time"
        return rendered, None


def chat_template(tokenizer: Any) -> ChatTemplate:
    """The chat template that a tokenizer uses.

    Raises:
        InputError: it has several and no default, or its output differs each time.
    """
    name = tokenizer_name(tokenizer)
    try:
        source = str(tokenizer.get_chat_template())
    except Exception as error:
        raise InputError(
            f"its chat template cannot be loaded ({shown(str(error).splitlines()[0][:200])})",
            where=name,
            hint="use --template plain",
        ) from None
    if len(source) > _LONGEST:
        raise InputError(
            f"its chat template is longer than {_LONGEST} characters", where=name, hint="use --template plain"
        )
    if _CHANCE.search(source):
        raise InputError("its chat template prints something at random", where=name, hint="use --template plain")
    return ChatTemplate(tokenizer, source)


def choose_template(tokenizer: Any, template: str) -> ChatTemplate | None:
    """The chat template to use; None for plain text.

    Args:
        template: "plain", "chat" or "auto" (chat if there is one).

    Raises:
        InputError: there is no such template, or the tokenizer has none.
    """
    if template not in TEMPLATES:
        raise InputError(f"unknown template {template!r}", where="--template", hint=f"use {', '.join(TEMPLATES)}")
    has_chat = getattr(tokenizer, "chat_template", None) is not None
    if template == CHAT and not has_chat:
        raise InputError("this tokenizer has no chat template", where="--template", hint="use --template plain")
    return chat_template(tokenizer) if has_chat and template != PLAIN else None


def _in_parts(message: Message) -> Message:
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _unprinted(messages: Sequence[Message], rendered: str) -> str | None:
    """What is wrong with a template's rendering of messages; it may drop outer white space.

    A user's text must appear as often as in the messages, an assistant's at least once: it can be as short as a word.
    """
    place = 0
    for message in messages:
        text = message["content"].strip() if isinstance(message["content"], str) else ""
        found = rendered.find(text, place)
        if found < 0:
            return f"its chat template drops or changes the text of the {message['role']}"
        place = found + len(text)
        given = sum(str(other["content"]).count(text) for other in messages) if text else 0
        if text and message["role"] == "user" and rendered.count(text) != given:
            return "its chat template does not print the user's text exactly once"
    return None


def encode_template(tokenizer: Any, text: str) -> list[int]:
    """The ids of template text, in which special tokens are parsed."""
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=False, verbose=False)
    return [int(i) for i in encoded["input_ids"]]


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Control tokens by id, which stand for no text: those declared special, and added ones that look like them."""
    control = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    for number, token in tokenizer.added_tokens_decoder.items():
        if token.special or _CONTROL.fullmatch(token.content):
            control[number] = token.content
    # The token for unknown characters stands for text, unless it has a second meaning.
    if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        control.pop(tokenizer.unk_token_id, None)
    return control


def uses_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer starts a sequence with its beginning-of-sequence token."""
    bos = tokenizer.bos_token_id
    ids = tokenizer("x", add_special_tokens=True)["input_ids"]
    return bos is not None and bool(ids) and ids[0] == bos


def tokenizer_name(tokenizer: Any) -> str:
    """The name of a tokenizer in errors."""
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
