"""The command `rh-bench`: a thin layer over functions that can be imported.

Exit status 0: done. 1: a check failed. 2: the input, the model or the machine is at fault, with one line that says what
and how to fix it. 70: a fault of rh-bench itself. 130: interrupted. 143: told to end (SIGTERM). Results go to standard
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
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

import rh_bench
from rh_bench.artifacts.coverage import coverage
from rh_bench.cli.ablate import ABLATE_COMMANDS
from rh_bench.cli.attest import ATTEST_COMMANDS
from rh_bench.cli.experiments import EXPERIMENT_COMMANDS
from rh_bench.cli.hub import HUB_COMMANDS
from rh_bench.cli.options import FOLDER, Session, Verb, debug_option, err, json_option, out, print_json, window_option
from rh_bench.cli.questions import ANSWER_COMMANDS
from rh_bench.errors import CheckFailed, InputError, RhBenchError, RhBenchWarning
from rh_bench.protocol import HEAD_THRESHOLD
from rh_bench.system.faults import OUR_FAULT, explain, our_fault
from rh_bench.system.files import shown

INTERRUPTED = 130
TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which asks a process to end: it does, as after Ctrl-C, and clears away what is half done."""


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
    except (KeyboardInterrupt, click.Abort):  # click makes an Abort of it
        return _stopped(told)
    except BrokenPipeError:
        # The reader has gone (`| head`). Python would complain again when it closes standard output.
        sys.stdout = None
        return 0
    except Exception as error:
        # A library that was being imported when the signal came may make an error of its own of it.
        return _stopped(told) if told.is_set() else _explain(error, session)
    return 0


def _stopped(told: threading.Event) -> int:
    word, status = ("told to end", TERMINATED) if told.is_set() else ("interrupted", INTERRUPTED)
    return _fail(f"{word}; the same command goes on where this one stopped", status)


def _explain(error: Exception, session: Session) -> int:
    """One line for an error, after its trace if that was asked for, and the exit status that goes with it."""
    if session.debug:
        traceback.print_exception(error)
    plain = error if isinstance(error, RhBenchError) else explain(error)
    if plain is not None:
        return _fail(str(plain), plain.exit_status)
    return _fail(our_fault(error), OUR_FAULT)


@contextlib.contextmanager
def _ends_when_told(told: threading.Event) -> Iterator[None]:
    """Inside the block SIGTERM sets `told` and raises `Terminated`, where this is the thread that signals come to."""
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


FOREIGN = ("seed", "pairs", "duo", "qrhead", "profile", "atlas")
"""Formats of other projects that are read and written."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(rh_bench.__version__, prog_name="rh-bench", message="%(prog)s %(version)s")
def app() -> None:
    """Measure retrieval heads, the few attention heads that copy facts out of a long context, in any Hugging Face
    causal language model.

    Exit status: 0 done, 1 a check failed, 2 the input is wrong or the model cannot be measured, 70 a fault of rh-bench
    itself, 130 interrupted, 143 told to end (SIGTERM).
    """


app.params.append(debug_option())


@app.command(
    cls=Verb,
    examples="""rh-bench demo
                rh-bench demo --out first-look""",
)
@click.option(
    "--out", "out_folder", type=FOLDER, default=Path("demo"), show_default=True, help="Folder for all results."
)
@json_option
def demo(out_folder: Path, as_json: bool) -> None:
    """Measure a real small model and make a site of it.

    Builds the quick set, measures SmolLM2-135M-Instruct on it, validates the run and renders the leaderboard. Takes
    minutes on two CPU cores and no network.
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


