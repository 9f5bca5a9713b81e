"""What the modules of the command line share: help with examples, consoles, results as JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

err = functools.partial(Console, stderr=True, highlight=False)
out = functools.partial(Console, highlight=False)


@dataclass
class Session:
    """What one command line is run with; click hands it from command to command."""

    debug: bool = False
    """Errors show their whole trace, and libraries may say what they like."""


def _ask_for_debug(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        context.ensure_object(Session).debug = True


def debug_option() -> click.Option:
    """`--debug`, which every command knows, before its name and after it."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_ask_for_debug,
        help="Show the whole trace of an error, and what libraries warn of.",
    )


class Verb(click.Command):
    """A command whose help ends with examples, printed as they are."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(debug_option())
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            formatter.write_paragraph()
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


FOLDER = click.Path(path_type=Path)

window_option = click.option(
    "--window",
    type=click.IntRange(1, 2**40),
    help="Positions that the model is for, where its configuration says fewer or none.",
)
