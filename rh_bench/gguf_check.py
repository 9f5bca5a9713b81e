"""Whether the tokenizer and the model that transformers made of a GGUF file are those that the file describes.

Not every version of transformers rebuilds every tokenizer rightly: 5.17 reads Gemma 3's without its merges and without
its first token, and says nothing. A model that is fed such tokens answers nothing, and would be measured as a model
without retrieval heads. So the file's own words are asked: does it want a beginning-of-sequence token, and is a word
that is one token in its vocabulary one token when it is encoded?

The same for the weights: transformers leaves out tensors that it has no name for, a scaled rotary embedding among them,
and says nothing either. So tensors are counted, and the file's own words on its positions are read.
"""

from __future__ import annotations

import math
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


_BLOCK = re.compile(r"blk\.(\d+)\.")
_FACTORS = re.compile(r"rope_(freqs|factors_\w+)\.weight$")


def check_gguf_weights(path: Path, model: Any) -> None:
    """Compare a loaded model with the file that it was made from.

    Raises:
        InputError: the file has blocks that the model lacks, more or fewer numbers than the model, or a scaling of its
            positions that was not read.
    """
    from gguf import GGUFReader

    reader = GGUFReader(path)
    architecture = _value(reader, "general.architecture")
    config = model.config.get_text_config(decoder=True)
    _refuse_unread_scaling(path, reader, architecture, config)
    ahead = _value(reader, f"{architecture}.nextn_predict_layers") or 0
    sizes = {str(tensor.name): math.prod(int(size) for size in tensor.shape) for tensor in reader.tensors}
    blocks = {name: int(match[1]) for name in sizes if (match := _BLOCK.match(name))}
    beyond = sorted(name for name, block in blocks.items() if block >= config.num_hidden_layers)
    if beyond and not ahead:
        raise _no_match(path, f"{len(beyond)} tensors are of layers that its metadata does not count ({beyond[0]})")
    used = sum(size for name, size in sizes.items() if name not in beyond and not _FACTORS.search(name))
    if getattr(config, "tie_word_embeddings", False):
        used -= sizes.get("output.weight", 0)  # a second copy
    has = sum({tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}.values())
    if used != has:
        raise _no_match(path, f"it holds {used:,} numbers, and {type(model).__name__} with its metadata {has:,}")


def _refuse_unread_scaling(path: Path, reader: Any, architecture: str, config: Any) -> None:
    """Refuse a file whose positions are scaled where the model's are not: its prompts would be read in another way."""
    kind = _value(reader, f"{architecture}.rope.scaling.type")
    factor = _value(reader, f"{architecture}.rope.scaling.factor")
    factors = [tensor.data for tensor in reader.tensors if _FACTORS.search(str(tensor.name))]
    scaled = kind not in (None, "none") and factor not in (None, 0.0, 1.0)
    scaled = scaled or any(not np.allclose(np.asarray(one, dtype=np.float32), 1.0) for one in factors)
    rope = getattr(config, "rope_parameters", None) or {}
    if scaled and rope.get("rope_type", "default") == "default":
        raise InputError(
            "its positions are scaled for long contexts, which transformers does not read from GGUF files",
            where=f"gguf:{path.name}",
            mend="give the model's safetensors folder",
        )


def _value(reader: Any, name: str) -> Any:
    field = reader.get_field(name)
    return None if field is None else field.contents()


def _no_match(path: Path, why: str) -> InputError:
    return InputError(
        f"its tensors and its metadata do not belong together: {why}",
        where=f"gguf:{path.name}",
        mend="convert the model again, or give its safetensors folder",
    )


def _refusal(path: Path, why: str) -> InputError:
    return InputError(
        f"this version of transformers reads its tokenizer wrongly: {why}",
        where=f"gguf:{path.name}",
        mend="install a newer transformers (5.23 is known to be right), or give the model's safetensors folder",
    )
