"""Whose fault an error is: the model's code, the machine's, or ours."""

from __future__ import annotations

import errno
import json
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_checkpoint

from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.models.load import load_model
from rh_bench.sets.grids import choose_grid
from rh_bench.system.faults import explain, in_words, model_code, our_fault


def raised(source: str, module: str) -> Exception:
    """What the code of a module raises."""
    scope = types.ModuleType(module)
    exec(compile(source, f"{module}.py", "exec"), vars(scope))
    try:
        scope.run()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.fixture
def broken(tmp_path: Path) -> Any:
    """Makes a folder with a model whose own code raises, in one of its functions."""

    def folder(body: str) -> Path:
        path = tiny_checkpoint(tmp_path / "broken")
        config = json.loads((path / "config.json").read_text())
        config |= {
            "model_type": "mine",
            "auto_map": {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.Mine"},
        }
        (path / "config.json").write_text(json.dumps(config))
        (path / "mine.py").write_text(
            "from transformers import LlamaConfig, LlamaForCausalLM\n"
            "class MineConfig(LlamaConfig):\n    model_type = 'mine'\n"
            f"class Mine(LlamaForCausalLM):\n    config_class = MineConfig\n{body}"
        )
        return path

    return folder


FORWARD = "    def forward(self, *a, **k):\n        raise KeyError('rope\\x1b[31m\\nof two lines')\n"
BUILD = "    def __init__(self, config):\n        raise KeyError('no heads')\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            FORWARD,
            r"broken: the code of Mine raised KeyError while its layers were looked for .*--debug shows the whole",
        ),
        (BUILD, r"broken: it cannot be loaded as mine \(KeyError: 'no heads'\); --debug shows the whole trace"),
    ],
)
def test_whatever_a_models_code_raises_is_one_line(body: str, said: str, broken: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=said) as caught:
            load_model(str(broken(body)), device="cpu", trust_remote_code=True)
    line = str(caught.value)
    assert "\n" not in line and "\x1b" not in line
    assert isinstance(caught.value.__cause__, KeyError), "--debug shows where it came from"


def test_the_trace_is_shown_on_request(broken: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = choose_grid("quick", "600", "0")
    build_set(Recipe(source=parse_source("synthetic"), grid=grid, needle_count=1), tmp_path / "set")
    command = ["evaluate", str(broken(FORWARD)), "--haystack", str(tmp_path / "set"), "--out", str(tmp_path / "runs")]
    command += ["--trust-remote-code", "--device", "cpu"]
    capsys.readouterr()
    assert main(command) == 2
    note, line = filter(None, capsys.readouterr().err.splitlines())
    assert note == "note: running code from the model's repository on this machine"
    assert line.startswith("rh-bench: broken: the code of Mine raised KeyError")
    assert main(["--debug", *command]) == 2
    trace = capsys.readouterr().err
    assert "mine.py" in trace and "KeyError" in trace and line in trace
    assert not (tmp_path / "runs").exists()


def test_an_error_while_measuring_is_the_models_if_its_code_raised_it() -> None:
    """The innermost frame of a model or of ours decides: libraries below it are called by somebody."""
    theirs = raised("def run():\n    [][0]\n", "transformers.models.falcon.modeling_falcon")
    said = str(explain(theirs))
    assert said.startswith("transformers.models.falcon.modeling_falcon: the model's own code raised IndexError")
    theirs = raised("import json\ndef run():\n    json.loads('{')\n", "transformers_modules.mine.modeling")
    assert "transformers_modules.mine.modeling: the model's own code raised JSONDecodeError" in str(explain(theirs))
    assert explain(raised("def run():\n    [][0]\n", "rh_bench.attention.capture")) is None
    assert explain(raised("def run():\n    [][0]\n", "some.library")) is None


def test_memory_and_disk_are_the_machines() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
        ImportError("libarrow.so.2100: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
    ):
        assert str(explain(error)).startswith("memory: there is not enough (")
    full = explain(OSError(errno.ENOSPC, "No space left on device", "/data/x\n"))
    assert str(full) == "/data/x\\u000a: No space left on device"
    assert str(explain(OSError(errno.EFBIG, "File too large", "/data/x"))) == "/data/x: File too large"
    nowhere = explain(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"))
    assert str(nowhere).startswith("this machine: no folder for temporary files is writable; free space")
    assert explain(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    with pytest.raises(InputError, match="memory: there is not enough"), model_code("while", "m", "M"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_what_is_ours_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised("def run():\n    1 / 0\n", "rh_bench.scores.heads")
    said = our_fault(error)
    assert said == (
        "this is a bug in rh-bench, not in your input: ZeroDivisionError at rh_bench.scores.heads.py:2 "
        "(division by zero); please report it with the output of --debug"
    )

    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return ["Homepage, https://example.org", "Issues, https://example.org/issues"]

    monkeypatch.setattr("rh_bench.system.faults.metadata", lambda name: Metadata())
    assert our_fault(error).endswith("please report it at https://example.org/issues with the output of --debug")


def test_words_are_one_line() -> None:
    assert in_words(ValueError("a\n  b\x1b")) == "a b\\u001b"
    assert in_words(KeyError()) == "KeyError"
    assert len(in_words(ValueError("x" * 5000))) < 300


def test_libraries_do_not_flood_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """transformers prints bars, reports and advice while it loads; nothing of that is the user's."""
    folder = tiny_checkpoint(tmp_path / "model")
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_model(str(folder), device="cpu", positions=100)
    assert capfd.readouterr() == ("", "")
    assert [str(one.message) for one in caught] == []


def test_a_models_code_that_ends_the_process_is_one_line_and_an_interruption_is_none() -> None:
    with pytest.raises(InputError, match="m: the code of M raised SystemExit while"), model_code("while", "m", "M"):
        raise SystemExit(3)
    with pytest.raises(KeyboardInterrupt), model_code("while", "m", "M"):
        raise KeyboardInterrupt
