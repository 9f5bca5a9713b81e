"""What the page of one run shows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from rh_bench.records import Json

from . import words
from .badges import Badge, badge
from .cards import page_path, protocol_facts, shape
from .charts import Curve, Profile, layer_profile, score_curve
from .collect import Entry, Head
from .palette import rate_level, score_level
from .render import Document, Frame
from .words import Figure

VERDICTS = {"holds": "Holds", "does_not_hold": "Does not hold", "not_enough_evidence": "Not enough evidence"}


@dataclass(frozen=True, slots=True)
class Hero:
    """One of the large numbers at the top of the page."""

    label: str
    figure: Figure
    note: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One head in the heat map. `facts` is what the tooltip says, one entry a line."""

    level: int | None
    text: str
    above: bool
    quiet: bool
    """Too near zero for two digits to say anything."""
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One layer of the heat map: its cells, or the reason why it has none."""

    layer: int
    kind: str
    window: int | None
    cells: tuple[Cell, ...]
    padding: int
    """Columns left empty because another layer has more heads."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    rows: tuple[HeatRow, ...]
    columns: int
    size: str
    """"large", "medium" or "small": how much room a cell gets, by the number of columns."""


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
class TopHead:
    layer: int
    head: int
    score: Figure
    rank: str
    rank_interval: str
    activation: str
    activation_sort: str


@dataclass(frozen=True, slots=True)
class Claim:
    name: str
    statement: str
    verdict: str
    verdict_class: str
    evidence: Figure | None
    reason: str


@dataclass(frozen=True, slots=True)
class ModelPage:
    page: str
    model: str
    facts: tuple[str, ...]
    heroes: tuple[Hero, ...]
    heat: HeatMap
    top_heads: tuple[TopHead, ...]
    success: SuccessGrid
    recall: Figure
    curve: Curve | None
    profile: Profile | None
    threshold: str
    counted: int
    samples: int
    confidence: str
    strata: str
    claims: tuple[Claim, ...]
    always_on: str
    provenance: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    command: str
    notes: tuple[str, ...]
    badge: Badge


def documents(entry: Entry, frame: Frame) -> Iterator[Document]:
    """The files of one run: its page."""
    view = model_page(entry)
    yield view.page, frame.render("model.html", view.page, view=view)


def model_page(entry: Entry) -> ModelPage:
    """Everything the template needs for one run."""
    run, summary = entry.run, entry.summary
    threshold = run["protocol"]["head_threshold"]
    return ModelPage(
        page=page_path(entry),
        model=words.visible(run["model"]["id"]),
        facts=_facts(run),
        heroes=_heroes(run, summary),
        heat=heat_map(run["model"]["layers"], entry.heads, threshold),
        top_heads=tuple(_top_head(row) for row in summary["top_heads"]),
        success=success_grid(summary["success"]),
        recall=words.figure(summary["success"]["mean_rouge1_recall"], words.score),
        curve=score_curve(entry.heads, threshold),
        profile=layer_profile(summary["universality"]["layers"]),
        threshold=f"{threshold:g}",
        counted=summary["n_counted"],
        samples=summary["n_samples"],
        confidence=words.whole_percent(summary["bootstrap"]["confidence"]),
        strata=" × ".join(summary["bootstrap"]["strata"]),
        claims=tuple(_claim(row) for row in summary["claims"]),
        always_on=_always_on(summary["always_on"]),
        provenance=_provenance(run),
        files=_files(run),
        command=reproduce_command(run),
        notes=tuple(words.visible(str(note)) for note in run["engine"]["notes"]),
        badge=badge(entry.verification),
    )


