"""Head scores of other projects: `rh-bench import`, `export`, `audit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from rh_bench.cli.options import FOLDER, Verb, json_option, out, print_json
from rh_bench.errors import CheckFailed
from rh_bench.interchange.formats import FORMATS
from rh_bench.protocol import HEAD_THRESHOLD

_OR_INSTALLED = f"{', '.join(FORMATS)}, or one that an installed package adds"


@click.command(
    "import",
    cls=Verb,
    examples="""rh-bench import llama-2-7b-80k.json --model yaofu/llama-2-7b-80k --out runs
                rh-bench import attn_patterns/Llama-3-8B-Instruct --format duo --out runs
                rh-bench import Llama-3.1-8B-Instruct_qr_head.yaml --out runs""",
)
@click.argument("file", type=FOLDER)
@click.option("--format", "format_name", metavar="NAME", help=f"{_OR_INSTALLED}. Detected from the file by default.")
@click.option("--model", metavar="ID", help="The model's name, if the file gives none or an unofficial one.")
@click.option("--out", "out_folder", type=FOLDER, required=True, help="Folder for runs.")
@json_option
def import_(file: Path, format_name: str | None, model: str | None, out_folder: Path, as_json: bool) -> None:
    """Import another project's FILE of head scores, marked as imported.

    Formats: seed (the paper's released JSON), pairs (a list of [[layer, head], score]), duo (DuoAttention's TSV or its
    folder), qrhead (YAML), profile (retrieval-head-profile's JSON), atlas (retrieval-head-atlas's JSON). An import has
    no events, so *valid* is the highest level it can reach. Numbers that are not copy scores are kept under their own
    name, and are not compared with copy scores.
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
    about = "every head of the model, no single ones" if document["every_head"] else about
    console.print(f"{document['format']}, {escape(str(document['model']['id'] or 'model unknown'))}: {about}")
    console.print(f"measure: {MEASURES[document['measure']]}")
    if share["value"] is not None:
        console.print(f"above 0.1: {share['value']:.1%}, at zero: {document['sparsity']['share_zero']['value']:.1%}")
    for finding in document["findings"]:
        console.print(f"[yellow]{finding['code']}:[/] {escape(finding['message'])}")
    console.print(f"[green]The import:[/] {escape(str(folder))}")


@click.command(
    cls=Verb,
    examples="""rh-bench export runs/org__model/0123456789abcdef --format qrhead --top 16 --out heads.yaml
                rh-bench export runs/org__model/0123456789abcdef --format duo --reduce mean --out patterns
                rh-bench export runs/org__model/0123456789abcdef --format eval-results --dataset org/set --out out""",
)
@click.argument("run", type=FOLDER)
@click.option("--format", "format_name", metavar="NAME", required=True, help=f"eee, eval-results, {_OR_INSTALLED}.")
@click.option(
    "--out", "target", type=FOLDER, required=True, help="Folder to write to, or the file, for formats of one file."
)
@click.option(
    "--rule", type=click.Choice(["paper", "events"]), default="paper", show_default=True, help="Scoring rule."
)
@click.option(
    "--threshold", type=float, default=HEAD_THRESHOLD, show_default=True, help="Choose the heads above this score."
)
@click.option("--top", type=click.IntRange(1, 100_000), help="Choose the N strongest heads instead.")
@click.option(
    "--reduce",
    type=click.Choice(["max", "mean"]),
    default="max",
    show_default=True,
    help="For duo: how to combine the query heads of a key/value head.",
)
@click.option("--dataset", help="For eval-results: the benchmark's repository, org/name.")
@click.option("--developer", help="For eee: who published the model, if its name does not say so.")
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
    """Write RUN (or an import) in another project's format, and list what that format cannot hold.

    eee is a record for Every Eval Ever, at its path in that project's datastore; eval-results is an entry for
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
        console.print(f"[yellow]not exported:[/] {escape('; '.join(written.losses))}")
    for path in paths:
        console.print(f"[green]written:[/] {escape(str(path))}")


@click.command(
    cls=Verb,
    examples="""rh-bench audit llama-2-7b-80k.json
                rh-bench audit profile.json --json""",
)
@click.argument("file", type=FOLDER)
@click.option("--format", "format_name", metavar="NAME", help=f"{_OR_INSTALLED}. Detected from the file by default.")
@json_option
def audit(file: Path, format_name: str | None, as_json: bool) -> None:
    """Report what is wrong with another project's FILE of head scores. Exit status 1 if anything is."""
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


INTERCHANGE_COMMANDS: Sequence[click.Command] = (
    import_,
    export,
    audit,
)
