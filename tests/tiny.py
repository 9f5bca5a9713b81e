"""Tiny random models of every architecture in the matrix, and a tiny tokenizer. No downloads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 10
"""Small on purpose: greedy continuations then repeat tokens of the prompt, and copy events happen."""

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SLIDING = {"sliding_window": 32}
_ROPE = {"rope_theta": 10_000.0, "rope_type": "default"}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _SHAPE),
    "llama-1kv": ("llama", {**_SHAPE, "num_key_value_heads": 1}),
    "llama-4kv": ("llama", {**_SHAPE, "num_key_value_heads": 4}),
    "qwen2": ("qwen2", _SHAPE),
    "qwen3": ("qwen3", _SHAPE),
    "mistral": ("mistral", {**_SHAPE, **_SLIDING}),
    "mixtral": ("mixtral", {**_SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "phi3": ("phi3", _SHAPE),
    "gemma2": ("gemma2", {**_SHAPE, **_SLIDING, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 5.0}),
    "gemma3": ("gemma3_text", {**_SHAPE, **_SLIDING, "query_pre_attn_scalar": 8, "sliding_window_pattern": 3}),
    "gpt2": ("gpt2", _GPT2),
    "gpt_neox": ("gpt_neox", {k: v for k, v in _SHAPE.items() if k not in ("num_key_value_heads", "head_dim")}),
    "gpt_oss": (
        "gpt_oss",
        {**_SHAPE, **_SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": _ROPE},
    ),
    "opt": ("opt", {**_SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "qwen3_next": (
        "qwen3_next",
        {
            **_SHAPE,
            "num_hidden_layers": 4,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
        },
    ),
}


def matrix(*quick: str, among: Iterable[str] = ARCHITECTURES) -> list[Any]:
    """Architectures to parametrise a test with, every one if none are named; all but the quick ones make slow tests."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in among]


MATRIX = matrix("llama", "gemma3", "gpt2", "gpt_oss", "qwen3_next")
"""Quick is one of each kind: grouped heads and rotation, sliding windows, neither, sinks, layers without softmax."""


def tiny_model(name: str, seed: int = 0) -> Any:
    """A random model in float32. Its attention is made sharp, so that arg-max positions are far from ties."""
    model_type, options = ARCHITECTURES[name]
    config = AutoConfig.for_model(model_type, **options)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.35)
    return model


def tiny_tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 256 bytes and three special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )
    if chat:
        tokenizer.chat_template = (
            "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] | trim }}</s>{% endfor %}"
            "{% if add_generation_prompt %}<s>assistant: {% endif %}"
        )
    return tokenizer


def random_ids(length: int, seed: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.random.RandomState(seed).randint(3, VOCABULARY, size=length).astype(np.int32)


def tiny_checkpoint(folder: Path, *, chat: bool = False, window: int = 4096, seed: int = 0) -> Path:
    """A folder as `save_pretrained` writes it: a random byte-level Llama, and its tokenizer."""
    config = AutoConfig.for_model(
        "llama",
        **{
            **_SHAPE,
            "vocab_size": 259,
            "max_position_embeddings": window,
            "rope_parameters": _ROPE,
        },
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.35)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    tiny_tokenizer(chat).save_pretrained(folder)
    return folder


def talkative_checkpoint(folder: Path, **options: Any) -> Path:
    """As :func:`tiny_checkpoint`, but it speaks in frequent letters, so that its heads have copy events."""
    tiny_checkpoint(folder, **options)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    letters = tiny_tokenizer().convert_tokens_to_ids([*"etaoinshrdlu", "\u0120"])
    silent = torch.ones(model.config.vocab_size, dtype=torch.bool)
    silent[letters] = False
    with torch.no_grad():
        model.lm_head.weight[silent] = 0.0
    model.save_pretrained(folder)
    return folder
