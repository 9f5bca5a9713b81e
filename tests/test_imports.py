"""Who may import what. A verifier, a leaderboard build or a reader of a set never needs torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rh_bench", "data_builders", "leaderboard")
ENGINE_SIDE = (
    "rh_bench.engines",
    "rh_bench.models.load",
    "rh_bench.models.loading",
    "rh_bench.models.gguf_weights",
    "rh_bench.models.multimodal",
    "rh_bench.models.adapters",
    "rh_bench.attention.ablation",
    "rh_bench.attention.capture",
    "rh_bench.attention.compiled",
    "rh_bench.detectors",
    "rh_bench.attention.leads",
    "rh_bench.experiments.detectors.run",
    "rh_bench.experiments.qa.generate",
    "rh_bench.experiments.qa.run",
    "rh_bench.attention.fused",
    "rh_bench.attention.interventions",
    "rh_bench.attention.attention_mass",
    "rh_bench.system.memory",
    "rh_bench.verification.rerun",
)
HUB = ("rh_bench.hub", "rh_bench.interchange.eval_results")
ENTRIES = ("rh_bench.cli",)
TERMINAL = ("rh_bench.cli",)
AFTER_THE_ENGINES = tuple(
    f"rh_bench.{name}"
    for name in (
        "records",
        "events",
        "rouge",
        "scoring",
        "statistics",
        "summary",
        "schema",
        "validate",
        "runs",
        "similarity",
        "robustness",
    )
)


@dataclass(frozen=True)
class Rule:
    """Only `allowed` modules (and those below them) may import `names`; `of` limits the rule to some importers."""

    why: str
    names: tuple[str, ...]
    allowed: tuple[str, ...]
    of: tuple[str, ...] = PACKAGES


RULES = (
    Rule(
        "torch and transformers live in the engine modules",
        ("torch", "transformers", "accelerate", "peft"),
        ENGINE_SIDE,
    ),
    Rule("huggingface_hub lives in the hub modules", ("huggingface_hub",), HUB),
    Rule("datasets is for the builders of sets", ("datasets",), ("data_builders",)),
    Rule("rich and click live in the command line", ("rich", "click"), TERMINAL),
    Rule(
        "the core does not know what is built on it",
        PACKAGES[1:],
        (*ENTRIES, "rh_bench.experiments.qa.questions"),  # a verifier has an experiment's questions again
        of=("rh_bench",),
    ),
    Rule("the builders do not know the leaderboard", ("leaderboard",), (), of=("data_builders",)),
    Rule("the leaderboard reads runs, it makes none", ("data_builders", *ENGINE_SIDE), (), of=("leaderboard",)),
    Rule(
        "from scoring on, nothing reaches back to the engines",
        (*ENGINE_SIDE, "rh_bench.measure.evaluate"),
        (),
        of=AFTER_THE_ENGINES,
    ),
)


def within(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def modules() -> dict[str, Path]:
    """Every module of the three packages, by name."""
    found = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """Full names of all that a module imports, at the top or within functions, by statement or by `import_module`.
    What only a type checker sees (`if TYPE_CHECKING:`) does not count."""
    package = module if is_package else module.rpartition(".")[0]
    names: set[str] = set()
    for node in _run_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            names |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names |= {
                arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            }
    return names


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    skip = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in node.orelse if skip and isinstance(node, ast.If) else ast.iter_child_nodes(node):
        yield from _run_nodes(child)


def breaches(rule: Rule, module: str, names: set[str]) -> list[str]:
    if not within(module, rule.of) or within(module, rule.allowed):
        return []
    return [f"{module} imports {name}: {rule.why}" for name in sorted(names) if within(name, rule.names)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.why)
def test_imports_keep_to_their_places(rule: Rule) -> None:
    found = []
    for module, path in modules().items():
        names = imported(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
        found += breaches(rule, module, names)
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("rh_bench.scores.heads", "import torch", 1),
        ("rh_bench.scores.heads", "def f():\n    from torch.nn import functional", 2),
        ("rh_bench.scores.heads", "try:\n    import transformers.utils as t\nexcept ImportError:\n    t = None", 1),
        ("rh_bench.scores.heads", "import importlib\ntorch = importlib.import_module('torch')", 1),
        ("rh_bench.scores.heads", "if TYPE_CHECKING:\n    import torch\nelse:\n    import re", 0),
        ("rh_bench.scores.heads", "if typing.TYPE_CHECKING:\n    import re\nelse:\n    import torch", 1),
        ("rh_bench.scores.heads", "import torchless\nfrom rh_bench import torch", 0),
        ("rh_bench.scores.heads", "from . import capture", 1),
        ("rh_bench.engines.fast", "import torch\nfrom ..capture import record", 0),
        ("rh_bench.artifacts.run", "from rh_bench.leaderboard.render import render", 2),
        ("rh_bench.cli.main", "from rh_bench.leaderboard.render import render\nimport data_builders, typer", 0),
        ("rh_bench.leaderboard.render", "from rh_bench.engines import fast", 2),
        ("rh_bench.data_builders.sources", "import datasets", 0),
        ("rh_bench.data_builders.sources", "from huggingface_hub import HfApi", 2),
    ],
)
def test_a_breach_is_seen(module: str, source: str, count: int) -> None:
    names = imported(source, module)
    assert len([line for rule in RULES for line in breaches(rule, module, names)]) == count


# A None in sys.modules makes every import of that name fail, as if it were not installed.
IMPORT_WITHOUT = """
import importlib, sys
sys.modules["torch"] = sys.modules["transformers"] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def import_without_torch(*names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT_WITHOUT, *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_all_but_the_engine_side_is_imported_without_torch() -> None:
    names = [name for name in modules() if not within(name, ENGINE_SIDE) and not name.endswith("__main__")]
    assert {"rh_bench.scores.heads", "rh_bench.hub.download", "rh_bench.leaderboard.render"} <= set(names)
    done = import_without_torch(*names)
    assert done.returncode == 0, done.stderr


def test_the_engine_side_is_what_needs_torch() -> None:
    assert "torch" in import_without_torch("rh_bench.attention.capture").stderr
