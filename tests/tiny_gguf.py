"""A tiny random Llama as a GGUF file, whole or damaged. No downloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import MODEL_ARCH, GGUFWriter, TokenType, get_tensor_name_map
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM

Tensors = dict[str, npt.NDArray[np.float32]]


def tiny_gguf(
    path: Path,
    checkpoint: Path,
    *,
    damage: Callable[[Tensors], Tensors] = lambda tensors: tensors,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write the model of :func:`tiny.tiny_checkpoint` as a GGUF file.

    Args:
        damage: what becomes of its tensors, by their names in GGUF.
        metadata: numbers and texts to add, or to put in the place of others.
    """
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    config, writer = model.config, GGUFWriter(str(path), "llama")
    known: dict[str, Any] = {
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.dimension_count": config.head_dim,
        "llama.rope.freq_base": 10_000.0,
        "llama.vocab_size": config.vocab_size,
        **(metadata or {}),
    }
    for name, value in known.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(name, value)
    _add_tokenizer(writer)
    for name, tensor in damage(_tensors(model)).items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Lists of one element are read as that element, so there are two merges, in the place of two bytes.
    tokens = ["<pad>", "<s>", "</s>", *alphabet[:-2], "ab", "cd"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * len(alphabet))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)


def _tensors(model: Any) -> Tensors:
    """Weights by their names in GGUF, where Llama's query and key matrices have their rows in another order."""
    names, config = get_tensor_name_map(MODEL_ARCH.LLAMA, model.config.num_hidden_layers), model.config
    found = {}
    for name, tensor in model.state_dict().items():
        stem, _, end = name.rpartition(".")
        array = tensor.numpy().astype(np.float32)
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:
                rows, columns = array.shape
                array = array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
        found[f"{names.get_name(stem)}.{end}"] = array
    return found
