"""What the page of one run shows."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rh_bench.artifacts.coverage import Coverage
from rh_bench.display import formatting as words
from rh_bench.display.formatting import Figure
from rh_bench.display.palette import rate_level
from rh_bench.leaderboard.activity import Activity
from rh_bench.leaderboard.badges import Badge, badge
from rh_bench.leaderboard.briefs import page_path, protocol_facts, shape
from rh_bench.leaderboard.charts import Curve, Profile, layer_profile, score_curve
from rh_bench.leaderboard.collect import Entry, Head
from rh_bench.leaderboard.convergence_chart import ConvergenceChart, score_chart, share_chart
from rh_bench.leaderboard.experiment_card import scorecard_rows, thin_experiments
from rh_bench.leaderboard.experiment_views import Experiments, experiments_view
from rh_bench.leaderboard.head_files import Offer, activity_table, head_files
from rh_bench.leaderboard.head_page import MOST_SQUARES, chosen_heads, head_figure, head_page
from rh_bench.leaderboard.heat import HeatMap, anchor, heat_map
from rh_bench.leaderboard.open_run import OpenRun
from rh_bench.leaderboard.render import Document, Frame
from rh_bench.models.source import hub_name
from rh_bench.models.window import stated_window
from rh_bench.records import Json
from rh_bench.stats.bootstrap import FloatArray
from rh_bench.stats.convergence import converge
from rh_bench.stats.ranks import strongest_first

LISTED = 50
"""Heads in the page's list; its script shows all of them."""
MOST_HEADS = 100_000
"""More than a layer has."""


@dataclass(frozen=True, slots=True)
class Hero:
    """One of the large numbers at the top of the page."""

    label: str
    figure: Figure
    note: str


@dataclass(frozen=True, slots=True)
class RateCell:
    level: int | None
    figure: Figure


@dataclass(frozen=True, slots=True)
class SuccessGrid:
    """Success by depth (rows) and length (columns), with the margins that the summary gives."""

    lengths: tuple[str, ...]
    rows: tuple[tuple[str, tuple[RateCell | None, ...], RateCell], ...]
    totals: tuple[RateCell, ...]
    overall: RateCell


@dataclass(frozen=True, slots=True)
class ListedHead:
    """A row of the head list."""

    name: str
    """layer.head"""
    order: int
    """Sorts by layer, then head."""
    score: Figure
    rank: str
    rank_interval: str
    active: str
    active_sort: str
    link: str
    """The head's own place, where it has one."""


@dataclass(frozen=True, slots=True)
class Settling:
    """How the numbers settle with the samples."""

    share: ConvergenceChart
    scores: ConvergenceChart | None
    verdict: str
    """From how many samples on the share stays near its final value."""


@dataclass(frozen=True, slots=True)
class ModelPage:
    page: str
    model: str
    facts: tuple[str, ...]
    mark: str
    """What of its set the run was measured on; empty for the whole set."""
    not_ranked: str
    """Why the run is not ranked, if it is not."""
    heroes: tuple[Hero, ...]
    heat: HeatMap
    heads_page: str
    """The page of single heads, relative to this one; empty if there is none."""
    listed: tuple[ListedHead, ...]
    success: SuccessGrid
    recall: Figure
    curve: Curve | None
    profile: Profile | None
    settling: Settling | None
    unsettled: str
    """Why the page does not say how the numbers settle, where it does not."""
    threshold: str
    counted: int
    samples: int
    confidence: str
    strata: str
    offers: tuple[Offer, ...]
    experiments: Experiments
    """The scorecard, and what experiments say."""
    always_on: str
    provenance: tuple[tuple[str, str], ...]
    claimed: tuple[tuple[str, str], ...]
    """What no level of verification can check, in the submitter's words."""
    files: tuple[tuple[str, str], ...]
    command: str
    notes: tuple[str, ...]
    badge: Badge


def documents(run: OpenRun, frame: Frame) -> Iterator[Document]:
    """The files of one run: its page, that of its heads, and its heads as files."""
    entry, activity = run.entry, run.activity
    page = page_path(entry)
    folder = page.removesuffix(".html")
    name = folder.rpartition("/")[2]
    heads = head_page(entry, activity, f"{folder}/heads.html", f"../{name}.html") if activity else None
    downloads = head_files(entry, activity, folder, name)
    view = model_page(entry, activity, downloads.offers, f"{name}/heads.html" if heads else "")
    yield page, frame.render("model.html", page, view=view)
    if activity is not None and heads is not None:
        yield heads.page, frame.render("heads.html", heads.page, view=heads)
        yield f"{folder}/activity.tsv", activity_table(activity, [panel.short for panel in heads.panels])
    yield from downloads.files


