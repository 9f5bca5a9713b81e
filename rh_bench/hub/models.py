"""Models from the Hub: configuration, tokenizer and safetensors weights, and nothing that runs code on loading."""

from __future__ import annotations

import json
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.hub.download import download
from rh_bench.hub.refs import RepoRef

MODEL_FILES = (
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.txt",  # merges and vocabularies of byte-pair tokenizers
    "*.tiktoken",
    "tokenizer.model*",
    "spiece.model",
    "sentencepiece*.model",
    "README.md",  # says which model this one was derived from
)
"""What a model is loaded from, and its card. Never *.bin, *.pt or *.pkl: those are pickles, which run code when they
are loaded."""
# Weights that are never loaded: copies in folders, and Mistral's second copy in its own format.
SPARE_WEIGHTS = ("*/*.safetensors", "*/*.gguf", "consolidated*.safetensors")


def fetch_model(
    ref: RepoRef,
    *,
    allow_gguf: bool = False,
    trust_remote_code: bool = False,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> tuple[Path, str]:
    """Download a model's configuration, tokenizer and safetensors weights, and nothing that runs code on loading.

    Args:
        ref: the model repository.
        allow_gguf: fetch GGUF weights too, and accept them alone.
        trust_remote_code: fetch the repository's own Python files too.
        cache_dir, endpoint, token: as in `fetch_set`.

    Returns:
        The folder with the model's files, and the 40-digit commit they belong to.

    Raises:
        InputError: the repository cannot be read, or its weights are incomplete or in no safe format.
    """
    wanted = [*MODEL_FILES, *(["*.gguf"] if allow_gguf else []), *(["*.py"] if trust_remote_code else [])]
    folder, commit = download(ref, "model", wanted, SPARE_WEIGHTS, cache_dir, endpoint, token)
    where = f"model {ref}"
    if missing := _missing_shards(folder, where):
        raise InputError(
            f"the download is incomplete: {missing[0]} is missing" + _and_more(len(missing) - 1),
            where=where,
            hint="run again when the Hub can be reached",
        )
    formats = ("*.safetensors", "*.gguf") if allow_gguf else ("*.safetensors",)
    if not any(path for pattern in formats for path in folder.glob(pattern)):
        raise InputError(
            "has no *.safetensors: weights must be safetensors or GGUF, never pickle, which runs code when loaded",
            where=where,
            hint="choose a revision or a copy with safetensors, or download its .gguf and give gguf:FILE",
        )
    return folder, commit


def fetch_config(ref: RepoRef) -> Path:
    """Download only a model's config.json.

    Raises:
        InputError: the repository cannot be read, or has none.
    """
    path = download(ref, "model", ("config.json",), (), None, None, None)[0] / "config.json"
    if not path.is_file():
        raise InputError("has no config.json", where=f"model {ref}")
    return path


def _missing_shards(folder: Path, where: str) -> list[str]:
    """Files named in the index of sharded weights that are missing. A cached folder can be incomplete."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        shards = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "model.safetensors.index.json has no weight_map of files", where=where, hint="choose another revision"
        ) from error
    return sorted(shard for shard in shards if not (folder / shard).is_file())


def _and_more(count: int) -> str:
    return f", and {count} more" if count else ""
