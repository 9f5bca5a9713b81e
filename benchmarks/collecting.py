"""Many runs gathered into a results repository: time and memory against their number.

    python -m benchmarks.collecting --runs 1000 --out benchmarks/results/collecting.json

Runs are schema-true: 600 samples of a model of 1,024 heads, tens of thousands of events. A few are made from scratch
and then given to many models, since only their bytes matter here. Each number of runs is gathered in a process of its
own, so that peak memory is that number's.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.runs import make_large_run, make_twin
from rh_bench.records import Json
from rh_bench.submissions.collect import collect_results
from rh_bench.system.environment import describe_environment
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json

_TEMPLATES = 4


def measure(source: Path, out: Path) -> Json:
    """Gather in this process, once from nothing and once again."""
    started = time.perf_counter()
    report = collect_results(source, out)
    seconds = time.perf_counter() - started
    again = time.perf_counter()
    collect_results(source, out)
    return {
        "runs": report.runs,
        "rows": dict(report.rows),
        "seconds": round(seconds, 1),
        "seconds_again": round(time.perf_counter() - again, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, type=Path, metavar=("SOURCE", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    report: Json = {"benchmark": "collecting", "points": [], "environment": describe_environment("cpu", "CPU")}
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        templates = [make_large_run(root / "templates", seed) for seed in range(_TEMPLATES)]
        made_runs = 0
        for count in sorted({max(arguments.runs // 10, 1), arguments.runs}):
            for number in range(made_runs, count):
                make_twin(templates[number % _TEMPLATES], root / "runs", number)
            made_runs = count
            command = [sys.executable, "-m", "benchmarks.collecting", "--measure", str(root / "runs"), f"{root}/out"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            report["points"].append(json.loads(done.stdout))
            console.print(report["points"][-1])
            shutil.rmtree(root / "out")
            if arguments.out:
                atomic_write(arguments.out, dump_json(report))
    table = Table(title="Gathering runs of 600 samples × 1,024 heads")
    for name in ("runs", "events", "seconds", "s/run", "peak MiB"):
        table.add_column(name, justify="right")
    for point in report["points"]:
        a_run = point["seconds"] / point["runs"]
        table.add_row(
            f"{point['runs']:,}",
            f"{point['rows']['events']:,}",
            f"{point['seconds']:.1f}",
            f"{a_run:.3f}",
            f"{point['peak_bytes'] / 2**20:,.0f}",
        )
    console.print(table)
    peaks = np.array([point["peak_bytes"] for point in report["points"]])
    console.print(f"peak memory of the largest number: {peaks[-1] / peaks[0]:.2f} times that of the smallest")


if __name__ == "__main__":
    main()
