"""The text decoder of models that also see or hear: logits and answers as the whole model gives them, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_tokenizer
from tiny_multimodal import tiny_config, tiny_whole
from transformers import AutoModelForCausalLM

from rh_bench.engines import make_engine
from rh_bench.engines.base import stop_rule
from rh_bench.errors import InputError
from rh_bench.models.load import LoadedModel, load_model
from rh_bench.models.multimodal import keep_text_part
from rh_bench.records import Prompt, Sample

IMAGES, SOUND = "AutoModelForImageTextToText", "AutoModelForMultimodalLM"
MEASURED = {
    "mistral3": IMAGES,
    "qwen2_vl": IMAGES,
    "qwen2_5_vl": IMAGES,
    "qwen3_vl": IMAGES,
    "qwen3_5": IMAGES,
    "llava": IMAGES,
    "llava_onevision": IMAGES,
    "internvl": IMAGES,
    "smolvlm": IMAGES,
    "idefics3": IMAGES,
    "gemma3": IMAGES,
    "llama4": IMAGES,
    "aria": IMAGES,
    "glm4v": IMAGES,
    "aya_vision": IMAGES,
    "fuyu": IMAGES,
    "phi4_multimodal": SOUND,
    "voxtral": SOUND,
    "qwen2_audio": SOUND,
    "qwen2_5_omni": "Qwen2_5OmniForConditionalGeneration",
}
IDS = torch.randint(5, 250, (1, 40), generator=torch.Generator().manual_seed(0))
GREEDY = {"max_new_tokens": 16, "do_sample": False}


def save(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(folder), device="cpu", positions=64)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def answer(loaded: LoadedModel, engine: str, ids: np.ndarray[Any, Any]) -> tuple[list[int], list[list[int]]]:
    """The tokens that an engine produces, and where each head looks."""
    sample = Sample("s", "n", "h", len(ids), 0.0)
    prompt = Prompt(sample, ids.astype(np.int32), 4, 4, 5, 2, "", "0" * 64)
    stop = stop_rule(loaded.model, loaded.tokenizer, None)
    (decoded,) = make_engine(engine, loaded.model, loaded.layers, stop, max_new_tokens=16).decode([prompt])
    return decoded.generated.tolist(), decoded.targets.tolist()


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("kind", MEASURED)
def test_logits_and_answers_are_those_of_the_whole_model(kind: str, tmp_path: Path) -> None:
    whole = tiny_whole(kind, MEASURED[kind])
    loaded = load_model(str(save(tmp_path / kind, whole)), device="cpu", positions=64)
    whole = getattr(whole, "thinker", whole)
    with torch.inference_mode():
        logits, tokens = whole(input_ids=IDS).logits, whole.generate(IDS, **GREEDY)
        assert torch.equal(loaded.model(input_ids=IDS).logits, logits)
        positions = torch.arange(IDS.shape[1])[None]
        assert torch.allclose(loaded.model(input_ids=IDS, position_ids=positions).logits, logits, atol=1e-5)
        assert torch.equal(loaded.model.generate(IDS, **GREEDY), tokens)
    assert loaded.describe()["text_part_of"] == loaded.whole == type(whole).__name__
    assert "text prompts alone; not used: " in loaded.notes[0] and len(loaded.notes) == 1
    assert len(loaded.layers) == 2 and any(layer.scored for layer in loaded.layers)
    fast, reference = (answer(loaded, engine, IDS[0].numpy()) for engine in ("fast", "reference"))
    assert fast == reference
    assert fast[0] == tokens[0, IDS.shape[1] :].tolist()[: len(fast[0])]


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "gemma3"])
def test_numbers_that_do_not_fit_are_not_taken_for_another_way_of_reading(kind: str, tmp_path: Path) -> None:
    whole = tiny_whole(kind, MEASURED[kind])
    with torch.no_grad():
        whole.get_output_embeddings().weight[0] = 60_000
        whole.get_output_embeddings().weight[0, 0] = float("nan")
    folder = str(save(tmp_path / kind, whole))
    for dtype in ("float32", "float16"):
        with pytest.raises(InputError, match=f"its logits are NaN or infinite in {dtype}"):
            load_model(folder, device="cpu", dtype=dtype)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "gemma3"])
def test_only_the_decoder_is_left(kind: str, tmp_path: Path) -> None:
    """So that no tower's attention is taken for a layer's, and its weights are not counted."""
    whole = tiny_whole(kind, MEASURED[kind])
    before = sum(parameter.numel() for parameter in whole.parameters())
    loaded = load_model(str(save(tmp_path / kind, whole)), device="cpu")
    names = {name for name, _ in loaded.model.named_modules()}
    assert not any("vision" in name or "visual" in name or "projector" in name for name in names)
    assert loaded.describe()["parameters"] < before


def test_a_tower_that_its_code_looks_at_stays(tmp_path: Path) -> None:
    """Qwen2-Audio asks its tower for a device, text or no text."""
    loaded = load_model(str(save(tmp_path / "m", tiny_whole("qwen2_audio", SOUND))), device="cpu")
    assert loaded.notes[0].endswith("not used: model.multi_modal_projector")
    assert loaded.model.model.audio_tower is not None


class TestRefused:
    def test_a_prompt_that_is_read_both_ways(self, tmp_path: Path) -> None:
        """PaliGemma's prompt is a prefix, in which every token sees every other."""
        said = refusal(save(tmp_path / "pali", tiny_whole("paligemma", IMAGES)))
        assert "pali: models of type paligemma read text in both directions" in said

    def test_it_is_seen_in_what_the_model_does(self) -> None:
        """Whatever its configuration says: a later token changes what came before it."""
        with pytest.raises(InputError, match=r"m: PaliGemma\w+ reads a prompt in both directions"):
            keep_text_part(tiny_whole("paligemma", IMAGES), "m")

    @pytest.mark.slow
    def test_positions_of_its_own(self, tmp_path: Path) -> None:
        said = refusal(save(tmp_path / "kosmos", tiny_whole("kosmos-2.5", IMAGES)))
        assert "Kosmos2_5ForConditionalGeneration counts the positions of a text prompt in its own way" in said

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["blip-2", "kosmos-2"])
    def test_a_model_that_must_have_an_image(self, kind: str, tmp_path: Path) -> None:
        said = refusal(save(tmp_path / "blip", tiny_whole(kind, IMAGES)))
        assert (
            "cannot be run on text alone" in said and "pixel_values" in said and "its language model separately" in said
        )


