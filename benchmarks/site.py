"""The leaderboard with many runs: time and memory of a build, and how fast its first page is in a real Chromium.

    python -m benchmarks.site --runs 1000 --out benchmarks/results/site.json

Runs are schema-true: 1,024 heads with scores of their own, but 24 samples only, so that making and validating them
takes minutes rather than hours. Builds run in processes of their own, so that peak memory is theirs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.runs import make_small_run
from rh_bench.leaderboard import build_site
from rh_bench.leaderboard.screenshots import LAUNCH_ARGUMENTS, find_chromium
from rh_bench.records import Json
from rh_bench.system.environment import describe_environment
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json

REPEATS = 9
_LATENCY = """async (steps) => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = [];
  for (const [selector, text] of steps) {
    const part = document.querySelector(selector);
    await painted();
    const before = performance.now();
    if (text === null) part.click();
    else {
      part.value = text;
      part.dispatchEvent(new Event("input", { bubbles: true }));
    }
    document.body.getBoundingClientRect();
    const script = performance.now() - before;
    await painted();
    times.push([script, performance.now() - before]);
  }
  return times;
}"""
"""Does each step; [ms until the page is laid out again, ms until the next frame is painted]."""


def measure(source: Path, out: Path, workers: int) -> Json:
    """One build in this process. Processor time is that of all its processes and counts the start of Python; memory
    is that of this process and, at most, that of all its workers at once."""
    started = time.perf_counter()
    report = build_site(source, out, workers=workers)
    seconds = time.perf_counter() - started
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {
        "runs": len(report.cards),
        "kept": report.kept,
        "left_out": len(report.left_out),
        "pages": len(report.pages),
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "peak_bytes": (own.ru_maxrss + workers * children.ru_maxrss) * 1024,
    }


def build(source: Path, out: Path, workers: int) -> Json:
    """A build in a process of its own; `seconds_all` counts the start of Python, too."""
    command = [sys.executable, "-m", "benchmarks.site", "--measure", str(source), str(out), str(workers)]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout), "seconds_all": round(time.perf_counter() - started, 2)}


def sizes(site: Path) -> Json:
    """Bytes of the first page and of what it loads, as they are and as gzip sends them."""
    names = ("index.html", "assets/site.css", "assets/site.js", "assets/overview.css", "assets/overview.js")
    found = {name: (site / name).read_bytes() for name in names}
    pages = [path.stat().st_size for path in site.rglob("*.html")]
    return {
        "bytes": {name: len(data) for name, data in found.items()},
        "gzip_bytes": {name: len(gzip.compress(data, 6, mtime=0)) for name, data in found.items()},
        "site_bytes": sum(path.stat().st_size for path in site.rglob("*") if path.is_file()),
        "largest_page_bytes": max(pages),
    }


def in_browser(site: Path) -> Json | None:
    """Medians over REPEATS openings of the first page from its file; None if there is no Chromium."""
    chromium = find_chromium()
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    sorts = [(f"table.runs [data-key={key}] button", None) for key in ("gini", "model", "success", "date", "share")]
    words = [("#tools [name=q]", text) for text in ("q", "qw", "qwen2", "llama 00", "")]
    opened: list[float] = []
    times: dict[str, list[Any]] = {"sort": [], "filter": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(LAUNCH_ARGUMENTS))
        for _ in range(REPEATS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto((site / "index.html").resolve().as_uri())
            opened.append(page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
            times["sort"] += page.evaluate(_LATENCY, sorts)
            times["filter"] += page.evaluate(_LATENCY, words)
            page.close()
        version = browser.version
        browser.close()
    found: Json = {"chromium": version, "interactive_ms": round(statistics.median(opened), 1)}
    for name, pairs in times.items():
        laid_out, painted = zip(*pairs, strict=True)
        found[f"{name}_ms"] = round(statistics.median(laid_out), 1)
        found[f"{name}_painted_ms"] = {"median": round(statistics.median(painted), 1), "worst": round(max(painted), 1)}
    return found


def run(count: int, workers: int, root: Path) -> Json:
    """All measurements, below `root`; runs that are there are used."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(make_small_run, root / "runs"), range(count), chunksize=4))
    shutil.rmtree(root / "site", ignore_errors=True)
    report: Json = {"benchmark": "site", "workers": workers, "builds": {}}
    builds = report["builds"]
    builds["full"] = build(root / "runs", root / "site", workers)
    builds["unchanged"] = build(root / "runs", root / "site", workers)
    new = make_small_run(root / "runs", count)
    builds["one new run"] = build(root / "runs", root / "site", workers)
    shutil.rmtree(new.parent)
    report["first_page"] = sizes(root / "site")
    report["browser"] = in_browser(root / "site")
    report["environment"] = describe_environment("cpu", "CPU")
    return report


def show(report: Json, console: Console) -> None:
    table = Table(title="Building the leaderboard: runs of 24 samples × 1,024 heads")
    for name in ("build", "runs", "kept", "pages", "seconds", "with start-up", "CPU s", "peak MiB"):
        table.add_column(name, justify="right")
    for name, found in report["builds"].items():
        table.add_row(
            name,
            f"{found['runs']:,}",
            f"{found['kept']:,}",
            f"{found['pages']:,}",
            f"{found['seconds']:.2f}",
            f"{found['seconds_all']:.2f}",
            f"{found['processor_seconds']:.2f}",
            f"{found['peak_bytes'] / 2**20:,.0f}",
        )
    console.print(table)
    page = report["first_page"]
    console.print(
        f"first page: {page['bytes']['index.html']:,} bytes, {page['gzip_bytes']['index.html']:,} compressed; "
        f"with its sheets and scripts {sum(page['gzip_bytes'].values()):,}; the whole site {page['site_bytes']:,}"
    )
    found = report["browser"]
    console.print(
        "no Chromium: nothing measured in a browser"
        if found is None
        else f"in Chromium {found['chromium']}: interactive after {found['interactive_ms']} ms; sorted in "
        f"{found['sort_ms']} ms (painted {found['sort_painted_ms']['median']}, at worst "
        f"{found['sort_painted_ms']['worst']}), filtered in {found['filter_ms']} ms (painted "
        f"{found['filter_painted_ms']['median']}, at worst {found['filter_painted_ms']['worst']})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep the runs and the site here, and use what is there")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=3, metavar=("SOURCE", "OUT", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        source, out, workers = arguments.measure
        print(json.dumps(measure(Path(source), Path(out), int(workers))))
        return
    with tempfile.TemporaryDirectory() as made:
        report = run(arguments.runs, arguments.workers, arguments.folder or Path(made))
    show(report, Console(width=110))
    if arguments.out:
        atomic_write(arguments.out, dump_json(report))


if __name__ == "__main__":
    main()
