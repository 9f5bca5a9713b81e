"""The commands of experiments: what retrieval heads do, beyond which heads they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from rh_bench.cli.options import FOLDER, Verb, err, json_option, out, print_json, window_option

VERDICTS = {
    "holds": "[green]holds[/]",
    "does_not_hold": "[red]does not hold[/]",
    "not_enough_evidence": "[yellow]not enough evidence[/]",
}


def say_experiment(folder: Path, document: dict[str, Any], *, written: bool, as_json: bool) -> None:
    """Print what a finished experiment says: its claims, or the document without its raw parts."""
    if as_json:
        names = ("kind", "experiment_id", "counts", "results", "claims")
        print_json({"folder": str(folder), "written": written, **{name: document[name] for name in names}})
        return
    console = out(soft_wrap=True)
    for row in document["claims"]:
        console.print(f"{escape(row['claim'])}: {VERDICTS[row['verdict']]}{_effect(row)}")
        console.print(f"  [dim]{escape(row['statement'])}[/]")
        if row["reason"]:
            console.print(f"  {escape(row['reason'])}")
    if not written:
        console.print("This experiment already exists: nothing was done")
    console.print(f"[green]The experiment:[/] {escape(str(folder))}")


def _effect(row: dict[str, Any]) -> str:
    effect, words = row["effect"], f", n = {row['n']}"
    if effect is not None and effect["value"] is not None:
        interval = "" if effect["low"] is None else f" ({effect['low']:.3f} to {effect['high']:.3f})"
        words = f", effect {effect['value']:.3f}{interval}{words}"
    return words if row["p_value"] is None else f"{words}, p = {row['p_value']:.4f}"


experiments_option = click.option(
    "--out", "out_folder", type=FOLDER, required=True, help="Folder for experiments, next to the folder of runs."
)


@click.command(
    cls=Verb,
    examples="""rh-bench detect org/model --haystack sets/quick --out experiments --limit 60
                rh-bench detect org/model --haystack org/set --out experiments --detectors attention-mass,induction""",
)
@click.argument("model")
@click.option("--haystack", required=True, help="The set: a folder, or REPO[@REVISION].")
@experiments_option
@click.option("--detectors", "detectors_text", help="copy, attention-mass, induction (default: all).")
@click.option("--lengths", help="Use a grid with these context lengths in tokens: 512,1024.")
@click.option("--depths", help="Use a grid with these depths in percent: 0,50,100.")
@click.option("--needles", help="Use only these needles: harbour-key,glass-orchard.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--template", default="auto", show_default=True, help="auto, plain or chat.")
@click.option("--limit", type=int, help="Number of samples, evenly spaced over the grid (default: all).")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the random tokens."
)
@window_option
@click.option("--trust-remote-code", is_flag=True, help="Run the Python code in the model's repository. Read it first.")
@json_option
def detect(
    model: str,
    haystack: str,
    out_folder: Path,
    detectors_text: str | None,
    lengths: str | None,
    depths: str | None,
    needles: str | None,
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Score the heads of MODEL with several detectors of retrieval heads on the same samples, and compare them.

    copy is what `rh-bench evaluate` measures; attention-mass is how much the question attends to the needle; induction
    uses random tokens. You can interrupt it at any time: the same command resumes.
    """
    from rh_bench.cli.progress import evaluate_progress
    from rh_bench.measure.evaluate import Request
    from rh_bench.sets.grids import parse_depths, parse_lengths
    from rh_bench.system.environment import refuse_light_install

    refuse_light_install("detect")
    from rh_bench.experiments.detectors.run import detect as measure

    request = Request(
        model,
        haystack,
        out_folder,
        lengths=parse_lengths(lengths) if lengths is not None else None,
        depths=parse_depths(depths) if depths is not None else None,
        needles=_names(needles),
        **options,
    )
    with evaluate_progress(err()) as progress:
        outcome = measure(
            request,
            _names(detectors_text),
            seed=seed,
            on_step=progress.step,
            on_stage=progress.stage,
            on_note=progress.note,
        )
    if not as_json:
        _show_detectors(outcome.document)
    say_experiment(outcome.folder, outcome.document, written=outcome.measured > 0, as_json=as_json)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(","))


