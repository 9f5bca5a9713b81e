"""The commands that ask a model questions with heads removed: reason and extract-qa."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.table import Table

from rh_bench.cli.experiments import experiments_option, say_experiment
from rh_bench.cli.options import FOLDER, Verb, err, json_option, out, window_option


def _asking_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `reason` and `extract-qa` have in common."""
    for option in reversed(
        (
            click.argument("model"),
            click.option("--run", type=FOLDER, required=True, help="The run of MODEL that the heads come from."),
            experiments_option,
            click.option("--limit", type=int, help="Number of questions, evenly spaced (default: all)."),
            click.option("--shots", type=int, help="Examples before each question (default: all)."),
            click.option("--top", type=int, help="Number of heads to remove (default: the number of retrieval heads)."),
            click.option("--draws", type=int, default=3, show_default=True, help="Random draws of each kind."),
            click.option(
                "--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Seed of the first draw."
            ),
            click.option(
                "--phase", default="both", show_default=True, help="Where to remove heads: both, prefill or decode."
            ),
            click.option(
                "--max-new-tokens",
                type=click.IntRange(1, 4096),
                help="Most tokens to generate (default: what the prompts say).",
            ),
            click.option("--batch", type=click.IntRange(1, 4096), help="Rows per batch (default: what fits)."),
            click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1."),
            click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16."),
            click.option("--template", default="auto", show_default=True, help="auto, plain or chat."),
            window_option,
            click.option(
                "--trust-remote-code",
                is_flag=True,
                help="Run the Python code in the model's repository. Read it first.",
            ),
            json_option,
        )
    ):
        command = option(command)
    return command


@click.command(
    cls=Verb,
    examples="""rh-bench reason org/model --run RUN --task gsm8k --data openai/gsm8k@main --out experiments --limit 150
                rh-bench reason org/model --run RUN --task gsm8k --data gsm8k/test.jsonl --out experiments
                rh-bench reason org/model --run RUN --task mmlu --data mmlu/test --out experiments --shots 2""",
)
@click.option("--task", type=click.Choice(["gsm8k", "mmlu", "musique"]), required=True, help="The task.")
@click.option("--data", required=True, help="A file in the official format, or REPO@REVISION[#CONFIG[/SPLIT]].")
@click.option("--modes", help="direct, cot or both: direct,cot (default: both).")
@_asking_options
def reason(task: str, data: str, modes: str | None, **options: Any) -> None:
    """Ask MODEL the questions of a task, with and without chain of thought, and with heads removed.

    Each question is answered with nothing removed, without the strongest heads of the run, and without as many random
    heads that are not retrieval heads, drawn several times from all layers and from the layers of the strongest. You
    can interrupt it at any time: the same command resumes.
    """
    _ask(task, data, tuple(part.strip() for part in modes.split(",")) if modes is not None else None, options)


@click.command(
    "extract-qa",
    cls=Verb,
    examples="""rh-bench extract-qa org/model --run RUN --out experiments --limit 60
                rh-bench extract-qa org/model --run RUN --out experiments --data rajpurkar/squad@main --limit 500""",
)
@click.option(
    "--data",
    default="synthetic",
    show_default=True,
    help="synthetic[:SEED], SQuAD's .json, JSON lines (question, passage, answers) or REPO@REVISION[#CONFIG[/SPLIT]].",
)
@_asking_options
def extract_qa(data: str, **options: Any) -> None:
    """Ask MODEL to copy answers out of a passage, with heads removed.

    The conditions are those of `rh-bench reason`. The synthetic pairs need no download. You can interrupt it at any
    time: the same command resumes.
    """
    _ask("extractive", data, None, options)


def _ask(task: str, data: str, modes: tuple[str, ...] | None, options: dict[str, Any]) -> None:
    from rh_bench.cli.progress import evaluate_progress
    from rh_bench.data_builders.tasks import load_task
    from rh_bench.system.environment import refuse_light_install

    refuse_light_install("this command")
    from rh_bench.experiments.qa.run import Request, ask

    as_json, folder = options.pop("as_json"), options.pop("out_folder")
    request = Request(out=folder, modes=modes, **options)
    with evaluate_progress(err()) as progress:
        outcome = ask(request, load_task(task, data), progress.step, progress.stage, progress.note)
    if not as_json:
        _show_answers(outcome.document)
    say_experiment(outcome.folder, outcome.document, written=outcome.measured > 0, as_json=as_json)


def _show_answers(document: dict[str, Any]) -> None:
    results, settings = document["results"], document["settings"]
    measure = {"f1": "token F1", "accuracy": "accuracy"}[results["measure"]]
    modes = settings["modes"]
    title = f"{settings['task']}: {measure} of {results['questions']} questions, {settings['top']} heads removed"
    table = Table(title=title)
    table.add_column("removed")
    for mode in modes:
        table.add_column("chain of thought" if mode == "cot" else "direct", justify="right")
    for condition in settings["conditions"]:
        rows = [row for row in results["scores"] if row["condition"] == condition["name"]]
        table.add_row(condition["name"], *(_interval(row[results["measure"]]) for row in rows))
    out().print(table)
    for row in results["comparisons"]:
        against = {"none": "no ablation", "random": "random heads", "matched": "random heads of the same layers"}
        mode = "chain of thought" if row["mode"] == "cot" else "direct"
        loss = _interval(row["loss"])
        out().print(f"{mode}: loss against {against[row['control']]} {loss}, p = {row['p_value']:.4f}")


def _interval(row: dict[str, Any]) -> str:
    if row["low"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


ANSWER_COMMANDS: Sequence[click.Command] = (extract_qa, reason)
