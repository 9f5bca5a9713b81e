"""Tiny random models that take images or sound beside text, as transformers has them. No downloads."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig

_SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "sliding_window": 16,
    "d_model": 32,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
    "num_layers": 2,
    "encoder_layers": 2,
    "encoder_hidden_size": 32,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_num_experts": 4,
    "moe_topk": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "image_size": 28,
    "patch_size": 14,
    "out_hidden_size": 32,
    "projection_dim": 32,
    "projector_hidden_size": 32,
    "vision_hidden_size": 32,
    "mm_hidden_size": 32,
}
_MULTIMODAL_ROPE = ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "glm4v")
"""Types whose rotary embedding has three sections for which default configurations are too wide."""


def tiny_config(kind: str) -> Any:
    """The configuration of a type, small in all its parts."""
    config = AutoConfig.for_model(kind)
    _shrink(config)
    if kind in _MULTIMODAL_ROPE:
        whole = getattr(config, "thinker_config", config)
        rope = whole.get_text_config(decoder=True).rope_parameters
        rope["mrope_section"] = [2, 1, 1]
        if "partial_rotary_factor" in rope:
            rope["partial_rotary_factor"] = 1.0
    if kind == "qwen2_5_omni":
        config.enable_audio_output = False
        config.thinker_config.vision_start_token_id = config.thinker_config.audio_start_token_id = 3
    return config


def tiny_whole(kind: str, auto: str) -> Any:
    """A random model of a type, in float32, with all its parts. Its text decoder is made sharp.

    Args:
        auto: the class of transformers that builds it, of auto or by itself.
    """
    torch.manual_seed(0)
    config, cls = tiny_config(kind), getattr(transformers, auto)
    model = (cls.from_config if auto.startswith("Auto") else cls._from_config)(config, dtype=torch.float32).eval()
    decoder = getattr(model, "thinker", model).get_decoder()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim >= 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def _shrink(config: Any) -> None:
    for name, value in list(vars(config).items()):
        if isinstance(value, PretrainedConfig):
            _shrink(value)
        elif name in _SMALL and type(value) is int:
            setattr(config, name, _SMALL[name])
        elif name.endswith("layer_types") and isinstance(value, list):
            kinds = list(dict.fromkeys(value))
            setattr(config, name, (kinds * 2)[:2])
        elif name.endswith(("token_id", "token_index")) and type(value) is int and value >= 300:
            setattr(config, name, 3)
        elif name.endswith("token_id") and isinstance(value, list):
            setattr(config, name, [2])