@app.command(
    cls=Verb,
    examples="""rh-bench build --source synthetic --grid quick --out sets/quick
                rh-bench build --source synthetic:7 --grid paper --out sets/paper
                rh-bench build --source folder:essays --lengths 512,1024 --depths 0,50,100 --out sets/essays
                rh-bench build --source hub:org/books@main#default/train:text --out sets/books
                rh-bench build --needles needles.jsonl --tokenizer org/model --out sets/mine""",
)
@click.option(
    "--source",
    default="synthetic",
    show_default=True,
    help="synthetic[:SEED], folder:PATH or hub:REPO@REVISION[#CONFIG[/SPLIT][:COLUMN]].",
)
@click.option("--grid", "grid_name", default="quick", show_default=True, help="quick or paper.")
@click.option("--lengths", help="Context lengths in tokens instead of the grid's, as in 512,1024.")
@click.option("--depths", help="Depths in percent instead of the grid's, as in 0,50,100.")
@click.option(
    "--needles", "needles_file", type=FOLDER, help="File of your own needles (JSON), or the paper's (JSON lines)."
)
@click.option("--needle-count", type=int, help="Use the first so many needles.")
@click.option("--haystack-count", type=int, help="Make so many haystacks.")
@click.option(
    "--tokenizer", "tokenizers", multiple=True, help="Add ready-made prompts for this model; may be repeated."
)
@click.option("--template", default="auto", show_default=True, help="For --tokenizer: auto, plain or chat.")
@click.option("--name", help="Name of the set.")
@click.option("--licence", help="SPDX identifier of the text's licence.")
@click.option(
    "--out", "out_folder", type=FOLDER, required=True, help="Folder of the set; it appears whole or not at all."
)
@json_option
def build(
    source: str,
    grid_name: str,
    lengths: str | None,
    depths: str | None,
    needles_file: Path | None,
    needle_count: int | None,
    haystack_count: int | None,
    tokenizers: tuple[str, ...],
    template: str,
    name: str | None,
    licence: str | None,
    out_folder: Path,
    as_json: bool,
) -> None:
    """Build a needle-in-a-haystack set: a folder in the layout of a Hub dataset.

    The same options give the same bytes, on any machine with the same versions.
    """
    from rh_bench.data_builders.build import Recipe, build_set
    from rh_bench.data_builders.needles import read_needles
    from rh_bench.data_builders.sources import parse_source
    from rh_bench.sets.grids import choose_grid

    for option, count in (("--needle-count", needle_count), ("--haystack-count", haystack_count)):
        if count is not None and count < 1:
            raise InputError("must be at least 1", where=option)
    recipe = Recipe(
        source=parse_source(source),
        grid=choose_grid(grid_name, lengths, depths),
        needles=read_needles(needles_file) if needles_file else None,
        needle_count=needle_count,
        haystack_count=haystack_count,
        name=name,
        licence=licence,
        tokenizers=tokenizers,
        template=template,
    )
    built = build_set(recipe, out_folder)
    if as_json:
        print_json({"folder": str(out_folder), "manifest_sha256": built.manifest_sha256, **built.manifest})
        return
    out(soft_wrap=True).print(_set_table(built, out_folder))


def _set_table(built: Any, folder: Path) -> Table:
    """What a set holds, in a few lines."""
    grid, source = built.manifest["grid"], built.manifest["source"]
    shape = f"{len(built.needles)} needles × {len(grid['lengths'])} lengths × {len(grid['depths'])} depths"
    characters = sum(len(haystack.text) for haystack in built.haystacks)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_row("set", escape(built.manifest["name"]))
    table.add_row("samples", f"{len(built.samples)} = {shape}")
    table.add_row("haystacks", f"{len(built.haystacks)}, {characters:,} characters")
    table.add_row("source", escape(f"{source['kind']}: {source['id']}, {source['licence']}"))
    table.add_row("manifest", built.manifest_sha256)
    table.add_row("folder", escape(str(folder)))
    return table


@app.command(
    cls=Verb,
    examples="""rh-bench evaluate HuggingFaceTB/SmolLM2-135M-Instruct --haystack sets/quick --out runs
                rh-bench evaluate org/model@main --haystack org/set@v1 --out runs --dtype bfloat16
                rh-bench evaluate gguf:model.gguf --haystack sets/quick --out runs --lengths 512,1024 --depths 0,50,100
                rh-bench evaluate ./my-model --haystack sets/quick --out runs --engine reference --limit 12""",
)
@click.argument("model")
@click.option("--haystack", required=True, help="Folder of a set, or REPO[@REVISION] on the Hub.")
@click.option("--out", "out_folder", type=FOLDER, required=True, help="Folder of runs.")
@click.option("--lengths", help="Make a grid with these context lengths, as in 512,1024.")
@click.option("--depths", help="Make a grid with these depths in percent, as in 0,50,100.")
@click.option("--needles", help="Only these needles, as in harbour-key,glass-orchard.")
@click.option("--engine", default="fast", show_default=True, help="fast, or reference (slow, the oracle).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--template", default="auto", show_default=True, help="auto, plain or chat.")
@click.option("--limit", type=int, help="Measure this many samples, spread evenly over the grid.")
@click.option(
    "--max-new-tokens", type=click.IntRange(1, 1000), default=50, show_default=True, help="Tokens to generate at most."
)
@window_option
@click.option(
    "--thinking",
    default="auto",
    show_default=True,
    help="For models that think: auto or close ask for the answer alone, after measures the answer after the thought.",
)
@click.option(
    "--thought-tokens", type=click.IntRange(1, 1_000_000), help="With --thinking after: tokens of a thought at most."
)
@click.option(
    "--trust-remote-code", is_flag=True, help="Run Python code that the model's repository ships. Read it first."
)
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

    MODEL is a Hub id (org/name[@revision]), a local folder, or gguf:FILE; also those of a PEFT adapter. Without
    --lengths and --depths the set's own samples are measured. A run over less than the whole set (--needles, --limit),
    or over a grid of its own, says so wherever its numbers are shown, and is not ranked. Interrupt it at any time: the
    same command goes on where it stopped.
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
            f"\n{outcome.measured} samples measured{before}; {outcome.document['timings']['seconds']:.1f} s in all"
        )
    else:
        console.print("\nThis run was already there: nothing was measured again")
    covered = coverage(outcome.document)
    if not covered.whole:
        console.print(f"[yellow]{covered.note}[/]")
    console.print(f"[green]The run:[/] {escape(str(outcome.folder))}")


