"""The commands that trust nobody and those that talk to the Hub: verify, publish, submit, review, collect."""

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
        help="Seconds that each level may take. Without it 15 minutes, 1 hour and 4 hours, less of processor time.",
    ),
    click.option(
        "--most-memory",
        type=click.FloatRange(0.001, 1_000_000),
        help="GiB that each level may take. Without it 4, 8 and 16. Weights may take theirs besides.",
    ),
    click.option(
        "--most-weights",
        type=click.FloatRange(0, 1_000_000),
        help="GiB of the weights' files of a model that is measured again. Without it 256.",
    ),
)
"""What verifying may take."""


def limit_options(command: Any) -> Any:
    """Adds LIMIT_OPTIONS to a command."""
    for option in reversed(LIMIT_OPTIONS):
        command = option(command)
    return command


def _limits(seconds: int | None, memory: float | None, weights: float | None) -> Any:
    from rh_bench.system.limits import GIB, make_limits

    return make_limits(seconds, *(None if size is None else int(size * GIB) for size in (memory, weights)))


_MARKS = {True: "[green]yes[/]", False: "[red]no[/]", None: "[dim]not tried[/]"}


attest_option = click.option(
    "--attest", multiple=True, metavar="NAMESPACE", help="Look into attestations; jobs of this namespace are believed."
)


def _rerun_option(what: str) -> Callable[[Any], Any]:
    """`--rerun`, with a number or without.

    Args:
        what: it does, as the help says it.
    """
    words = f"{what}; {DEFAULT_SAMPLES} without a number."
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
@click.option("--haystack", help="The set it was measured on: a folder, or REPO[@REVISION]. The run's own without it.")
@click.option("--model", help="The model, where the run's own id is no Hub id: a folder or gguf:FILE.")
@click.option(
    "--run", "runs", multiple=True, help="A run that an experiment is about, where it does not lie beside it."
)
@_rerun_option("Measure this many of its samples again, here")
@click.option("--salt", help="Mixed into the choice of samples; drawn, and told, without it, so that nobody knows it.")
@click.option("--device", default="auto", show_default=True, help="For --rerun: auto, cpu, cuda.")
@attest_option
@click.option("--results", help="For --attest of a folder: the results repository that holds the order.")
@download_option
@click.option("--report", type=FOLDER, help="Write the report as Markdown to this file.")
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
    """Verify RUN, the folder of a run or an experiment or a pull request REPO#NUMBER, without trusting it.

    Three levels. valid: what `rh-bench validate` checks. recomputed: heads.parquet and summary.json are what the events
    give, the samples are those of the set, and every prompt is reproduced with the model's tokenizer. rerun: samples
    that the run could not choose are measured again here and agree. A level without evidence is not tried; one that
    takes more time or memory than it may is failed.

    Of an experiment: its results are what its tables give, its heads and random draws are those of its runs, its
    prompts are reproduced, and N of its answers (or whatever it measured) are measured again.

    With --attest also, of a run that a job of the Hub made: that the job is the one that was ordered, and made these
    bytes.
    """
    from rh_bench.artifacts.levels import Evidence
    from rh_bench.submissions.review import parse_pull, verify_pull
    from rh_bench.verification.sandbox import verify_apart

    evidence = Evidence(haystack, model, rerun or 0, salt, device, runs, most_download)
    limits = _limits(most_seconds, most_memory, most_weights)
    pull = None if Path(run).exists() else parse_pull(run)
    if attest and not pull and results is None:
        raise InputError("needs to know where orders lie", where="--attest", hint="give --results org/name")
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
        _print_levels(verification)
        _print_attested(attested)
    if found.failed or (attested is not None and attested.reached is False):
        raise CheckFailed(f"{run}: not verified")


def _attested(folder: Path, results: str | None, attest: tuple[str, ...], found: Any) -> Any:
    from rh_bench.hub.refs import parse_repo
    from rh_bench.submissions.attest import look_into

    return look_into(folder, parse_repo(results or ""), attest, valid=bool(found.levels and found.levels[0].reached))


def _print_attested(attested: Any, indent: str = "") -> None:
    if attested is None:
        return
    console = out(soft_wrap=True)
    console.print(f"{indent}attested: {_MARKS[attested.reached]}")
    for reason in attested.level.reasons:
        console.print(f"{indent}  {escape(reason)}")


def _print_levels(verification: Any, indent: str = "") -> None:
    console = out(soft_wrap=True)
    for level in verification.levels if verification else ():
        console.print(f"{indent}{level.name}: {_MARKS[level.reached]}")
        for reason in level.reasons:
            console.print(f"{indent}  {escape(reason)}")


