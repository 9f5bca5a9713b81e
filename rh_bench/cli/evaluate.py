"""`rh-bench evaluate` and `demo`: measuring a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from rh_bench.artifacts.coverage import coverage
from rh_bench.cli.options import FOLDER, Verb, err, json_option, out, print_json, window_option


@click.command(
    cls=Verb,
    examples="""rh-bench demo
                rh-bench demo --out first-look""",
)
@click.option(
    "--out", "out_folder", type=FOLDER, default=Path("demo"), show_default=True, help="Folder for all results."
)
@json_option
def demo(out_folder: Path, as_json: bool) -> None:
    """Measure a small real model and make a site of the results.

    Builds the quick set, measures SmolLM2-135M-Instruct on it, validates the run and renders the leaderboard. Takes
    minutes on two CPU cores and needs no network.
    """
    from rh_bench.cli.demo import run_demo
    from rh_bench.cli.progress import evaluate_progress
    from rh_bench.cli.show import show as show_run

    with evaluate_progress(err()) as progress:
        report = run_demo(out_folder, progress.step, progress.stage)
    if as_json:
        print_json({**_outcome_json(report.outcome), "set": str(report.set_folder), "page": str(report.page)})
        return
    show_run(report.outcome.folder, out(), top=5)
    _say_outcome(report.outcome)
    out(soft_wrap=True).print(f"[green]The site:[/] {escape(str(report.page.resolve()))}")


@click.command(
    cls=Verb,
    examples="""rh-bench evaluate HuggingFaceTB/SmolLM2-135M-Instruct --haystack sets/quick --out runs
                rh-bench evaluate org/model@main --haystack org/set@v1 --out runs --dtype bfloat16
                rh-bench evaluate gguf:model.gguf --haystack sets/quick --out runs --lengths 512,1024 --depths 0,50,100
                rh-bench evaluate ./my-model --haystack sets/quick --out runs --engine reference --limit 12""",
)
@click.argument("model")
@click.option("--haystack", required=True, help="The set: a folder, or REPO[@REVISION] on the Hub.")
@click.option("--out", "out_folder", type=FOLDER, required=True, help="Folder for runs.")
@click.option("--lengths", help="Use a grid with these context lengths in tokens: 512,1024.")
@click.option("--depths", help="Use a grid with these depths in percent: 0,50,100.")
@click.option("--needles", help="Use only these needles: harbour-key,glass-orchard.")
@click.option(
    "--engine", default="fast", show_default=True, help="fast, or reference (slow; what fast is tested against)."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--template", default="auto", show_default=True, help="auto, plain or chat.")
@click.option("--limit", type=int, help="Number of samples, evenly spaced over the grid (default: all).")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Most tokens to generate for an answer.",
)
@window_option
@click.option(
    "--thinking",
    default="auto",
    show_default=True,
    help="For reasoning models: auto and close ask for the answer alone, after measures the answer after the thought.",
)
@click.option(
    "--thought-tokens", type=click.IntRange(1, 1_000_000), help="With --thinking after: most tokens of a thought."
)
@click.option("--trust-remote-code", is_flag=True, help="Run the Python code in the model's repository. Read it first.")
@json_option
def evaluate(
    model: str,
    haystack: str,
    out_folder: Path,
    lengths: str | None,
    depths: str | None,
    needles: str | None,
    engine: str,
    device: str,
    dtype: str,
    template: str,
    limit: int | None,
    max_new_tokens: int,
    thinking: str,
    thought_tokens: int | None,
    window: int | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Measure every attention head of MODEL on a set, and write a run.

    MODEL is a Hub id (org/name[@revision]), a local folder, or gguf:FILE, and may be a PEFT adapter. Without --lengths
    and --depths, the set's own samples are measured. A run over part of the set (--needles, --limit) or over its own
    grid is marked wherever its numbers appear, and is not ranked. You can interrupt it at any time: the same command
    resumes.
    """
    from rh_bench.cli.progress import evaluate_progress
    from rh_bench.measure.evaluate import Request
    from rh_bench.measure.evaluate import evaluate as run_evaluate
    from rh_bench.sets.grids import parse_depths, parse_lengths

    request = Request(
        model=model,
        haystack=haystack,
        out=out_folder,
        lengths=parse_lengths(lengths) if lengths is not None else None,
        depths=parse_depths(depths) if depths is not None else None,
        needles=tuple(part.strip() for part in needles.split(",")) if needles is not None else None,
        engine=engine,
        device=device,
        dtype=dtype,
        template=template,
        limit=limit,
        max_new_tokens=max_new_tokens,
        trust_remote_code=trust_remote_code,
        thinking=thinking,
        thought_tokens=thought_tokens,
        window=window,
    )
    with evaluate_progress(err()) as progress:
        outcome = run_evaluate(request, progress.step, progress.stage, progress.note)
    if as_json:
        print_json(_outcome_json(outcome))
        return
    from rh_bench.cli.show import render_figures

    out().print(render_figures(outcome.folder, top=5))
    _say_outcome(outcome)


def _outcome_json(outcome: Any) -> dict[str, Any]:
    return {
        "folder": str(outcome.folder),
        "run_id": outcome.document["run_id"],
        "resumed": outcome.resumed,
        "measured": outcome.measured,
        "counts": outcome.document["counts"],
        "coverage": coverage(outcome.document).to_json(),
        "seconds": outcome.document["timings"]["seconds"],
    }


def _say_outcome(outcome: Any) -> None:
    console = out(soft_wrap=True)
    if outcome.measured:
        before = f", {outcome.resumed} were already measured" if outcome.resumed else ""
        console.print(
            f"\n{outcome.measured} samples measured{before}; {outcome.document['timings']['seconds']:.1f} s in total"
        )
    else:
        console.print("\nThis run already exists: nothing was measured")
    covered = coverage(outcome.document)
    if not covered.whole:
        console.print(f"[yellow]{covered.note}[/]")
    console.print(f"[green]The run:[/] {escape(str(outcome.folder))}")


EVALUATE_COMMANDS: Sequence[click.Command] = (
    demo,
    evaluate,
)
