"""Reasoning models: how a prompt asks for the answer alone, or lets the model think first.

Retrieval heads are observed while a model copies its answer. A model that thinks first would spend its few tokens on
that, so the prompt prevents a thought: by a switch of the chat template if there is one, else by closing the thought in
the prompt with the model's own tokens. What is done to the prompt is a :class:`Thinking`, which a run records. The
alternative is to let the model think, up to a limit, and to measure the answer that follows.

Neither torch nor transformers is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rh_bench.errors import InputError
from rh_bench.prompting.chat import ChatTemplate, Variable, control_tokens, encode_template
from rh_bench.prompting.thoughts import FAMILIES, Markers, opens_unknown, tags_in
from rh_bench.records import Json

AUTO, CLOSE, AFTER = CHOICES = ("auto", "close", "after")
"""The user's choices: no thought, trying the model if its template does not show whether it starts with one; no
thought, whatever the model does; the answer after the thought."""
THOUGHT_TOKENS = 1024
"""Default for the most tokens of a thought."""

SWITCH, TEMPLATE, CLOSED, PREFILLED, NONE = "switch", "template", "closed", "prefilled", "none"
WAYS = (SWITCH, TEMPLATE, CLOSED, PREFILLED, NONE, AFTER)
"""The ways a prompt deals with thoughts: see :meth:`Thinking.note`."""


_SWITCHES: tuple[tuple[str, Variable, Variable | None], ...] = (
    ("enable_thinking", False, True),
    ("thinking", False, True),
    ("thinking_budget", 0, None),
    ("reasoning", False, True),
    ("enable_reasoning", False, True),
    ("skip_thinking", True, False),
    ("skip_reasoning", True, False),
    ("thinking_mode", "off", "on"),
    ("thinking_option", "off", "on"),
    ("reasoning_effort", "none", "high"),
)
"""Variables by which templates turn thinking off and on: name, off, on (None: the template's default). A string counts
only if the template contains it, since a template may print any value."""

_THOUGHT_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Keys in which templates look for the thought of an assistant's turn."""
_QUESTION = "RHBENCH0QUESTION0GOES0HERE"
_THOUGHT = "RHBENCH0THOUGHT0GOES0HERE"
_ANSWER = "RHBENCH0ANSWER0GOES0HERE"


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a prompt deals with a model's thoughts, as a run records it."""

    way: str
    """One of WAYS."""
    variables: tuple[tuple[str, Variable], ...] = ()
    """Variables for the chat template."""
    appended: str = ""
    """Text in the prompt after the template's output."""
    markers: Markers | None = None
    """None if thoughts are turned off and their form is unknown."""
    limit: int | None = None
    """Most tokens of a thought; None without thoughts."""
    closing_ids: tuple[int, ...] = ()
    """Tokens that end a thought, if there is one."""

    def to_json(self) -> Json:
        """The `thinking` object of a protocol."""
        return {
            "way": self.way,
            "variables": dict(self.variables),
            "appended": self.appended,
            "opening": self.markers.opening if self.markers else None,
            "closing": self.markers.closing if self.markers else None,
            "limit": self.limit,
            "closing_ids": list(self.closing_ids) if self.limit is not None else None,
        }

    @property
    def note(self) -> str:
        """Notes for readers of the run."""
        told = ", ".join(f"{name}={str(value).lower()}" for name, value in self.variables)
        closing = repr(self.markers.closing) if self.markers else ""
        return {
            SWITCH: f"thinking is turned off: the chat template is told {told}",
            TEMPLATE: "thinking is turned off: the chat template closes the thought by itself",
            CLOSED: f"the thought that the chat template opens is closed in the prompt, by {self.appended!r}",
            PREFILLED: f"in the prompt the answer is begun for the model, without a thought, by {self.appended!r}",
            NONE: "the model knows thoughts, but begins its answer without one: none is closed in the prompt",
            AFTER: f"what is measured is the answer after a thought of up to {self.limit} tokens that {closing} ends",
        }[self.way]


_SINCE = (1, 3)
"""First version of run.json that records how thoughts were dealt with."""
BEFORE = Thinking(SWITCH, (("enable_thinking", False),))
"""What was done before that, whether or not a template heeded it."""


@dataclass(frozen=True)
class Plan:
    """How the prompts of one chat template can deal with thoughts, made by :func:`plan_thinking`."""

    settled: Thinking | None
    """What reliably closes or turns off thoughts. None if only the model shows whether it starts with a thought."""
    left: Thinking
    """The prompt as the template renders it, with thinking turned off if possible."""
    prefills: tuple[Thinking, ...]
    """Ways to start the answer for a model that would start with a thought, the likeliest first."""
    after: Thinking | str
    """The way that lets the model think, with its limit to be filled in; or why there is none."""
    in_template: bool
    """The template itself supports thoughts, not just the tokenizer."""

    @property
    def must_ask(self) -> bool:
        """Whether only the model shows if it starts with a thought."""
        return self.settled is None

    @property
    def unasked(self) -> Thinking | None:
        """The way without a model available: thoughts that the template supports are closed."""
        if self.settled is not None:
            return self.settled
        if self.in_template and self.left.way == NONE and self.prefills:
            return self.prefills[0]
        return self._as_left

    def choose(self, choice: str, limit: int | None = None) -> Thinking | None:
        """The way for a user's choice; for AUTO only if it is settled.

        Raises:
            InputError: the choice is impossible.
        """
        if choice == AFTER:
            if isinstance(self.after, str):
                raise InputError(self.after, where="--thinking after", hint="use --thinking auto")
            return replace(self.after, limit=THOUGHT_TOKENS if limit is None else limit)
        return self.settled or (self.prefills[0] if choice == CLOSE and self.prefills else self._as_left)

    def asked(self, answer: str) -> Thinking | None:
        """The way for a model whose answer to an unmodified prompt starts like this."""
        return next((one for one in self.prefills if one.markers and one.markers.begins(answer)), self._as_left)

    def recorded(self, document: Json) -> Thinking | None:
        """The way that a run records, if this template supports it.

        Args:
            document: from :meth:`Thinking.to_json`.
        """
        ways = [way for way in (self.settled, self.left, *self.prefills) if way is not None]
        if not isinstance(self.after, str):
            ways.append(replace(self.after, limit=document.get("limit")))
        return next((way for way in ways if way.to_json() == document), None)

    @property
    def may_be_unsaid(self) -> bool:
        """Whether a run need not record anything: the tokenizer merely has such tokens."""
        return self.must_ask and self._as_left is None

    @property
    def _as_left(self) -> Thinking | None:
        """Nothing is recorded for a tokenizer that merely has such tokens."""
        return self.left if self.in_template or self.left.variables else None


def plan_thinking(chat: ChatTemplate) -> Plan | None:
    """How prompts of this chat template can deal with thoughts; None if neither it nor the tokenizer supports any.

    Raises:
        InputError: the template fails, or opens what looks like a thought with no known way to close it.
    """
    reading = _Reading(chat)
    off, on = reading.switch or ({}, {})
    prompt = reading.prompt(off)
    state, markers = reading.state(off)
    if state == "opened" and markers is not None:
        appended = reading.header(off) or reading.written(off) or markers.close(prompt)
        settled = Thinking(CLOSED, _items(off), appended, markers)
        return reading.plan(settled, settled, on)
    if state == "closed":
        settled = Thinking(SWITCH if off else TEMPLATE, _items(off), "", markers)
        return reading.plan(settled, settled, on)
    _refuse_unknown_thought(chat, prompt)
    if not reading.known and not off:
        return None
    left = Thinking(SWITCH if off else NONE, _items(off), "", reading.known[0] if reading.known else None)
    header = reading.header(off)
    if header:  # every answer is rendered like this
        left = Thinking(PREFILLED, _items(off), header, reading.last_marker(header)[1])
    return reading.plan(left if header or not reading.known else None, left, on)


def settle_thinking(
    chat: ChatTemplate, choice: str, limit: int | None, begin: Callable[[Thinking], str]
) -> Thinking | None:
    """How prompts of this chat template deal with thoughts; None if none are known.

    Args:
        choice: one of CHOICES.
        limit: most tokens of a thought, for AFTER.
        begin: how the model starts its answer to a prompt made this way, including special tokens.

    Raises:
        InputError: see :func:`plan_thinking`; also if the choice is impossible.
    """
    plan = plan_thinking(chat)
    if plan is None:
        if choice != AUTO:
            raise InputError(
                "neither its chat template nor its tokenizer supports thoughts",
                where=f"{chat.name}, --thinking {choice}",
                hint="use --thinking auto",
            )
        return None
    if choice == AUTO and plan.must_ask:
        return plan.asked(begin(plan.left))
    return plan.choose(choice, limit)


def recorded_thinking(chat: ChatTemplate, run: Json) -> Thinking | None:
    """How a run's prompts dealt with thoughts, if this chat template can do that.

    Args:
        run: its run.json, which is not trusted: only a way that the template supports is accepted.

    Raises:
        InputError: the run's way is not one of those.
    """
    record, plan = run["protocol"].get("thinking"), plan_thinking(chat)
    if record is None and (plan is None or plan.may_be_unsaid):
        return None
    if record is None and is_older(run):
        switched = plan is not None and plan.settled is not None and plan.settled.variables == BEFORE.variables
        return plan.settled if switched and plan is not None else BEFORE
    found = None if plan is None or record is None else plan.recorded(record)
    if found is None:
        raise InputError("what the run says about thoughts does not match its model's chat template")
    return found


def is_older(run: Json) -> bool:
    """Whether a run is from a version that recorded neither thoughts nor turns."""
    return tuple(map(int, run["schema_version"].split("."))) < _SINCE


def thought_limit(run: Json) -> int:
    """Tokens that a run, or an experiment's settings, lets the model think before an answer.

    Args:
        run: a document with a `protocol`.
    """
    return (run["protocol"].get("thinking") or {}).get("limit") or 0


def check_choice(choice: str, limit: int | None) -> None:
    """Refuse options without effect.

    Raises:
        InputError: `choice` is none of CHOICES, or `limit` is given without AFTER.
    """
    if choice not in CHOICES:
        raise InputError(f"unknown choice {choice!r}", where="--thinking", hint=f"use {', '.join(CHOICES)}")
    if limit is not None and (choice != AFTER or limit < 1):
        problem = "must be at least 1" if limit < 1 else "only works with --thinking after"
        raise InputError(problem, where="--thought-tokens")


def _items(variables: Mapping[str, Variable]) -> tuple[tuple[str, Variable], ...]:
    return tuple(sorted(variables.items()))


def _refuse_unknown_thought(chat: ChatTemplate, prompt: str) -> None:
    found = opens_unknown(prompt)
    if found is not None:
        raise InputError(
            f"its chat template opens {found!r}, apparently for a thought, with no known way to close it",
            where=chat.name,
            hint="use --template plain",
        )


class _Reading:
    """How a chat template deals with thoughts, found by rendering with it."""

    def __init__(self, chat: ChatTemplate) -> None:
        self._chat = chat
        self._ids = set(chat.tokenizer.get_added_vocab().values()) | control_tokens(chat.tokenizer).keys()
        named = [markers for markers in tags_in(chat.source) if markers not in FAMILIES]
        kinds = [*FAMILIES, *named]
        self._in_template = [markers for markers in kinds if markers.in_template(chat.source)]
        rest = [markers for markers in kinds if markers not in self._in_template and self._has_tokens(markers)]
        self.known = [*self._in_template, *rest]
        """The likeliest first."""

    def prompt(self, variables: Mapping[str, Variable]) -> str:
        return self._chat.render(_asked(), variables)

    def state(self, variables: Mapping[str, Variable]) -> tuple[str, Markers | None]:
        """Whether a prompt ends with a thought "opened", "closed", or "none", and of which kind."""
        prompt = self.prompt(variables)
        before = self._chat.attempt(_asked(), variables, answer=False)
        # A template that always starts the answer prints the same whether asked to or not.
        whole = before is None or before == prompt or not prompt.startswith(before)
        return self.last_marker(
            prompt[prompt.rindex(_QUESTION) :] if whole or before is None else prompt[len(before) :]
        )

    def last_marker(self, text: str) -> tuple[str, Markers | None]:
        """Like :meth:`state`, for a text."""
        places = [
            (text.rfind(marker), state, markers)
            for markers in self.known
            for marker, state in ((markers.opening, "opened"), (markers.closing, "closed"))
        ]
        place, state, found = max(places, key=lambda one: one[0], default=(-1, "none", None))
        return (state, found) if place >= 0 else ("none", None)

    @cached_property
    def switch(self) -> tuple[dict[str, Variable], dict[str, Variable]] | None:
        """What turns thinking off and on, if the template uses any of _SWITCHES."""
        default, found, best = self.prompt({}), None, 3
        for name, off, on in _SWITCHES:
            named = re.search(rf"\b{name}\b", self._chat.source)
            if not named or (isinstance(off, str) and not re.search(rf"(['\"]){off}\1", self._chat.source)):
                continue
            without, with_it = (self._chat.attempt(_asked(), {name: v} if v is not None else {}) for v in (off, on))
            if without is None or without == (default if with_it is None else with_it) == default:
                continue
            rank = ("closed", "none", "opened").index(self.state({name: off})[0])
            if rank < best:
                best, found = rank, ({name: off}, {} if on is None or default != without else {name: on})
        return found

    def header(self, variables: Mapping[str, Variable]) -> str | None:
        """What the template writes between the prompt and an answer without a thought, if a thought is closed there."""
        return self._between(variables, {"role": "assistant", "content": _ANSWER})

    def written(self, variables: Mapping[str, Variable]) -> str | None:
        """What the template writes between the prompt and an answer with a thought, the thought itself left out."""
        plain = {"role": "assistant", "content": _ANSWER}
        parts = [{"type": "thinking", "thinking": _THOUGHT}, {"type": "text", "text": _ANSWER}]
        forms = ({**plain, **dict.fromkeys(_THOUGHT_FIELDS, _THOUGHT)}, {"role": "assistant", "content": parts})
        return next((text for form in forms if (text := self._between(variables, form))), None)

    def _between(self, variables: Mapping[str, Variable], turn: Mapping[str, Any]) -> str | None:
        prompt = self.prompt(variables)
        told = self._chat.attempt([*_asked(), turn], variables, answer=False)
        if told is None or not told.startswith(prompt) or _ANSWER not in told:
            return None
        text = told[len(prompt) : told.index(_ANSWER)].replace(_THOUGHT, "")
        return text if self.last_marker(text)[0] == "closed" else None

    def plan(self, settled: Thinking | None, left: Thinking, on: Mapping[str, Variable]) -> Plan:
        prefills: list[Thinking] = []
        if settled is None:
            written = self.written(dict(left.variables))
            kind = self.last_marker(written)[1] if written else None
            for markers in self.known:
                text = written if written and markers == kind else markers.empty
                prefills.append(Thinking(PREFILLED, left.variables, text, markers))
        in_template = bool(self._in_template)
        return Plan(settled, left, tuple(prefills), self._after(on), in_template)

    def _after(self, on: Mapping[str, Variable]) -> Thinking | str:
        state, markers = self.state(on)
        markers = markers or self.last_marker(self.header(on) or self.written(on) or "")[1]
        markers = markers or (self.known[0] if self.known else None)
        if state == "closed":
            return "its chat template closes the thought"
        if markers is None:
            return "neither its chat template nor its tokenizer says how its thoughts end"
        ids = encode_template(self._chat.tokenizer, markers.closing)
        if not ids or ids[0] not in self._ids or ids[-1] not in self._ids:
            return f"{markers.closing!r}, which ends its thoughts, is no token of its own"
        return Thinking(AFTER, _items(on), "", markers, limit=0, closing_ids=tuple(ids))

    def _has_tokens(self, markers: Markers) -> bool:
        """Whether the tokenizer has single tokens for both ends."""
        return all(self._is_token(part) for part in (markers.opening, markers.closing))

    def _is_token(self, text: str) -> bool:
        ids = encode_template(self._chat.tokenizer, text)
        return len(ids) == 1 and ids[0] in self._ids


def _asked() -> list[dict[str, Any]]:
    return [{"role": "user", "content": _QUESTION}]
