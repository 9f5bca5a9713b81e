"""PEFT adapters: base and adapter are loaded, merged, recorded and measured again; what cannot be merged is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from fake_runs import make_run
from loopback_hub import LoopbackHub
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint, tiny_tokenizer
from tiny_multimodal import tiny_whole
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from rh_bench.artifacts.levels import Evidence
from rh_bench.artifacts.run import read_run
from rh_bench.artifacts.validate import validate_path
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import validate_experiment
from rh_bench.measure.asking import prompt_ids
from rh_bench.measure.evaluate import Request, evaluate
from rh_bench.models.adapter_config import METHODS
from rh_bench.models.load import load_model, resolve_model
from rh_bench.sets.dataset import read_set
from rh_bench.sets.grids import choose_grid
from rh_bench.system.files import sha256_file
from rh_bench.verification.verify import verify_run

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
LORA = {"r": 8, "lora_alpha": 16, "target_modules": LINEAR}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "LORA": (peft.LoraConfig, LORA),
    "LORA, rank-stabilised": (peft.LoraConfig, {**LORA, "use_rslora": True}),
    "LORA, weight-decomposed": (peft.LoraConfig, {**LORA, "use_dora": True}),
    "LORA, with biases": (peft.LoraConfig, {**LORA, "bias": "lora_only"}),
    "LORA, whole modules": (
        peft.LoraConfig,
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    ),
    "LORA, embeddings": (peft.LoraConfig, {"target_modules": ["embed_tokens", "q_proj"]}),
    "LORA, a few tokens": (peft.LoraConfig, {"target_modules": ["q_proj"], "trainable_token_indices": [114, 239, 34]}),
    "LORA, principal values": (peft.LoraConfig, {**LORA, "init_lora_weights": "pissa"}),
    "ADALORA": (peft.AdaLoraConfig, {"init_r": 6, "target_r": 4, "total_step": 10, "target_modules": LINEAR}),
    "IA3": (peft.IA3Config, {"target_modules": LINEAR, "feedforward_modules": ["down_proj"]}),
    "LOHA": (peft.LoHaConfig, {"target_modules": LINEAR}),
    "LOKR": (peft.LoKrConfig, {"target_modules": LINEAR}),
    "OFT": (peft.OFTConfig, {"target_modules": ["q_proj", "k_proj"], "oft_block_size": 8}),
    "HRA": (peft.HRAConfig, {"target_modules": LINEAR}),
    "LN_TUNING": (peft.LNTuningConfig, {"target_modules": ["input_layernorm"]}),
    "TRAINABLE_TOKENS": (peft.TrainableTokensConfig, {"token_indices": [114, 239, 34, 100]}),
}
IDS = torch.randint(5, 250, (1, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("bases") / "base")


def make_adapter(folder: Path, base: Path, kind: str = "LORA", size: float = 0.3) -> Path:
    """An adapter with large random weights, so that nothing of the base's answers is left."""
    config, options = KINDS[kind]
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config(task_type="CAUSAL_LM", **options))
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=random) * size)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "adapter", base)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reweigh(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({k: v.contiguous().clone() for k, v in change(load_file(path)).items()}, path, metadata={"format": "pt"})


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(folder), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_peft(base: Path, adapter: Path) -> Any:
    """The same model as PEFT itself runs it, not merged."""
    return peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()


def test_every_kind_that_is_taken_is_tested() -> None:
    assert {kind.partition(",")[0] for kind in KINDS} == set(METHODS)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_and_the_answer_are_those_of_peft(kind: str, base: Path, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", base, kind)
    loaded, theirs = load_model(str(folder), device="cpu"), by_peft(base, folder)
    plain = AutoModelForCausalLM.from_pretrained(base)
    want = {"max_new_tokens": 20, "do_sample": False}
    with torch.inference_mode():
        logits = theirs(input_ids=IDS).logits
        assert (plain(IDS).logits - logits).abs().max() > 0.5, "the adapter does something"
        assert (loaded.model(IDS).logits - logits).abs().max() < 2e-3
        assert torch.equal(loaded.model.generate(IDS, **want), theirs.generate(input_ids=IDS, **want))
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert not any(isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer) for module in loaded.model.modules())
    method = kind.partition(",")[0]
    assert loaded.notes == (f"the adapter ({method}) is merged into its base base",)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_sum_is_rounded_once(dtype: str, base: Path, adapter: Path) -> None:
    """Merged in a half type, what is added and the sum are rounded each; here the sum alone."""
    exact = by_peft(base, adapter).merge_and_unload().state_dict()
    loaded = load_model(str(adapter), device="cpu", dtype=dtype)
    kind, ours = getattr(torch, dtype), loaded.model.state_dict()
    # The base is read in the half type, as it is for the base alone.
    half = {name: t.to(kind).float() for name, t in AutoModelForCausalLM.from_pretrained(base).state_dict().items()}
    first = AutoModelForCausalLM.from_pretrained(base).state_dict()
    for name, tensor in exact.items():
        assert torch.equal(ours[name], (half[name] + (tensor - first[name])).to(kind)) or torch.allclose(
            ours[name].float(), (half[name] + (tensor - first[name])), rtol=torch.finfo(kind).eps, atol=1e-6
        ), name
    assert "merged into its base base in float32 and rounded to" in loaded.notes[0]


def test_base_and_adapter_are_recorded(base: Path, adapter: Path) -> None:
    described = load_model(str(adapter), device="cpu").describe()
    recorded = described["adapter"]
    assert (described["id"], described["source"], recorded["method"]) == ("adapter", "folder", "LORA")
    assert {file["path"] for file in described["files"]} == {"adapter_config.json", "adapter_model.safetensors"}
    assert recorded["base"]["id"] == "base" and recorded["base"]["revision"] == resolve_model(str(base)).revision
    for folder, files in ((adapter, described["files"]), (base, recorded["base"]["files"])):
        assert all(sha256_file(folder / file["path"]) == file["sha256"] for file in files)
    assert described["base_model"] == ["base"]
    assert len({described["revision"], recorded["revision"], recorded["base"]["revision"]}) == 3


def test_another_base_or_adapter_is_another_model(base: Path, adapter: Path, tmp_path: Path) -> None:
    before = resolve_model(str(adapter)).revision
    assert resolve_model(str(adapter)).revision == before
    edit(adapter, base_model_name_or_path=str(tiny_checkpoint(tmp_path / "base", seed=3)))
    other = resolve_model(str(adapter))
    assert other.revision != before
    reweigh(adapter, lambda weights: {name: 2 * tensor for name, tensor in weights.items()})
    assert resolve_model(str(adapter)).revision not in (before, other.revision)


class TestWhereTheBaseIs:
    @pytest.mark.slow
    def test_seen_from_here_and_from_the_adapter(
        self, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, place in (("./base", base.parent), (f"../{base.name}", adapter.parent)):
            edit(adapter, base_model_name_or_path=name)
            if place == adapter.parent:
                shutil.copytree(base, place / base.name)
            monkeypatch.chdir(place if place == base.parent else "/")
            assert load_model(str(adapter), device="cpu").source.adapter is not None

    @pytest.mark.slow
    def test_the_folder_itself(self, base: Path, adapter: Path, tmp_path: Path) -> None:
        """A whole model with an adapter beside it is that model with that adapter, whatever base the adapter names: so
        it is in transformers."""
        both = Path(shutil.copytree(base, tmp_path / "both"))
        for path in adapter.glob("adapter_*"):
            shutil.copy(path, both)
        edit(both, base_model_name_or_path="org/another")
        loaded = load_model(str(both), device="cpu")
        theirs = AutoModelForCausalLM.from_pretrained(both)
        with torch.inference_mode():
            assert (loaded.model(IDS).logits - theirs(IDS).logits).abs().max() < 1e-3
            assert (loaded.model(IDS).logits - AutoModelForCausalLM.from_pretrained(base)(IDS).logits).abs().max() > 0.5
        recorded = loaded.describe()["adapter"]
        assert recorded["base"]["revision"] == resolve_model(str(base)).revision
        assert {file["path"] for file in loaded.describe()["files"]} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }

    @pytest.mark.slow_but_first(2)
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            (None, "names no base model"),
            ("", "names no base model"),
            ("/no/such/base", "its base '/no/such/base' is neither a folder here nor a Hub id"),
            ("../../../../etc/passwd", "is neither a folder here nor a Hub id"),
            ("x" * 5000, "is neither a folder here nor a Hub id"),
            ("a\0b", "is neither a folder here nor a Hub id"),
            (["base"], "base_model_name_or_path in adapter_config.json is not a string"),
        ],
    )
    def test_nowhere(self, name: object, said: str, adapter: Path) -> None:
        edit(adapter, base_model_name_or_path=name)
        assert said in refusal(adapter)

    def test_another_adapter(self, base: Path, adapter: Path, tmp_path: Path) -> None:
        second = Path(shutil.copytree(adapter, tmp_path / "second"))
        edit(second, base_model_name_or_path=str(adapter))
        assert "its base adapter is itself an adapter" in refusal(second)

    def test_its_code_is_never_run(self, base: Path, adapter: Path, tmp_path: Path) -> None:
        """--trust-remote-code is about the repository that the user names, and the adapter names the base."""
        proof, other = tmp_path / "the-code-ran", Path(shutil.copytree(base, tmp_path / "coded"))
        config = json.loads((other / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
        (other / "config.json").write_text(json.dumps(config))
        (other / "mine.py").write_text(f"open({str(proof)!r}, 'w').close()\n")
        edit(adapter, base_model_name_or_path=str(other))
        with pytest.warns(UserWarning, match="running code from"):
            refusal(adapter, trust_remote_code=True)
        assert not proof.exists()


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "adds virtual tokens before the prompt"),
        ({"peft_type": "PREFIX_TUNING"}, "adds virtual tokens before the prompt"),
        ({"peft_type": "XLORA"}, "adapters of the kind XLORA are not supported; use LORA, "),
        ({"peft_type": "\x1b[31m"}, "\\u001b[31m are not supported"),
        ({"peft_type": None}, "has no peft_type"),
        ({"task_type": "SEQ_CLS"}, "for the task SEQ_CLS"),
        ({"alora_invocation_tokens": [1, 2]}, "its alora_invocation_tokens cannot be merged"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "its layer_replication cannot be merged"),
        ({"megatron_config": {"x": 1}, "megatron_core": "os"}, "its megatron_config cannot be merged"),
        ({"quantum_rank": 3}, "has 'quantum_rank', which this version of PEFT does not support"),
        ({"target_modules": ["no_such_proj"]}, "the adapter cannot be applied to its base base"),
        ({"r": 4}, "the adapter cannot be applied to its base base"),
        ({"target_modules": [*LINEAR, "gate_proj"]}, "6 weights are missing from the adapter"),
        ({"target_modules": LINEAR[:-1]}, "6 weights are unknown to the base of the adapter"),
    ],
)
def test_what_cannot_be_put_on_is_refused(changes: dict[str, Any], said: str, adapter: Path) -> None:
    edit(adapter, **changes)
    assert said in refusal(adapter)