class TestDamage:
    """Strict within the decoder, and a note for what a text prompt never reaches."""

    @pytest.fixture(scope="class")
    def saved(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return save(tmp_path_factory.mktemp("damage") / "llava", tiny_whole("llava", IMAGES))

    @pytest.fixture
    def folder(self, saved: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(saved, tmp_path / "llava"))

    def change(self, folder: Path, lost: str = "\0", **more: torch.Tensor) -> None:
        path = folder / "model.safetensors"
        weights = {name: tensor for name, tensor in load_file(path).items() if lost not in name}
        more = {name.replace("__", "."): tensor for name, tensor in more.items()}
        save_file(weights | more, path, metadata={"format": "pt"})

    def test_a_weight_of_the_decoder_was_lost(self, folder: Path) -> None:
        self.change(folder, "layers.1.self_attn.q_proj")
        assert "1 weight is missing (model.language_model.layers.1.self_attn.q_proj.weight)" in refusal(folder)

    def test_a_weight_of_the_tower_was_lost(self, folder: Path) -> None:
        self.change(folder, "vision_tower")
        loaded = load_model(str(folder), device="cpu")
        assert "missing beside the text decoder, where it is not used (model.vision_tower" in loaded.notes[1]

    def test_a_weight_too_many_in_a_layer(self, folder: Path) -> None:
        self.change(folder, model__language_model__layers__0__self_attn__q_proj__bias=torch.ones(32))
        assert "1 weight is unknown to the architecture" in refusal(folder)

    def test_a_weight_too_many_in_the_tower(self, folder: Path) -> None:
        self.change(folder, model__vision_tower__extra__weight=torch.ones(32))
        assert "of parts for images, sound or video" in load_model(str(folder), device="cpu").notes[1]


@pytest.mark.slow
def test_a_library_of_the_tower_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma 3n cannot be built without timm, which its eyes need; its text class reads the same files."""
    config = tiny_config("gemma3n")
    text = config.text_config
    text.intermediate_size, text.activation_sparsity_pattern = [48, 48], [0.0, 0.0]
    text.num_kv_shared_layers, text.laurel_rank, text.vocab_size_per_layer_input = 0, 8, 300
    torch.manual_seed(0)
    decoder = AutoModelForCausalLM.from_config(text, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.3)
    folder = tmp_path / "gemma3n"
    config.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    weights = {name.replace("model.", "model.language_model.", 1): t for name, t in decoder.state_dict().items()}
    weights = {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"}
    weights["model.vision_tower.timm_model.stem.weight"] = torch.ones(3)
    weights["model.embed_audio.embedding.weight"] = torch.ones(3)
    save_file(
        {name: t.contiguous().clone() for name, t in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    monkeypatch.setattr("transformers.utils.import_utils.is_timm_available", lambda: False)
    loaded = load_model(str(folder), device="cpu", positions=64)
    with torch.inference_mode():
        assert torch.equal(loaded.model(IDS).logits, decoder(IDS).logits)
    assert loaded.describe()["text_part_of"] == "Gemma3nForConditionalGeneration"
    assert "text prompts alone (" in loaded.notes[0] and "TimmWrapperModel requires" in loaded.notes[0]
    assert "2 weights are not used: of parts for images, sound or video" in loaded.notes[1]
