"""Tokens of prompts that a model has no embedding for.

Tokenizers often know more tokens than a model has rows of embedding, which is harmless until one of them occurs.
Neither torch nor transformers is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rh_bench.errors import InputError
from rh_bench.records import IntArray
from rh_bench.system.files import shown


def largest_token(prompts: Iterable[IntArray]) -> int | None:
    """The largest id in all prompts; None where there is none."""
    return max((int(ids.max()) for ids in prompts if len(ids)), default=None)


def embedding_rows(model: Any) -> int | None:
    """Rows of a model's embedding of tokens; None where it has none that can be found."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError, IndexError):
        return None


def refuse_beyond_embedding(largest: int | None, rows: int | None, tokenizer: Any, where: str) -> None:
    """Refuse prompts with a token that the model has no row for.

    Args:
        largest: the largest id, or None where there are no prompts.
        rows: of the embedding.

    Raises:
        InputError: names the token, its id and the rows.
    """
    if largest is None or rows is None or largest < rows:
        return
    token = shown(tokenizer.convert_ids_to_tokens(largest))[:60]
    raise InputError(
        f"the prompts hold the token {token!r} with the id {largest}, and its embedding has {rows} rows",
        where=where,
        hint="give the tokenizer of these weights, or another --template if it is the template that puts it there",
    )