def model_page(
    entry: Entry, activity: Activity | None = None, offers: tuple[Offer, ...] = (), heads_page: str = ""
) -> ModelPage:
    """Everything the template needs for one run.

    Args:
        activity: what each head copied in each sample; without it the page does not say how the numbers settle.
        offers: files of the heads.
        heads_page: of single heads, relative to this page; empty if there is none.
    """
    run, summary = entry.run, entry.summary
    threshold = run["protocol"]["head_threshold"]
    settled = settling(activity.shares, activity.heads, threshold) if activity else None
    linked = {(head.layer, head.head) for head in chosen_heads(entry.heads, threshold)} if heads_page else set()
    return ModelPage(
        page=page_path(entry),
        model=words.visible(run["model"]["id"]),
        facts=_facts(run),
        mark="" if entry.coverage.whole else entry.coverage.mark,
        not_ranked=words.visible(entry.coverage.note),
        heroes=_heroes(run, summary),
        heat=heat_map(run["model"]["layers"], entry.heads, threshold, linked=linked, page=heads_page),
        heads_page=heads_page,
        listed=head_list(entry.heads, summary["n_counted"], linked, heads_page),
        success=success_grid(summary["success"]),
        recall=words.figure(summary["success"]["mean_rouge1_recall"], words.score),
        curve=score_curve(entry.heads, threshold),
        profile=layer_profile(summary["universality"]["layers"]),
        settling=settled,
        unsettled="" if settled else _unsettled(activity, summary["n_counted"]),
        threshold=f"{threshold:g}",
        counted=summary["n_counted"],
        samples=summary["n_samples"],
        confidence=words.whole_percent(summary["bootstrap"]["confidence"]),
        strata=" × ".join(summary["bootstrap"]["strata"]),
        offers=offers,
        experiments=experiments_view(
            scorecard_rows(entry),
            thin_experiments(entry.experiments, entry.records),
            entry.rejected,
            entry.experiments,
        ),
        always_on=_always_on(summary["always_on"]),
        provenance=_provenance(run, entry.coverage),
        claimed=_claimed(run),
        files=_files(run),
        command=reproduce_command(run),
        notes=tuple(words.visible(str(note)) for note in run["engine"]["notes"]),
        badge=badge(entry.verification),
    )


def head_list(heads: Sequence[Head], n: int, linked: Collection[tuple[int, int]], page: str) -> tuple[ListedHead, ...]:
    """The strongest heads that score, by rank, then layer and head.

    Args:
        heads: in the order of `heads.parquet`.
        n: counted samples.
        linked, page: see `heat_map`.
    """
    scoring = [head for head in heads if head.score]
    order = strongest_first([head.score or 0.0 for head in scoring], LISTED).tolist()
    return tuple(
        ListedHead(
            name=f"{one.layer}.{one.head}",
            order=one.layer * MOST_HEADS + one.head,
            score=head_figure(one, n),
            rank=words.MISSING if one.rank is None else str(one.rank),
            rank_interval="" if one.rank_low is None else f"{one.rank_low}–{one.rank_high}",
            active=words.MISSING if one.activation_frequency is None else words.percent(one.activation_frequency),
            active_sort="" if one.activation_frequency is None else repr(one.activation_frequency),
            link=f"{page}#{anchor(one.layer, one.head)}" if (one.layer, one.head) in linked else "",
        )
        for one in (scoring[place] for place in order)
    )


def settling(shares: FloatArray, heads: Sequence[tuple[int, int]], threshold: float) -> Settling | None:
    """How the numbers settle with the samples; None if there are too few.

    Args:
        shares: float64 [samples, heads]: score of each head on each sample.
        heads: their names.
    """
    found = converge(shares, threshold)
    if found is None:
        return None
    names = [f"{layer}.{head}" for layer, head in (heads[place] for place in found.top)]
    settled = found.settled()
    orders = "in nine of ten random orders"
    verdict = f"Only all samples together come within one percentage point of the final share {orders}."
    if settled is not None:
        samples = "1 sample" if settled == 1 else f"{settled:,} samples"
        verdict = f"From {samples} on, the share is within one percentage point of its final value {orders}."
    return Settling(share_chart(found), score_chart(found, names, threshold), verdict)


