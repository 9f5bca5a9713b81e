"""Commands on finished runs and experiments: `rh-bench score`, `show`, `validate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from rh_bench.cli.options import FOLDER, Verb, json_option, out, print_json
from rh_bench.errors import CheckFailed


@click.command(
    cls=Verb,
    examples="""rh-bench score runs/org__model/0123456789abcdef
                rh-bench score experiments/org__model/dynamic-0123456789abcdef""",
)
@click.argument("run", type=FOLDER)
@json_option
def score(run: Path, as_json: bool) -> None:
    """Recompute heads.parquet and summary.json of RUN from its events, or the results of an experiment from its tables.

    No model is needed.
    """
    from rh_bench.artifacts.run import rescore
    from rh_bench.experiments.artifact import is_experiment, recompute

    changed = recompute(run) if is_experiment(run) else rescore(run)
    if as_json:
        print_json({"folder": str(run), "changed": changed})
        return
    out().print(f"rewritten: {', '.join(changed)}" if changed else "unchanged: the numbers match the raw observations")


@click.command(
    cls=Verb,
    examples="""rh-bench show runs/org__model/0123456789abcdef
                rh-bench show runs/org__model/0123456789abcdef --top 30""",
)
@click.argument("run", type=FOLDER)
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Number of heads to list.")
@json_option
def show(run: Path, top: int, as_json: bool) -> None:
    """Show RUN in the terminal: a heat map of layers × heads, the strongest heads, success by length and depth."""
    if as_json:
        from rh_bench.artifacts.run import read_run
        from rh_bench.system.schema import load_json

        read_run(run)
        print_json(load_json(run / "summary.json"))
        return
    from rh_bench.cli.show import show as show_run

    show_run(run, out(), top=top)


@click.command(
    cls=Verb,
    examples="""rh-bench validate runs/org__model/0123456789abcdef
                rh-bench validate runs/*/* sets/quick --json""",
)
@click.argument("paths", nargs=-1, required=True, type=FOLDER)
@json_option
def validate(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check runs, haystack sets and experiments: documents, columns, hashes, ranges and cross-references.

    Every problem is reported.
    """
    from rh_bench.verification.checks import check_folder

    found = {str(path): check_folder(path) for path in paths}
    if as_json:
        print_json(
            [
                {"path": path, "valid": not problems, "problems": [_problem_json(problem) for problem in problems]}
                for path, problems in found.items()
            ]
        )
    else:
        console = out(soft_wrap=True)
        for path, problems in found.items():
            for problem in problems:
                place = f"{path}/{problem.file}" + (f"#{problem.pointer}" if problem.pointer else "")
                console.print(f"{escape(place)}: {escape(problem.message)}")
            if not problems:
                console.print(f"{escape(path)}: [green]valid[/]")
    invalid = [path for path, problems in found.items() if problems]
    if invalid:
        raise CheckFailed(f"{len(invalid)} of {len(found)} not valid")


def _problem_json(problem: Any) -> dict[str, str]:
    return {"file": problem.file, "pointer": problem.pointer, "message": problem.message}


RUN_COMMANDS: Sequence[click.Command] = (
    score,
    show,
    validate,
)
