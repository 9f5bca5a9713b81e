"""Samples as token ids: exact length, exact span, exact shared prefixes.

A prompt is ``prefix + haystack[:p] + needle + haystack[p:q] + suffix``, joined as token ids. Because nothing is ever
re-tokenised after joining, the answer's position is known by construction, the prompt has exactly L tokens, and two
prompts over one haystack share every token up to the smaller insertion point.

Only a fast tokenizer is needed; this module imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from rh_bench.errors import InputError
from rh_bench.prompting.chat import (
    CHAT,
    PLAIN,
    choose_template,
    control_tokens,
    encode_template,
    tokenizer_name,
    uses_bos,
)
from rh_bench.prompting.thinking import Thinking, plan_thinking
from rh_bench.records import IntArray, Needle, Prompt, Sample, Spelling
from rh_bench.sets.leaks import refuse_given_away

PROMPT_PREFIX = "This is a very long story book: <book>"
PROMPT_SUFFIX = "\n</book>.\nBased on the content of the book, Question: {question}\nAnswer:"

_SENTINEL = "RHBENCH0HAYSTACK0GOES0HERE"

_SENTENCE_END = re.compile(r"""(?:[.!?…]+["'”’»)\]]*(?=\s+[^a-z]|\s*$))|(?:[。！？]+[”’」』）]*)""")
_TITLE = re.compile(r"(?:^|[\s(\"'“‘])(?:Mr|Mrs|Ms|Dr|St|Prof|Sr|Jr|No|[A-Z])\.$")

_SPACES = ("▁", "Ġ")
"""A space at the start of a token, as SentencePiece and byte-level tokenizers write it."""


def sentence_ends(text: str) -> list[int]:
    """Character positions just after each sentence of `text`, closing quotes included.

    Titles ("Mr. Green") and single initials do not end a sentence. Languages that put no space after a full stop are
    recognised by their own stops.
    """
    ends = []
    for match in _SENTENCE_END.finditer(text):
        if not _TITLE.search(text, max(0, match.start() - 8), match.start() + 1):
            ends.append(match.end())
    return ends


def insertion_points(text: str, offsets: IntArray) -> IntArray:
    """Token indices at which a needle may stand: 0, and each index before which a sentence of `text` has just ended.

    Args:
        text: the text that was tokenised.
        offsets: int32 [N, 2], character range of each token.

    Returns:
        int32, ascending. A sentence that ends inside a token (other than in front of white space) gives no point.
    """
    starts, ends = offsets[:, 0], offsets[:, 1]
    points = [0]
    for end in sentence_ends(text):
        # The last token that starts before the sentence's end. Bytes of one character may be several tokens with equal
        # offsets; this takes the last of them.
        last = int(np.searchsorted(starts, end, side="left")) - 1
        if last >= 0 and not text[end : ends[last]].strip() and last + 1 > points[-1]:
            points.append(last + 1)
    return np.asarray(points, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A text as ids (int32 [N]) and character offsets (int32 [N, 2])."""

    ids: IntArray
    offsets: IntArray


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before the haystack and after it, as ids."""

    prefix: IntArray
    suffix: IntArray


class PromptBuilder:
    """Builds prompts for one tokenizer, one template and one set of needles and haystacks.

    Args:
        tokenizer: a fast Hugging Face tokenizer (offsets are needed).
        haystacks: text by haystack id.
        needles: needle by id.
        template: "plain", "chat" (the tokenizer's own chat template) or "auto" (chat where there is one).
        thinking: what to do about the thoughts of a model that has them; without it, what can be told without asking
            the model.

    Raises:
        InputError: the tokenizer gives no offsets, has no chat template though one was asked for, or one that cannot be
            used; or a haystack or a question already contains the answer of a needle.
    """

    def __init__(
        self,
        tokenizer: Any,
        haystacks: Mapping[str, str],
        needles: Mapping[str, Needle],
        template: str = "auto",
        thinking: Thinking | None = None,
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(
                "this tokenizer has no character offsets",
                where=tokenizer_name(tokenizer),
                hint="use a fast tokenizer",
            )
        self.chat = choose_template(tokenizer, template)
        """The chat template that prompts are written with; None for plain text."""
        self.template_name = PLAIN if self.chat is None else CHAT
        plan = None if self.chat is None or thinking is not None else plan_thinking(self.chat)
        self.thinking = plan.unasked if plan else thinking
        """What prompts do about the thoughts of the model; None if none are known."""
        self._tokenizer = tokenizer
        self._needles = needles
        self._haystacks = {key: "\n" + text for key, text in haystacks.items()}
        self._control = control_tokens(tokenizer)
        self._adds_space = _adds_space(tokenizer)
        self._haystack_tokens = lru_cache(maxsize=None)(self._tokenise_haystack)
        self._needle_tokens = lru_cache(maxsize=None)(self._tokenise_needle)
        self._frame = lru_cache(maxsize=None)(self._build_frame)
        refuse_given_away(haystacks, needles)

    @property
    def stops_at_newline(self) -> bool:
        """A model without chat turns does not end its answer by itself: a newline ends it."""
        return self.chat is None

    def build(self, sample: Sample) -> Prompt:
        """The prompt of one sample.

        Raises:
            InputError: the length leaves no room for the needle, or the haystack is too short for it.
        """
        needle = self._needles[sample.needle_id]
        frame = self._frame(needle.question)
        haystack, points = self._haystack_tokens(sample.haystack_id)
        needle_tokens, (answer_first, answer_last), _ = self._needle_tokens(sample.needle_id)
        room = sample.length - len(frame.prefix) - len(frame.suffix) - len(needle_tokens)
        if room < 0:
            raise InputError(
                f"a length of {sample.length} tokens leaves no room for template and needle",
                where=sample.sample_id,
                hint=f"the shortest possible is {sample.length - room}",
            )
        if room > len(haystack):
            raise InputError(
                f"the haystack has {len(haystack)} tokens with this tokenizer, but {room} are needed",
                where=sample.sample_id,
                hint="build the set with a longer haystack or shorter lengths",
            )
        target = int(room * sample.depth / 100)
        at = int(points[np.searchsorted(points, target, side="right") - 1])
        ids = np.concatenate([frame.prefix, haystack[:at], needle_tokens, haystack[at:room], frame.suffix])
        insert_at = len(frame.prefix) + at
        assert len(ids) == sample.length, "a prompt has exactly L tokens"
        return Prompt(
            sample=sample,
            ids=ids,
            insert_at=insert_at,
            needle_length=len(needle_tokens),
            span_start=insert_at + answer_first,
            span_length=answer_last - answer_first,
            answer=needle.answer,
            sha256=prompt_sha256(ids),
        )

    def suffix_length(self, sample: Sample) -> int:
        """Tokens after the haystack: instruction, question, and what the template adds."""
        return len(self._frame(self._needles[sample.needle_id].question).suffix)

    def haystack_text(self, prompt: Prompt) -> str:
        """What a prompt has of its haystack: the text around the needle, template and question left out."""
        frame = self._frame(self._needles[prompt.sample.needle_id].question)
        before = prompt.ids[len(frame.prefix) : prompt.insert_at]
        after = prompt.ids[prompt.insert_at + prompt.needle_length : len(prompt.ids) - len(frame.suffix)]
        return f"{self.text(before)}\n{self.text(after)}"

    def text(self, generated: list[int] | IntArray) -> str:
        """Generated ids as text, special tokens left out."""
        return str(self._tokenizer.decode([int(i) for i in generated], skip_special_tokens=True))

    def raw_text(self, generated: Sequence[int] | IntArray) -> str:
        """Generated ids as text, special tokens and all."""
        return str(self._tokenizer.decode([int(i) for i in generated], skip_special_tokens=False))

    def spelling(self, needle_id: str, generated: Sequence[int]) -> Spelling:
        """What the tokens of a needle's answer and those of a response spell.

        Args:
            generated: the response, stop token left out.
        """
        _, _, (span_text, span_ends) = self._needle_tokens(needle_id)
        whole = self.text(list(generated))
        # What a text has in common with that of its first tokens: these can end within a character.
        firsts = (self.text(list(generated[:count])) for count in range(1, len(generated)))
        ends = [*accumulate((_in_common(first, whole) for first in firsts), max), len(whole)]
        return Spelling(span_text, span_ends, tuple(ends) if generated else ())

    def _tokenise(self, text: str, where: str) -> Tokenised:
        """`text` as ordinary tokens: what looks like a special token in it is split, or refused, but never parsed."""
        encoded = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        ids = np.asarray(encoded["input_ids"], dtype=np.int32)
        offsets = np.asarray(encoded["offset_mapping"], dtype=np.int32).reshape(-1, 2)
        self._refuse_control(ids, where)
        if (np.diff(offsets[:, 0]) < 0).any():
            raise InputError(
                "this tokenizer's character offsets are out of order", where=tokenizer_name(self._tokenizer)
            )
        return Tokenised(ids, offsets)

    def _refuse_control(self, ids: IntArray, where: str) -> None:
        found = self._control.keys() & set(ids.tolist())
        if found:
            raise InputError(
                f"its text contains {self._control[min(found)]!r}, a control token of this tokenizer",
                where=where,
                hint="remove it from the text",
            )

    def _tokenise_haystack(self, haystack_id: str) -> tuple[IntArray, IntArray]:
        """The haystack's ids, and where between them a needle may stand."""
        text = self._haystacks[haystack_id]
        tokens = self._tokenise(text, haystack_id)
        first = self._made_up(tokens.ids)
        return tokens.ids[first:], insertion_points(text, tokens.offsets[first:])

    def _tokenise_needle(self, needle_id: str) -> tuple[IntArray, tuple[int, int], tuple[str, tuple[int, ...]]]:
        """The needle's ids, the range of them that overlaps the answer's characters, and what that range spells: its
        text, and where in it each token ends."""
        needle = self._needles[needle_id]
        lead = "" if self._adds_space else " "
        text = lead + needle.needle
        tokens = self._tokenise(text, needle_id)
        start, end = needle.answer_start + len(lead), needle.answer_end + len(lead)
        inside = np.flatnonzero((tokens.offsets[:, 1] > start) & (tokens.offsets[:, 0] < end))
        if not len(inside):
            raise InputError("its answer has no tokens of its own", where=needle_id, hint="lengthen the answer")
        first, last = int(inside[0]), int(inside[-1]) + 1
        if self._tokenizer.unk_token_id in tokens.ids[first:last]:
            raise InputError("its answer has characters that this tokenizer does not know", where=needle_id)
        begin, ends = int(tokens.offsets[first, 0]), np.maximum.accumulate(tokens.offsets[first:last, 1])
        return tokens.ids, (first, last), (text[begin : int(ends[-1])], tuple((ends - begin).tolist()))

    def _build_frame(self, question: str) -> Frame:
        suffix_text = PROMPT_SUFFIX.format(question=question)
        # In the suffix special tokens are parsed, so the question must hold none.
        self._refuse_control(self._encode_template(question), f"the question {question[:60]!r}")
        if self.chat is None:
            before, after = PROMPT_PREFIX, suffix_text
        else:
            before, after = self._split_chat(PROMPT_PREFIX + _SENTINEL + suffix_text)
        prefix = self._encode_template(before)
        bos = self._tokenizer.bos_token_id
        if uses_bos(self._tokenizer) and (not len(prefix) or prefix[0] != bos):
            prefix = np.concatenate([np.asarray([bos], dtype=np.int32), prefix])
        suffix = self._encode_template(after)
        return Frame(prefix, suffix[self._made_up(suffix) :])

    def _split_chat(self, content: str) -> tuple[str, str]:
        assert self.chat is not None
        variables = dict(self.thinking.variables) if self.thinking else {}
        rendered = self.chat.render([{"role": "user", "content": content}], variables)
        before, _, after = rendered.partition(_SENTINEL)
        if _SENTINEL in after:
            raise InputError(
                "its chat template prints part of the user's text twice",
                where=self.chat.name,
                hint="use --template plain",
            )
        return before, after + (self.thinking.appended if self.thinking else "")

    def _encode_template(self, text: str) -> IntArray:
        return np.asarray(encode_template(self._tokenizer, text), dtype=np.int32)

    def _made_up(self, ids: IntArray) -> int:
        """How many tokens at the start of a text are the tokenizer's own: 1 if it put a space in front, else 0.

        What goes on in the middle of a prompt must not start with a space that its text does not have.
        """
        return int(self._adds_space and self._tokenizer.convert_ids_to_tokens(ids[:1].tolist())[0] in _SPACES)


def _in_common(first: str, second: str) -> int:
    """Characters at the start that two texts have in common."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def prompt_sha256(ids: IntArray) -> str:
    """SHA-256 of ids as little-endian uint32, in hexadecimal."""
    return hashlib.sha256(np.asarray(ids, dtype="<u4").tobytes()).hexdigest()


def _adds_space(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a space in front of a text that has none."""
    first = tokenizer.convert_ids_to_tokens(tokenizer("x", add_special_tokens=False)["input_ids"])[0]
    return str(first).startswith(_SPACES)
