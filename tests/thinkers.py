"""Tiny checkpoints that answer by a script, for models that think: real ones to load, save and run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tiny import _ROPE, _SHAPE, tiny_tokenizer
from transformers import AddedToken, AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

_MARKS = re.compile(r"</?[\w:]+>|<[|｜][\w▁]+[|｜]>|\[/?[A-Z]+\]|<\|turn>|<turn\|>|<\|channel>|<channel\|>")
_HIDDEN = 512


def marks_of(template: str) -> list[str]:
    """What in a template looks like a token of its own."""
    return sorted(set(_MARKS.findall(template)) - {"<s>", "</s>"})


def thinker_tokenizer(template: str, marks: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of bytes with a chat template, and tokens of their own for what stands between its turns."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    names = marks_of(template) if marks is None else marks
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in names])
    return tokenizer


def thinker_checkpoint(
    folder: Path,
    template: str,
    says: Mapping[str, str] | None = None,
    *,
    marks: Sequence[str] | None = None,
    eos: Sequence[int] = (2,),
    window: int = 4096,
) -> Path:
    """A Llama that says, after each token, the one of a script; after any other the last of the vocabulary.

    Its attention and what that looks at are real; nothing of it reaches the logits.

    Args:
        says: the next token by the one before, as texts of one token each.
        eos: ids in the model's configuration.
    """
    tokenizer = thinker_tokenizer(template, marks)
    shape = {**_SHAPE, "hidden_size": _HIDDEN, "vocab_size": len(tokenizer), "max_position_embeddings": window}
    config = AutoConfig.for_model("llama", **shape, rope_parameters=_ROPE)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    follow = {one_token(tokenizer, one): one_token(tokenizer, other) for one, other in (says or {}).items()}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.35)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        meanings = model.model.embed_tokens.weight
        meanings /= meanings.norm(dim=-1, keepdim=True)
        model.lm_head.weight.zero_()
        for token in range(len(tokenizer)):
            model.lm_head.weight[follow.get(token, len(tokenizer) - 1)] += meanings[token]
    model.generation_config.eos_token_id = list(eos)
    model.config.eos_token_id = list(eos)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def one_token(tokenizer: Any, text: str) -> int:
    (token,) = tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(token)


def script(*tokens: str) -> dict[str, str]:
    """Each token after the one before."""
    assert len(set(tokens[:-1])) == len(tokens) - 1, "one token has one successor"
    return dict(pairwise(tokens))
