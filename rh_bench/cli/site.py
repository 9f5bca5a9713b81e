"""`rh-bench leaderboard`: the site of runs and experiments."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from rh_bench.cli.options import FOLDER, Verb, err, json_option, out, print_json


@click.command(
    cls=Verb,
    examples="""rh-bench leaderboard runs --out site
                rh-bench leaderboard runs --out site --serve
                rh-bench leaderboard org/results --out site --url https://org-heads.static.hf.space""",
)
@click.argument("runs")
@click.option("--out", "out_folder", type=FOLDER, required=True, help="Folder to write the site to.")
@click.option("--experiments", type=FOLDER, help="Folder of experiments (default: that of the results repository).")
@click.option("--url", default="", help="Address the site will have; adds a sitemap and a feed of new runs.")
@click.option("--serve", is_flag=True, help="Then serve the site, on this machine only, until interrupted.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port for --serve (default: any free one).")
@json_option
def leaderboard(
    runs: str, out_folder: Path, experiments: Path | None, url: str, serve: bool, port: int, as_json: bool
) -> None:
    """Render the valid runs of RUNS, a folder or a results repository, as a static site.

    The site needs no server and no network. Runs that have not changed since the last build are not read again. The
    sitemap and the feed need full addresses, so they are made only with --url.
    """
    from rh_bench.leaderboard import build_site

    workers = os.cpu_count() or 1
    report = build_site(_runs_folder(runs), out_folder, experiments=experiments, url=url, workers=workers)
    page = out_folder / "index.html"
    if as_json:
        left_out = [{"folder": item.folder, "reasons": list(item.reasons)} for item in report.left_out]
        print_json({"page": str(page), "runs": len(report.briefs), "imported": report.imported, "left_out": left_out})
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
    console.print(f"{len(report.briefs)} runs on {len(report.pages)} pages{kept}")
    if report.imported:
        console.print(f"{report.imported} imported from other projects: shown separately, not ranked")
    console.print(f"[green]The site:[/] {escape(str(page.resolve()))}")


def _serve(site: Path, port: int) -> None:
    """Serve until Ctrl-C, the normal way to end this."""
    from rh_bench.leaderboard.serve import address, make_server

    with make_server(site, port) as server:
        err().print(f"[green]Open:[/] {address(server)}  (press Ctrl-C to stop)")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _runs_folder(text: str) -> Path:
    """A folder of runs; a results repository is downloaded first."""
    from rh_bench.hub.refs import parse_repo
    from rh_bench.hub.sets import fetch_results

    if Path(text).exists() or text.count("/") != 1 or text.startswith((".", "/")):
        return Path(text)
    return fetch_results(parse_repo(text))[0]


SITE_COMMANDS: Sequence[click.Command] = (leaderboard,)
