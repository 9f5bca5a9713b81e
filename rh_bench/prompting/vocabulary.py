"""Tokens in prompts that a model has no embedding for.

Tokenizers often have more tokens than a model has embedding rows, which is harmless until one of them occurs.
Neither torch nor transformers is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rh_bench.errors import InputError
from rh_bench.records import IntArray
from rh_bench.system.files import shown


def largest_token(prompts: Iterable[IntArray]) -> int | None:
    """The largest id in all prompts; None if there are none."""
    return max((int(ids.max()) for ids in prompts if len(ids)), default=None)


def embedding_rows(model: Any) -> int | None:
    """Rows of a model's token embedding; None if it cannot be found."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError, IndexError):
        return None


def refuse_beyond_embedding(largest: int | None, rows: int | None, tokenizer: Any, where: str) -> None:
    """Refuse prompts with a token that the model has no row for.

    Args:
        largest: the largest id, or None without prompts.
        rows: number of embedding rows.

    Raises:
        InputError: names the token, its id and the rows.
    """
    if largest is None or rows is None or largest < rows:
        return
    token = shown(tokenizer.convert_ids_to_tokens(largest))[:60]
    raise InputError(
        f"the prompts contain the token {token!r} with id {largest}, but its embedding has {rows} rows",
        where=where,
        hint="use the tokenizer of these weights, or another --template if the template adds it",
    )
