"""Models in memory: measured as they are, given back as they were, and recognised by what they are."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from tiny import talkative_checkpoint, tiny_model, tiny_tokenizer
from tiny_multimodal import tiny_whole
from transformers import AttentionInterface, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import rh_bench as rh
from rh_bench.artifacts.levels import Evidence
from rh_bench.artifacts.validate import validate_path
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.models import identity
from rh_bench.models.load import LoadedModel, load_model
from rh_bench.sets.grids import Grid
from rh_bench.verification.verify import verify_run

LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]}


@dataclass(frozen=True)
class Place:
    """A folder with a model, a set, and the run of the one on the other."""

    root: Path
    run: rh.Run

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def haystack(self) -> Path:
        return self.root / "set"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("memory")
    talkative_checkpoint(root / "model", window=1000)
    build_set(Recipe(parse_source("synthetic"), Grid("custom", (500, 700), (0.0, 100.0), 2, 2)), root / "set")
    return Place(root, measured(str(root / "model"), None, root / "set"))


def measured(model: Any, tokenizer: Any, haystack: Path, **options: Any) -> rh.Run:
    return rh.evaluate(model, tokenizer, haystack=haystack, **options)


def loaded(place: Place) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(place.model, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(place.model)


def events(run: rh.Run) -> list[dict[str, Any]]:
    return list(run.events)


def with_adapter(model: Any, seed: int = 0) -> Any:
    """A LoRA that says something, as training would have left it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model, peft.LoraConfig(**LORA))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return wrapped


# --- the same model, from a folder and from memory ---


@pytest.mark.slow
def test_the_same_weights_give_the_same_events(place: Place) -> None:
    model, tokenizer = loaded(place)
    run = measured(model, tokenizer, place.haystack)
    assert len(events(run)) > 20, "a comparison of nothing proves nothing"
    assert events(run) == events(place.run)
    generated = [row["generated_ids"] for row in place.run.samples]
    assert [row["generated_ids"] for row in run.samples] == generated
    assert run.document["origin"] == "in-memory" and place.run.document["origin"] == "measured"
    assert run.document["schema_version"] == "1.5" and place.run.document["schema_version"] == "1.4"
    protocol, layers = run.document["protocol"], run.document["model"]["layers"]
    assert protocol == place.run.document["protocol"] and layers == place.run.document["model"]["layers"]
    assert run.document["model"]["id"] == "memory:model" and str(place.root) not in json.dumps(run.document)


@pytest.mark.slow
def test_an_adapter_in_force_gives_the_events_of_the_saved_one(place: Place, tmp_path: Path) -> None:
    model, tokenizer = loaded(place)
    wrapped = with_adapter(model)
    wrapped.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    document = json.loads(config.read_text())
    config.write_text(json.dumps({**document, "base_model_name_or_path": str(place.model)}))
    run = measured(wrapped, tokenizer, place.haystack)
    assert events(run) == events(measured(str(tmp_path / "adapter"), None, place.haystack))
    assert events(run) != events(place.run)
    assert run.document["model"]["memory"]["adapters"] == ["LORA"] and any("LORA" in note for note in run.notes)
    folder = run.save(tmp_path / "runs")
    evidence = Evidence(haystack=str(place.haystack), model=str(tmp_path / "adapter"), rerun=3)
    found = verify_run(folder, evidence).levels
    assert [level.reached for level in found] == [True, True, True], found
    assert any("not merged" in reason for reason in found[2].reasons)


@pytest.mark.slow
def test_a_hook_that_changes_the_model_is_measured(place: Place) -> None:
    model, tokenizer = loaded(place)
    quiet = measured(model, tokenizer, place.haystack, limit=4)
    layer = model.model.layers[1]
    model(input_ids=torch.arange(5, 9)[None], output_attentions=True)  # transformers leaves hooks of its own
    ours = dict(layer._forward_hooks)
    handle = layer.register_forward_hook(lambda module, args, out: out * 1.7 + 0.3)
    run = measured(model, tokenizer, place.haystack, limit=4)
    assert list(layer._forward_hooks) == [*ours, handle.id], "the hooks are still there, and no others"
    assert events(run) != events(quiet)
    memory = run.document["model"]["memory"]
    assert memory["hooks"] == 1 and memory["weights_sha256"] is None and "forward hook" in memory["unhashed"]
    again = measured(model, tokenizer, place.haystack, limit=4)
    assert events(again) == events(run)
    assert again.id != run.id, "nobody can tell what a hook does: no two runs are taken for one"
    handle.remove()
    back = measured(model, tokenizer, place.haystack, limit=4)
    assert back.id == quiet.id and events(back) == events(quiet)