def _facts(run: Json) -> tuple[str, ...]:
    model = run["model"]
    facts = (
        model["architecture"],
        f"{words.parameters(model['parameters'])} parameters",
        f"{shape(model['layers'])} heads",
        f"window {words.thousands(model['window'])}",
        f"set {run['haystack']['name']}",
        f"measured {run['timings']['started'][:10]}",
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
        Hero("Gini", words.figure(sparsity["gini"], words.score), "0: all heads alike, 1: one head does it all"),
        Hero(
            "Effective heads", words.figure(sparsity["effective_heads"], words.count), "as many equal ones would act so"
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


def heat_map(layers: list[Json], heads: tuple[Head, ...], threshold: float) -> HeatMap:
    """Rows of layers, columns of query heads. Layers without softmax attention stay in view, named, without cells."""
    by_place = {(head.layer, head.head): head for head in heads}
    columns = max((head.head for head in heads), default=-1) + 1
    rows = []
    for layer in layers:
        scored = layer["kind"] in ("full", "sliding")
        wide = layer["query_heads"] if scored else 0
        cells = tuple(_cell(by_place[layer["index"], head], threshold) for head in range(wide))
        rows.append(HeatRow(layer["index"], words.visible(layer["kind"]), layer["window"], cells, columns - wide))
    return HeatMap(tuple(rows), columns, "large" if columns <= 16 else "medium" if columns <= 40 else "small")


def _cell(head: Head, threshold: float) -> Cell:
    name = f"Layer {head.layer}, head {head.head}"
    if head.score is None:
        return Cell(None, "?", False, False, (name, "No score: no sample counted"))
    facts = [name, f"Score {_with_interval(words.score(head.score), head.score_low, head.score_high)}"]
    if head.rank is not None:
        facts.append(f"Rank {head.rank}{_rank_interval(head.rank_low, head.rank_high, ' ({})')}")
    if head.activation_frequency is not None:
        facts.append(f"Copies in {words.percent(head.activation_frequency)} of counted samples")
    text = f"{head.score:.2f}".removeprefix("0") if head.score > 0 else "0"
    return Cell(score_level(head.score), text, head.score > threshold, head.score < 0.005, tuple(facts))


def _with_interval(text: str, low: float | None, high: float | None) -> str:
    ends = words.interval(low, high, words.score)
    return f"{text} ({ends})" if ends else text


def _rank_interval(low: int | None, high: int | None, form: str = "{}") -> str:
    return "" if low is None or high is None else form.format(f"{low}–{high}")


def _top_head(row: Json) -> TopHead:
    estimate = {"value": row["score"], "low": row["low"], "high": row["high"], "n": 0, "reason": None}
    activation = row["activation_frequency"]
    return TopHead(
        layer=row["layer"],
        head=row["head"],
        score=words.figure(estimate, words.score),
        rank=words.MISSING if row["rank"] is None else str(row["rank"]),
        rank_interval=_rank_interval(row["rank_low"], row["rank_high"]),
        activation=words.MISSING if activation is None else words.percent(activation),
        activation_sort="" if activation is None else repr(float(activation)),
    )


def success_grid(success: Json) -> SuccessGrid:
    """The grid of cells that were measured. A cell that the set does not have is None, not zero."""
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


def _claim(row: Json) -> Claim:
    share = row["claim"] == "sparsity"
    evidence = row["evidence"]
    return Claim(
        name=words.visible(row["claim"].replace("_", " ").capitalize()),
        statement=words.visible(row["statement"]),
        verdict=VERDICTS[row["verdict"]],
        verdict_class=row["verdict"].replace("_", "-"),
        evidence=None if evidence is None else words.figure(evidence, words.percent if share else words.score),
        reason=words.visible(row["reason"] or ""),
    )


def _always_on(always_on: Json, most: int = 24) -> str:
    """The always-on heads in words, with their definition."""
    definition = words.visible(always_on["definition"]).rstrip(".")
    if always_on["heads"] is None:
        return f"{definition}. Not computed: {words.visible(always_on['reason'] or 'no reason given')}."
    names = [f"{layer}.{head}" for layer, head in always_on["heads"]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{definition}. In this run: {', '.join(names[:most]) + more if names else 'none'}."


def _provenance(run: Json) -> tuple[tuple[str, str], ...]:
    model, haystack, environment, timings = run["model"], run["haystack"], run["environment"], run["timings"]
    source = ", ".join(f"{key} {value}" for key, value in haystack["source"].items() if isinstance(value, str | int))
    rows = (
        ("Model", model["id"]),
        ("Model revision", model["revision"]),
        ("Read from", {"hub": "the Hub", "folder": "a local folder", "gguf": "a GGUF file"}.get(model["source"])),
        ("Haystack set", haystack["name"]),
        ("Set location", haystack["location"]),
        ("Set revision", haystack["revision"]),
        ("Set manifest, SHA-256", haystack["manifest_sha256"]),
        ("Set source", source),
        ("Protocol", "; ".join(protocol_facts(run)[1:])),
        ("Engine", f"{run['engine']['name']}, version {run['engine']['version']}"),
        ("Device", f"{environment['device']} ({environment['device_name']})"),
        ("Platform", environment["platform"]),
        ("Versions", _versions(environment)),
        ("Commit", _commit(environment)),
        ("Wall time", words.duration(timings["seconds"])),
        ("Measured", f"{timings['started']} to {timings['finished']}"),
        ("Run id", run["run_id"]),
        ("Schema", f"{run['schema']} {run['schema_version']}"),
    )
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
    model_files = [(file["path"], file["sha256"]) for file in run["model"]["files"]]
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
    return words.visible(shlex.join(parts))


def _model_argument(model: Json) -> str:
    if model["source"] == "hub":
        return f"{model['id']}@{model['revision']}"
    if model["source"] == "gguf" and model["files"]:
        return f"gguf:{model['files'][0]['path']}"
    return str(model["id"])


def _number(item: object) -> str:
    """A list item as the command line takes it: 50.0 as 50, every other float with all its digits."""
    return str(int(item)) if isinstance(item, float) and item.is_integer() else str(item)
