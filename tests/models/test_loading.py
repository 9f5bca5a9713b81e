"""Weights that were not loaded are refused by name, whatever is damaged; what is no part of the decoder is noted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint, tiny_model, tiny_tokenizer
from tiny_gguf import tiny_gguf
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from rh_bench.errors import InputError
from rh_bench.models.load import load_model

Weights = dict[str, torch.Tensor]
Damage = Callable[[Weights], Weights]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny models of several architectures, made once."""
    root, made = tmp_path_factory.mktemp("saved"), {}

    def folder(name: str) -> Path:
        if name not in made:
            tiny_model(name).save_pretrained(root / name)
            tiny_tokenizer().save_pretrained(root / name)
            made[name] = root / name
        return made[name]

    return folder


@pytest.fixture
def damaged(saved: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of such a folder with other weights, or other words in its configuration."""

    def folder(name: str, damage: Damage | None = None, **config: Any) -> Path:
        copy = Path(shutil.copytree(saved(name), tmp_path / name))
        if damage is not None:
            weights = {key: value.contiguous().clone() for key, value in damage(load_file(copy / WEIGHTS)).items()}
            save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
        edit(copy / "config.json", **config)
        return copy

    return folder


WEIGHTS = "model.safetensors"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without(*parts: str) -> Damage:
    return lambda weights: {key: value for key, value in weights.items() if not any(part in key for part in parts)}


def prefixed(prefix: str) -> Damage:
    return lambda weights: {prefix + key: value for key, value in weights.items()}


def adding(**more: torch.Tensor) -> Damage:
    return lambda weights: {**weights, **{name.replace("__", "."): tensor for name, tensor in more.items()}}


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(folder), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ARCHITECTURES = ("llama", "qwen2", "gemma2", "phi3", "gpt2", "gpt_neox", "opt", "mixtral", "gpt_oss")


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_save_pretrained_wrote_is_loaded_without_a_word(name: str, saved: Callable[[str], Path]) -> None:
    loaded = load_model(str(saved(name)), device="cpu")
    want = tiny_model(name).state_dict()
    assert loaded.notes == ()
    assert all(torch.equal(tensor, want[key]) for key, tensor in loaded.model.state_dict().items())


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("llama", "layers.1.self_attn.q_proj.weight"),
        ("llama", "lm_head.weight"),
        ("qwen2", "layers.0.self_attn.k_proj.bias"),
        ("gemma2", "embed_tokens.weight"),
        ("phi3", "layers.2.self_attn.qkv_proj.weight"),
        ("gpt2", "h.1.attn.c_attn.bias"),
        ("gpt_neox", "layers.0.attention.query_key_value.weight"),
        ("opt", "embed_positions.weight"),
        ("gpt_oss", "layers.1.self_attn.sinks"),
    ],
)
def test_a_tensor_that_was_lost_is_named(name: str, lost: str, damaged: Callable[..., Path]) -> None:
    said = refusal(damaged(name, without(lost)))
    assert f"{name}: its weights do not match its configuration" in said
    assert "missing" in said and lost in said


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("lost", ["experts.2.w1", "experts.1.w2", "experts.3."])
def test_an_expert_that_was_lost_is_refused(lost: str, damaged: Callable[..., Path]) -> None:
    """Experts are merged while they are loaded, so that the name of the merged matrix is all there is."""
    assert "experts" in refusal(damaged("mixtral", without(lost)))


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model."])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_names_with_a_prefix_of_training_are_refused(name: str, prefix: str, damaged: Callable[..., Path]) -> None:
    said = refusal(damaged(name, prefixed(prefix)))
    assert "missing" in said and f"unknown to the architecture ({prefix}" in said


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("llama", {"num_hidden_layers": 2}, "9 weights are unknown to the architecture (model.layers.2."),
        ("gpt2", {"n_layer": 1}, "unknown to the architecture (transformer.h.1."),
        ("mixtral", {"num_local_experts": 3}, "experts"),
        ("llama", {"num_hidden_layers": 4}, "9 weights are missing (model.layers.3."),
        ("llama", {"num_key_value_heads": 4}, "k_proj.weight has the shape [16, 32], the architecture needs [32, 32]"),
        ("llama", {"vocab_size": 12}, "[10, 32], the architecture needs [12, 32]"),
        ("llama", {"model_type": "qwen2"}, "missing (model.layers.0.self_attn.k_proj.bias"),
        ("qwen2", {"model_type": "llama"}, "unknown to the architecture (model.layers.0.self_attn.k_proj.bias"),
        ("qwen3", {"model_type": "llama"}, "unknown to the architecture (model.layers.0.self_attn.k_norm.weight"),
        ("llama", {"model_type": "gpt_neox"}, "missing (gpt_neox.embed_in.weight"),
    ],
)
def test_another_configuration_than_the_files_is_refused(
    name: str, config: dict[str, Any], said: str, damaged: Callable[..., Path]
) -> None:
    assert said in refusal(damaged(name, **config))


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize(
    "more",
    [
        {"lm_head__bias": torch.ones(10)},
        {"model__layers__0__self_attn__q_proj__bias": torch.ones(32)},
        {"model__layers__0__self_attn__q_proj__weight_scale_inv": torch.ones(1, 1)},
        {"model__layers__0__self_attn__q_proj__lora_A__weight": torch.ones(4, 32)},
        {"model__layers__0__attn__bias": torch.ones(32)},
        {"model__norm__bias": torch.ones(32)},
        {"something__weight": torch.ones(3)},
    ],
)
def test_a_weight_that_could_matter_is_not_left_out(more: Weights, damaged: Callable[..., Path]) -> None:
    (name,) = (name.replace("__", ".") for name in more)
    assert f"1 weight is unknown to the architecture ({name})" in refusal(damaged("llama", adding(**more)))


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"model__layers__0__self_attn__rotary_emb__inv_freq": torch.ones(4)}, None),
        ({"model__layers__0__attn__masked_bias": torch.ones(1)}, None),
        ({"model__layers__0__attn__bias": torch.ones(1, 1, 8, 8)}, None),
        ({"score__weight": torch.ones(2, 32)}, "a head beside the language model's"),
        ({"v_head__summary__weight": torch.ones(1, 32)}, "a head beside the language model's"),
        ({"mtp__fc__weight": torch.ones(2, 32)}, "heads that predict further tokens"),
        ({"model__vision_tower__patch__weight": torch.ones(2, 3)}, "parts for images, sound or video"),
        ({"model__layers__0__self_attn__k_scale": torch.ones(())}, "a quantised cache"),
    ],
)
def test_a_weight_that_is_no_part_of_the_decoder_is_noted(
    more: Weights, note: str | None, damaged: Callable[..., Path]
) -> None:
    loaded = load_model(str(damaged("llama", adding(**more))), device="cpu")
    assert loaded.describe()["notes"] == list(loaded.notes)
    if note is None:
        assert loaded.notes == ()
    else:
        assert len(loaded.notes) == 1 and note in loaded.notes[0] and "1 weight is not used" in loaded.notes[0]


def test_layers_that_predict_further_are_known_by_their_number(damaged: Callable[..., Path]) -> None:
    """Multi-token prediction: the layers after the last, as many as the configuration says."""
    folder = damaged("llama", None, num_hidden_layers=2, num_nextn_predict_layers=1)
    assert "9 weights are not used: of heads that predict further" in load_model(str(folder), device="cpu").notes[0]
    edit(folder / "config.json", num_nextn_predict_layers=0)
    assert "unknown to the architecture" in refusal(folder)


def test_tied_weights_are_not_missing(damaged: Callable[..., Path]) -> None:
    loaded = load_model(str(damaged("llama", without("lm_head"), tie_word_embeddings=True)), device="cpu")
    assert loaded.notes == () and loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight


def test_an_output_matrix_beside_tied_weights_is_noted(damaged: Callable[..., Path]) -> None:
    own = torch.randn(10, 32)
    loaded = load_model(str(damaged("gemma2", adding(lm_head__weight=own))), device="cpu")
    assert torch.equal(loaded.model.lm_head.weight, own)
    assert "output matrix" in loaded.notes[0]


def test_a_checkpoint_of_the_model_without_its_head_is_loaded(damaged: Callable[..., Path]) -> None:
    """As AutoModel saves it: its names begin one level deeper."""

    def bare(weights: Weights) -> Weights:
        return {key.removeprefix("model."): value for key, value in weights.items() if key != "lm_head.weight"}

    loaded = load_model(str(damaged("gemma2", bare)), device="cpu")
    assert loaded.notes == ()
    want = tiny_model("gemma2").state_dict()
    assert all(torch.equal(tensor, want[key]) for key, tensor in loaded.model.state_dict().items())


class TestOtherFiles:
    """What is loaded are the files that were hashed."""

    @pytest.fixture
    def sharded(self, tmp_path: Path) -> Path:
        tiny_model("llama").save_pretrained(tmp_path / "llama", max_shard_size="20KB")
        tiny_tokenizer().save_pretrained(tmp_path / "llama")
        assert not (tmp_path / "llama" / WEIGHTS).exists()
        return tmp_path / "llama"

    def test_shards(self, sharded: Path) -> None:
        loaded = load_model(str(sharded), device="cpu")
        assert sum(name.endswith(".safetensors") for name, _, _ in loaded.source.files) > 1

    @pytest.mark.parametrize("other", ["../elsewhere.safetensors", "pytorch_model.bin", "gone.safetensors", 3])
    def test_an_index_that_leads_elsewhere(self, sharded: Path, other: object) -> None:
        (sharded.parent / "elsewhere.safetensors").write_bytes(next(sharded.glob("*.safetensors")).read_bytes())
        torch.save({}, sharded / "pytorch_model.bin")
        index = sharded / "model.safetensors.index.json"
        document = json.loads(index.read_text())
        document["weight_map"]["lm_head.weight"] = other
        index.write_text(json.dumps(document))
        assert f"index.json names '{other}', which is not a safetensors file in this folder" in refusal(sharded)

    @pytest.mark.parametrize("other", ["adapter_model.bin", "../x.safetensors", 3])
    def test_a_configuration_that_leads_elsewhere(self, damaged: Callable[..., Path], other: object) -> None:
        folder = damaged("llama", transformers_weights=other)
        (folder / "adapter_model.bin").write_bytes(b"")
        assert f"config.json names '{other}'" in refusal(folder)


SMALL = {
    "vocab_size": 259,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.mark.slow_but_first(3)
@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_kernels_that_a_configuration_names_are_not_fetched(name: str, damaged: Callable[..., Path]) -> None:
    """They are code of any repository, and would run without --trust-remote-code."""
    folder = damaged("llama", **{name: "acme/kernel", "fusion_config": {"patch_embeddings": True}})
    loaded = load_model(str(folder), device="cpu", positions=64)
    assert loaded.model.config._attn_implementation in ("sdpa", "eager")
    assert getattr(loaded.model.config, "fusion_config", None) is None


class TestReadingBothWays:
    """Refused before any weight is looked at: there are none that could be loaded."""

    def folder(self, tmp_path: Path, kind: str, **options: Any) -> Path:
        folder = tmp_path / kind
        AutoConfig.for_model(kind, **SMALL, **options).save_pretrained(folder)
        (folder / WEIGHTS).write_bytes(b"no weights")
        tiny_tokenizer().save_pretrained(folder)
        return folder

    @pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "xlm-roberta", "bert-generation", "modernbert"])
    def test_encoders(self, kind: str, tmp_path: Path) -> None:
        said = refusal(self.folder(tmp_path, kind))
        assert f"{kind}: models of type {kind} read text in both directions" in said

    def test_a_decoder_without_causal_attention(self, tmp_path: Path) -> None:
        said = refusal(self.folder(tmp_path, "gemma3_text", use_bidirectional_attention=True))
        assert "both directions" in said

    def test_encoder_decoders(self, tmp_path: Path) -> None:
        folder = tmp_path / "bart"
        AutoConfig.for_model("bart").save_pretrained(folder)
        (folder / WEIGHTS).write_bytes(b"no weights")
        tiny_tokenizer().save_pretrained(folder)
        assert "encoder-decoder models (bart) are not supported" in refusal(folder)

    def test_a_bert_that_is_a_decoder_gets_further(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, "bert", is_decoder=True)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
        try:
            loaded = load_model(str(folder), device="cpu")
        except InputError as error:  # its attention may not be one that can be recorded
            assert "both directions" not in str(error)
        else:
            assert len(loaded.layers) == 1

    def test_a_type_without_a_causal_class_is_named(self, tmp_path: Path) -> None:
        folder = tmp_path / "vit"
        AutoConfig.for_model("vit").save_pretrained(folder)
        (folder / WEIGHTS).write_bytes(b"no weights")
        tiny_tokenizer().save_pretrained(folder)
        said = refusal(folder)
        assert said.startswith("vit: transformers ") and "no causal language model of this type" in said

    def test_masked_language_models_are_those_that_fill_gaps(self) -> None:
        """What the rule leans on: of the causal types only families that can be both have a class for filling gaps."""
        both = names(AutoModelForCausalLM) & names(AutoModelForMaskedLM)
        assert not both & {"llama", "gpt_neox", "gpt2", "opt", "gemma3_text", "modernbert-decoder"}


def names(auto: Any) -> set[str]:
    return set(auto._model_mapping._model_mapping)


class TestGguf:
    @pytest.fixture(scope="class")
    def checkpoint(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tiny_checkpoint(tmp_path_factory.mktemp("gguf") / "model")

    @pytest.mark.slow
    def test_a_whole_one_is_the_same_model(self, checkpoint: Path, tmp_path: Path) -> None:
        loaded = load_model(f"gguf:{tiny_gguf(tmp_path / 'a.gguf', checkpoint)}", device="cpu")
        want = load_model(str(checkpoint), device="cpu").model.state_dict()
        assert loaded.notes == () and loaded.window == 4096
        assert all(torch.equal(tensor, want[key]) for key, tensor in loaded.model.state_dict().items())

    @pytest.mark.slow_but_first(2)
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (
                {"damage": without("blk.1.attn_q.weight")},
                "1 weight is missing (model.layers.1.self_attn.q_proj.weight)",
            ),
            (
                {"metadata": {"llama.block_count": 2}},
                "9 tensors belong to layers beyond those in its metadata (blk.2.",
            ),
            ({"metadata": {"llama.block_count": 4}}, "9 weights are missing (model.layers.3."),
            ({"damage": lambda t: t | {"blk.0.attn_q.bias": t["output_norm.weight"]}}, "it has 39,872 parameters"),
            (
                {"damage": lambda t: t | {"rope_freqs.weight": 8 * t["output_norm.weight"][:4]}},
                "its positions are scaled",
            ),
            (
                {"metadata": {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}},
                "its positions are scaled",
            ),
        ],
        ids=["lost", "fewer layers", "more layers", "left over", "frequencies", "yarn"],
    )
    def test_damage(self, options: dict[str, Any], said: str, checkpoint: Path, tmp_path: Path) -> None:
        path = tiny_gguf(tmp_path / "a.gguf", checkpoint, **options)
        with pytest.raises(InputError) as caught:
            load_model(f"gguf:{path}", device="cpu")
        assert str(caught.value).startswith("gguf:a.gguf: ") and said in str(caught.value)

    @pytest.mark.slow_but_first(2)
    @pytest.mark.parametrize(
        "options",
        [
            {"metadata": {"llama.rope.scaling.type": "none"}},
            {"metadata": {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 1.0}},
            {"damage": lambda t: t | {"rope_freqs.weight": 0 * t["output_norm.weight"][:4] + 1}},
            {"damage": lambda t: {name: tensor for name, tensor in t.items() if name != "output.weight"}},
        ],
        ids=["none", "factor 1", "ones", "tied"],
    )
    def test_what_is_no_damage(self, options: dict[str, Any], checkpoint: Path, tmp_path: Path) -> None:
        path = tiny_gguf(tmp_path / "a.gguf", checkpoint, **options)
        assert load_model(f"gguf:{path}", device="cpu").notes == ()
