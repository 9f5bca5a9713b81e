"""The commands that talk to the Hub: `rh-bench publish`, `submit`, `review`, `collect`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from rh_bench.cli.options import FOLDER, Verb, download_option, json_option, out, print_json
from rh_bench.cli.verify import (
    attest_option,
    limit_options,
    print_attested,
    print_levels,
    read_limits,
    rerun_option,
)
from rh_bench.errors import CheckFailed, InputError


@click.command(
    cls=Verb,
    examples="""rh-bench publish sets/quick --repo org/niah-quick --dry-run
                rh-bench publish sets/quick --repo org/niah-quick --tag v1
                rh-bench publish results --repo org/results
                rh-bench publish site --repo org/heads""",
)
@click.argument("folder", type=FOLDER)
@click.option(
    "--repo", required=True, help="The dataset (for a site: the Space), org/name; created if it does not exist."
)
@click.option("--tag", help="Tag the published commit, like v1. A tag is never moved.")
@click.option("--private", is_flag=True, help="Make the repository private if it is created.")
@click.option(
    "--evaluation-framework",
    "framework",
    help="Framework to name in a set's eval.yaml, from the Hub's list (default: none).",
)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@json_option
def publish(
    folder: Path, repo: str, tag: str | None, private: bool, framework: str | None, dry_run: bool, as_json: bool
) -> None:
    """Publish FOLDER on the Hub: a haystack set or collected results as a dataset, a site as a static Space.

    Results come from `rh-bench collect`, sites from `rh-bench leaderboard`. `load_dataset` reads sets and results
    without rh_bench. The folder is checked first, and publishing the same files again changes nothing. You need a token
    with write access: `hf auth login`, or HF_TOKEN.
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
        console.print("nothing to send: the repository already has all of this")
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
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@json_option
def submit(run: Path, repo: str, dry_run: bool, as_json: bool) -> None:
    """Submit RUN to a results repository as a pull request, or update your open one.

    RUN is the folder of a run, or of an experiment on a run that the repository already holds. It is validated first,
    and the files to send are shown. You need a token that can open pull requests: `hf auth login`, or HF_TOKEN.
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
        console.print(f"nothing was sent: without --dry-run this opens a pull request to {escape(report.repo)}")
    else:
        console.print("nothing to send: the repository already has all of it")


@click.command(
    cls=Verb,
    examples="""rh-bench review org/results
                rh-bench review org/results --rerun 8 --merge --require rerun
                rh-bench review org/results --pull 3 --no-comment""",
)
@click.argument("repo")
@click.option("--pull", type=click.IntRange(1), help="Review only this pull request.")
@click.option("--merge", is_flag=True, help="Accept what reaches the required level; ask for changes otherwise.")
@click.option(
    "--require",
    type=click.Choice(["valid", "recomputed", "rerun"]),
    help="Level required to accept (default: rerun with --rerun, else recomputed).",
)
@rerun_option("Measure N samples of each run again, on this machine")
@click.option("--salt", help="Salt for the choice of samples, if none were drawn yet (default: a random one).")
@click.option("--again", is_flag=True, help="With --merge: judge again what was set aside, on the same samples.")
@click.option("--haystack", help="The set, if it cannot be found by the name in the run.")
@click.option("--model", help="The model, if it cannot be found by the name in the run.")
@click.option("--device", default="auto", show_default=True, help="For --rerun: auto, cpu, cuda.")
@attest_option
@download_option
@click.option("--no-comment", is_flag=True, help="Do not comment on the pull requests.")
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

    Without --merge, nothing is judged. With it, each submission is judged once: the samples to measure again are drawn
    and recorded in the repository before any is measured, and so is the outcome. The verified files are committed to
    the main branch with a record of the verification, which the leaderboard shows as the run's badge, and the pull
    request is closed. For each further submission of a run that was refused, twice as many samples are measured. Exit
    status 1 if any pull request fails.
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
        limits=read_limits(most_seconds, most_memory, most_weights),
    )
    if ways.require == "rerun" and not rerun:
        raise InputError("level rerun needs a rerun", hint="give --rerun N")
    if again and not merge:
        raise InputError("needs --merge", where="--again", hint="give --merge as well")
    found = []
    for one in review_pulls(repo, ways, only=pull):
        found.append(one)
        if not as_json:
            _print_found(one, ways)
    if as_json:
        print_json([one.to_json() for one in found])
    elif not found:
        out().print("no open pull requests")
    _raise_failure(found, merge)


def _raise_failure(found: Sequence[Any], merge: bool) -> None:
    """Raise what keeps the review from being a success, if anything does."""
    fault = next((one.fault for one in found if one.fault is not None), None)
    if fault is not None:  # the others were reviewed all the same
        raise fault
    failed = [one for one in found if one.failed or (merge and not (one.merged or one.held))]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(found)} pull requests {'not accepted' if merge else 'not verified'}")
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
        console.print("  [red]could not be reviewed:[/] a bug in rh-bench")
    print_levels(found.verification, indent="  ")
    print_attested(found.attested, indent="  ")
    if found.draw is not None:
        console.print(f"  samples to measure again: {found.draw.samples}, by the salt {escape(repr(found.draw.salt))}")
    if found.verification is not None and not ways.merge:
        console.print("  looked only: nothing is judged without --merge")
    if found.said:
        console.print(f"  commented: {escape(found.page)}")
    if found.unsaid is not None:
        console.print(f"  [red]not commented:[/] {escape(found.unsaid)}")
    if found.held:
        console.print(f"  the repository already has this {found.word}")
    elif found.outcome in ("refused", "set aside"):
        console.print(f"  [red]{found.outcome}[/]")
    elif ways.merge and found.waits:
        console.print("  waiting: what it says about its job could not be confirmed yet; review it again later")
    elif ways.merge and not found.merged:
        console.print(f"  [red]changes are needed:[/] level {ways.require} is required, and no level may fail")
    if found.merged:
        console.print(f"  [green]accepted[/] in commit {found.commit}")


@click.command(
    cls=Verb,
    examples="""rh-bench collect runs --out results
                rh-bench collect runs --experiments experiments --out results
                rh-bench collect org/results --out results""",
)
@click.argument("source")
@click.option("--experiments", type=FOLDER, help="Folder of experiments (default: that of the results repository).")
@click.option(
    "--out", "out_folder", type=FOLDER, required=True, help="Folder for results; what is already there is kept."
)
@json_option
def collect(source: str, experiments: Path | None, out_folder: Path, as_json: bool) -> None:
    """Gather the valid runs of SOURCE, a folder of runs or a results repository, with tables over all of them.

    Valid experiments on these runs are included. The folder can be published with `rh-bench publish`; `load_dataset`
    then reads the configs heads, models, samples and events.
    """
    from rh_bench.hub.refs import parse_repo
    from rh_bench.hub.sets import fetch_results
    from rh_bench.submissions.collect import collect_results

    folder = Path(source) if Path(source).is_dir() else fetch_results(parse_repo(source))[0]
    if experiments is not None and not experiments.is_dir():
        raise InputError("no such folder", where=experiments, hint="give the --out folder of the experiments")
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


HUB_COMMANDS: Sequence[click.Command] = (collect, publish, review, submit)
