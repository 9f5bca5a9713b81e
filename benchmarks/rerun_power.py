"""How often a lie is caught when N samples are measured again, and how often an honest run passes: by drawing from real
runs, every sample of which has been measured again once.

    python -m benchmarks.rerun_power RUN --haystack SET --model M --device D --out benchmarks/results/rerun-power.jsonl

Forged answers are followed by the model, too; everything else of a forgery is judged as `verify --rerun` judges it.
`--page` writes the table for docs/verification.md from such lines.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.forgeries import FORGERIES, Results
from rh_bench.artifacts.run import Run, read_run
from rh_bench.records import IntArray, Json, head_grid
from rh_bench.system.environment import describe_environment
from rh_bench.verification.agreement import Agreement, agreement
from rh_bench.verification.judging import judge
from rh_bench.verification.noise import ALIKE, Noise, measured_noise
from rh_bench.verification.rerun import Again, measure_again

SIZES = (4, 8, 16, 32, 64)


class Drawer:
    """Draws samples of one run, forged or not, and judges them."""

    def __init__(self, run: Run, found: Sequence[Agreement], noise: Noise) -> None:
        self._found, self._noise = list(found), noise
        self._heads: IntArray = np.array(head_grid(run.layers), dtype=np.int32).reshape(-1, 2)

    def refused(self, size: int, draws: int) -> float:
        """Share of draws in which the run is refused."""
        rng = np.random.default_rng(0)
        return sum(not self._agreed(rng, size) for _ in range(draws)) / draws

    def _agreed(self, rng: np.random.Generator, size: int) -> bool:
        """One draw, by the rule of `rh_bench.verification.rerun.choose`."""
        ordered = [self._found[place] for place in rng.permutation(len(self._found))]
        first, rest = ordered[:size], ordered[size:]
        lacking = max(size - sum(one.counted for one in first), 0)
        chosen = first + [one for one in rest if one.counted][:lacking]
        return judge(chosen, self._heads, self._noise).agreed


def simulate(run: Run, haystack: str, model: str, device: str, draws: int) -> Json:
    """One row of the table: of an honest run, and of each forgery."""
    honest = measure_again(run, run.results, haystack, model, device)
    if honest.problems:
        raise SystemExit(f"the run is not what it says: {honest.problems}")
    here = describe_environment(honest.device, honest.device_name)
    environment = run.document["environment"]
    noise = measured_noise(run.document["protocol"]["dtype"], environment, here)
    found = _agreements(honest, noise)
    sizes = [size for size in SIZES if size <= len(run.results)]
    drawer = Drawer(run, list(found.values()), noise)
    caught = {}
    for name, forge in FORGERIES.items():
        forged = forge(run.results, run.layers)
        judged = Drawer(run, _forged(run, forged, honest, noise, haystack, model, device, found), noise)
        caught[name] = {str(size): judged.refused(size, draws) for size in sizes}
        print(name, caught[name], flush=True)
    return {
        "model": run.document["model"]["id"],
        "dtype": noise.dtype,
        "pair": noise.pair,
        "measured_on": {name: environment.get(name) for name in ALIKE},
        "judged_on": {name: here.get(name) for name in ALIKE},
        "samples": len(run.results),
        "counted": sum(one.success for one in run.results),
        "heads": len(head_grid(run.layers)),
        "draws": draws,
        "honest_refused": {str(size): drawer.refused(size, 5 * draws) for size in sizes},
        "caught": caught,
    }


def _agreements(again: Again, noise: Noise) -> dict[str, Agreement]:
    return {row[0].sample.sample_id: agreement(*row, again.layers, noise) for row in again.rows}


def _forged(
    run: Run,
    forged: Results,
    honest: Again,
    noise: Noise,
    haystack: str,
    model: str,
    device: str,
    found: dict[str, Agreement],
) -> list[Agreement]:
    """Forged events are judged along the answers that were followed; forged answers are followed first."""
    rows = {row[0].sample.sample_id: row for row in honest.rows}
    before = {one.sample.sample_id: one for one in run.results}
    other = [one for one in forged if one.generated_ids != before[one.sample.sample_id].generated_ids]
    if other:
        again = measure_again(replace(run, results=forged), other, haystack, model, device)
        rows |= {row[0].sample.sample_id: row for row in again.rows}
    judged = []
    for one in forged:
        _, claim, followed = rows[one.sample.sample_id]
        same = one is before[one.sample.sample_id]
        judged.append(found[one.sample.sample_id] if same else agreement(one, claim, followed, run.layers, noise))
    return judged


def page(rows: Sequence[Json]) -> str:
    """The table as Markdown."""
    sizes = [str(size) for size in SIZES if all(str(size) in row["honest_refused"] for row in rows)]
    head = "| run | what is wrong with it | " + " | ".join(f"N = {size}" for size in sizes) + " |"
    lines = [head, "|---|---|" + "---|" * len(sizes)]
    for row in rows:
        name = f"{row['model'].removeprefix('gguf:')}, {row['dtype']}, {row['pair']} device"
        lines.append(f"| {name} | nothing (refused) | " + _cells(row["honest_refused"], sizes, 2) + " |")
        lines += [f"| | {what} | {_cells(row['caught'].get(what), sizes, 1)} |" for what in FORGERIES]
    return "\n".join(lines) + "\n"


def _cells(shares: Json | None, sizes: Sequence[str], digits: int) -> str:
    if shares is None:
        return " | ".join("–" for _ in sizes)
    return " | ".join(f"{100 * shares[size]:.{digits}f}%" for size in sizes)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--haystack")
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True, help="A line is added to this file.")
    parser.add_argument("--page", action="store_true", help="Print the table of this file instead.")
    arguments = parser.parse_args()
    if arguments.page:
        lines = arguments.out.read_text(encoding="utf-8").splitlines()
        print(page([json.loads(line) for line in lines]), end="")
        return
    row = simulate(read_run(arguments.run), arguments.haystack, arguments.model, arguments.device, arguments.draws)
    with arguments.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
