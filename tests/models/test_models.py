"""Models: found, hashed, loaded, or refused in one line; never a pickle, never somebody's code unasked."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from loopback_hub import LoopbackHub
from tiny import tiny_checkpoint
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from rh_bench.cli.demo import find_weights
from rh_bench.errors import InputError
from rh_bench.models.load import load_model, load_tokenizer, resolve_model
from rh_bench.records import Layer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "tiny-llama"))


def test_a_folder_is_loaded_and_described(checkpoint: Path) -> None:
    loaded = load_model(str(checkpoint), device="cpu")
    described = loaded.describe()
    assert (loaded.dtype, loaded.device) == ("float32", "cpu")
    assert described["id"] == described["slug"] == "tiny-llama"
    shape = {"index": 0, "kind": "full", "query_heads": 4, "kv_heads": 2, "window": None}
    how = {"recurrent": False, "croppable": True, "read_from": "interface"}
    assert described["layers"][0] == {**shape, **how}
    assert described["window"] == 4096
    assert described["base_model"] is None
    assert {file["path"] for file in described["files"]} >= {"config.json", "model.safetensors", "tokenizer.json"}
    for file in described["files"]:
        data = (checkpoint / file["path"]).read_bytes()
        assert (file["sha256"], file["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))


def test_a_revision_follows_the_files_and_not_the_folder(checkpoint: Path, copy: Path) -> None:
    assert resolve_model(str(copy)).revision == resolve_model(str(checkpoint)).revision
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert resolve_model(str(copy)).revision != resolve_model(str(checkpoint)).revision


def test_the_card_says_what_it_was_derived_from_and_does_not_make_another_model_of_it(copy: Path) -> None:
    before = resolve_model(str(copy)).revision
    (copy / "README.md").write_text("---\nbase_model: org/base\n---\n")
    loaded = load_model(str(copy), device="cpu")
    assert loaded.describe()["base_model"] == ["org/base"]
    assert loaded.source.revision == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes(checkpoint: Path, dtype: str) -> None:
    loaded = load_model(str(checkpoint), device="cpu", dtype=dtype)
    assert loaded.dtype == dtype
    assert next(loaded.model.parameters()).dtype == getattr(torch, dtype)


@pytest.mark.parametrize(
    ("options", "where"),
    [({"dtype": "int4"}, "--dtype"), ({"device": "abacus"}, "--device"), ({"device": "cuda:99"}, "--device")],
)
def test_wrong_options_are_named(checkpoint: Path, options: dict[str, str], where: str) -> None:
    with pytest.raises(InputError, match=where):
        load_model(str(checkpoint), **options)


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def only_pickle(folder: Path) -> None:
    remove_weights(folder)
    torch.save({}, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_architecture(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "nothing-known"}')


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (remove_weights, "no safetensors weights"),
        (only_pickle, "pickle is never loaded"),
        (truncated, "cannot be loaded"),
        (no_config, "no config.json"),
        (broken_config, "config.json"),
        (unknown_architecture, "tiny-llama: transformers .* does not support its model type .*; install a newer"),
        (no_tokenizer, "tokenizer"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(copy: Path, damage: Callable[[Path], None], line: str) -> None:
    damage(copy)
    with pytest.raises(InputError, match=line) as caught:
        load_model(str(copy), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["./nothing-here", "/no/such/folder", "~/no-such-model", "a/b/c", "..\\up"])
def test_a_missing_folder_is_named(text: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_model(text)


def test_code_of_a_repository_runs_only_when_asked(copy: Path, tmp_path: Path) -> None:
    proof = tmp_path / "the-code-ran"
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineModel"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "mine.py").write_text(
        f"open({str(proof)!r}, 'w').close()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class MineConfig(LlamaConfig):\n    model_type = 'mine'\n"
        "class MineModel(LlamaForCausalLM):\n    config_class = MineConfig\n"
    )
    with pytest.raises(
        InputError, match="ships its own code, which only runs with your permission.*--trust-remote-code"
    ):
        load_model(str(copy), device="cpu")
    assert not proof.exists()
    with pytest.warns(UserWarning, match="running code from"):
        loaded = load_model(str(copy), device="cpu", trust_remote_code=True)
    assert proof.exists()
    assert len(loaded.layers) == 3


def test_an_encoder_decoder_is_refused_by_name(tmp_path: Path, checkpoint: Path) -> None:
    config = AutoConfig.for_model(
        "t5", d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, vocab_size=259, decoder_start_token_id=0
    )
    folder = tmp_path / "tiny-t5"
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    for path in checkpoint.glob("tokenizer*"):
        shutil.copy(path, folder)
    with pytest.raises(InputError, match=r"tiny-t5.*encoder-decoder"):
        load_model(str(folder), device="cpu")


@pytest.mark.slow
def test_a_model_on_the_hub(checkpoint: Path, tmp_path: Path) -> None:
    """In a process of its own, as a user has it: the Hub's client reads its environment once."""
    with LoopbackHub() as hub:
        commit = hub.add("models", "acme/tiny", checkpoint)
        program = (
            "from rh_bench.models.load import load_model\n"
            "loaded = load_model('acme/tiny@main', device='cpu')\n"
            "print(loaded.source.revision, loaded.source.slug, len(loaded.layers))"
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=hub.environment(tmp_path), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [commit, "acme__tiny", "3"]


class TestGguf:
    def test_missing(self) -> None:
        with pytest.raises(InputError, match="no such file"):
            load_model("gguf:/no/such.gguf")

    def test_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
        with pytest.raises(InputError, match="not a GGUF file"):
            load_model(f"gguf:{tmp_path / 'x.gguf'}")

    @pytest.mark.parametrize("size", [4, 100, 100_000])
    def test_truncated(self, tmp_path: Path, size: int) -> None:
        with find_weights().open("rb") as file:
            (tmp_path / "cut.gguf").write_bytes(file.read(size))
        with pytest.raises(InputError, match=r"cut\.gguf.*cannot be loaded"):
            load_model(f"gguf:{tmp_path / 'cut.gguf'}")

    @pytest.mark.slow
    @pytest.mark.real_model
    def test_the_real_one(self, capfd: pytest.CaptureFixture[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = load_model(f"gguf:{find_weights()}", device="cpu")
        assert loaded.layers == tuple(Layer(i, "full", 9, 3) for i in range(30))
        assert loaded.window == 8192
        assert loaded.tokenizer.chat_template
        assert "Converting" not in capfd.readouterr().err


def test_a_tokenizer_alone(checkpoint: Path) -> None:
    tokenizer, slug = load_tokenizer(str(checkpoint))
    assert tokenizer.is_fast
    assert slug == "tiny-llama"