def _show_detectors(document: dict[str, Any]) -> None:
    from rh_bench.experiments.detectors.rows import agreement_rows, detector_rows, head_rows

    console = out()
    table = Table(title="Detectors")
    for name in ("detector", "names", "of", "samples", "strongest"):
        table.add_column(
            name, justify="left" if name in ("detector", "strongest") else "right", no_wrap=name != "strongest"
        )
    for row in detector_rows(document["results"]):
        named = "–" if row["named"] is None else str(row["named"])
        table.add_row(row["name"], named, str(row["heads"]), str(row["n"]), row["reason"] or " ".join(row["strongest"]))
    console.print(table)
    table = Table(title="Agreement of two scores")
    for name in ("scores", "Spearman", "95% interval", "chance, same layers", "p", "shared of the top"):
        table.add_column(name, justify="left" if name == "scores" else "right", no_wrap=name == "scores")
    for row in agreement_rows(document["results"]):
        table.add_row(row["pair"], row["value"], row["interval"], row["chance"], row["p"], row["shared"])
    console.print(table)
    both = document["results"]["named_by_all"]
    if both["count"]["value"] is not None:
        chance = "" if both["null"] is None else f", {both['null']['layer']['mean']:.1f} by chance in the same layers"
        console.print(f"Heads that all detectors name: {both['count']['value']:.0f}{chance}")
    for row in head_rows(document["results"], most=10):
        console.print(f"  {row['head']}: named by {', '.join(row['named_by'])}")


@click.command(
    cls=Verb,
    examples="""rh-bench dynamic runs/org__model/0123456789abcdef --out experiments
                rh-bench dynamic runs/org__model/0123456789abcdef --out experiments --permutations 20000""",
)
@click.argument("run", type=FOLDER)
@experiments_option
@click.option(
    "--permutations",
    type=click.IntRange(1, 100_000),
    default=2_000,
    show_default=True,
    help="Permutations of each test. No p-value is below 1 / (N + 1).",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the permutations."
)
@json_option
def dynamic(run: Path, out_folder: Path, permutations: int, seed: int, as_json: bool) -> None:
    """Find in which contexts the heads of RUN are active, and on which part of the answer.

    Reports the heads that are active in every context, how often each head is active by needle, haystack, length and
    depth, and tests whether it depends on them. No model is needed.
    """
    from rh_bench.experiments.artifact import keep_experiment
    from rh_bench.experiments.dynamic.run import observe

    document, tables = observe(run, permutations=permutations, seed=seed)
    folder, document, written = keep_experiment(out_folder, document, tables)
    if not as_json:
        _show_dynamic(document["results"])
    say_experiment(folder, document, written=written, as_json=as_json)


def _show_dynamic(results: dict[str, Any], most: int = 10) -> None:
    console = out()
    table = Table(title=f"The strongest of {results['active_heads']} active heads, {results['contexts']} contexts")
    for name in ("head", "score", "active in", "95% interval", "depends on"):
        table.add_column(name, justify="left" if name in ("head", "depends on") else "right")
    for row in results["described"][:most]:
        rate = row["frequency"]
        found = [c["factor"] for c in row["conditions"] if c["q_value"] is not None and c["q_value"] <= 0.05]
        part = row["parts"]["q_value"]
        found += ["part of the answer"] if part is not None and part <= 0.05 else []
        interval = f"{rate['low']:.0%}–{rate['high']:.0%}"
        name = "-".join(map(str, row["head"]))
        table.add_row(name, f"{row['score']:.3f}", f"{rate['value']:.0%}", interval, ", ".join(found))
    console.print(table)
    for row in results["factors"]:
        held = f", {', '.join(row['within'])} held fixed" if row["within"] else ""
        held += f", not distinguishable from {', '.join(row['confounded'])}" if row["confounded"] else ""
        words = row["reason"] or f"{row['dependent']} of {row['tested']} heads depend on it{held}"
        console.print(f"{row['factor']}: {escape(words)}")


