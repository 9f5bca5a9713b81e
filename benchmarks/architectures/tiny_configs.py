"""A tiny random model of any causal-LM type that transformers knows.

The default configuration of a type is shrunk by the names of its fields: whatever is a width becomes a small width that
divides by the number of heads, whatever counts layers becomes four. What the names do not say stands in `SPECIAL`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

VOCABULARY = 12
"""Small on purpose: greedy continuations then repeat tokens of the prompt, and copy events happen."""
LAYERS = 4
WINDOW = 24
"""Of sliding and chunked attention: shorter than the prompts, so that it matters."""
POSITIONS = 512

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "embedding_dim", "embedding_size"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "input_embedding_size", "output_embedding_size", "lru_width"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_blocks"), LAYERS),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers", "num_decoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("swa_num_attention_heads", "num_query_groups", "num_heads", "index_n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "swa_head_dim", "v_head_dim", "kv_channels", "dim_head", "attention_head_size"), 8),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "d_head"), 8),
    **dict.fromkeys(("qk_head_dim",), 16),
    **dict.fromkeys(("index_head_dim",), 16),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 16),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner", "dff"), 48),
    **dict.fromkeys(("dim_ff", "d_inner", "feed_forward_size", "ffn_hidden_size", "intermediate_size_mlp"), 48),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "shared_intermediate_size"), 16),
    **dict.fromkeys(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("shared_experts_intermediate_size", "dense_intermediate_size"), 16),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("num_shared_experts", "n_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("num_dense_layers", "first_k_dense_replace"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), POSITIONS),
    **dict.fromkeys(("max_target_positions", "max_source_positions"), POSITIONS),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_chunk_size", "local_attention"), WINDOW),
    **dict.fromkeys(("window_size", "attention_window_size", "floor_scale"), WINDOW),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("linear_num_value_heads", "linear_num_heads"), 4),
    **dict.fromkeys(("linear_num_key_heads",), 2),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "mamba_ngroups", "num_codebooks"), 1),
    **dict.fromkeys(("mamba_d_ssm",), 64),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank"), 4),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "block_size"), 16),
    **dict.fromkeys(("rotary_dim",), 8),
    **dict.fromkeys(("query_pre_attn_scalar",), 8),
    **dict.fromkeys(("vocab_size_per_layer_input",), VOCABULARY),
    **dict.fromkeys(("hidden_size_per_layer_input",), 8),
    **dict.fromkeys(("num_kv_shared_layers",), 2),
    **dict.fromkeys(("laurel_rank",), 8),
    **dict.fromkeys(("router_hidden_size", "adapter_rank", "attention_hidden_size"), 32),
    **dict.fromkeys(("vocab_size", "unpadded_vocab_size"), VOCABULARY),
    **dict.fromkeys(("index_topk",), 16),
    **dict.fromkeys(("lm_head_dim", "dim_model_base"), 16),
}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
_LIST_PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers", "block_types")

_HYBRID = ["linear_attention", "full_attention"] * 2
_ZAMBA = {"layers_block_type": ["linear_attention", "hybrid"] * 2, "n_mamba_heads": 2, "num_key_value_heads": 4}
_QWEN4 = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
    "layer_types": ["linear_attention", "indexed_attention"] * 2,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e4,
        "partial_rotary_factor": 1.0,
        "mrope_section": [2, 1, 1],
    },
}
_DOTS3_SLIDING = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "head_dim": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
_DOTS3 = {
    "num_key_value_heads": 4,
    "head_dim": 16,
    "layer_types": ["sliding_attention", "indexed_attention"] * 2,
    "per_layer_config": {0: _DOTS3_SLIDING, 2: _DOTS3_SLIDING},
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}

SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
        "rope_parameters": _ROPE,
    },
    "dots3_note": _DOTS3,
    "dots3_note_text": _DOTS3,
    "deepseek_v2": {"num_experts_per_tok": 2, "n_routed_experts": 4},
    "dots1": {"n_routed_experts": 4, "moe_intermediate_size": 16, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": _HYBRID, "position_embedding_type": "rope"},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "full_attn_idxs": [1, 3]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "ministral": {"head_dim": 8},
    "modernbert-decoder": {"cls_token_id": 1, "sep_token_id": 2},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp": _QWEN4,
    "qwen4_exp_text": _QWEN4,
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local"] * LAYERS},
    "trocr": {"decoder_start_token_id": 2},
    "xglm": {"decoder_start_token_id": 2},
    "xlm": {"mask_token_id": 3},
    "xmod": {"default_language": "en_XX"},
    "zamba": {**_ZAMBA, "attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {**_ZAMBA, "n_mamba_heads": 8, "attention_hidden_size": 64, "attention_head_dim": 16},
    "zaya": {"num_experts_per_tok": 1, "layer_types": ["hybrid", "hybrid_sliding"] * 2, "sliding_window": WINDOW},
}
"""What the names of a type's fields do not say."""


def tiny_config(model_type: str, **changes: Any) -> Any:
    """A small configuration of a type, with some fields set as asked.

    Raises:
        Exception: whatever the type's own configuration raises: it cannot be built this small.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[model_type]
    default = AutoConfig.for_model(model_type)
    fields = {**_shrunk(default), **SPECIAL.get(model_type, {})}
    nested = default.get_text_config(decoder=True)
    if nested is not default:
        name = next((key for key, value in vars(default).items() if value is nested), None)
        if name is not None:
            text = {**_shrunk(nested), **SPECIAL.get(model_type, {}), **changes}
            return kind(**{name: text})
    return kind(**{**fields, **changes})


def _shrunk(config: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in config.to_dict().items():
        if name in _SIZES and value is not None and not isinstance(value, dict):
            fields[name] = [_SIZES[name]] * LAYERS if isinstance(value, list) else _SIZES[name]
        elif name.endswith("_token_id"):
            fields[name] = _TOKENS.get(name)
        elif name in _LIST_PER_LAYER and isinstance(value, list) and value:
            fields[name] = _some_of_each(value)
        elif name == "rope_parameters" and isinstance(value, dict):
            fields[name] = copy.deepcopy(value)
    if "kv_lora_rank" in fields and "num_key_value_heads" in fields:
        fields["num_key_value_heads"] = fields["num_attention_heads"]  # latent attention has keys of its own a head
    return fields


def _some_of_each(kinds: list[Any]) -> list[Any]:
    """Four layers with every kind that the default has, in the order in which they first come."""
    distinct = list(dict.fromkeys(kinds))
    return [distinct[place % len(distinct)] for place in range(LAYERS)]


def tiny_model(config: Any, seed: int = 0) -> Any:
    """A random model in float32. Its weights are large, so that arg-max positions are far from ties."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.35)
    # Greedy decoding and nothing else: some types come with penalties, some with tokens that they force.
    model.generation_config = GenerationConfig(pad_token_id=0)
    return model


def tiny_tokenizer() -> Any:
    """A tokenizer of as many words as the models know: only its being there matters, prompts are made of ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", *(f"w{place}" for place in range(3, VOCABULARY))]
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def save_tiny(model: Any, folder: Path) -> Path:
    """The model's folder, as `save_pretrained` writes it, with a tokenizer."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