def _unsettled(activity: Activity | None, counted: int) -> str:
    if counted < 2:
        return "Needs two counted samples."
    return "The model has no heads to score." if activity else "The run is too large to show here."


def _facts(run: Json) -> tuple[str, ...]:
    model = run["model"]
    facts = (
        model["architecture"],
        f"{words.parameters(model['parameters'])} parameters",
        f"{shape(model['layers'])} heads",
        f"window {words.thousands(model['window'])}",
        f"set {run['haystack']['name']}",
        f"measured {run['timings']['started'][:10]}, as claimed",
    )
    return tuple(words.visible(fact) for fact in facts)


def _heroes(run: Json, summary: Json) -> tuple[Hero, ...]:
    sparsity, threshold = summary["sparsity"], run["protocol"]["head_threshold"]
    always_on = summary["always_on"]
    known = always_on["heads"] is not None
    number = len(always_on["heads"]) if known else None
    heads = words.thousands(summary["heads"])
    return (
        Hero(
            "Retrieval heads",
            words.figure(sparsity["share_above_0.1"], words.percent),
            f"of {heads} heads score above {threshold:g}",
        ),
        Hero("Never retrieve", words.figure(sparsity["share_zero"], words.percent), "of heads score exactly zero"),
        Hero("Gini", words.figure(sparsity["gini"], words.score), "0: all heads equal, 1: one head does everything"),
        Hero(
            "Effective heads",
            words.figure(sparsity["effective_heads"], words.count),
            "as many equal ones would be as concentrated",
        ),
        Hero(
            "Always on",
            Figure(
                text=words.MISSING if number is None else str(number),
                interval="",
                reason="" if known else always_on["reason"] or "not computed",
                n=summary["n_counted"],
                sort_key="" if number is None else str(number),
            ),
            "active throughout; defined below",
        ),
        Hero(
            "Needles found",
            words.figure(summary["success"]["rate"], words.percent),
            f"{summary['n_counted']} of {summary['n_samples']} samples count",
        ),
    )


def success_grid(success: Json) -> SuccessGrid:
    """The grid of cells that were measured. A cell that the set does not have is None, not zero. A grid of more than
    `MOST_SQUARES` has no rows: whoever submits a run chooses its lengths and depths."""
    if len(success["by_length"]) * len(success["by_depth"]) > MOST_SQUARES:
        return SuccessGrid((), (), (), _rate(success["rate"]))
    cells = {(row["length"], row["depth"]): _rate(row["rate"]) for row in success["by_cell"]}
    by_length = {row["length"]: _rate(row["rate"]) for row in success["by_length"]}
    by_depth = {row["depth"]: _rate(row["rate"]) for row in success["by_depth"]}
    lengths, depths = sorted(by_length), sorted(by_depth)
    return SuccessGrid(
        lengths=tuple(words.thousands(length) for length in lengths),
        rows=tuple(
            (words.depth(depth), tuple(cells.get((length, depth)) for length in lengths), by_depth[depth])
            for depth in depths
        ),
        totals=tuple(by_length[length] for length in lengths),
        overall=_rate(success["rate"]),
    )


def _rate(estimate: Json) -> RateCell:
    return RateCell(rate_level(estimate["value"]), words.figure(estimate, words.whole_percent))


