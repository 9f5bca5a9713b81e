"""How many positions a model is for: its configuration, a scaled rotary embedding, or the user's word."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_runs import make_run
from tiny import tiny_checkpoint, tiny_model, tiny_tokenizer
from transformers import AutoConfig

from rh_bench.artifacts.levels import Evidence
from rh_bench.artifacts.run import read_run
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.experiments.detectors.run import detect
from rh_bench.measure.evaluate import Request, evaluate
from rh_bench.models.load import load_model
from rh_bench.models.window import Window, find_window, position_table, stated_window
from rh_bench.sets.grids import choose_grid
from rh_bench.verification.verify import verify_run

LLAMA = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 1000}
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}


def llama(rope: dict[str, Any] | None = None, **more: Any) -> Any:
    """A configuration as it is read from a file, where the scaling has its old name."""
    options = {**LLAMA, **more}
    return AutoConfig.for_model("llama", **options, **({"rope_scaling": rope} if rope else {}))


@pytest.mark.parametrize(
    ("config", "size", "origin"),
    [
        (llama(), 1000, "configuration"),
        (llama({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1000}), 4000, "rope_scaling"),
        (llama({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1000}), 4000, "rope_scaling"),
        (llama({"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 1000}), 2500, "rope_scaling"),
        (llama({"rope_type": "yarn", "factor": 4.0}), 4000, "rope_scaling"),
        # What the configuration says is what has been multiplied already.
        (llama({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 250}), 1000, "configuration"),
        (llama({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 100}), 1000, "configuration"),
        (llama({"rope_type": "linear", "factor": 4.0}), 4000, "rope_scaling"),
        (llama({"rope_type": "dynamic", "factor": 2.0}), 2000, "rope_scaling"),
        (
            llama({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 100, **LLAMA3}),
            1000,
            "configuration",
        ),
        (
            llama({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 1000, **LLAMA3}),
            8000,
            "rope_scaling",
        ),
        # The factor of llama3 is no multiple of the original window (Llama 3.2).
        (
            llama({"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 100, **LLAMA3}),
            1000,
            "configuration",
        ),
        (llama({"rope_type": "longrope", "original_max_position_embeddings": 250, **FACTORS}), 1000, "configuration"),
        (
            llama({"rope_type": "longrope", "factor": 8.0, "original_max_position_embeddings": 250, **FACTORS}),
            2000,
            "rope_scaling",
        ),
        (llama({"rope_type": "default"}), 1000, "configuration"),
        (AutoConfig.for_model("gpt2", n_positions=77), 77, "configuration"),
        (AutoConfig.for_model("mpt", max_seq_len=88), 88, "configuration"),
        (AutoConfig.for_model("bloom"), None, None),
        # A factor that the stated window is a result of (Gemma 3), for the layers that see everything alone.
        (
            AutoConfig.for_model(
                "gemma3_text",
                max_position_embeddings=1000,
                rope_parameters={
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                },
            ),
            1000,
            "configuration",
        ),
        (
            AutoConfig.for_model(
                "gemma3_text",
                max_position_embeddings=1000,
                rope_parameters={
                    "full_attention": {
                        "rope_type": "yarn",
                        "factor": 4.0,
                        "original_max_position_embeddings": 1000,
                        "rope_theta": 1e6,
                    },
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                },
            ),
            4000,
            "rope_scaling",
        ),
    ],
)
def test_what_a_configuration_says(config: Any, size: int | None, origin: str | None) -> None:
    assert find_window(config) == Window(size, origin)
    assert find_window(config, 123) == Window(123, "option")


@pytest.mark.parametrize("factor", [0.5, -1.0, float("nan"), float("inf"), 1e300, True, "4", None, [4.0]])
def test_a_factor_that_is_none_is_no_factor(factor: object) -> None:
    config = llama()
    config.rope_parameters = {"rope_type": "linear", "factor": factor, "rope_theta": 1e4}
    assert find_window(config) == Window(1000, "configuration")


@pytest.mark.parametrize("size", [0, -1, 10**30, 1.5, "many", None, True])
def test_a_window_that_is_none_is_no_window(size: object) -> None:
    """Configurations that come with a model's own code hold anything."""
    config = SimpleNamespace(max_position_embeddings=size, get_text_config=lambda decoder: config)
    assert find_window(config) == Window(None, None)


