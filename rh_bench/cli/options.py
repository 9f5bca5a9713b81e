"""Shared by the modules of the command line: help with examples, consoles, results as JSON."""

from __future__ import annotations

import functools
import json
import re
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
    """The state of one invocation; click passes it from command to command."""

    debug: bool = False
    """Show full tracebacks, and the warnings of libraries."""


def _ask_for_debug(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        context.ensure_object(Session).debug = True


def debug_option() -> click.Option:
    """`--debug`, accepted by every command, before or after its name."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_ask_for_debug,
        help="Show full tracebacks and the warnings of libraries.",
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
    help="Context window in tokens, if the model's configuration gives none or too few.",
)


_UNITS = {"": 1} | {f"{unit}{i}": base**n for n, unit in enumerate("kmgt", 1) for i, base in (("", 1000), ("i", 1024))}


class Size(click.ParamType[int]):
    """Bytes, like 500MB or 64GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kmgt]i?)?b?", str(value).lower())
        count = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
        if not 0 < count < 2**60:
            self.fail(f"{value!r} is not a size; write it like 64GiB", param, ctx)
        return count


download_option = click.option(
    "--most-download",
    type=Size(),
    default="64GiB",
    show_default=True,
    help="Largest download of a model or a set from the Hub.",
)
