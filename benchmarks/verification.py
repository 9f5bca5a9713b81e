"""A large run verified without its model: time and memory of what a maintainer does with every submission.

    python -m benchmarks.verification --out benchmarks/results/verification.json

The run is schema-true: 600 samples of a model of 1,024 heads, some 150,000 events. It is verified in a process of its
own, so that peak memory is that of verifying; and by the command, which starts a process for it, with everything that
starting takes. It exits with status 1 if either takes 10 seconds or a gibibyte.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.runs import make_large_run
from rh_bench.records import Json
from rh_bench.system.environment import describe_environment, usable_cores
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json
from rh_bench.verification.verify import verify_run

MOST_SECONDS, MOST_BYTES = 10.0, 1 << 30


def measure(folder: Path) -> Json:
    """Verify in this process."""
    started = time.perf_counter()
    report = verify_run(folder)
    seconds = time.perf_counter() - started
    counts = json.loads((folder / "run.json").read_bytes())["counts"]
    return {
        **{name: counts[name] for name in ("samples", "heads", "events")},
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "levels": {level.name: level.reached for level in report.levels},
        "seconds": round(seconds, 2),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def in_a_process_of_its_own(folder: Path) -> Json:
    # Through a shell: a process takes over the peak memory of the one it was forked from, and this one made the run.
    command = [sys.executable, "-m", "benchmarks.verification", "--measure", str(folder)]
    done = subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *command], capture_output=True, text=True, check=True)
    found: Json = json.loads(done.stdout)
    return found


def by_the_command(folder: Path) -> Json:
    """`rh-bench verify` from start to end. Peak memory is that of the largest of its processes."""
    command = [sys.executable, "-m", "rh_bench", "verify", str(folder)]
    started = time.perf_counter()
    subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *command], stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"seconds": round(seconds, 2), "peak_bytes": peak}


def show(report: Json, console: Console) -> None:
    table = Table(title="Verifying one run, its model not at hand")
    table.add_column("how")
    for name in ("samples", "heads", "events", "run MiB", "seconds", "peak MiB"):
        table.add_column(name, justify="right")
    found = report["verified"]
    table.add_row(
        "verify_run",
        *(f"{found[name]:,}" for name in ("samples", "heads", "events")),
        f"{found['bytes'] / 2**20:.1f}",
        f"{found['seconds']:.2f}",
        f"{found['peak_bytes'] / 2**20:,.0f}",
    )
    command = report["command"]
    seconds, peak = f"{command['seconds']:.2f}", f"{command['peak_bytes'] / 2**20:,.0f}"
    table.add_row("rh-bench verify", "", "", "", "", seconds, peak)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", type=Path, metavar="RUN", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    os.environ["HF_HUB_OFFLINE"] = "1"  # the model is made up
    with tempfile.TemporaryDirectory() as made:
        folder = make_large_run(Path(made), seed=0)
        command = by_the_command(folder)
        found = in_a_process_of_its_own(folder)
    environment = describe_environment("cpu", "CPU")
    report: Json = {
        "benchmark": "verification",
        "verified": found,
        "command": command,
        "cores": usable_cores(),
        "environment": environment,
    }
    show(report, Console(width=110))
    if arguments.out:
        atomic_write(arguments.out, dump_json(report))
    if any(one["seconds"] >= MOST_SECONDS or one["peak_bytes"] >= MOST_BYTES for one in (found, command)):
        sys.exit("slower or larger than it may be")


if __name__ == "__main__":
    main()