@pytest.mark.slow
def test_a_hooked_run_is_what_the_model_says_when_it_generates(place: Place) -> None:
    model, tokenizer = loaded(place)
    with model.model.layers[1].register_forward_hook(lambda module, args, out: out * 1.7 + 0.3):
        run = measured(model, tokenizer, place.haystack, limit=1)
        from rh_bench.measure.asking import prompt_ids
        from rh_bench.sets.dataset import read_set

        haystacks = read_set(place.haystack)
        name = run.samples[0]["sample_id"]
        sample = next(one for one in haystacks.samples if one.sample_id == name)
        (ids,) = prompt_ids(tokenizer, haystacks, [sample], "plain")
        prompt = torch.from_numpy(ids.astype(np.int64))[None]
        said = model.eval().generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, len(ids) :].tolist()
    assert run.samples[0]["generated_ids"][:8] == said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_is_the_model_within(place: Place) -> None:
    model, tokenizer = loaded(place)
    run = measured(torch.compile(model, backend="eager"), tokenizer, place.haystack, limit=4)
    assert events(run) == events(measured(model, tokenizer, place.haystack, limit=4))


class Int8Linear(torch.nn.Module):
    """Weights in 8 bits with a scale a row, as weight-only quantisation keeps them."""

    def __init__(self, plain: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        scale = plain.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("packed", (plain.weight.detach() / scale.clamp(min=1e-9)).round().to(torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.packed.to(x.dtype) * self.scale)


def quantised(model: Any) -> Any:
    for layer in model.model.layers:
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(layer.self_attn, name, Int8Linear(getattr(layer.self_attn, name)))
    return model


@pytest.mark.slow
def test_a_quantised_model_is_measured_as_it_is(place: Place) -> None:
    model, tokenizer = loaded(place)
    plain = measured(model, tokenizer, place.haystack, limit=4)
    run = measured(quantised(model), tokenizer, place.haystack, limit=4)
    said = [row["generated_ids"] for row in run.samples]
    assert said != [row["generated_ids"] for row in plain.samples]
    assert run.document["model"]["memory"]["weights_sha256"] and run.id != plain.id
    dense = loaded(place)[0]
    for layer, other in zip(dense.model.layers, model.model.layers, strict=True):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            part = getattr(other.self_attn, name)
            getattr(layer.self_attn, name).weight.data = part.packed * part.scale
    same = measured(dense, tokenizer, place.haystack, limit=4)
    assert events(same) == events(run) and same.id != run.id


@pytest.mark.slow
def test_a_text_decoder_within_a_larger_model(place: Place) -> None:
    """Parts that text never reaches are taken off while it is measured, and are back after it."""
    whole = tiny_whole("llava", "AutoModelForImageTextToText")
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    held = LoadedModel.wrap(whole, tiny_tokenizer())
    with held as found:
        assert found.whole == "LlavaForConditionalGeneration"
        inside = set(whole.state_dict())
    after = whole.state_dict()
    assert inside < set(before) == set(after) and list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


# --- given back as it was ---


@pytest.mark.slow
def test_the_model_is_given_back_as_it_was(place: Place) -> None:
    model, tokenizer = loaded(place)
    model.train()
    model.model.layers[0].eval()
    model.model.layers[1].requires_grad_(False)
    ids = torch.arange(5, 25)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    implementation, chance = model.config._attn_implementation, torch.get_rng_state()
    before = {
        "modes": [module.training for module in model.modules()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "asked": [p.requires_grad for p in model.parameters()],
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "parts": [id(part) for part in (*model.modules(), *model.parameters(), *model.buffers())],
    }
    run = measured(model, tokenizer, place.haystack, limit=2)
    assert [module.training for module in model.modules()] == before["modes"]
    assert [p.requires_grad for p in model.parameters()] == before["asked"]
    for old, parameter in zip(before["gradients"], model.parameters(), strict=True):
        assert (old is None) == (parameter.grad is None) and (old is None or torch.equal(old, parameter.grad))
    assert all(torch.equal(value, before["state"][name]) for name, value in model.state_dict().items())
    assert [id(part) for part in (*model.modules(), *model.parameters(), *model.buffers())] == before["parts"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.config._attn_implementation == implementation
    assert torch.equal(torch.get_rng_state(), chance), "chance goes on as if nothing had been measured"
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    assert measured(model, tokenizer, place.haystack, limit=2).id != run.id, "a step of training is another model"


@pytest.mark.slow
def test_what_positions_leave_behind_is_taken_back(place: Place) -> None:
    """A rotary embedding that depends on length overwrites its frequencies; training goes on with those of before."""
    tokenizer = tiny_tokenizer()
    config = AutoModelForCausalLM.from_pretrained(place.model).config
    config.rope_parameters = {"rope_theta": 10_000.0, "rope_type": "dynamic", "factor": 4.0}
    config.max_position_embeddings = 300
    model = AutoModelForCausalLM.from_config(config)
    before = {name: (id(value), value.clone()) for name, value in model.named_buffers()}
    first = measured(model, tokenizer, place.haystack, limit=2)
    assert before and all(
        id(value) == before[name][0] and torch.equal(value, before[name][1]) for name, value in model.named_buffers()
    )
    ids = torch.arange(5, 25)[None]
    model.train()(input_ids=ids, labels=ids).loss.backward()
    assert measured(model, tokenizer, place.haystack, limit=2).id == first.id


@pytest.mark.slow
def test_a_failure_gives_it_back_too(place: Place) -> None:
    model, tokenizer = loaded(place)
    model.train()

    def fail(step: Any) -> None:
        if step.samples_done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(model, tokenizer, place.haystack, limit=3, on_step=fail)
    assert all(module.training for module in model.modules())
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.slow
def test_autocast_around_it_changes_nothing(place: Place) -> None:
    model, tokenizer = loaded(place)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = measured(model, tokenizer, place.haystack, limit=2)
    assert events(run) == events(measured(model, tokenizer, place.haystack, limit=2))


# --- what can be said of it ---


@pytest.mark.slow
def test_levels_of_a_run_in_memory(place: Place, tmp_path: Path) -> None:
    model, tokenizer = loaded(place)
    folder = measured(model, tokenizer, place.haystack).save(tmp_path)
    assert validate_path(folder) == []

    def reached(**evidence: Any) -> list[bool | None]:
        return [level.reached for level in verify_run(folder, Evidence(**evidence)).levels]

    haystack = str(place.haystack)
    assert reached() == [True, None, None]
    assert reached(haystack=haystack, rerun=2) == [True, None, None]
    named = verify_run(folder, Evidence(haystack=haystack, rerun=2)).levels
    assert "was in memory" in " ".join(named[1].reasons) and "was in memory" in " ".join(named[2].reasons)
    assert reached(haystack=haystack, model=str(place.model)) == [True, True, None]
    assert reached(haystack=haystack, model=str(place.model), rerun=3) == [True, True, True]


@pytest.mark.slow
def test_another_model_is_not_taken_for_it(place: Place, tmp_path: Path) -> None:
    model, tokenizer = loaded(place)
    with torch.no_grad():
        model.model.norm.weight[0] *= 1.0001
    folder = measured(model, tokenizer, place.haystack, limit=4).save(tmp_path)
    evidence = Evidence(haystack=str(place.haystack), model=str(place.model), rerun=2)
    valid, recomputed, rerun = verify_run(folder, evidence).levels
    assert (valid.reached, recomputed.reached, rerun.reached) == (True, True, False)
    assert "SHA-256 of its weights differs" in rerun.reasons[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (lambda run: run.update(origin="measured"), "/origin"),
        (lambda run: run["model"].update(source="folder"), "/origin"),
        (lambda run: run["model"].pop("memory"), "/model/memory"),
        (lambda run: run["model"].update(revision="0" * 64), "/model/revision"),
        (lambda run: run["model"]["memory"].update(weights_sha256="0" * 64), "/model/revision"),
        (lambda run: run["model"]["memory"].update(unhashed="because"), "/model/memory/unhashed"),
        (lambda run: run["model"].update(id="SmolLM2"), "/model/id"),
        (lambda run: run["model"].update(id="memory:"), "/model/id"),
        (lambda run: run["model"]["files"].append({"path": "a", "sha256": "0" * 64, "bytes": 1}), "/model/files"),
    ],
)
def test_a_run_that_contradicts_itself_is_not_valid(
    place: Place, tmp_path: Path, change: Callable[[Any], Any], pointer: str
) -> None:
    model, tokenizer = loaded(place)
    folder = measured(model, tokenizer, place.haystack, limit=1).save(tmp_path)
    document = json.loads((folder / "run.json").read_text())
    change(document)
    (folder / "run.json").write_text(json.dumps(document))
    assert pointer in [problem.pointer for problem in validate_path(folder)]


@pytest.mark.slow
def test_what_makes_another_revision(place: Place) -> None:
    """The state, the configuration, what ends an answer, the code, the tokenizer: whatever decides the events."""
    model, tokenizer = loaded(place)

    def now(model: Any = model, tokenizer: Any = tokenizer) -> str:
        with LoadedModel.wrap(model, tokenizer) as found:
            return found.source.revision

    first = now()
    assert now() == first and now(loaded(place)[0]) == first
    tokenizer.chat_template = "{{ messages }}"
    assert now() != first
    tokenizer.chat_template = None
    model.generation_config.eos_token_id = [2, 5]
    assert now() != first
    model.generation_config.eos_token_id = 2
    model.config.rms_norm_eps *= 2
    assert now() != first
    model.config.rms_norm_eps /= 2
    model.config.use_cache = False  # which gradient checkpointing leaves behind, and which decides nothing
    assert now() == first
    model.model.rotary_emb.inv_freq *= 1.01
    assert now() != first
    model.model.rotary_emb.inv_freq /= 1.01
    model.model.rotary_emb.inv_freq.copy_(loaded(place)[0].model.rotary_emb.inv_freq)
    assert now() == first
    model.model.layers[0].mlp.act_fn = torch.nn.GELU()
    assert now() != first


@pytest.mark.slow
def test_adapters_make_another_revision_by_their_strength(place: Place) -> None:
    model, tokenizer = loaded(place)
    wrapped = with_adapter(model)

    def now() -> str:
        with LoadedModel.wrap(wrapped, tokenizer) as found:
            return found.source.revision

    first = now()
    layer = next(module for module in model.modules() if hasattr(module, "scaling") and hasattr(module, "lora_A"))
    layer.scaling["default"] *= 2
    assert now() != first
    layer.scaling["default"] /= 2
    assert now() == first
    with wrapped.disable_adapter():
        assert now() != first


def test_large_weights_are_not_hashed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = loaded(place)
    monkeypatch.setattr(identity, "MOST_HASHED", 1000)
    with LoadedModel.wrap(model, tokenizer) as one, LoadedModel.wrap(model, tokenizer) as other:
        assert one.source.memory is not None and "GiB" in str(one.source.memory.unhashed)
        assert one.source.revision != other.source.revision


def test_the_hash_is_that_of_the_model_loaded_from_its_files(place: Place) -> None:
    model, _ = loaded(place)
    assert identity.weights_sha256(model) == identity.weights_sha256(load_model(str(place.model)).model)


# --- on disk ---


@pytest.mark.slow
def test_it_is_written_and_gone_on_with(place: Place, tmp_path: Path) -> None:
    model, tokenizer = loaded(place)

    def stop(step: Any) -> None:
        if step.samples_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(model, tokenizer, place.haystack, out=tmp_path, on_step=stop)
    steps: list[Any] = []
    run = measured(loaded(place)[0], tokenizer, place.haystack, out=tmp_path, on_step=steps.append)
    assert steps[0].samples_done == 3
    assert run.folder == tmp_path / "memory-model" / run.id and validate_path(run.folder) == []
    assert events(run) == events(place.run)
    again = measured(model, tokenizer, place.haystack, out=tmp_path, on_step=steps.append)
    assert again.id == run.id and again.document == run.document


@pytest.mark.slow
def test_without_out_nothing_is_written(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    model, tokenizer = loaded(place)
    run = measured(model, tokenizer, place.haystack, limit=2)
    assert run.folder is None and [path.name for path in tmp_path.rglob("*")] == ["tmp"]


# --- refused ---


def refusals() -> dict[str, tuple[Callable[[Place], Any], str]]:
    def prefix(place: Place) -> Any:
        return peft.get_peft_model(
            loaded(place)[0], peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
        )

    def hooked_wrapper(place: Place) -> Any:
        wrapped = with_adapter(loaded(place)[0])
        wrapped.register_forward_hook(lambda module, args, out: out)
        return wrapped

    def doubled(place: Place) -> Any:
        return loaded(place)[0].double()

    def meta(place: Place) -> Any:
        model = loaded(place)[0]
        model.model.layers[1].to("meta")
        return model

    def broken(place: Place) -> Any:
        model = loaded(place)[0]
        with torch.no_grad():
            model.model.norm.weight[0] = float("nan")
        return model

    def small(place: Place) -> Any:
        model = loaded(place)[0]
        model.resize_token_embeddings(40)
        return model

    def dynamic(place: Place) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.ao.quantization.quantize_dynamic(loaded(place)[0], {torch.nn.Linear}, dtype=torch.qint8)

    def near(place: Place) -> Any:
        def function(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
            return sdpa_attention_forward(module, query, key[:, :, -8:], value[:, :, -8:], None, **kwargs)

        AttentionInterface.register("near", function)
        model = loaded(place)[0]
        model.set_attn_implementation("near")
        return model

    class Twice(torch.nn.Module):
        """A wrapper that passes for one of PEFT's and does something of its own."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self._orig_mod = model

        def forward(self, **kwargs: Any) -> Any:
            out = self._orig_mod(**kwargs)
            out.logits = out.logits * torch.linspace(0.1, 2, out.logits.shape[-1])
            return out

    return {
        "positions of an adapter": (prefix, "adds positions before every prompt"),
        "a hook on the wrapper": (hooked_wrapper, "a forward hook on the wrapper"),
        "a wrapper that acts": (lambda place: Twice(loaded(place)[0]), "changes the wrapped model"),
        "a scale over all tokens": (dynamic, "a token sees the ones after it"),
        "attention of its own": (near, "its attention is a function of its user's .near., which measuring replaces"),
        "float64": (doubled, "its weights are float64"),
        "not in memory": (meta, "is spread over several devices"),
        "not finite": (broken, "logits are NaN"),
        "few embeddings": (small, "its embedding has 40 rows"),
        "no head": (lambda place: AutoModel.from_pretrained(place.model), "has no head that predicts tokens"),
        "no model": (lambda place: torch.nn.Linear(3, 3), "is not a transformers causal language model"),
        "nothing": (lambda place: None, "is not a transformers causal language model"),
        "a number": (lambda place: 3, "is not a transformers causal language model"),
    }


@pytest.mark.parametrize("kind", refusals())
def test_what_cannot_be_measured_right_is_refused_in_a_line(place: Place, tmp_path: Path, kind: str) -> None:
    make, said = refusals()[kind]
    with pytest.raises(rh.InputError, match=said) as caught:
        measured(make(place), AutoTokenizer.from_pretrained(place.model), place.haystack, out=tmp_path / "runs")
    assert "\n" not in str(caught.value) and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda"}, "device: the model is on cpu"),
        ({"dtype": "bfloat16"}, "dtype: the model computes in float32"),
        ({"lengths": [951, 2000]}, "memory:model: its window of 1000 tokens is too small"),
        ({"window": 10_000, "lengths": [5]}, "leaves no room for template and needle"),
        ({"template": "chat"}, "no chat template"),
        ({"name": " "}, "is not a valid model name"),
        ({"name": "a\nb"}, "is not a valid model name"),
        ({"lengths": []}, "lengths: must be a non-empty list"),
        ({"lengths": "512"}, "lengths: must be a non-empty list"),
        ({"lengths": [0.5]}, "'0.5' is not a length in tokens"),
        ({"depths": [101]}, "'101' is not a depth in percent"),
        ({"needles": ["no-such"]}, "the set has no needle 'no-such'"),
        ({"engine": "warp"}, "unknown engine 'warp'"),
    ],
)
def test_wrong_options_are_one_line(place: Place, options: dict[str, Any], said: str) -> None:
    model, tokenizer = loaded(place)
    with pytest.raises(rh.InputError, match=said) as caught:
        measured(model, tokenizer, place.haystack, **options)
    assert "\n" not in str(caught.value)


def test_what_goes_with_what(place: Place) -> None:
    model, tokenizer = loaded(place)
    with pytest.raises(rh.InputError, match="tokenizer: is only for a model in memory"):
        measured(str(place.model), tokenizer, place.haystack)
    with pytest.raises(rh.InputError, match="name: is only for a model in memory"):
        measured(place.model, None, place.haystack, name="x")
    with pytest.raises(rh.InputError, match="a model in memory needs its tokenizer"):
        measured(model, None, place.haystack)
    with pytest.raises(rh.InputError, match="no character offsets"):
        measured(model, object(), place.haystack)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_next", "gemma3", "gpt_oss"])
def test_architectures_in_memory(place: Place, name: str) -> None:
    """Random models whose vocabulary is wide enough for the tokenizer's bytes, by both engines."""
    model = tiny_model(name)
    model.resize_token_embeddings(259)
    model.generation_config.eos_token_id = 2
    options = {"limit": 2, "window": 900, "lengths": [480]} if name != "gpt2" else {"limit": 2, "lengths": [440]}
    fast = measured(model, tiny_tokenizer(), place.haystack, **options)
    slow = measured(model, tiny_tokenizer(), place.haystack, engine="reference", **options)
    assert fast.document["model"]["architecture"] == type(model).__name__
    assert events(fast) == events(slow)
