from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFWriter
from tiny import tiny_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from rh_bench.cli.demo import find_weights
from rh_bench.errors import InputError
from rh_bench.models.gguf_tokenizer import check_gguf_tokenizer

WORDS = ("garden", "harbour", "kitchen", "library", "mountain", "railway", "weather", "workshop", "music", "astro")


def write_gguf(path: Path, *, add_bos: bool | None, words: tuple[str, ...] = ()) -> Path:
    """A GGUF file without tensors whose vocabulary is that of `tiny_tokenizer`, followed by `words` after a space."""
    tiny = tiny_tokenizer()
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*tiny.convert_ids_to_tokens(range(len(tiny))), *(f"Ġ{word}" for word in words)])
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def with_bos(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.mark.parametrize("add_bos", [None, False])
def test_a_tokenizer_that_agrees_is_taken(tmp_path: Path, add_bos: bool | None) -> None:
    check_gguf_tokenizer(write_gguf(tmp_path / "m.gguf", add_bos=add_bos), tiny_tokenizer())


def test_the_first_token_that_the_file_asks_for_must_come(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", add_bos=True)
    check_gguf_tokenizer(path, with_bos(tiny_tokenizer()))
    with pytest.raises(InputError, match=r"m\.gguf: .*beginning-of-sequence.*newer transformers"):
        check_gguf_tokenizer(path, tiny_tokenizer())


def test_words_that_the_file_has_whole_must_come_out_whole(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", add_bos=False, words=WORDS)
    with pytest.raises(InputError, match="splits 10 of 10 words"):
        check_gguf_tokenizer(path, tiny_tokenizer())
    whole = tiny_tokenizer()
    whole.add_tokens([f" {word}" for word in WORDS])
    check_gguf_tokenizer(path, whole)


@pytest.mark.slow
@pytest.mark.real_model
def test_a_real_file_and_another_model_s_tokenizer() -> None:
    with pytest.raises(InputError, match="splits 200 of 200 words"):
        check_gguf_tokenizer(find_weights(), tiny_tokenizer())
