"""Commands for attested runs: `attest` for the maintainer, `run-attested` for the job."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from rh_bench.cli.options import FOLDER, Verb, err, json_option, out, print_json, window_option
from rh_bench.protocol import ENGINES

JOB_TOKEN = "RH_BENCH_JOB_TOKEN"
_SETTLE = 1.0
"""Seconds to wait before the last line: the log merges two streams."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[int]):
    """Seconds, like 90m or 6h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,6})([smhd]?)", str(value))
        seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else 0
        if not 0 < seconds <= 30 * 86400:
            self.fail(f"{value!r} is not a duration of up to 30 days; write it like 90m or 6h", param, ctx)
        return seconds


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of `rh-bench evaluate` that an order can set."""
    for option in (
        window_option,
        click.option("--thought-tokens", type=click.IntRange(1, 1_000_000), help="As in rh-bench evaluate."),
        click.option("--thinking", help="As in rh-bench evaluate."),
        click.option("--engine", type=click.Choice(tuple(ENGINES)), help="As in rh-bench evaluate."),
        click.option("--template", type=click.Choice(["auto", "plain", "chat"]), help="As in rh-bench evaluate."),
        click.option(
            "--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), help="As in rh-bench evaluate."
        ),
    ):
        command = option(command)
    return command


@click.command(
    cls=Verb,
    examples="""rh-bench attest org/model@main --haystack org/set@v1 --repo org/results \
--image python:3.12-slim@sha256:DIGEST --requirements requirements.txt --flavor a10g-small --dry-run
                rh-bench attest org/model@main --haystack org/set@v1 --repo org/results \
--image org/rh-bench@sha256:DIGEST --dtype float32""",
)
@click.argument("model")
@click.option("--haystack", required=True, help="The set on the Hub, REPO[@REVISION].")
@click.option("--repo", required=True, help="The results repository, org/name, that gets the order.")
@click.option("--image", required=True, help="Docker image with its digest, NAME@sha256:….")
@click.option(
    "--requirements",
    type=FOLDER,
    help="Pinned packages with hashes, to install in the image (default: the image holds rh-bench).",
)
@click.option("--namespace", help="User or organisation that runs the job (default: the owner of REPO).")
@click.option("--flavor", default="cpu-basic", show_default=True, help="Hardware, as listed by `hf jobs hardware`.")
@click.option("--timeout", type=Duration(), default="6h", show_default=True, help="Time limit of the job.")
@_settings
@click.option("--dry-run", is_flag=True, help="Show what would be ordered and run, and do neither.")
@json_option
def attest(
    model: str,
    haystack: str,
    repo: str,
    image: str,
    requirements: Path | None,
    namespace: str | None,
    flavor: str,
    timeout: int,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Have MODEL measured by a Hub job that runs under your namespace, from pinned versions.

    For maintainers of a results repository. An order with a nonce is committed there first; the job measures the model,
    submits the run as a pull request, and ends with a line saying what it submitted. `rh-bench review REPO --attest
    NAMESPACE` then compares the job with the order and the run. The job submits with the token in RH_BENCH_JOB_TOKEN,
    which should not be your own.
    """
    from rh_bench.submissions.attest import Wish, carry_out, make_order
    from rh_bench.submissions.attest_order import Settings, command, environment

    wish = Wish(model, haystack, repo, image, requirements, namespace, flavor, timeout, Settings(**settings))
    order = make_order(wish)
    console = out(soft_wrap=True)
    if dry_run:
        if as_json:
            print_json({"order": order.to_json(), "environment": environment(order), "started": None})
            return
        console.print(f"would order: {escape(order.path)} in {escape(order.repo)}")
        console.print(f"would run under {escape(order.namespace)}, on {escape(flavor)}: {escape(order.image)}")
        for name, text in environment(order).items():
            console.print(f"with {name}: {len(text.splitlines())} packages")
        console.print(f"  {escape(shlex.join(command(order)))}")
        console.print("nothing was ordered; without --dry-run a new nonce is drawn")
        return
    say = (lambda words: None) if as_json else (lambda words: console.print(escape(words)))
    done = carry_out(order, os.environ.get(JOB_TOKEN), announce=say)
    if as_json:
        print_json({"order": done.order.to_json(), "environment": environment(order), "started": done.url})
        return
    console.print(
        f"[green]When it is done:[/] rh-bench review {escape(repo)} --attest {escape(order.namespace)} --merge"
    )


@click.command(
    "run-attested",
    cls=Verb,
    examples="""rh-bench run-attested org/model@COMMIT --haystack org/set@COMMIT --repo org/results --nonce NONCE \
--namespace org --image NAME@sha256:DIGEST --package SHA256""",
)
@click.argument("model")
@click.option("--haystack", required=True, help="REPO@COMMIT.")
@click.option("--repo", required=True, help="The results repository.")
@click.option("--nonce", required=True, help="The order's nonce.")
@click.option("--namespace", required=True, help="The namespace the job runs under.")
@click.option("--image", required=True, help="The image the job runs in.")
@click.option("--package", required=True, help="SHA-256 of the rh_bench source.")
@_settings
def run_attested(
    model: str,
    haystack: str,
    repo: str,
    nonce: str,
    namespace: str,
    image: str,
    package: str,
    **settings: Any,
) -> None:
    """Run by the job of an order (rh-bench attest): measure MODEL, submit the run, and report what was submitted."""
    from rh_bench.submissions.attest_order import Settings
    from rh_bench.submissions.attested_run import Errand
    from rh_bench.submissions.attested_run import run_attested as carry

    errand = Errand(model, haystack, repo, nonce, namespace, image, package, Settings(**settings))
    line = carry(errand, lambda words: err(soft_wrap=True).print(escape(words)))
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(_SETTLE)
    click.echo(line)


ATTEST_COMMANDS: Sequence[click.Command] = (attest, run_attested)
