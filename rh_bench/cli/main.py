"""The command `rh-bench`: a thin layer over functions that can be imported.

Exit status 0: done. 1: a check failed. 2: the input, the model or the machine is at fault; one line says what is wrong
and how to fix it. 70: a bug in rh-bench. 130: interrupted. 143: terminated (SIGTERM). Results go to standard
output, everything else to standard error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import click
from rich.markup import escape

import rh_bench
from rh_bench.cli.ablate import ABLATE_COMMANDS
from rh_bench.cli.attest import ATTEST_COMMANDS
from rh_bench.cli.build import BUILD_COMMANDS
from rh_bench.cli.evaluate import EVALUATE_COMMANDS
from rh_bench.cli.experiments import EXPERIMENT_COMMANDS
from rh_bench.cli.hub import HUB_COMMANDS
from rh_bench.cli.interchange import INTERCHANGE_COMMANDS
from rh_bench.cli.options import Session, debug_option, err
from rh_bench.cli.questions import ANSWER_COMMANDS
from rh_bench.cli.runs import RUN_COMMANDS
from rh_bench.cli.site import SITE_COMMANDS
from rh_bench.cli.verify import VERIFY_COMMANDS
from rh_bench.errors import InputError, RhBenchError, RhBenchWarning
from rh_bench.system.faults import OUR_FAULT, explain, our_fault
from rh_bench.system.files import shown

INTERRUPTED = 130
TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM was received: the process ends as after Ctrl-C, and removes what is half done."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    session = Session()
    words = list(arguments) if arguments is not None else None
    told = threading.Event()
    try:
        with _ends_when_told(told), _libraries(session):
            app.main(args=words, prog_name="rh-bench", standalone_mode=False, obj=session)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"; see {context.command_path} --help" if context else ""
        return _fail(" ".join(error.format_message().split()).removesuffix(".") + hint, InputError.exit_status)
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except (KeyboardInterrupt, click.Abort):  # click turns one into the other
        return _stopped(told)
    except BrokenPipeError:
        # The reader has gone (`| head`). Python would complain again when it closes standard output.
        sys.stdout = None
        return 0
    except Exception as error:
        # A library that was being imported when the signal came may turn it into an error of its own.
        return _stopped(told) if told.is_set() else _explain(error, session)
    return 0


def _stopped(told: threading.Event) -> int:
    word, status = ("terminated", TERMINATED) if told.is_set() else ("interrupted", INTERRUPTED)
    return _fail(f"{word}; run the same command again to resume", status)


def _explain(error: Exception, session: Session) -> int:
    """Print an error in one line, after its traceback with `--debug`, and return its exit status."""
    if session.debug:
        traceback.print_exception(error)
    plain = error if isinstance(error, RhBenchError) else explain(error)
    if plain is not None:
        return _fail(str(plain), plain.exit_status)
    return _fail(our_fault(error), OUR_FAULT)


@contextlib.contextmanager
def _ends_when_told(told: threading.Event) -> Iterator[None]:
    """Inside the block SIGTERM sets `told` and raises `Terminated`, if this is the thread that receives signals."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        told.set()
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _libraries(session: Session) -> Iterator[None]:
    """Inside the block our warnings are lines on standard error, and libraries say nothing unless `--debug` is on."""
    usual, before = warnings.showwarning, os.environ.get("TRANSFORMERS_VERBOSITY")

    def show(message: Warning | str, category: type[Warning], *more: Any) -> None:
        if issubclass(category, RhBenchWarning):
            err(soft_wrap=True).print(f"[yellow]note:[/] {escape(shown(message))}")
        elif session.debug:
            usual(message, category, *more)

    # Read by transformers when it is first imported, which a command does only when it needs a model.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RhBenchWarning)
            warnings.showwarning = show  # type: ignore[assignment]
            yield
    finally:
        if before is None:
            os.environ.pop("TRANSFORMERS_VERBOSITY", None)


def _fail(message: str, status: int) -> int:
    err(soft_wrap=True).print(f"[bold red]rh-bench:[/] {escape(message)}")
    return status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(rh_bench.__version__, prog_name="rh-bench", message="%(prog)s %(version)s")
def app() -> None:
    """Measure retrieval heads, the few attention heads that copy facts out of a long context, in any Hugging Face
    causal language model.

    Exit status: 0 success, 1 a check failed, 2 the input is wrong or the model cannot be measured, 70 a bug in
    rh-bench, 130 interrupted, 143 terminated (SIGTERM).
    """


app.params.append(debug_option())

for command in (
    *BUILD_COMMANDS,
    *EVALUATE_COMMANDS,
    *RUN_COMMANDS,
    *INTERCHANGE_COMMANDS,
    *SITE_COMMANDS,
    *VERIFY_COMMANDS,
    *HUB_COMMANDS,
    *ATTEST_COMMANDS,
    *EXPERIMENT_COMMANDS,
    *ABLATE_COMMANDS,
    *ANSWER_COMMANDS,
):
    app.add_command(command)