@app.command(
    cls=Verb,
    examples="""rh-bench score runs/org__model/0123456789abcdef
                rh-bench score experiments/org__model/dynamic-0123456789abcdef""",
)
@click.argument("run", type=FOLDER)
@json_option
def score(run: Path, as_json: bool) -> None:
    """Recompute heads.parquet and summary.json of RUN from its events, or the results of an experiment from its tables.

    Needs no model.
    """
    from rh_bench.artifacts.run import rescore
    from rh_bench.experiments.artifact import is_experiment, recompute

    changed = recompute(run) if is_experiment(run) else rescore(run)
    if as_json:
        print_json({"folder": str(run), "changed": changed})
        return
    out().print(
        f"rewritten: {', '.join(changed)}" if changed else "unchanged: the numbers are what the raw observations give"
    )


@app.command(
    cls=Verb,
    examples="""rh-bench show runs/org__model/0123456789abcdef
                rh-bench show runs/org__model/0123456789abcdef --top 30""",
)
@click.argument("run", type=FOLDER)
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many heads to list.")
@json_option
def show(run: Path, top: int, as_json: bool) -> None:
    """Show RUN in the terminal: a heat map of layers × heads, the strongest heads, success by length and depth."""
    if as_json:
        from rh_bench.artifacts.run import read_run
        from rh_bench.system.schema import load_json

        read_run(run)
        print_json(load_json(run / "summary.json"))
        return
    from rh_bench.cli.show import show as show_run

    show_run(run, out(), top=top)


