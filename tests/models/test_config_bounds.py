"""Numbers of a stranger's files by which libraries would build without end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_checkpoint

from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.models.config_bounds import bounds_problems
from rh_bench.models.load import load_tokenizer
from rh_bench.models.weights_header import count_weights, weight_shapes
from rh_bench.sets.grids import choose_grid

HUGE = 10**9


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_hidden_layers": HUGE}, "/num_hidden_layers is 1000000000, at most 2000"),
        ({"n_layer": 2001}, "/n_layer is 2001"),
        ({"text_config": {"num_hidden_layers": HUGE}}, "/text_config/num_hidden_layers is"),
        ({"vision_config": {"depth": HUGE}}, "/vision_config/depth is"),
        ({"vision_config": {"depths": [1500, 1500]}}, "/vision_config/depths is 3000"),
        ({"hidden_size": HUGE}, "/hidden_size is"),
        ({"vocab_size": HUGE}, "/vocab_size is"),
        ({"d_model": 1e30}, "/d_model is 1e+30"),
        ({"num_attention_heads": HUGE}, "/num_attention_heads is"),
        ({"num_attention_heads": [4, HUGE]}, "/num_attention_heads is"),
        ({"num_key_value_heads": HUGE}, "/num_key_value_heads is"),
        ({"n_routed_experts": HUGE}, "/n_routed_experts is"),
        ({"num_hidden_layers": 1999, "num_local_experts": 16_000}, "/ has 1999 layers of 16000 experts"),
        ({"num_codebooks": HUGE}, "/num_codebooks is"),
        ({"layer_types": ["full_attention"] * 70_000}, "/layer_types lists 70000 values"),
        ({"parts": [{"num_hidden_layers": HUGE}]}, "/parts/num_hidden_layers is"),
        ([], "is not a JSON object"),
    ],
)
def test_what_is_beyond_bounds(config: Any, words: str) -> None:
    assert words in next(bounds_problems(config))


FAR = {
    "max_position_embeddings": 10_485_760,
    "rope_theta": 1e12,
    "vocab_size": 262_208,
    "hidden_size": 18_432,
    "intermediate_size": 53_248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "n_routed_experts": 384,
    "moe_layers": list(range(1, 94, 1)),
    "sliding_window": 1 << 30,
    "eos_token_id": [128_001, 128_008],
    "num_parameters": 405_000_000_000,
    "num_train_tokens": 15_000_000_000_000,
    "quantization_config": {"group_size": -1, "modules_to_not_convert": ["lm_head"] * 2000},
    "id2label": {str(number): "x" for number in range(21_000)},
    "vision_config": {"depth": 32, "image_size": 1540, "num_positions": 12_000},
}


def test_the_largest_models_are_within() -> None:
    assert list(bounds_problems(FAR)) == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("made")
    build_set(Recipe(parse_source("synthetic"), choose_grid("quick", "300", "50"), needle_count=1), root / "set")
    return {"set": root / "set", "model": tiny_checkpoint(root / "model")}


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def with_header(path: Path, change: Any) -> None:
    """Rewrite a safetensors file's header."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = next(key for key in header if key != "__metadata__")
    new = change(header, name)
    text = new if isinstance(new, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


HOSTILE: dict[str, tuple[Any, str]] = {
    "a billion layers": (
        lambda folder: edit(folder / "config.json", num_hidden_layers=HUGE),
        "config.json: /num_hidden_layers is 1000000000, at most 2000 are possible",
    ),
    "more layers than weights": (
        lambda folder: edit(folder / "config.json", num_hidden_layers=1999),
        "config.json: 1999 layers, but its weights have 30 tensors",
    ),
    "nested configuration": (
        lambda folder: (folder / "config.json").write_text("[" * 100_000 + "]" * 100_000),
        "nested deeper than 64",
    ),
    "nested tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("[" * 1_000_000 + "]" * 1_000_000),
        "its tokenizer cannot be loaded",
    ),
    "a tokenizer without end": (
        lambda folder: (folder / "tokenizer.json").open("r+b").truncate(129 << 20),
        "tokenizer.json is larger than 134217728 bytes",
    ),
    "weights cut short": (
        lambda folder: (folder / "model.safetensors").open("r+b").truncate(20_000),
        "model.safetensors cannot be loaded (it is cut short",
    ),
    "a header cut short": (
        lambda folder: (folder / "model.safetensors").open("r+b").truncate(100),
        "it is cut short in its header",
    ),
    "a header without end": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 100),
        "its header is too large",
    ),
    "a header of nested lists": (
        lambda folder: with_header(folder / "model.safetensors", lambda header, name: b"[" * 90_000),
        "model.safetensors cannot be loaded (nested deeper than 64)",
    ),
    "a header that lies about sizes": (
        lambda folder: with_header(
            folder / "model.safetensors", lambda header, name: header[name].update(shape=[10**15, 4])
        ),
        "more numbers than bytes",
    ),
    "a header that lies about places": (
        lambda folder: with_header(
            folder / "model.safetensors", lambda header, name: header[name].update(data_offsets=[0, 10**15])
        ),
        "it is cut short",
    ),
    "a header of nothing": (
        lambda folder: with_header(folder / "model.safetensors", lambda header, name: header.update({name: 5})),
        "neither shape nor place",
    ),
}


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("kind", HOSTILE)
def test_evaluate_refuses_a_hostile_model_in_one_line(
    kind: str, made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = HOSTILE[kind]
    model = tmp_path / "model"
    model.mkdir()
    for file in made["model"].iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    change(model)
    before = time.monotonic()
    argv = ["evaluate", str(model), "--haystack", str(made["set"]), "--out", str(tmp_path / "runs"), "--device", "cpu"]
    assert main(argv) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in said, said
    assert time.monotonic() - before < 60 and not (tmp_path / "runs").exists()


def test_a_tokenizer_is_not_asked_for_by_a_configuration_beyond_bounds(made: dict[str, Path], tmp_path: Path) -> None:
    for file in made["model"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    edit(tmp_path / "config.json", num_hidden_layers=HUGE)
    with pytest.raises(InputError, match="at most 2000 are possible"):
        load_tokenizer(str(tmp_path))


def test_shapes_are_those_of_the_weights(made: dict[str, Path]) -> None:
    from safetensors import safe_open

    shapes = weight_shapes(made["model"], ["model.safetensors"], "x")
    with safe_open(made["model"] / "model.safetensors", "pt") as file:
        assert shapes == {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert count_weights({"a": (2, 3), "b": (5,), "c": ()}) == 12