@click.command(
    cls=Verb,
    examples="""rh-bench publish sets/quick --repo org/niah-quick --dry-run
                rh-bench publish sets/quick --repo org/niah-quick --tag v1
                rh-bench publish results --repo org/results
                rh-bench publish site --repo org/heads""",
)
@click.argument("folder", type=FOLDER)
@click.option("--repo", required=True, help="The dataset (or, for a site, Space), org/name; made if it is not there.")
@click.option("--tag", help="Name the published commit, as in v1. A tag is never moved.")
@click.option("--private", is_flag=True, help="Make the repository private, if it is made.")
@click.option(
    "--evaluation-framework",
    "framework",
    help="Name this framework in a set's eval.yaml. The Hub takes names of its own list only; none without it.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@json_option
def publish(
    folder: Path, repo: str, tag: str | None, private: bool, framework: str | None, dry_run: bool, as_json: bool
) -> None:
    """Publish a haystack set, or results that `rh-bench collect` gathered, as a dataset of the Hub; or a site that
    `rh-bench leaderboard` made, as a static Space.

    `load_dataset` reads sets and results without rh_bench. The folder is checked first. Publishing again what is there
    already changes nothing. Needs a token that may write: `hf auth login`, or HF_TOKEN.
    """
    from rh_bench.submissions.publish import publish_folder

    options: dict[str, Any] = {"tag": tag, "private": private, "evaluation_framework": framework}
    report = publish_folder(folder, repo, dry_run=dry_run, **options)
    if as_json:
        print_json(report.to_json())
        return
    console = out(soft_wrap=True)
    for name in report.sent:
        console.print(f"{'would send' if dry_run else 'sent'}: {escape(name)}")
    for name in report.removed:
        console.print(f"{'would remove' if dry_run else 'removed'}: {escape(name)}")
    if not report.sent and not report.removed:
        console.print("nothing to send: the repository holds all of this already")
    if report.commit:
        tagged = f", tagged {escape(report.tag)}" if report.tag else ""
        console.print(f"[green]Published:[/] {escape(report.address)} at {report.commit}{tagged}")


@click.command(
    cls=Verb,
    examples="""rh-bench submit runs/org__model/0123456789abcdef --repo org/results --dry-run
                rh-bench submit runs/org__model/0123456789abcdef --repo org/results
                rh-bench submit experiments/org__model/causal-0123456789abcdef --repo org/results""",
)
@click.argument("run", type=FOLDER)
@click.option("--repo", required=True, help="The results repository, org/name.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@json_option
def submit(run: Path, repo: str, dry_run: bool, as_json: bool) -> None:
    """Submit RUN, the folder of a run or of an experiment on a run that REPO holds, by a pull request; or bring your
    own open one for it up to date.

    It is validated first, and what is to be sent is shown. Needs a token that may open pull requests: `hf auth
    login`, or HF_TOKEN.
    """
    from rh_bench.submissions.submit import submit_run

    if as_json:
        print_json(submit_run(run, repo, dry_run=dry_run).to_json())
        return
    console = out(soft_wrap=True)

    def announce(plan: Any) -> None:
        for warning in plan.warnings:
            console.print(f"[yellow]note:[/] {escape(warning)}")
        for path, size in plan.files:
            console.print(f"{'would send' if dry_run else 'to send'}: {escape(path)} ({size:,} bytes)")

    report = submit_run(run, repo, dry_run=dry_run, announce=announce)
    if report.address:
        did = "up to date" if not report.files else "updated" if report.updates else "opened"
        console.print(f"[green]Pull request {did}:[/] {escape(report.address)}")
    elif report.files:
        console.print(f"nothing was sent: without --dry-run it is a pull request of {escape(report.repo)}")
    else:
        console.print("nothing to send: the repository holds all of it already")


@click.command(
    cls=Verb,
    examples="""rh-bench review org/results
                rh-bench review org/results --rerun 8 --merge --require rerun
                rh-bench review org/results --pull 3 --no-comment""",
)
@click.argument("repo")
@click.option("--pull", type=click.IntRange(1), help="Review this pull request alone.")
@click.option("--merge", is_flag=True, help="Take in what reaches the level required; ask for changes otherwise.")
@click.option(
    "--require",
    type=click.Choice(["valid", "recomputed", "rerun"]),
    help="Level to be taken in at. rerun with --rerun, recomputed otherwise.",
)
@_rerun_option("Measure this many samples of each run again, here")
@click.option("--salt", help="Mixed into the choice of samples, where none were drawn yet. Drawn here without it.")
@click.option("--again", is_flag=True, help="With --merge: judge once more what was set aside, by the same samples.")
@click.option("--haystack", help="The set, where it cannot be had by the run's own name for it.")
@click.option("--model", help="The model, where it cannot be had by the run's own name for it.")
@click.option("--device", default="auto", show_default=True, help="For --rerun: auto, cpu, cuda.")
@attest_option
@download_option
@click.option("--no-comment", is_flag=True, help="Say nothing on the pull requests.")
@limit_options
@json_option
def review(
    repo: str,
    pull: int | None,
    merge: bool,
    require: str | None,
    rerun: int | None,
    salt: str | None,
    again: bool,
    haystack: str | None,
    model: str | None,
    device: str,
    attest: tuple[str, ...],
    most_download: int,
    no_comment: bool,
    most_seconds: int | None,
    most_memory: float | None,
    most_weights: float | None,
    as_json: bool,
) -> None:
    """Verify the open pull requests of the results repository REPO and comment on them.

    Without --merge this is a look. With it, submissions are judged, each once: which samples are measured again is
    drawn and recorded in the repository before any is, and so is what came of it. The bytes that were verified are put
    into the main branch, with a record of the verification, which the leaderboard shows as the run's badge, and the
    pull request is closed. Each further submission of a run that was not taken in has twice as many samples measured.
    Exit status 1 if a pull request is not what it should be.
    """
    from rh_bench.submissions.review import Ways
    from rh_bench.submissions.review import review as review_pulls

    ways = Ways(
        merge=merge,
        require=require or ("rerun" if rerun else "recomputed"),
        rerun=rerun or 0,
        salt=salt,
        haystack=haystack,
        model=model,
        device=device,
        quiet=no_comment,
        again=again,
        most_download=most_download,
        attest=attest,
        limits=_limits(most_seconds, most_memory, most_weights),
    )
    if ways.require == "rerun" and not rerun:
        raise InputError("nothing can reach level rerun without a rerun", hint="give --rerun N")
    if again and not merge:
        raise InputError("only --merge judges", where="--again", hint="give --merge, too")
    found = []
    for one in review_pulls(repo, ways, only=pull):
        found.append(one)
        if not as_json:
            _print_found(one, ways)
    if as_json:
        print_json([one.to_json() for one in found])
    elif not found:
        out().print("no open pull requests")
    fault = next((one.fault for one in found if one.fault is not None), None)
    if fault is not None:  # the others were reviewed all the same
        raise fault
    failed = [one for one in found if one.failed or (merge and not (one.merged or one.held))]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(found)} pull requests {'not taken in' if merge else 'not verified'}")
    unsaid = sum(one.unsaid is not None for one in found)
    if unsaid:
        raise CheckFailed(f"{unsaid} of {len(found)} pull requests not answered")


def _print_found(found: Any, ways: Any) -> None:
    console = out(soft_wrap=True)
    run = f", {found.word} {found.run}" if found.run else ""
    console.print(f"[bold]#{found.pull.num}[/] {escape(found.pull.title)} by {escape(found.pull.author)}{escape(run)}")
    for problem in found.problems:
        console.print(f"  [red]problem:[/] {escape(problem)}")
    if found.fault is not None:
        console.print("  [red]could not be reviewed:[/] a fault of rh-bench")
    _print_levels(found.verification, indent="  ")
    _print_attested(found.attested, indent="  ")
    if found.draw is not None:
        console.print(f"  samples to measure again: {found.draw.samples}, by the salt {escape(repr(found.draw.salt))}")
    if found.verification is not None and not ways.merge:
        console.print("  a look: nothing is judged without --merge")
    if found.said:
        console.print(f"  commented: {escape(found.page)}")
    if found.unsaid is not None:
        console.print(f"  [red]not commented:[/] {escape(found.unsaid)}")
    if found.held:
        console.print(f"  the repository holds this {found.word} already")
    elif found.outcome in ("refused", "set aside"):
        console.print(f"  [red]{found.outcome}[/]")
    elif ways.merge and found.waits:
        console.print("  waits: what it says of its job could not be shown yet; review it again")
    elif ways.merge and not found.merged:
        console.print(f"  [red]changes are needed:[/] level {ways.require} is required, and no level may fail")
    if found.merged:
        console.print(f"  [green]taken in[/] by commit {found.commit}")


@click.command(
    cls=Verb,
    examples="""rh-bench collect runs --out results
                rh-bench collect runs --experiments experiments --out results
                rh-bench collect org/results --out results""",
)
@click.argument("source")
@click.option("--experiments", type=FOLDER, help="Folder of experiments. That of the results repository without it.")
@click.option("--out", "out_folder", type=FOLDER, required=True, help="Folder of results; what is there is kept.")
@json_option
def collect(source: str, experiments: Path | None, out_folder: Path, as_json: bool) -> None:
    """Gather the valid runs of SOURCE, a folder of runs or a results repository, with tables over all of them, and the
    valid experiments on these runs.

    The folder can be published with `rh-bench publish`: `load_dataset` then reads configs heads, models, samples and
    events.
    """
    from rh_bench.hub.refs import parse_repo
    from rh_bench.hub.sets import fetch_results
    from rh_bench.submissions.collect import collect_results

    folder = Path(source) if Path(source).is_dir() else fetch_results(parse_repo(source))[0]
    if experiments is not None and not experiments.is_dir():
        raise InputError("no such folder", where=experiments, hint="give what was --out of the experiments")
    report = collect_results(folder, out_folder, experiments)
    if as_json:
        print_json(report.to_json())
        return
    console = out(soft_wrap=True)
    for name, reason in report.left_out:
        console.print(f"[yellow]left out:[/] {escape(name)}: {escape(reason)}")
    for config, rows in report.rows.items():
        console.print(f"{config}: {rows:,} rows")
    console.print(f"[green]Results:[/] {escape(str(out_folder))}, runs: {report.runs}, new: {report.new}")
    if report.new_experiments:
        console.print(f"new experiments: {report.new_experiments}")


HUB_COMMANDS: Sequence[click.Command] = (collect, publish, review, submit, verify)
