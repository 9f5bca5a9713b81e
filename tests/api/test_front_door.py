"""`import rh_bench`: cheap, and all that it offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import rh_bench as rh

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "pyarrow", "numpy", "pandas", "polars", "matplotlib", "datasets", "huggingface_hub")
AFTER_IMPORT = """
import sys
before = set(sys.modules)
import rh_bench as rh
assert rh.__version__ and "evaluate" in dir(rh)
print(len(set(sys.modules) - before))
print(*[name for name in {heavy} if name in sys.modules])
print(*sorted(name for name in sys.modules if name.startswith("rh_bench")))
"""
READ_ONLY = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
import rh_bench as rh
for name in rh.__all__:
    if name not in ("Detector", "Measured", "Rule", "Subject"):
        getattr(rh, name)
run = rh.load_run(sys.argv[1])
print(len(run.heads), rh.load_runs(sys.argv[2]))
for call in (lambda: rh.evaluate("org/model", haystack="x"), lambda: rh.ablate(None, []).__enter__()):
    try:
        call()
    except rh.InputError as error:
        print(error)
"""


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_loads_next_to_nothing() -> None:
    modules, heavy, own = python(AFTER_IMPORT.replace("{heavy}", repr(HEAVY))).split("\n")[:3]
    assert heavy == "" and own == "rh_bench"
    assert int(modules) < 60, "a few of Python's own modules, and none of ours"


def test_every_public_name_is_there_and_documented() -> None:
    assert len(set(rh.__all__)) == len(rh.__all__)
    assert set(rh.__all__) == {"__version__", *rh._HOMES}
    for name in rh._HOMES:
        assert getattr(rh, name).__doc__ and name in dir(rh)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rh_bench' has no attribute 'evalute'"):
        rh.evalute  # noqa: B018
    from rh_bench import cli  # modules are imported as ever

    assert cli.__name__ == "rh_bench.cli"


@pytest.mark.slow
def test_reading_needs_no_torch(tmp_path: Path) -> None:
    from fake_runs import make_run

    folder = make_run(tmp_path)
    said = python(READ_ONLY, str(folder), str(tmp_path))
    assert "1 runs, 0 left out" in said
    assert said.count("pip install 'rh-bench[evaluate]'") == 2