def test_of_a_model_that_also_sees_it_is_the_text_parts() -> None:
    config = AutoConfig.for_model("llava")
    config.text_config.max_position_embeddings = 4321
    assert find_window(config).size == 4321


@pytest.mark.parametrize(("name", "rows"), [("gpt2", 512), ("opt", 512), ("llama", None), ("gpt_neox", None)])
def test_tables_of_positions(name: str, rows: int | None) -> None:
    assert position_table(tiny_model(name)) == rows


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_a_table_of_positions_cannot_be_left(name: str, tmp_path: Path) -> None:
    tiny_model(name).save_pretrained(tmp_path / name)
    tiny_tokenizer().save_pretrained(tmp_path / name)
    with pytest.raises(InputError, match=rf"--window: {name} has a table of 512 positions.*give at most 512"):
        load_model(str(tmp_path / name), device="cpu", window=513)
    assert load_model(str(tmp_path / name), device="cpu", window=512).describe()["window_from"] == "option"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for 400 positions, and a set of prompts of 600."""
    place = tmp_path_factory.mktemp("window")
    tiny_checkpoint(place / "model", window=400)
    recipe = Recipe(source=parse_source("synthetic"), grid=choose_grid("quick", "600", "0,100"), needle_count=2)
    build_set(recipe, place / "set")
    return place


def scaled(place: Path, folder: Path, **rope: Any) -> Path:
    """The model with a few words more in its configuration, as Qwen tells its users to do."""
    tiny_checkpoint(folder, window=400)
    config = json.loads((folder / "config.json").read_text())
    config |= {"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 400, **rope}}
    config.pop("rope_parameters", None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class TestMeasured:
    def request(self, place: Path, model: Path, out: Path, **options: Any) -> Request:
        return Request(str(model), str(place / "set"), out, limit=2, max_new_tokens=4, device="cpu", **options)

    def test_beyond_it_is_refused_with_both_ways_out(self, place: Path, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"model: its window of 400 tokens.*--lengths of at most 396, or --window N"
        ):
            evaluate(self.request(place, place / "model", tmp_path))

    @pytest.mark.parametrize("key", ["type", "rope_type"])
    def test_the_documented_recipe(self, key: str, place: Path, tmp_path: Path) -> None:
        model = scaled(place, tmp_path / "long", **{key: "yarn"})
        document = evaluate(self.request(place, model, tmp_path / "runs")).document
        assert (document["model"]["window"], document["model"]["window_from"]) == (1600, "rope_scaling")

    @pytest.mark.slow
    def test_the_users_word_is_recorded_and_kept(self, place: Path, tmp_path: Path) -> None:
        run = evaluate(self.request(place, place / "model", tmp_path / "runs", window=1000)).folder
        model = read_run(run).document["model"]
        assert (model["window"], model["window_from"], stated_window(model)) == (1000, "option", 1000)
        evidence = Evidence(haystack=str(place / "set"), model=str(place / "model"), rerun=2, device="cpu")
        assert [level.reached for level in verify_run(run, evidence).levels] == [True, True, True]
        found = detect(self.request(place, place / "model", tmp_path / "e", window=1000), ["induction"])
        assert found.document["model"]["window_from"] == "option"

    @pytest.mark.slow
    def test_removing_heads_keeps_to_the_runs_window(
        self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shape = {"layers": 3, "heads": 4, "kv_heads": 2, "model_id": "model"}
        protocol = {"template": "plain", "max_new_tokens": 4, "dtype": "float32"}
        made = read_run(make_run(tmp_path / "made", **shape)).document["protocol"]
        for window, given, status in ((1000, None, 0), (None, None, 2), (None, 1000, 0)):
            model = load_model(str(place / "model"), device="cpu", window=window).describe()
            runs, out = tmp_path / f"{window}-{given}", tmp_path / f"e-{window}-{given}"
            run = make_run(runs, model=model, protocol={**made, **protocol}, **shape)
            command = ["ablate", str(place / "model"), "--run", str(run), "--haystack", str(place / "set")]
            command += ["--out", str(out), "--top", "0,1", "--draws", "1", "--limit", "1", "--device", "cpu"]
            assert main([*command, *(["--window", str(given)] if given else [])]) == status, capsys.readouterr().err


def test_a_model_without_a_window_says_so(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": -1}))
    loaded = load_model(str(tmp_path / "model"), device="cpu")
    assert loaded.window is None and loaded.describe()["window_from"] is None
    assert loaded.notes == ("its configuration states no window: no length is refused (--window N states one)",)
