"""How far honest measurements of one run differ, by the margin of each decision: what `verify --rerun` allows.

    python -m benchmarks.noise measure RUN --haystack SET --model M --device D --out pairs.jsonl
    python -m benchmarks.noise fit pairs.jsonl --out rh_bench/verification/data/noise.json

`measure` follows the answers of a run that was measured here or elsewhere, and counts, by margin, the decisions (where
a head looks, which token is produced) that come out otherwise. `fit` takes, for each type and pair of devices, the
largest scale of any model and pair by maximum likelihood, with room to spare.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rh_bench.artifacts.run import read_run
from rh_bench.records import Json
from rh_bench.system.environment import describe_environment
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json
from rh_bench.verification.agreement import Decisions, decisions
from rh_bench.verification.noise import ALIKE, OTHER, SAME
from rh_bench.verification.rerun import Again, measure_again

EDGES = np.concatenate([[0.0], np.geomspace(1e-6, 10.0, 71)])
"""Margins between which decisions are counted together; the last is open."""
ROOM = 1.5
"""By what the largest scale seen is multiplied."""
EVENT_FLOOR, TOKEN_FLOOR = 1e-7, 1e-7
LEAST = {"float32": (1e-4, 1e-4), "bfloat16": (0.08, 0.1), "float16": (0.01, 0.0125)}
"""Scales of events and tokens below which none goes, however little turned: kernels that nobody has tried may round
more. Those of the half types are in the ratio of their precisions."""
_SCALES = np.geomspace(1e-7, 2.0, 300)
_FEWEST_FLIPS = 3

Floats = npt.NDArray[np.float64]


def measure(arguments: argparse.Namespace) -> Json:
    """One row of the table: a run, followed here."""
    run = read_run(arguments.run)
    results = [result for result in run.results if result.sample.length <= arguments.longest][: arguments.samples]
    again = measure_again(run, results, arguments.haystack, arguments.model, arguments.device)
    margins, flips, gaps = _decided(again)
    environment = run.document["environment"]
    here = describe_environment(again.device, again.device_name)
    return {
        "model": run.document["model"]["id"],
        "dtype": run.document["protocol"]["dtype"],
        "pair": SAME if all(environment.get(name) == here.get(name) for name in ALIKE) else OTHER,
        "measured_on": {name: environment.get(name) for name in ALIKE},
        "followed_on": {name: here.get(name) for name in ALIKE},
        "samples": len(results),
        "events": _histogram(margins, flips),
        "tokens": _histogram(*gaps),
        "heads": _spread(again),
    }


def _decided(again: Again) -> tuple[Floats, npt.NDArray[np.bool_], tuple[Floats, npt.NDArray[np.bool_]]]:
    margins, flips, gaps, turned = [], [], [], []
    for result, claim, followed in again.rows:
        made = decisions(result, followed, again.layers)
        margins.append(made.margin.ravel())
        flips.append((made.found != made.claimed).ravel())
        told = np.array([*claim.thought, *claim.answer, *([-1] if claim.ends else [])])
        turned.append((followed.gaps > 0) | ((told >= 0) & (followed.produced != told)))
        gaps.append(np.maximum(followed.gaps, followed.margins).astype(np.float64))
    return np.concatenate(margins), np.concatenate(flips), (np.concatenate(gaps), np.concatenate(turned))


def _histogram(margins: Floats, flips: npt.NDArray[np.bool_]) -> Json:
    """Decisions and those that came out otherwise, by margin; bins without a decision are left out."""
    place = np.digitize(margins, EDGES) - 1
    made, turned = (np.bincount(place[chosen], minlength=len(EDGES)) for chosen in (slice(None), flips))
    return {
        "decisions": int(made.sum()),
        "turned": int(turned.sum()),
        "widest_turned": float(margins[flips].max(initial=0.0)),
        "bins": [[float(f"{EDGES[i]:.4g}"), int(made[i]), int(turned[i])] for i in np.flatnonzero(made)],
    }


def _spread(again: Again) -> Json:
    """How unevenly turned decisions lie over heads and over samples: variance of the counts by their mean."""
    counts = np.array([_turned_by_head(decisions(r, f, again.layers)) for r, _, f in again.rows])
    by_head, by_sample = counts.sum(axis=0), counts.sum(axis=1)
    return {
        "most_in_a_head": int(by_head.max(initial=0)),
        "dispersion_over_heads": _dispersion(by_head),
        "dispersion_over_samples": _dispersion(by_sample),
    }


def _turned_by_head(made: Decisions) -> npt.NDArray[np.int64]:
    return np.asarray((made.found != made.claimed).sum(axis=0), dtype=np.int64)


def _dispersion(counts: npt.NDArray[np.int64]) -> float | None:
    return round(float(counts.var() / counts.mean()), 3) if counts.sum() else None


def scale_of(bins: list[list[float]]) -> float:
    """The scale s of exp(-m / s) / 2 that makes the turned decisions most likely; of margins the lower edges are taken,
    which makes it smaller than it is by less than the width of a bin, 26%: ROOM covers it."""
    made, turned, margin = (np.array([row[i] for row in bins], dtype=np.float64) for i in (1, 2, 0))
    likelihoods = []
    for scale in _SCALES:
        q = np.clip(0.5 * np.exp(-margin / scale), 1e-15, 0.5)
        likelihoods.append(float((turned * np.log(q) + (made - turned) * np.log1p(-q)).sum()))
    return float(_SCALES[int(np.argmax(likelihoods))])


def fit(rows: list[Json]) -> Json:
    """The document `rh_bench/verification/data/noise.json`. Another device cannot be less noisy than the same."""
    found: Json = {}
    for dtype in LEAST:
        for pair, kinds in ((SAME, (SAME,)), (OTHER, (SAME, OTHER))):
            chosen = [row for row in rows if row["dtype"] == dtype and row["pair"] in kinds]
            found.setdefault(dtype, {})[pair] = _row(dtype, chosen)
    return {"measured": datetime.now(UTC).strftime("%Y-%m-%d"), "room": ROOM, "rows": found}


def _row(dtype: str, rows: list[Json]) -> Json:
    scales = {}
    for part, least in zip(("events", "tokens"), LEAST[dtype], strict=True):
        seen = [scale_of(row[part]["bins"]) for row in rows if row[part]["turned"] >= _FEWEST_FLIPS]
        scales[part] = float(f"{max([least, *(ROOM * scale for scale in seen)]):.3g}")
    return {
        **scales,
        "event_floor": EVENT_FLOOR,
        "token_floor": TOKEN_FLOOR,
        "from": [f"{row['model']}: {_where(row['measured_on'])}, by {_where(row['followed_on'])}" for row in rows],
        "decisions": sum(row["events"]["decisions"] for row in rows),
        "turned": sum(row["events"]["turned"] for row in rows),
        "widest_turned": max((row["events"]["widest_turned"] for row in rows), default=0.0),
    }


def _where(device: Json) -> str:
    return f"{device['device_name']}, torch {device['torch']}"


def _rows(paths: list[Path]) -> Iterator[Json]:
    for path in paths:
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("run", type=Path)
    one.add_argument("--haystack", required=True)
    one.add_argument("--model", required=True)
    one.add_argument("--device", default="auto")
    one.add_argument("--samples", type=int, default=10_000)
    one.add_argument("--longest", type=int, default=10**9, help="Tokens of a prompt, at most.")
    one.add_argument("--out", type=Path, required=True, help="A line is added to this file.")
    other = commands.add_parser("fit")
    other.add_argument("pairs", type=Path, nargs="+")
    other.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "fit":
        atomic_write(arguments.out, dump_json(fit(list(_rows(arguments.pairs)))))
        return
    row = measure(arguments)
    with arguments.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    brief = {part: {k: v for k, v in row[part].items() if k != "bins"} for part in ("events", "tokens", "heads")}
    print(row["model"], row["dtype"], row["pair"], row["samples"], brief)


if __name__ == "__main__":
    main()