def _always_on(always_on: Json, most: int = 24) -> str:
    """The always-on heads in words, with their definition."""
    definition = words.visible(always_on["definition"]).rstrip(".")
    if always_on["heads"] is None:
        return f"{definition}. Not computed: {words.visible(always_on['reason'] or 'no reason given')}."
    names = [f"{layer}.{head}" for layer, head in always_on["heads"]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{definition}. In this run: {', '.join(names[:most]) + more if names else 'none'}."


def _provenance(run: Json, covered: Coverage) -> tuple[tuple[str, str], ...]:
    model, haystack = run["model"], run["haystack"]
    source = ", ".join(f"{key} {value}" for key, value in haystack["source"].items() if isinstance(value, str | int))
    adapter = model.get("adapter")
    base = adapter and adapter["base"]
    rows = (
        ("Model", model["id"]),
        ("Model revision", model["revision"]),
        ("Adapter", adapter and f"{adapter['method']}, revision {adapter['revision']}"),
        ("Base of the adapter", base and f"{base['id']}, revision {base['revision']}"),
        ("Text decoder of", model.get("text_part_of")),
        ("Notes on the model", "; ".join(model.get("notes") or ())),
        ("Derived from", ", ".join(model.get("base_model") or ())),
        ("Read from", {"hub": "the Hub", "folder": "a local folder", "gguf": "a GGUF file"}.get(model["source"])),
        ("Haystack set", haystack["name"]),
        ("Set location", haystack["location"]),
        ("Set revision", haystack["revision"]),
        ("Set manifest, SHA-256", haystack["manifest_sha256"]),
        ("Set source", source),
        ("Measured on", covered.words),
        ("Protocol", "; ".join(protocol_facts(run, covered)[1:])),
        ("Engine", f"{run['engine']['name']}, version {run['engine']['version']}"),
        ("Run id", run["run_id"]),
        ("Schema", f"{run['schema']} {run['schema_version']}"),
    )
    return _shown(rows)


def _claimed(run: Json) -> tuple[tuple[str, str], ...]:
    """What is true of the submitter's machine and clock alone. Samples that are measured again elsewhere cannot show
    any of it, and two runs that differ in nothing else are the same run."""
    environment, timings = run["environment"], run["timings"]
    rows = (
        ("Device", f"{environment['device']} ({environment['device_name']})"),
        ("Platform", environment["platform"]),
        ("Versions", _versions(environment)),
        ("Commit", _commit(environment)),
        ("Wall time", words.duration(timings["seconds"])),
        ("Measured", f"{timings['started']} to {timings['finished']}"),
    )
    return _shown(rows)


def _shown(rows: Sequence[tuple[str, object]]) -> tuple[tuple[str, str], ...]:
    return tuple((label, words.visible(str(value))) for label, value in rows if value not in (None, ""))


def _versions(environment: Json) -> str:
    names = ("rh_bench", "python", "torch", "transformers", "numpy")
    return ", ".join(f"{name} {environment[name]}" for name in names if environment.get(name))


def _commit(environment: Json) -> str | None:
    if environment["commit"] is None:
        return None
    return f"{environment['commit']}{' with uncommitted changes' if environment['dirty'] else ''}"


def _files(run: Json) -> tuple[tuple[str, str], ...]:
    """Name and SHA-256 of the model's files and of the run's."""
    adapter = run["model"].get("adapter")
    bases = adapter["base"]["files"] if adapter else []
    model_files = [(file["path"], file["sha256"]) for file in [*run["model"]["files"], *bases]]
    return tuple((words.visible(name), digest) for name, digest in [*model_files, *sorted(run["files"].items())])


def reproduce_command(run: Json) -> str:
    """The command that measures this run again, quoted for a POSIX shell."""
    model, haystack, protocol = run["model"], run["haystack"], run["protocol"]
    grid = protocol["grid"]
    parts = ["rh-bench", "evaluate", _model_argument(model)]
    revision = haystack["revision"]
    parts += ["--haystack", f"{haystack['location']}@{revision}" if revision else haystack["location"], "--out", "runs"]
    parts += ["--engine", run["engine"]["name"], "--device", run["environment"]["device"]]
    parts += ["--dtype", protocol["dtype"], "--template", protocol["template"]]
    for option in ("lengths", "depths", "needles"):
        if grid[option] is not None:
            parts += [f"--{option}", ",".join(_number(item) for item in grid[option])]
    if grid["limit"] is not None:
        parts += ["--limit", str(grid["limit"])]
    if (limit := (protocol.get("thinking") or {}).get("limit")) is not None:
        parts += ["--thinking", "after", "--thought-tokens", str(limit)]
    window = stated_window(model)
    if window is not None:
        parts += ["--window", str(window)]
    return words.visible(shlex.join(parts))


def _model_argument(model: Json) -> str:
    if model["source"] == "hub":
        return hub_name(model)
    if model["source"] == "gguf" and model["files"]:
        return f"gguf:{model['files'][0]['path']}"
    return str(model["id"])


def _number(item: object) -> str:
    """A list item as the command line takes it: 50.0 as 50, every other float with all its digits."""
    return str(int(item)) if isinstance(item, float) and item.is_integer() else str(item)