@click.command(
    cls=Verb,
    examples="""rh-bench compare runs/org__chat/0123456789abcdef runs/org__base/fedcba9876543210 --out experiments
                rh-bench compare imports/a/0123456789abcdef imports/b/fedcba9876543210 --relation unrelated --out e""",
)
@click.argument("first", type=FOLDER)
@click.argument("second", type=FOLDER)
@experiments_option
@click.option(
    "--relation",
    type=click.Choice(["derived", "unrelated"]),
    help="Whether one model was derived from the other (default: what their model cards say).",
)
@click.option(
    "--permutations",
    type=click.IntRange(1, 100_000),
    default=2_000,
    show_default=True,
    help="Number of random orders of heads.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the permutations."
)
@json_option
def compare(
    first: Path, second: Path, out_folder: Path, relation: Any, permutations: int, seed: int, as_json: bool
) -> None:
    """Test whether the models of two runs have the same retrieval heads.

    FIRST and SECOND are runs, or imports of other projects' scores, with the same layers and query heads: a model and
    one derived from it, or two unrelated models. No model is needed.
    """
    from rh_bench.experiments.artifact import keep_experiment
    from rh_bench.experiments.intrinsic.run import observe

    document, tables = observe(first, second, relation=relation, permutations=permutations, seed=seed)
    folder, document, written = keep_experiment(out_folder, document, tables)
    if not as_json:
        _show_intrinsic(document["settings"], document["results"])
    say_experiment(folder, document, written=written, as_json=as_json)


def _show_intrinsic(settings: dict[str, Any], results: dict[str, Any]) -> None:
    one, two = (escape(model["id"]) for model in settings["models"])
    table = Table(title=f"{one} and {two}: {results['heads']} heads, at random and as they are")
    table.add_column("measure", no_wrap=True)
    for name in ("similarity", "95% interval", "at random", "p", "p in layers"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in results["measures"]:
        found, chance = row["similarity"], row["at_random"]
        numbers = (found["value"], chance["mean"], chance["p_value"], row["at_random_within_layers"]["p_value"])
        value, mean, p, within = ("–" if number is None else f"{number:.3f}" for number in numbers)
        interval = "–" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
        table.add_row(row["measure"], value, interval, mean, p, within)
    out().print(table)


@click.command(
    cls=Verb,
    examples="""rh-bench scorecard runs/org__model/0123456789abcdef
                rh-bench scorecard runs/org__model/0123456789abcdef --experiments experiments --json""",
)
@click.argument("run", type=FOLDER)
@click.option("--experiments", type=FOLDER, help="Folder of experiments (default: the one next to the runs).")
@json_option
def scorecard(run: Path, experiments: Path | None, as_json: bool) -> None:
    """Show which of the paper's claims hold for the model of RUN, do not hold, or lack evidence.

    Each comes with its test, effect size and n, from the run and from the valid experiments on it.
    """
    from rh_bench.experiments.scorecard import scorecard_of

    card = scorecard_of(run, experiments)
    if as_json:
        print_json(card.to_json())
        return
    console = out()
    console.print(f"{escape(card.model)}, run {card.run_id}", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("claim", "verdict", "effect", "p", "n", "from"):
        table.add_column(name, justify="right" if name in ("effect", "p", "n") else "left", no_wrap=True)
    for row in card.rows:
        main = row.main
        effect, p, n, source = ("–", "–", "–", "–") if main is None else _cells(main)
        table.add_row(escape(row.claim), VERDICTS[row.verdict], effect, p, n, source)
    console.print(table)
    for row in card.rows:
        if row.reason:
            console.print(f"{escape(row.claim)}: {escape(row.reason)}", soft_wrap=True)
    for folder, why in card.left_out:
        console.print(f"[yellow]left out:[/] {escape(folder)}: {escape(why)}", soft_wrap=True)


def _cells(main: Any) -> tuple[str, str, str, str]:
    effect = "–"
    if main.effect is not None and main.effect["value"] is not None:
        low, high = main.effect["low"], main.effect["high"]
        effect = f"{main.effect['value']:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")
    p = "–" if main.p_value is None else f"{main.p_value:.4f}"
    return effect, p, str(main.n), escape(main.source)


EXPERIMENT_COMMANDS: Sequence[click.Command] = (detect, dynamic, compare, scorecard)
