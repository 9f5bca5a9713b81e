"""Who may import what: rooms in one order, and for every library its places. Somebody who verifies a run, builds a
leaderboard or reads a set never needs torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from source_tree import ROOT, Import, arrows, circles, imports, modules, parsed, room_of, tree

ORDER = (
    "records",
    "errors",
    "protocol",
    "system",
    "stats",
    "display",
    "hub",
    "prompting",
    "scores",
    "artifacts",
    "sets",
    "interchange",
    "attention",
    "engines",
    "models",
    "measure",
    "detectors",
    "data_builders",
    "experiments",
    "verification",
    "leaderboard",
    "submissions",
    "api",
    "cli",
    "front door",
)
"""The rooms from the ground up: each imports only such as stand before it. What comes of a measurement (scores,
artifacts) stands below what measures, so that nothing from scoring on can reach back to an engine."""

PLACES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("numpy",): ("",),
    ("torch", "transformers"): (
        "attention",
        "engines",
        "detectors.passes",
        "experiments.qa.generate",
        "models.adapters",
        "models.gguf_weights",
        "models.identity",
        "models.in_memory",
        "models.load",
        "models.loading",
        "models.multimodal",
        "system.memory",
    ),
    ("peft", "safetensors"): ("models.adapters",),
    ("gguf",): ("models.gguf_tokenizer", "models.gguf_weights"),
    ("huggingface_hub", "httpx2"): ("hub",),
    ("datasets",): ("data_builders",),
    ("click", "rich"): ("cli",),
    ("jinja2", "markupsafe", "playwright"): ("leaderboard",),
    ("jsonschema",): ("system.schema",),
    ("yaml",): (
        "system.plain_yaml",
        "hub.eval_entry",
        "interchange.qrhead",
        "data_builders.dataset_card",
        "submissions",
    ),
    ("pyarrow",): (
        "artifacts",
        "sets",
        "interchange",
        "data_builders",
        "experiments",
        "leaderboard",
        "submissions",
        "api",
        "cli.show",
    ),
}
"""Libraries, and the rooms or modules that may import them. A library that is not here has no place."""

NEEDS_TORCH = (
    "attention",
    "engines",
    "detectors",
    "experiments.detectors.run",
    "experiments.qa.generate",
    "experiments.qa.run",
    "models.adapters",
    "models.identity",
    "models.in_memory",
    "models.load",
    "models.loading",
    "models.multimodal",
    "verification.rerun",
)
"""What cannot be imported without torch. Everything else can."""

APART = {"leaderboard": ("attention", "engines", "detectors", "measure", "data_builders")}
"""What a room has nothing to do with, though it stands below it: a leaderboard reads runs, it makes none."""

FROM_THE_FRONT = ("__version__", "__file__")
"""What any module may ask of `rh_bench` itself, whose other names stand above all rooms."""


IMPORTED = tree()


def within(module: str, places: Iterable[str]) -> bool:
    name = module.removeprefix("rh_bench").removeprefix(".")
    return any(not place or name == place or name.startswith(f"{place}.") for place in places)


def breaches(module: str, source: str) -> list[str]:
    """Every rule that one module breaks, in a line each."""
    found = imports(source, module)
    lines = [f"{module} imports by a relative path" for one in found if one.relative]
    for one in found:
        if one.name == "rh_bench" or one.name.startswith("rh_bench."):
            lines += _upward(module, one)
        else:
            lines += _misplaced(module, one)
    return sorted({*lines, *_asks_the_front(module, source)})


def _upward(module: str, one: Import) -> list[str]:
    here, there = room_of(module), room_of(one.name)
    if here == there or there == "front door" or not _is_room(there):
        return []
    if there not in ORDER[: ORDER.index(here)]:
        return [f"{module} imports {there}, which is not below {here}"]
    return [f"{module} imports {there}: {here} has nothing to do with it"] * (there in APART.get(here, ()))


def _is_room(name: str) -> bool:
    """Otherwise it is a name in `rh_bench/__init__.py`, of which :func:`_asks_the_front` speaks."""
    return name in ORDER or (ROOT / "rh_bench" / name).exists() or (ROOT / "rh_bench" / f"{name}.py").exists()


def _misplaced(module: str, one: Import) -> list[str]:
    library = one.name.partition(".")[0]
    if one.for_types or library in sys.stdlib_module_names:
        return []
    places = next((places for names, places in PLACES.items() if library in names), ())
    return [] if within(module, places) else [f"{module} imports {library}, which has no place there"]


def _asks_the_front(module: str, source: str) -> list[str]:
    if room_of(module) == "front door":
        return []
    asked = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "rh_bench":
            asked |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rh_bench":
            asked.add(node.attr)
    allowed = {*FROM_THE_FRONT, *ORDER}
    return [f"{module} asks rh_bench for {name}" for name in sorted(asked - allowed)]


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {room_of(module) for module in modules()}
    assert rooms == set(ORDER)
    assert len(ORDER) == len(set(ORDER))


def test_imports_keep_to_the_rules() -> None:
    found = [line for name, path in modules().items() for line in breaches(name, path.read_text(encoding="utf-8"))]
    assert found == []


def test_no_room_and_no_module_imports_itself_by_a_circle() -> None:
    assert circles(set(arrows(IMPORTED))) == []
    # Within a room a function may import what imports its module; while modules are being imported, none may.
    steps = {
        (module, one.name)
        for module, names in IMPORTED.items()
        for one in names
        if one.name in IMPORTED and one.at_once and not one.for_types and not f"{module}.".startswith(f"{one.name}.")
    }
    assert len(steps) > 500
    assert circles(steps) == []
    assert circles(steps | {("rh_bench.records", "rh_bench.cli.main")}) != []


def test_every_permission_is_used() -> None:
    """One that is not would let something in without anybody seeing it."""
    for libraries, places in PLACES.items():
        for place in places:
            used = (
                one.name.partition(".")[0] in libraries
                for module, names in IMPORTED.items()
                if within(module, [place])
                for one in names
            )
            assert any(used), f"nothing in {place} imports any of {libraries}"


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("rh_bench.scores.heads", "import torch", 1),
        ("rh_bench.scores.heads", "def f():\n    from torch.nn import functional", 1),
        ("rh_bench.scores.heads", "try:\n    import transformers.utils as t\nexcept ImportError:\n    t = None", 1),
        ("rh_bench.scores.heads", "import importlib\ntorch = importlib.import_module('torch')", 1),
        ("rh_bench.scores.heads", "if TYPE_CHECKING:\n    import torch\nelse:\n    import re", 0),
        ("rh_bench.scores.heads", "if typing.TYPE_CHECKING:\n    import re\nelse:\n    import torch", 1),
        ("rh_bench.scores.heads", "import numpy as np\nfrom rh_bench.stats.bootstrap import interval", 0),
        ("rh_bench.scores.heads", "import torchless", 1),  # a library that no rule places
        ("rh_bench.scores.heads", "from rh_bench import torch", 1),
        ("rh_bench.scores.heads", "from rh_bench import __version__, records", 0),
        ("rh_bench.scores.heads", "import rh_bench\nrh_bench.evaluate()", 1),
        ("rh_bench.scores.heads", "from . import rouge", 1),
        ("rh_bench.scores.heads", "from ..engines import fast", 2),  # relative, and upward
        ("rh_bench.scores.heads", "from rh_bench.scores import rouge", 0),
        ("rh_bench.scores.heads", "def f():\n    from rh_bench.cli.main import main", 1),
        ("rh_bench.scores.heads", "if TYPE_CHECKING:\n    from rh_bench.cli.main import main", 1),
        ("rh_bench.scores.heads", "from rh_bench.nowhere import name", 0),  # fails by itself
        ("rh_bench.engines.fast", "import torch\nfrom rh_bench.attention.capture import Recorder", 0),
        ("rh_bench.artifacts.run", "from rh_bench.engines.base import Engine", 1),
        ("rh_bench.artifacts.run", "from rh_bench.leaderboard.render import render", 1),
        ("rh_bench.models.model_card", "import torch", 1),
        ("rh_bench.cli.main", "from rh_bench.leaderboard.render import render\nimport rich", 0),
        ("rh_bench.cli.main", "import data_builders, typer", 2),
        ("rh_bench.leaderboard.render", "from rh_bench.engines import fast", 1),
        ("rh_bench.data_builders.sources", "import datasets", 0),
        ("rh_bench.data_builders.sources", "from huggingface_hub import HfApi", 1),
        ("rh_bench.data_builders.sources", "import leaderboard", 1),
    ],
)
def test_a_breach_is_seen(module: str, source: str, count: int) -> None:
    found = breaches(module, source)
    assert len(found) == count, found


# A None in sys.modules makes every import of that name fail, as if it were not installed.
IMPORT_WITHOUT = """
import importlib, sys
sys.modules["torch"] = sys.modules["transformers"] = None
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
"""


def not_imported_without_torch(names: Iterable[str]) -> dict[str, str]:
    command = [sys.executable, "-c", IMPORT_WITHOUT, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_what_needs_torch_is_listed_and_nothing_else_does() -> None:
    names = [name for name in modules() if not name.endswith("__main__")]
    assert {"rh_bench.scores.heads", "rh_bench.hub.download", "rh_bench.leaderboard.render"} <= set(names)
    refused = not_imported_without_torch(names)
    assert [f"{name}: {why}" for name, why in refused.items() if not within(name, NEEDS_TORCH)] == []
    idle = [place for place in NEEDS_TORCH if not any(within(name, [place]) for name in refused)]
    assert idle == [], "these can be imported without torch"


def test_every_module_is_in_a_room_with_a_purpose() -> None:
    """A room's first line says in a sentence what it is for; the picture shows it."""
    found: dict[str, Path] = {room_of(name): path for name, path in reversed(modules().items())}
    for room, path in found.items():
        text = ast.get_docstring(parsed(path.read_text(encoding="utf-8"))) or ""
        assert 10 < len(text.partition("\n")[0]) <= 118, room
