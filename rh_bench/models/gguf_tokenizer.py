"""Whether the tokenizer that transformers made of a GGUF file is the one that the file describes.

Not every version of transformers rebuilds every tokenizer correctly: 5.17 reads Gemma 3's without its merges and
without its first token, and says nothing. A model that is fed such tokens answers nothing, and would be measured as a
model without retrieval heads. So the file's own words are asked: does it want a beginning-of-sequence token, and is a
word that is one token in its vocabulary one token when it is encoded?
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from rh_bench.errors import InputError

_WORD = re.compile(r"[\u2581\u0120]([A-Za-z]{4,9})")
"""A word after a space, as SentencePiece (▁) and byte-level vocabularies (Ġ) write it."""
WORDS = 200
"""Words that are encoded, spread evenly over the vocabulary."""
FEWEST = 0.9
"""Share of them that must come out whole. Merges of another order can split a rare word; a broken tokenizer splits
nearly all."""


def check_gguf_tokenizer(path: Path, tokenizer: Any) -> None:
    """Compare a tokenizer with the file that it was made from.

    Raises:
        InputError: it leaves out the first token that the file asks for, or splits words that the file has whole.
    """
    from gguf import GGUFReader

    reader = GGUFReader(path)
    wants_bos = reader.get_field("tokenizer.ggml.add_bos_token")
    if wants_bos is not None and bool(wants_bos.contents()) and not _begins_with_bos(tokenizer):
        raise _refusal(path, "it leaves out the beginning-of-sequence token that the file asks for")
    words = _whole_words(reader)
    split = sum(tokenizer.encode(f"the {word}", add_special_tokens=False)[-1] != place for place, word in words)
    if split > (1 - FEWEST) * len(words):
        raise _refusal(path, f"it splits {split} of {len(words)} words that are single tokens in the file")


def _begins_with_bos(tokenizer: Any) -> bool:
    ids = tokenizer.encode("the", add_special_tokens=True)
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def _whole_words(reader: Any) -> list[tuple[int, str]]:
    """(token id, word) of up to WORDS words that are one token, evenly spread over those there are."""
    field = reader.get_field("tokenizer.ggml.tokens")
    if field is None:
        return []
    texts = (bytes(field.parts[part]).decode("utf-8", errors="replace") for part in field.data)
    found = [(place, match[1]) for place, text in enumerate(texts) if (match := _WORD.fullmatch(text))]
    chosen = np.unique(np.linspace(0, len(found) - 1, min(WORDS, len(found))).astype(int)) if found else ()
    return [found[int(place)] for place in chosen]


def _refusal(path: Path, why: str) -> InputError:
    return InputError(
        f"this version of transformers reads its tokenizer wrongly: {why}",
        where=f"gguf:{path.name}",
        hint="install a newer transformers (5.23 is known to work), or give the model's safetensors folder",
    )