@pytest.mark.slow
def test_a_setting_that_a_newer_peft_wrote_and_that_is_off_is_no_matter(adapter: Path) -> None:
    edit(adapter, quantum_rank=None, use_quanta=False)
    assert load_model(str(adapter), device="cpu").source.adapter


def test_a_weight_that_was_lost_is_named(adapter: Path) -> None:
    lost = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    reweigh(adapter, lambda weights: {name: tensor for name, tensor in weights.items() if name != lost})
    assert "1 weight is missing from the adapter (base_model.model.model.layers.1.self_attn.q_proj" in refusal(adapter)


def test_only_safetensors(adapter: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(weights, adapter / "adapter_model.bin")
    assert "pickle is never loaded" in refusal(adapter)
    save_file(weights, adapter / "other.safetensors")
    assert "is an adapter without adapter_model.safetensors" in refusal(adapter)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("text", ["{", "[]", '{"peft_type": 3}', "\xff"])
def test_a_broken_configuration_is_one_line(text: str, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_bytes(text.encode("latin-1"))
    assert "adapter_config.json" in refusal(adapter)


def test_without_peft_it_is_refused(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rh_bench.models.adapters.find_spec", lambda name: None)
    assert "PEFT, which loads adapters, is not installed; run: pip install 'rh-bench[peft]'" in refusal(adapter)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [259, 260]},
    ],
    ids=["plain", "whole modules", "embeddings", "a few tokens"],
)
def test_tokens_that_were_added(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    """The tokenizer beside the adapter counts, and the base grows to the rows that were saved."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), tiny_tokenizer()
    tokenizer.add_tokens(["<new>", "<newer>"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    adapted = peft.get_peft_model(model, peft.LoraConfig(**options, task_type="CAUSAL_LM"))
    adapted.save_pretrained(tmp_path / "grown")
    tokenizer.save_pretrained(tmp_path / "grown")
    edit(tmp_path / "grown", base_model_name_or_path=str(base))
    if "embed_tokens" in options["target_modules"]:  # PEFT saves that end of the model and not the other
        assert "trained with 261 embedding rows, not all of which it contains" in refusal(tmp_path / "grown")
        return
    loaded = load_model(str(tmp_path / "grown"), device="cpu")
    ids = torch.tensor([[5, 6, tokenizer.convert_tokens_to_ids("<newer>"), 9]])
    assert loaded.tokenizer.convert_tokens_to_ids("<newer>") == int(ids[0, 2]) == 260
    assert loaded.model.get_input_embeddings().weight.shape[0] == 261
    with torch.inference_mode():
        assert torch.allclose(loaded.model(ids).logits, adapted.eval()(input_ids=ids).logits, atol=1e-4)


@pytest.mark.slow
def test_an_adapter_of_a_model_that_also_sees(tmp_path: Path) -> None:
    """What it changes in the eyes is for parts that a text prompt never reaches."""
    whole = tiny_whole("llava", "AutoModelForImageTextToText")
    whole.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(AutoModelForImageTextToText.from_pretrained(tmp_path / "base"), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    loaded = load_model(str(tmp_path / "adapter"), device="cpu", positions=64)
    with torch.inference_mode():
        logits = model.eval()(input_ids=IDS).logits
        assert (loaded.model(input_ids=IDS).logits - logits).abs().max() < 1e-3
        assert (whole(input_ids=IDS).logits - logits).abs().max() > 0.1
    assert loaded.whole == "LlavaForConditionalGeneration"
    assert "8 weights of the adapter are not used" in loaded.notes[-1]


class TestMeasured:
    """Through the front door: a run, and what is done with it."""

    @pytest.fixture(scope="class")
    def place(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        place = tmp_path_factory.mktemp("measured")
        tiny_checkpoint(place / "base")
        make_adapter(place / "adapter", place / "base")
        recipe = Recipe(source=parse_source("synthetic"), grid=choose_grid("quick", "600", "0,100"), needle_count=3)
        build_set(recipe, place / "set")
        yield place

    def request(self, place: Path, **options: Any) -> Request:
        return Request(str(place / "adapter"), str(place / "set"), place / "runs", **{"limit": 3, **options})

    @pytest.mark.slow
    def test_the_answers_are_those_of_peft(self, place: Path) -> None:
        told: list[str] = []
        outcome = evaluate(self.request(place, max_new_tokens=12), on_note=told.append)
        assert told == ["the adapter (LORA) is merged into its base base"]
        assert validate_path(outcome.folder) == []
        assert outcome.document["model"]["notes"] == ["the adapter (LORA) is merged into its base base"]
        run, theirs = read_run(outcome.folder), by_peft(place / "base", place / "adapter")
        samples = [result.sample for result in run.results]
        prompts = prompt_ids(tiny_tokenizer(), read_set(place / "set"), samples, "plain")
        for result, prompt in zip(run.results, prompts, strict=True):
            ids = torch.from_numpy(prompt.astype("int64"))[None]
            with torch.inference_mode():
                out = theirs.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
            assert tuple(out[: len(result.generated_ids)]) == result.generated_ids
        reference = evaluate(self.request(place, max_new_tokens=12, engine="reference")).folder
        for one, other in zip(run.results, read_run(reference).results, strict=True):
            assert one.generated_ids == other.generated_ids
            assert sorted(map(tuple, one.events.tolist())) == sorted(map(tuple, other.events.tolist()))

    @pytest.mark.slow
    def test_the_run_is_verified_with_both(self, place: Path) -> None:
        run = evaluate(self.request(place)).folder
        found = verify_run(
            run, Evidence(haystack=str(place / "set"), model=str(place / "adapter"), rerun=2, device="cpu")
        )
        assert [level.reached for level in found.levels] == [True, True, True], found.levels[1].reasons
        other = Path(shutil.copytree(place / "adapter", place / "other"))
        edit(other, base_model_name_or_path=str(tiny_checkpoint(place / "another", seed=5)))
        found = verify_run(run, Evidence(haystack=str(place / "set"), model=str(other), rerun=2, device="cpu"))
        assert "not the run's model" in found.levels[1].reasons[0]

    @pytest.mark.slow
    def test_heads_are_removed_from_it(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        model = load_model(str(place / "adapter"), device="cpu").describe()
        shape = {"layers": 3, "heads": 4, "kv_heads": 2, "model_id": "adapter"}
        made = read_run(make_run(place / "made", **shape)).document["protocol"]
        protocol = {**made, "template": "plain", "max_new_tokens": 6, "dtype": "float32"}
        run = make_run(place / "found", model=model, protocol=protocol, **shape)
        command = ["--run", str(run), "--haystack", str(place / "set"), "--out", str(place / "experiments")]
        command += ["--top", "0,1", "--draws", "1", "--limit", "2", "--device", "cpu"]
        status = main(["ablate", str(place / "adapter"), *command])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        assert "note: the adapter (LORA) is merged into its base base" in captured.err
        (experiment,) = (place / "experiments" / "adapter").iterdir()
        assert validate_experiment(experiment) == []
        status = main(["ablate", str(place / "base"), *command])
        assert status == 2 and "is not the model of the run" in capsys.readouterr().err


@pytest.mark.slow
def test_on_the_hub(base: Path, tmp_path: Path) -> None:
    """Adapter and base from the Hub, each at its commit; a path of somebody's machine reaches nothing here."""
    adapter = make_adapter(tmp_path / "adapter", base)
    program = (
        "import json, sys\n"
        "from rh_bench.errors import InputError\n"
        "from rh_bench.models.load import load_model, resolve_model\n"
        "from rh_bench.models.source import base_revision, hub_name\n"
        "try:\n"
        "    model = load_model('acme/adapter', device='cpu').describe()\n"
        "    again = resolve_model(hub_name(model), base_revision=base_revision(model))\n"
        "    print(json.dumps([model['adapter'], model['id'], again.revision == model['revision']]))\n"
        "except InputError as error:\n"
        "    print(json.dumps(str(error)))\n"
    )

    def run(hub: LoopbackHub) -> Any:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=hub.environment(tmp_path), capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    with LoopbackHub() as hub:
        commit = hub.add("models", "acme/base", base)
        edit(adapter, base_model_name_or_path="acme/base")
        first = hub.add("models", "acme/adapter", adapter)
        recorded, name, same = run(hub)
        assert (name, recorded["revision"], same) == ("acme/adapter", first, True)
        assert (recorded["base"]["id"], recorded["base"]["revision"]) == ("acme/base", commit)
        edit(adapter, base_model_name_or_path=str(base))
        hub.add("models", "acme/adapter", adapter)
        assert "is not a Hub id" in run(hub)
