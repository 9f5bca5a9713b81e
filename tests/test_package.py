"""What is packed: the wheel claims one name and holds everything, the source archive builds the same wheel, and what
is installed works away from the checkout and beside anything else that is called `leaderboard`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from fake_runs import make_run

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("data_builders", "leaderboard", "schemas")
"""What lies at the top of a checkout and is a folder of rh_bench everywhere else."""
NAMESAKE = "leaderboard==3.7.3"
"""On PyPI, by others."""

pytestmark = pytest.mark.slow


def done(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command, with the Python that runs this where it begins with an option, and with no search path of ours."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(word) for word in command]
    return subprocess.run(
        [sys.executable, *words] if words[0].startswith("-") else words,
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    finished = done(*command, cwd=cwd, **environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def build(what: str, source: Path, out: Path) -> Path:
    pytest.importorskip("hatchling", reason="building needs hatchling: pip install -e '.[dev]'")
    run("-m", "build", f"--{what}", "--no-isolation", "--outdir", out, source, cwd=out)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, unpacked as pip does it: where links or names that lead out of it would end in an error."""
    archive = build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))
    target = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as files:
        assert all(file.isfile() for file in files)
        assert len(set(files.getnames())) == len(files.getnames())
        files.extractall(target, filter="data")
    (folder,) = target.iterdir()
    return folder


@dataclass(frozen=True)
class Environment:
    """An environment of its own, which has of the one that runs the tests everything but rh_bench."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def command(self) -> Path:
        return self.root / "bin" / "rh-bench"

    def pip(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return done("-m", "pip", "--python", self.python, "install", "-q", "--no-deps", *words, cwd=self.root)


@pytest.fixture(scope="module")
def make_environment(tmp_path_factory: pytest.TempPathFactory):
    def make(name: str, *words: str | Path) -> Environment:
        made = Environment(tmp_path_factory.mktemp(name))
        run("-m", "venv", "--without-pip", made.root, cwd=made.root)
        (packages,) = made.root.glob("lib/python3*/site-packages")
        # Python passes over the .pth files of a folder that a .pth file names, and so over an editable rh_bench there.
        (packages / "others.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
        installed = made.pip("--no-index", "--no-build-isolation", "--ignore-installed", *words)
        assert installed.returncode == 0, installed.stderr
        return made

    return make


@pytest.fixture(scope="module")
def installed(make_environment, wheel: Path) -> Environment:
    return make_environment("installed", wheel)


@pytest.fixture(scope="module")
def editable(make_environment) -> Environment:
    return make_environment("editable", "-e", ROOT)


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return names_in(wheel)


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        found = archive.namelist()
    assert len(found) == len(set(found)), "a file is in the wheel twice"
    return set(found)


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: set[str]) -> Message:
    (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(name).decode())


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found}


def test_the_wheel_claims_one_name(names: set[str]) -> None:
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"rh_bench"}
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_every_file_of_the_packages_is_in_the_wheel(names: set[str]) -> None:
    ours = {f"rh_bench/{name}" for name in files_below(ROOT / "rh_bench")}
    for folder in LINKED:
        linked = ROOT / folder if (ROOT / folder).is_dir() else ROOT / "rh_bench" / folder
        ours |= {f"rh_bench/{folder}/{name}" for name in files_below(linked)}
    assert {
        "rh_bench/schemas/run.v1.schema.json",
        "rh_bench/leaderboard/templates/index.html",
        "rh_bench/data_builders/data/needles.json",
        "rh_bench/py.typed",
    } <= ours
    assert {name for name in names if ".dist-info/" not in name} == ours


def test_the_source_archive_holds_what_is_under_version_control(unpacked: Path) -> None:
    listed = done("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    if listed.returncode:
        pytest.skip("there is no repository here to compare with: these tests run from a source archive")
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    expected = {f"rh_bench/{name}" if name.partition("/")[0] in LINKED else name for name in tracked}
    assert files_below(unpacked) == expected | {"PKG-INFO"}


def test_the_source_archive_builds_the_same_wheel(unpacked: Path, wheel: Path, tmp_path: Path) -> None:
    again = build("wheel", unpacked, tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {name: one.read(name) for name in names_in(wheel)} == {
            name: other.read(name) for name in names_in(again)
        }


def test_tests_run_from_the_source_archive(unpacked: Path) -> None:
    """Of each kind one: what reads schemas, data, the leaderboard's files, and what reads the tree itself."""
    tests = [
        "tests/test_imports.py",
        "tests/system/test_schema.py",
        "tests/scores/test_summary.py",
        "tests/data_builders/test_needles.py",
        "tests/leaderboard/test_badges.py",
    ]
    said = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=unpacked, PYTHONPATH=str(unpacked))
    assert re.search(r"\b[1-9]\d* passed", said), said


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