@app.command(
    cls=Verb,
    examples="""rh-bench validate runs/org__model/0123456789abcdef
                rh-bench validate runs/*/* sets/quick --json""",
)
@click.argument("paths", nargs=-1, required=True, type=FOLDER)
@json_option
def validate(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check runs, haystack sets and experiments: documents, columns, hashes, ranges and cross-references. Reports every
    problem."""
    from rh_bench.verification.checks import check_folder

    found = {str(path): check_folder(path) for path in paths}
    if as_json:
        print_json(
            [
                {"path": path, "valid": not problems, "problems": [vars_of(problem) for problem in problems]}
                for path, problems in found.items()
            ]
        )
    else:
        console = out(soft_wrap=True)
        for path, problems in found.items():
            for problem in problems:
                place = f"{path}/{problem.file}" + (f"#{problem.pointer}" if problem.pointer else "")
                console.print(f"{escape(place)}: {escape(problem.message)}")
            if not problems:
                console.print(f"{escape(path)}: [green]valid[/]")
    invalid = [path for path, problems in found.items() if problems]
    if invalid:
        raise CheckFailed(f"{len(invalid)} of {len(found)} not valid")


def vars_of(problem: Any) -> dict[str, str]:
    return {"file": problem.file, "pointer": problem.pointer, "message": problem.message}


@app.command(
    "import",
    cls=Verb,
    examples="""rh-bench import llama-2-7b-80k.json --model yaofu/llama-2-7b-80k --out runs
                rh-bench import attn_patterns/Llama-3-8B-Instruct --format duo --out runs
                rh-bench import Llama-3.1-8B-Instruct_qr_head.yaml --out runs""",
)
@click.argument("file", type=FOLDER)
@click.option("--format", "format_name", type=click.Choice(FOREIGN), help="Guessed from the file without it.")
@click.option("--model", metavar="ID", help="The model's name, for a file that gives none or a name of its own.")
@click.option("--out", "out_folder", type=FOLDER, required=True, help="Folder of runs.")
@json_option
def import_(file: Path, format_name: str | None, model: str | None, out_folder: Path, as_json: bool) -> None:
    """Keep another project's FILE of head scores, marked as imported.

    Formats: seed (the paper's released JSON), pairs (a list of [[layer, head], score]), duo (DuoAttention's TSV or its
    folder), qrhead (YAML), profile (retrieval-head-profile's JSON), atlas (retrieval-head-atlas's JSON). An import has
    no events, so that it can be valid and nothing more. Numbers that are no copy scores are kept as what they are, and
    compared with none.
    """
    from rh_bench.interchange.folder import import_file
    from rh_bench.interchange.records import MEASURES
    from rh_bench.system.schema import load_json

    folder = import_file(file, out_folder, format=format_name, model=model)
    document = load_json(folder / "import.json")
    if as_json:
        print_json({"folder": str(folder), **{k: v for k, v in document.items() if k != "extra"}})
        return
    console = out(soft_wrap=True)
    grid, share = document["grid"], document["sparsity"]["share_above_0.1"]
    shape = f"{grid['layers']} layers × {grid['heads_per_layer']} heads" if grid["layers"] else "grid unknown"
    about = f"{document['counts']['heads']} {document['unit'].replace('_', '/')} heads, {shape}"
    about = "every head of the model, none named" if document["every_head"] else about
    console.print(f"{document['format']}, {escape(str(document['model']['id'] or 'model unknown'))}: {about}")
    console.print(f"measure: {MEASURES[document['measure']]}")
    if share["value"] is not None:
        console.print(f"above 0.1: {share['value']:.1%}, at zero: {document['sparsity']['share_zero']['value']:.1%}")
    for finding in document["findings"]:
        console.print(f"[yellow]{finding['code']}:[/] {escape(finding['message'])}")
    console.print(f"[green]The import:[/] {escape(str(folder))}")


@app.command(
    cls=Verb,
    examples="""rh-bench export runs/org__model/0123456789abcdef --format qrhead --top 16 --out heads.yaml
                rh-bench export runs/org__model/0123456789abcdef --format duo --reduce mean --out patterns
                rh-bench export runs/org__model/0123456789abcdef --format eval-results --dataset org/set --out out""",
)
@click.argument("run", type=FOLDER)
@click.option("--format", "format_name", type=click.Choice([*FOREIGN, "eee", "eval-results"]), required=True)
@click.option("--out", "target", type=FOLDER, required=True, help="Folder; or the file, for formats of one file.")
@click.option(
    "--rule", type=click.Choice(["paper", "events"]), default="paper", show_default=True, help="Scoring rule."
)
@click.option("--threshold", type=float, default=HEAD_THRESHOLD, show_default=True, help="Heads above it are chosen.")
@click.option("--top", type=click.IntRange(1, 100_000), help="Choose this many of the strongest heads instead.")
@click.option(
    "--reduce",
    type=click.Choice(["max", "mean"]),
    default="max",
    show_default=True,
    help="For duo: what query heads of one key/value head become.",
)
@click.option("--dataset", help="For eval-results: the benchmark's repository, org/name.")
@click.option("--developer", help="For eee: who published the model, where its name does not say.")
@json_option
def export(
    run: Path,
    format_name: str,
    target: Path,
    rule: Any,
    threshold: float,
    top: int | None,
    reduce: str,
    dataset: str | None,
    developer: str | None,
    as_json: bool,
) -> None:
    """Write RUN (or an import) in another project's format, and say what that format cannot carry.

    eee is a record of Every Eval Ever, at its path in that project's datastore; eval-results is an entry for
    .eval_results/ in the model's repository.
    """
    from rh_bench.interchange.export import export_run, write_files

    options: dict[str, Any] = {"rule": rule, "threshold": threshold, "top": top, "reduce": reduce}
    written = export_run(run, format_name, dataset=dataset, developer=developer, **options)
    paths = write_files(written, target)
    if as_json:
        print_json({"files": [str(path) for path in paths], "losses": list(written.losses)})
        return
    console = out(soft_wrap=True)
    if written.losses:
        console.print(f"[yellow]not carried:[/] {escape('; '.join(written.losses))}")
    for path in paths:
        console.print(f"[green]written:[/] {escape(str(path))}")


@app.command(
    cls=Verb,
    examples="""rh-bench audit llama-2-7b-80k.json
                rh-bench audit profile.json --json""",
)
@click.argument("file", type=FOLDER)
@click.option("--format", "format_name", type=click.Choice(FOREIGN), help="Guessed from the file without it.")
@json_option
def audit(file: Path, format_name: str | None, as_json: bool) -> None:
    """Say what is wrong with another project's FILE of head scores. Exit status 1 if anything is."""
    from rh_bench.interchange.audit import audit_file
    from rh_bench.interchange.records import MEASURES

    report = audit_file(file, format_name)
    if as_json:
        findings = [{"code": finding.code, "message": finding.message} for finding in report.findings]
        found = report.heads
        heads = {"heads": len(found.heads), "samples": found.samples, "model": found.model, "measure": found.measure}
        print_json({"file": str(file), "format": report.format, **heads, "findings": findings})
    else:
        console = out(soft_wrap=True)
        samples = f", {report.heads.samples} samples" if report.heads.samples else ""
        count = "every head" if report.heads.every_head else f"{len(report.heads.heads)} heads"
        console.print(f"{escape(str(file))}: {report.format}, {count}{samples}: {MEASURES[report.heads.measure]}")
        for finding in report.findings:
            console.print(f"  [yellow]{finding.code}[/]  {escape(finding.message)}")
        if not report.findings:
            console.print("  nothing found")
    if report.findings:
        raise CheckFailed(f"{file}: {len(report.findings)} findings")


@app.command(
    cls=Verb,
    examples="""rh-bench leaderboard runs --out site
                rh-bench leaderboard runs --out site --serve
                rh-bench leaderboard org/results --out site --url https://org-heads.static.hf.space""",
)
@click.argument("runs")
@click.option("--out", "out_folder", type=FOLDER, required=True, help="Folder of the site.")
@click.option("--experiments", type=FOLDER, help="Folder of experiments. That of the results repository without it.")
@click.option("--url", default="", help="Address where the site will lie: adds a sitemap and a feed of new runs.")
@click.option("--serve", is_flag=True, help="Then show the site to this machine alone, until interrupted.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="For --serve. Any free one without it.")
@json_option
def leaderboard(
    runs: str, out_folder: Path, experiments: Path | None, url: str, serve: bool, port: int, as_json: bool
) -> None:
    """Render the valid runs of RUNS, a folder or a results repository, as a static site that opens without a server or
    a network.

    Runs that have not changed since the last build of the site are not read again. Without --url there is neither a
    sitemap nor a feed, since both need whole addresses.
    """
    from rh_bench.leaderboard import build_site

    workers = os.cpu_count() or 1
    report = build_site(_runs_folder(runs), out_folder, experiments=experiments, url=url, workers=workers)
    page = out_folder / "index.html"
    if as_json:
        left_out = [{"folder": item.folder, "reasons": list(item.reasons)} for item in report.left_out]
        print_json({"page": str(page), "runs": len(report.cards), "imported": report.imported, "left_out": left_out})
    else:
        _print_site(report, page)
    if serve:
        _serve(out_folder, port)


def _print_site(report: Any, page: Path) -> None:
    console = out(soft_wrap=True)
    for item in report.left_out:
        more = f" (and {len(item.reasons) - 1} more)" if len(item.reasons) > 1 else ""
        console.print(f"[yellow]left out:[/] {escape(item.folder)}: {escape(item.reasons[0])}{more}")
    kept = f", {report.kept} unchanged" if report.kept else ""
    console.print(f"{len(report.cards)} runs on {len(report.pages)} pages{kept}")
    if report.imported:
        console.print(f"{report.imported} imported from other projects: shown apart, not ranked with runs")
    console.print(f"[green]The site:[/] {escape(str(page.resolve()))}")


def _serve(site: Path, port: int) -> None:
    """Until Ctrl-C, which is how this is meant to end."""
    from rh_bench.leaderboard.serve import address, make_server

    with make_server(site, port) as server:
        err().print(f"[green]Open:[/] {address(server)}  (Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _runs_folder(text: str) -> Path:
    """A folder of runs, or a results repository fetched to one."""
    from rh_bench.hub.refs import parse_repo
    from rh_bench.hub.sets import fetch_results

    if Path(text).exists() or text.count("/") != 1 or text.startswith((".", "/")):
        return Path(text)
    return fetch_results(parse_repo(text))[0]


for command in (*HUB_COMMANDS, *ATTEST_COMMANDS, *EXPERIMENT_COMMANDS, *ABLATE_COMMANDS, *ANSWER_COMMANDS):
    app.add_command(command)
