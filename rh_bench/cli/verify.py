"""`rh-bench verify`, and what it shares with `review`: limits, samples to measure again, attestations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from rh_bench.cli.options import FOLDER, Verb, download_option, err, json_option, out, print_json
from rh_bench.errors import CheckFailed, InputError
from rh_bench.verification.power import DEFAULT_SAMPLES

LIMIT_OPTIONS = (
    click.option(
        "--most-seconds",
        type=click.IntRange(1, 10_000_000),
        help="Time limit of each level in seconds (default: 15 minutes, 1 hour and 4 hours; less of processor time).",
    ),
    click.option(
        "--most-memory",
        type=click.FloatRange(0.001, 1_000_000),
        help="Memory limit of each level in GiB, beside the weights (default: 4, 8 and 16).",
    ),
    click.option(
        "--most-weights",
        type=click.FloatRange(0, 1_000_000),
        help="Largest weights of a model to measure again, in GiB (default: 256).",
    ),
)
"""Limits of verifying."""


def limit_options(command: Any) -> Any:
    """Adds LIMIT_OPTIONS to a command."""
    for option in reversed(LIMIT_OPTIONS):
        command = option(command)
    return command


def read_limits(seconds: int | None, memory: float | None, weights: float | None) -> Any:
    from rh_bench.system.limits import GIB, make_limits

    return make_limits(seconds, *(None if size is None else int(size * GIB) for size in (memory, weights)))


_MARKS = {True: "[green]yes[/]", False: "[red]no[/]", None: "[dim]not tried[/]"}


attest_option = click.option(
    "--attest", multiple=True, metavar="NAMESPACE", help="Check attestations; jobs of this namespace are trusted."
)


def rerun_option(what: str) -> Callable[[Any], Any]:
    """`--rerun`, with a number or without.

    Args:
        what: what it does, for the help text.
    """
    words = f"{what}; {DEFAULT_SAMPLES} if no number is given."
    kind = click.IntRange(1, 10_000)
    return click.option("--rerun", type=kind, is_flag=False, flag_value=DEFAULT_SAMPLES, help=words)


@click.command(
    cls=Verb,
    examples="""rh-bench verify runs/org__model/0123456789abcdef
                rh-bench verify runs/org__model/0123456789abcdef --haystack sets/quick --rerun --report report.md
                rh-bench verify experiments/org__model/causal-0123456789abcdef --run RUN --rerun 12
                rh-bench verify org/results#3 --rerun 8""",
)
@click.argument("run")
@click.option(
    "--haystack", help="The set it was measured on: a folder, or REPO[@REVISION] (default: the one the run names)."
)
@click.option("--model", help="The model, if the run does not name one on the Hub: a folder or gguf:FILE.")
@click.option("--run", "runs", multiple=True, help="A run the experiment is about, if it is not next to it.")
@rerun_option("Measure N of its samples again, on this machine")
@click.option("--salt", help="Salt for the choice of samples (default: a random one, which is shown).")
@click.option("--device", default="auto", show_default=True, help="For --rerun: auto, cpu, cuda.")
@attest_option
@click.option("--results", help="With --attest and a folder: the results repository that holds the order.")
@download_option
@click.option("--report", type=FOLDER, help="Write the report to this file, as Markdown.")
@limit_options
@json_option
def verify(
    run: str,
    haystack: str | None,
    model: str | None,
    runs: tuple[str, ...],
    rerun: int | None,
    salt: str | None,
    device: str,
    attest: tuple[str, ...],
    results: str | None,
    most_download: int,
    report: Path | None,
    most_seconds: int | None,
    most_memory: float | None,
    most_weights: float | None,
    as_json: bool,
) -> None:
    """Verify RUN (the folder of a run or an experiment, or a pull request REPO#NUMBER) without trusting it.

    There are three levels. valid: what `rh-bench validate` checks. recomputed: heads.parquet and summary.json follow
    from the events, the samples are those of the set, and every prompt is reproduced with the model's tokenizer. rerun:
    samples that the run could not choose are measured again on this machine and agree. A level without evidence is not
    tried; one that exceeds its time or memory fails.

    For an experiment: its results follow from its tables, its heads and random draws from its runs, its prompts are
    reproduced, and N of its answers (or whatever it measured) are measured again.

    With --attest, for a run made by a Hub job: the job is the one that was ordered, and it made exactly these files.
    """
    from rh_bench.artifacts.levels import Evidence
    from rh_bench.submissions.review import parse_pull, verify_pull
    from rh_bench.verification.sandbox import verify_apart

    evidence = Evidence(haystack, model, rerun or 0, salt, device, runs, most_download)
    limits = read_limits(most_seconds, most_memory, most_weights)
    pull = None if Path(run).exists() else parse_pull(run)
    if attest and not pull and results is None:
        raise InputError(
            "needs the results repository that holds the orders", where="--attest", hint="give --results org/name"
        )
    with err().status(f"verifying {escape(run)}" + (f", {rerun} samples measured again" if rerun else "")):
        found: Any = (
            verify_pull(*pull, evidence, limits=limits, attest=attest)
            if pull
            else verify_apart(Path(run), evidence, limits).verification
        )
        attested = found.attested if pull else _attested(Path(run), results, attest, found) if attest else None
    if report is not None:
        from rh_bench.system.files import atomic_write

        atomic_write(report, found.to_markdown().encode())
    verification = found.verification if pull else found
    if as_json:
        print_json(found.to_json() | ({"attested": attested.to_json()} if attested else {}))
    else:
        for problem in found.problems if pull else ():
            out(soft_wrap=True).print(escape(problem))
        print_levels(verification)
        print_attested(attested)
    if found.failed or (attested is not None and attested.reached is False):
        raise CheckFailed(f"{run}: not verified")


def _attested(folder: Path, results: str | None, attest: tuple[str, ...], found: Any) -> Any:
    from rh_bench.hub.refs import parse_repo
    from rh_bench.submissions.attest import look_into

    return look_into(folder, parse_repo(results or ""), attest, valid=bool(found.levels and found.levels[0].reached))


def print_attested(attested: Any, indent: str = "") -> None:
    if attested is None:
        return
    console = out(soft_wrap=True)
    console.print(f"{indent}attested: {_MARKS[attested.reached]}")
    for reason in attested.level.reasons:
        console.print(f"{indent}  {escape(reason)}")


def print_levels(verification: Any, indent: str = "") -> None:
    console = out(soft_wrap=True)
    for level in verification.levels if verification else ():
        console.print(f"{indent}{level.name}: {_MARKS[level.reached]}")
        for reason in level.reasons:
            console.print(f"{indent}  {escape(reason)}")


VERIFY_COMMANDS: Sequence[click.Command] = (verify,)