def test_schemas_are_read_away_from_the_checkout(installed: Environment, tmp_path: Path) -> None:
    origin, dialect = run(installed.python, "-c", WITHOUT_TORCH + READ_A_SCHEMA, cwd=tmp_path).split()
    assert Path(origin).is_relative_to(installed.root)
    assert "2020-12" in dialect


def test_the_command_explains_itself_without_torch(installed: Environment, tmp_path: Path) -> None:
    explains_itself(run(installed.python, "-c", WITHOUT_TORCH + HELP, cwd=tmp_path))


def explains_itself(said: str) -> None:
    for command in ("demo", "evaluate", "score", "validate", "leaderboard"):
        assert command in said


def makes_a_site(environment: Environment, folder: Path, *command: str | Path) -> None:
    """The two commands that a namesake of a package of ours would break."""
    runs = folder / "some-runs"
    if not runs.exists():
        make_run(runs)
    explains_itself(run(*command, "--help", cwd=folder))
    said = json.loads(run(*command, "leaderboard", runs, "--out", folder / "site", "--json", cwd=folder))
    assert said["runs"] == 1
    assert (folder / "site" / "index.html").is_file()
    shutil.rmtree(folder / "site")


def test_the_namesake_on_pypi_lies_beside_it(make_environment, wheel: Path, tmp_path: Path) -> None:
    environment = make_environment("beside", wheel)
    fetched = environment.pip(NAMESAKE)
    if fetched.returncode and "No matching distribution" in fetched.stderr:
        pytest.skip(f"no package index can be reached that has {NAMESAKE}")
    assert fetched.returncode == 0, fetched.stderr
    theirs = run(environment.python, "-c", "import leaderboard; print(leaderboard.__file__)", cwd=tmp_path)
    assert Path(theirs.strip()).is_relative_to(environment.root)
    makes_a_site(environment, tmp_path, environment.command)


def test_local_namesakes_are_not_mistaken_for_it(installed: Environment, tmp_path: Path) -> None:
    """`python -m` has the working directory first on its search path."""
    (tmp_path / "leaderboard").mkdir()
    for path in ("leaderboard/__init__.py", "data_builders.py", "schemas.py"):
        (tmp_path / path).write_text("raise ImportError('the wrong one')\n")
    makes_a_site(installed, tmp_path, installed.command)
    makes_a_site(installed, tmp_path, installed.python, "-m", "rh_bench")


def test_an_editable_install_is_the_checkout(editable: Environment, tmp_path: Path) -> None:
    ask = "import rh_bench, rh_bench.leaderboard.collect as c; print(rh_bench.__file__); print(c.__name__, c.__file__)"
    package, module = run(editable.python, "-c", ask, cwd=tmp_path).splitlines()
    assert Path(package) == ROOT / "rh_bench" / "__init__.py"
    assert module == f"rh_bench.leaderboard.collect {ROOT / 'rh_bench' / 'leaderboard' / 'collect.py'}"
    makes_a_site(editable, tmp_path, editable.command)


def test_one_number_for_the_source_wherever_it_lies(
    installed: Environment, editable: Environment, unpacked: Path, tmp_path: Path
) -> None:
    """A job with an installed wheel is held to the number that the maintainer's checkout gave."""
    ask = "from rh_bench.submissions.attest_order import package_sha256; print(package_sha256())"
    numbers = {
        "checkout": run("-c", ask, cwd=tmp_path, PYTHONPATH=str(ROOT)),
        "editable": run(editable.python, "-c", ask, cwd=tmp_path),
        "wheel": run(installed.python, "-c", ask, cwd=tmp_path),
        "source archive": run("-c", ask, cwd=tmp_path, PYTHONPATH=str(unpacked)),
    }
    assert len(set(numbers.values())) == 1, numbers
    shutil.copytree(unpacked / "rh_bench", tmp_path / "changed" / "rh_bench")
    linked = tmp_path / "changed" / "rh_bench" / "leaderboard" / "collect.py"
    linked.write_text(linked.read_text() + "\n")
    assert run("-c", ask, cwd=tmp_path, PYTHONPATH=str(tmp_path / "changed")) != numbers["wheel"]


USES_IT = """
from rh_bench.data_builders.needles import read_needles
from rh_bench.records import Sample

reveal_type(read_needles)
reveal_type(Sample)
Sample(1)
"""


@pytest.mark.parametrize("kind", ["installed", "editable"])
def test_its_types_are_seen_by_who_uses_it(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="reading types needs mypy: pip install -e '.[dev]'")
    environment: Environment = request.getfixturevalue(kind)
    (tmp_path / "user.py").write_text(USES_IT)
    said = done("-m", "mypy", "--python-executable", environment.python, "user.py", cwd=tmp_path).stdout
    assert "rh_bench.data_builders.needles.RawNeedle" in said
    assert "rh_bench.records.Sample" in said
    assert "Missing positional arguments" in said
    assert "error: Cannot find implementation" not in said
