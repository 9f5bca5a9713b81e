"""How time grows with the length of the context and with the number of samples, for both engines, as a picture.

    python -m benchmarks.growth MODEL --haystack SET --out benchmarks/results/NAME.json --picture docs/images/growth.svg
    python -m benchmarks.growth --draw benchmarks/results/NAME.json --picture docs/images/growth.svg

Lengths: five samples of each, at five depths. Samples: the first n of a grid of needles and depths at one length; what
the fast engine shares between them is the point, so that it is timed anew for each n.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.engines import timed
from benchmarks.machine import describe
from rh_bench.errors import RhBenchError
from rh_bench.models.load import load_model
from rh_bench.records import Json
from rh_bench.sets.dataset import read_set
from rh_bench.sets.grids import make_samples, parse_depths, parse_lengths
from rh_bench.sets.prompts import PromptBuilder
from rh_bench.system.files import atomic_write
from rh_bench.system.schema import dump_json

DEPTHS = "0,25,50,75,100"


def measure(arguments: argparse.Namespace, console: Console) -> Json:
    loaded = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype)
    haystacks = read_set(Path(arguments.haystack))
    builder = PromptBuilder(loaded.tokenizer, haystacks.texts, haystacks.needles_by_id)
    lengths, depths = parse_lengths(arguments.lengths), parse_depths(DEPTHS)

    def seconds(engine: str, needles: int, length: int, count: int | None = None) -> float:
        samples = make_samples(haystacks.needles[:needles], (length,), depths)[:count]
        took = timed(engine, loaded, builder, [builder.build(sample) for sample in samples])[0]
        console.print(f"{engine}: {len(samples)} samples of {length} tokens: {took:.2f} s")
        return round(took, 3)

    seconds("fast", 1, lengths[0])
    report: Json = {"benchmark": "growth", "model": loaded.source.id, "dtype": loaded.dtype, "by_length": []}
    for length in lengths:
        row = {engine: seconds(engine, 1, length) for engine in ("reference", "fast")}
        report["by_length"].append({"length": length, "samples": len(depths), "seconds": row})
    one = arguments.at_length
    report |= {"at_length": one, "by_samples": []}
    for count in (1, 2, 5, 10, 20):
        if count > len(haystacks.needles) * len(depths):
            break
        needles = -(-count // len(depths))
        row = {engine: seconds(engine, needles, one, count) for engine in ("reference", "fast")}
        report["by_samples"].append({"samples": count, "seconds": row})
    return report | {"environment": describe(loaded)}


def draw(report: Json, path: Path) -> None:
    """Two panels, time for both engines; the same bytes for the same report."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings = {"svg.hashsalt": "rh_bench", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        by_length = report["by_length"]
        panels = (
            (left, [r["length"] for r in by_length], [r["seconds"] for r in by_length], 1 / by_length[0]["samples"]),
            (right, [r["samples"] for r in report["by_samples"]], [r["seconds"] for r in report["by_samples"]], 1.0),
        )
        for axes, x, rows, factor in panels:
            for engine, colour, marker in (("reference", "#b5541c", "o"), ("fast", "#1f6f8b", "s")):
                y = [row[engine] * factor for row in rows]
                axes.plot(x, y, color=colour, marker=marker, markersize=4, label=engine)
                axes.annotate(
                    engine, (x[-1], y[-1]), xytext=(-6, 7), textcoords="offset points", ha="right", color=colour
                )
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylim(bottom=0)
        left.set_xlabel("context length, tokens")
        left.set_ylabel("seconds a sample")
        right.set_xlabel(f"samples of {report['at_length']:,} tokens over one haystack")
        right.set_ylabel("seconds in all")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--haystack")
    parser.add_argument("--lengths", default="250,500,1000,2000,4000")
    parser.add_argument("--at-length", type=int, default=1000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draw", type=Path, help="a report to draw instead of measuring")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    if not arguments.draw and not (arguments.model and arguments.haystack):
        parser.error("give MODEL and --haystack, or --draw")
    try:
        if arguments.draw:
            report: Json = json.loads(arguments.draw.read_text(encoding="utf-8"))
        else:
            report = measure(arguments, Console())
    except RhBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    if arguments.out:
        atomic_write(arguments.out, dump_json(report))
    if arguments.picture:
        draw(report, arguments.picture)


if __name__ == "__main__":
    main()
