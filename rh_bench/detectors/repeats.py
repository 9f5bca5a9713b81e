"""Repeated random tokens: where a head looks when it has seen all this before. No data and no question."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rh_bench.detectors.base import Measured, Rule, Subject
from rh_bench.detectors.passes import Passes, Positions
from rh_bench.prompting.chat import uses_bos
from rh_bench.records import IntArray, Prompt

REPEATS = 4
ROWS = 256
"""Rows of the last repetition that are scored, at most."""


@dataclass(frozen=True)
class Repeats:
    """For each sample, a sequence of random tokens four times over, about as long as the sample.

    `induction`: attention of a row on the tokens that followed its token at its earlier occurrences. `echo`: on the
    earlier occurrences themselves. Both added over the three occurrences and averaged over the last rows.
    """

    name: str = "induction"
    version: int = 1
    source: str = (
        "Tang et al. 2024, RazorAttention (arXiv 2407.15891): its echo and induction scores, and its shares of heads; "
        "the sequences are as long as the samples instead of 4 x 2500 tokens, one for each sample instead of one in "
        "all, only up to 256 rows of the last repetition are scored, and query heads are scored by themselves instead "
        "of by the best of those that share a key/value head"
    )
    scores: tuple[str, ...] = ("induction", "echo")
    rules: tuple[Rule, ...] = (Rule("induction", "share", 0.14), Rule("echo", "share", 0.01))
    needs_data: bool = False
    counted_only: bool = False

    def measure(
        self, subject: Subject, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]]
    ) -> Iterator[Measured]:
        passes = Passes(subject.model, subject.loaded.layers, 2, subject.chunk)
        tokenizer = subject.loaded.tokenizer
        vocabulary, start = ordinary_tokens(tokenizer), first_token(tokenizer)
        vocabulary = vocabulary[vocabulary < subject.model.get_input_embeddings().num_embeddings]
        for prompt in prompts:
            sample = prompt.sample
            if sample.sample_id not in done:
                started = time.perf_counter()
                segment = max(2, (sample.length - len(start)) // REPEATS)
                ids = np.concatenate([start, repeated(vocabulary, segment, subject.seed, sample.sample_id)])
                masses = passes.alone(ids, earlier(len(ids), segment))
                yield Measured(sample.sample_id, masses, time.perf_counter() - started)


def repeated(vocabulary: IntArray, segment: int, seed: int, sample_id: str) -> IntArray:
    """`segment` random tokens, REPEATS times over. They differ from one another as long as the vocabulary lasts, so
    that a token's earlier occurrences are one segment apart.

    Args:
        seed, sample_id: equal ones give equal tokens.
    """
    digest = hashlib.sha256(f"{seed}:{sample_id}".encode()).digest()
    random = np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
    drawn = [random.permutation(vocabulary) for _ in range(-(-segment // len(vocabulary)))]
    return np.tile(np.concatenate(drawn)[:segment], REPEATS)


def earlier(length: int, segment: int) -> Positions:
    """For the last rows of `length` tokens that end with the repetitions: the successors of the row's token at its
    earlier occurrences, and these occurrences. int64 [2, R, REPEATS - 1]."""
    rows = np.arange(length - min(segment, ROWS), length, dtype=np.int64)
    occurrences = rows[:, None] - segment * np.arange(1, REPEATS, dtype=np.int64)
    return np.stack([occurrences + 1, occurrences])


def ordinary_tokens(tokenizer: Any) -> IntArray:
    """Ids of the vocabulary, sorted, without special and added tokens, which models know for other things than text."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return np.asarray(sorted(set(tokenizer.get_vocab().values()) - special), dtype=np.int32)


def first_token(tokenizer: Any) -> IntArray:
    """The token that begins a sequence, where the tokenizer puts one: int32 [1] or [0]."""
    return np.asarray([tokenizer.bos_token_id] if uses_bos(tokenizer) else [], dtype=np.int32)
