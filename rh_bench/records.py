"""The frozen records that stages hand to one another. Data only: no I/O, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]

EVENT_FIELDS = ("layer", "head", "step", "span_offset")


@dataclass(frozen=True, slots=True)
class Needle:
    """A sentence to hide, a question about it, and the answer as a character range inside it."""

    needle_id: str
    domain: str
    needle: str
    question: str
    answer_start: int
    """First character of the answer in `needle`."""
    answer_end: int
    """One past the last character of the answer in `needle`."""
    haystack_id: str
    """The haystack this needle is hidden in (the paper pairs each needle with a haystack)."""

    @property
    def answer(self) -> str:
        return self.needle[self.answer_start : self.answer_end]


@dataclass(frozen=True, slots=True)
class Haystack:
    """A long text to hide needles in."""

    haystack_id: str
    text: str
    source: str
    licence: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One cell of the grid: a needle, in its haystack, at a context length and a depth."""

    sample_id: str
    needle_id: str
    haystack_id: str
    length: int
    """Context length L: tokens of the whole prompt, template included."""
    depth: float
    """Where the needle goes, in percent of the haystack tokens that fit: 0 is the start, 100 the end."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sample as token ids for one tokenizer and template."""

    sample: Sample
    ids: IntArray
    """int32 [L]: the whole prompt."""
    insert_at: int
    """Index in `ids` of the needle's first token."""
    needle_length: int
    """Tokens of the needle."""
    span_start: int
    """Index in `ids` of the answer's first token."""
    span_length: int
    """Tokens of the answer: |k| in the paper."""
    answer: str
    sha256: str
    """SHA-256 of `ids` as little-endian uint32."""

    @property
    def span_ids(self) -> IntArray:
        return self.ids[self.span_start : self.span_start + self.span_length]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What an engine returns for one prompt: the greedy continuation and where every head looked while producing it."""

    sample_id: str
    generated: IntArray
    """int32 [T]: the tokens of greedy decoding, the stop token left out."""
    targets: IntArray
    """int32 [T, A, H]: key position of the largest attention weight, at the step that produced each token, for each
    softmax-attention layer (in order) and query head; -1 where the largest weight is that of an attention sink, and as
    padding of layers with fewer heads."""
    seconds: float
    """Wall time of this sample."""
    thought: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    """int32 [N]: the tokens that the model thought before its answer, those that closed the thought included."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """What the tokens of a sample spell: where in a text, counted in characters, the part of each token ends.

    Ends never fall. Of a character that several tokens make, one token has it and the others have nothing.
    """

    span_text: str
    """What the span spells in the needle: the answer, and what its outer tokens have beyond it."""
    span_ends: tuple[int, ...]
    """In `span_text`, one a token of the span."""
    generated_ends: tuple[int, ...]
    """In the text of the response, one a generated token."""


@dataclass(frozen=True, slots=True)
class SampleResult:
    """A measured sample: everything that scores are computed from. `events` is int32 [E, 4], columns EVENT_FIELDS,
    sorted by (step, layer, head)."""

    sample: Sample
    prompt_sha256: str
    insert_at: int
    span_start: int
    span_ids: tuple[int, ...]
    answer: str
    generated_ids: tuple[int, ...]
    text: str
    rouge1_recall: float
    success: bool
    seconds: float
    events: IntArray = field(repr=False)
    spelling: Spelling | None = field(default=None, repr=False)
    """None in runs of versions that did not write it."""
    thought_ids: tuple[int, ...] | None = field(default=None, repr=False)
    """The tokens thought before the answer, what closes the thought included; None if a run has no thoughts."""


SCORED_KINDS = ("full", "sliding", "chunked")
"""Kinds of layers that have softmax attention, and so heads to score."""
WINDOWED_KINDS = ("sliding", "chunked")
"""Those of them that see a limited number of positions."""
NO_SOFTMAX = (
    "linear_attention",
    "mamba",
    "mamba2",
    "conv",
    "recurrent",
    "ssm",
    "moe",
    "mlp",
    "deltanet",
    "cross_attention",
)
"""What configurations call layers that have no softmax attention over the text; they keep no keys and values of it. A
model with a layer of any other name, whose attention is not seen, is refused."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer: what attention it has, and what else it carries from token to token."""

    index: int
    kind: str
    """"full", "sliding" or "chunked" for softmax attention; anything else names what the layer does instead (for
    example "linear_attention") and has no heads to score."""
    query_heads: int = 0
    kv_heads: int = 0
    window: int | None = None
    """Positions that a sliding or chunked layer sees at most."""
    recurrent: bool = False
    """It has a state beside keys and values (state space, linear attention), whether or not it has attention, too."""
    croppable: bool = True
    """What it keeps of earlier tokens can be cut back to any position, so that prompts can share their beginnings."""
    read_from: str = "interface"
    """Where its attention is seen: at transformers' attention "interface", or in the "weights" that it returns."""

    @property
    def scored(self) -> bool:
        return self.kind in SCORED_KINDS


def head_grid(layers: list[Layer] | tuple[Layer, ...]) -> list[tuple[int, int]]:
    """Every (layer, query head) that is scored, in order."""
    return [(layer.index, head) for layer in layers if layer.scored for head in range(layer.query_heads)]


Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file, where in it (JSON pointer; rows of a table count from 0), what."""

    file: str
    pointer: str
    message: str
