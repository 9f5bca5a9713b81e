"""The wheel: all that the packages need is in it, and what needs no torch works without it, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rh_bench", "data_builders", "leaderboard")

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling: pip install -e '.[dev]'")
    out = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: set[str]) -> Message:
    (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "-qq", "--no-deps", "--no-index", "--target", target, wheel, cwd=target)
    return target


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_a_package_is_in_the_wheel(package: str, names: set[str]) -> None:
    files = {path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names


def test_the_schemas_are_in_the_wheel(names: set[str]) -> None:
    schemas = {path.name for path in (ROOT / "schemas").glob("*.json")}
    assert "run.v1.schema.json" in schemas
    assert {f"rh_bench/_schemas/{name}" for name in schemas} <= names


def test_nothing_else_is_in_the_wheel(names: set[str]) -> None:
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_torch_is_asked_for_by_extras_alone(metadata: Message) -> None:
    required = metadata.get_all("Requires-Dist", [])
    always = [line for line in required if "extra ==" not in line]
    assert [line for line in always if line.startswith("pyarrow")]
    assert not [line for line in always if line.startswith(("torch", "transformers", "llm"))]
    assert [line for line in required if line.startswith("torch")]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # as if they were not installed
"""

READ_A_SCHEMA = """
import json
import rh_bench.system.schema
print(rh_bench.__file__)
print(json.loads(rh_bench.system.schema.schema_text("run"))["$schema"])
"""

HELP = """
import runpy
sys.argv = ["rh_bench", "--help"]
runpy.run_module("rh_bench", run_name="__main__")
"""


def test_schemas_are_read_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    origin, dialect = run("-c", WITHOUT_TORCH + READ_A_SCHEMA, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert Path(origin).is_relative_to(installed)
    assert "2020-12" in dialect


def test_the_command_explains_itself_without_torch(installed: Path, tmp_path: Path) -> None:
    said = run("-c", WITHOUT_TORCH + HELP, cwd=tmp_path, PYTHONPATH=str(installed))
    for command in ("demo", "evaluate", "score", "validate", "leaderboard"):
        assert command in said
