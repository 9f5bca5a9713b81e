"""The command that removes heads and measures what a model still retrieves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from rh_bench.cli.experiments import experiments_option, say_experiment
from rh_bench.cli.options import FOLDER, Verb, err, json_option, out, window_option
from rh_bench.errors import InputError


@click.command(
    cls=Verb,
    examples="""rh-bench ablate org/model --run runs/org__model/0123456789abcdef --haystack sets/more --out experiments
                rh-bench ablate gguf:model.gguf --run RUN --haystack SET --out experiments --top 0,5,20 --limit 12
                rh-bench ablate org/model --run RUN --haystack SET --out experiments --how mean --phase decode""",
)
@click.argument("model")
@click.option("--run", type=FOLDER, required=True, help="The run of MODEL that found the heads.")
@click.option(
    "--haystack", required=True, help="A set with needles that the run has not seen: a folder, or REPO[@REVISION]."
)
@experiments_option
@click.option("--top", default="0,2,5,10,15,20,30,50,100", show_default=True, help="Numbers of heads to remove.")
@click.option(
    "--draws", type=click.IntRange(1, 1000), default=5, show_default=True, help="Random sets of heads for each K."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Seed of the first random set."
)
@click.option("--needles", help="Use only these needles: harbour-key,glass-orchard.")
@click.option("--lengths", help="Use a grid with these context lengths in tokens: 512,1024.")
@click.option("--depths", help="Use a grid with these depths in percent: 0,50,100.")
@click.option(
    "--limit", type=int, default=24, show_default=True, help="Number of samples, evenly spaced over the grid."
)
@click.option(
    "--how",
    type=click.Choice(["zero", "mean", "span", "uniform"]),
    default="zero",
    show_default=True,
    help="How to remove heads; uniform is what the paper's code does.",
)
@click.option(
    "--phase",
    type=click.Choice(["both", "prefill", "decode"]),
    default="both",
    show_default=True,
    help="Remove heads everywhere, only before the answer, or only while it is generated.",
)
@click.option("--rows", type=click.IntRange(1, 1024), help="Conditions per batch (default: as many as fit).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--dtype", help="float32, bfloat16 or float16 (default: the run's).")
@window_option
@click.option("--trust-remote-code", is_flag=True, help="Run the Python code in the model's repository. Read it first.")
@json_option
def ablate(
    model: str,
    run: Path,
    haystack: str,
    out_folder: Path,
    top: str,
    draws: int,
    seed: int,
    needles: str | None,
    lengths: str | None,
    depths: str | None,
    limit: int,
    how: Any,
    phase: Any,
    rows: int | None,
    device: str,
    dtype: str | None,
    window: int | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Test whether MODEL stops retrieving without its retrieval heads, but not without as many other heads.

    Removes the K strongest heads of RUN, and K random heads, drawn several times from all layers and from the layers of
    the strongest, and measures success on needles that RUN has not seen. You can interrupt it at any time: the same
    command resumes.
    """
    from rh_bench.cli.progress import evaluate_progress
    from rh_bench.experiments.causal.run import Request, ablation_experiment
    from rh_bench.sets.grids import parse_depths, parse_lengths

    request = Request(
        model=model,
        run=run,
        haystack=haystack,
        out=out_folder,
        top=_numbers(top, "--top"),
        draws=draws,
        seed=seed,
        how=how,
        phase=phase,
        lengths=parse_lengths(lengths) if lengths is not None else None,
        depths=parse_depths(depths) if depths is not None else None,
        needles=tuple(part.strip() for part in needles.split(",")) if needles is not None else None,
        limit=limit,
        rows=rows,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        window=window,
    )
    with evaluate_progress(err()) as progress:
        outcome = ablation_experiment(request, progress.step, progress.stage, progress.note)
    if not as_json:
        _show_causal(outcome.document)
    say_experiment(outcome.folder, outcome.document, written=outcome.measured > 0, as_json=as_json)


def _numbers(text: str, where: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise InputError(
            f"{text!r} is not a comma-separated list of numbers", where=where, hint="write it like 0,2,5,10"
        )
    return tuple(int(part) for part in parts)


def _show_causal(document: dict[str, Any]) -> None:
    results, console = document["results"], out()
    about = f"{results['samples']} samples, {results['needles']} needles the run has not seen"
    table = Table(title=f"Success without K heads; {about}")
    for name in ("K", "strongest", "random", "random, same layers", "difference, p", "same layers, p"):
        table.add_column(name, justify="right")
    table.add_row("0", _share(results["baseline"]["success"]))
    for row in results["curve"]:
        controls = [row["controls"][name] for name in ("uniform", "matched")]
        shares = [_share(control["success"]) if control else "–" for control in controls]
        tests = [
            f"{control['difference']['success']['value']:+.0%}, {control['p_needles']:.3f}" if control else "–"
            for control in controls
        ]
        table.add_row(str(row["k"]), _share(row["top"]["success"]), *shares, *tests)
    console.print(table)
    for item in document["settings"]["left_out"]:
        console.print(f"left out: {item['kind']} {item['k']}: {escape(item['reason'])}")
    seconds, conditions = document["timings"]["seconds"], results["conditions"]
    console.print(f"{conditions} conditions, {seconds:.0f} s: {seconds / conditions:.1f} s per condition")


def _share(estimate: dict[str, Any]) -> str:
    return f"{estimate['value']:.0%}"


ABLATE_COMMANDS: Sequence[click.Command] = (ablate,)
