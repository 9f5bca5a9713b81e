"""A run in the terminal: heat map of layers × heads, the strongest heads, success by length and depth. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.color import Color
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from rh_bench.artifacts.coverage import coverage
from rh_bench.errors import InputError
from rh_bench.records import SCORED_KINDS, Json

MISSING = "–"
UNSCORED = "?"
SCHEMA_MAJOR = "1"

_RAMP = ("#3d1a54", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
"""matplotlib's viridis: lightness rises steadily, so it can be read without telling hues apart."""

_ZERO = "#262b31"

Scores = dict[tuple[int, int], float | None]
Format = Callable[[float], str]


def show(folder: Path, console: Console, top: int = 10) -> None:
    """Print a run.

    Args:
        folder: a finished run.
        console: to print on; its width, colours and encoding decide how the heat map is drawn.
        top: number of strongest heads to list.

    Raises:
        InputError: `folder` is not a finished run, or one of its files cannot be read.
    """
    console.print(render_run(folder, top))


def render_run(folder: Path, top: int = 10) -> Group:
    """A run as rich renderables. Arguments and errors as in `show`."""
    run = _read_json(folder / "run.json", "rh_bench/run", "the run is unfinished: rh-bench evaluate resumes it")
    summary = _read_json(folder / "summary.json", "rh_bench/summary", "recompute it with rh-bench score")
    scores = _read_scores(folder / "heads.parquet")
    try:
        return _render(run, summary, scores, top)
    except KeyError as error:
        raise InputError(f"has no field {error}", where=folder, hint="check it with rh-bench validate") from error


def render_figures(folder: Path, top: int = 5) -> Group:
    """The figures and strongest heads of a run without its heat map. Errors as in `show`."""
    run = _read_json(folder / "run.json", "rh_bench/run", "the run is unfinished: rh-bench evaluate resumes it")
    summary = _read_json(folder / "summary.json", "rh_bench/summary", "recompute it with rh-bench score")
    return Group(_heading(run), _figures(run, summary), Text(), _top_heads(summary["top_heads"][:top]))


def _render(run: Json, summary: Json, scores: Scores, top: int) -> Group:
    threshold = run["protocol"]["head_threshold"]
    parts: list[RenderableType] = [
        _heading(run),
        _figures(run, summary),
        Text(),
        HeatMap(tuple(run["model"]["layers"]), scores, threshold),
        Text(),
        _top_heads(summary["top_heads"][:top]),
        Text(),
        _success_grid(summary["success"]),
    ]
    return Group(*parts)


def _read_json(path: Path, schema: str, hint: str) -> Json:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("cannot be read", where=path, hint=hint) from error
    except ValueError as error:
        raise InputError("is not JSON", where=path, hint=hint) from error
    if not isinstance(document, dict) or document.get("schema") != schema:
        raise InputError(f"does not follow schema {schema}", where=path, hint=hint)
    if str(document.get("schema_version")).split(".")[0] != SCHEMA_MAJOR:
        version = document.get("schema_version")
        raise InputError(
            f"has schema version {version}; this rh_bench reads {SCHEMA_MAJOR}.x", where=path, hint="upgrade"
        )
    return document


def _read_scores(path: Path) -> Scores:
    try:
        rows = pq.read_table(path, columns=["layer", "head", "score"]).to_pylist()
    except (OSError, ValueError) as error:
        raise InputError("cannot be read", where=path, hint="recompute it with rh-bench score") from error
    return {(row["layer"], row["head"]): row["score"] for row in rows}


def _heading(run: Json) -> Text:
    model, haystack = run["model"], run["haystack"]
    text = Text(_plain(model["id"]), style="bold")
    text.append(f"  {_plain(model['revision'])[:12]}\n", style="dim")
    heads = f"{run['counts']['heads']} heads in {len(model['layers'])} layers"
    text.append(f"{heads}, set {_plain(haystack['name'])}", style="dim")
    covered = coverage(run)
    text.append(f"\nmeasured on {_plain(covered.words)}", style="dim" if covered.whole else "yellow")
    for note in run["engine"]["notes"]:
        text.append(f"\nnote: {_plain(note)}", style="yellow")
    return text


def _plain(text: str) -> str:
    """`text` with control and other unprintable characters written out: a run may come from anyone, and its names must
    not control the terminal."""
    return "".join(char if char.isprintable() else f"⟨U+{ord(char):04X}⟩" for char in text)


def _figures(run: Json, summary: Json) -> Table:
    """The numbers of the run, each with its interval."""
    sparsity, threshold = summary["sparsity"], run["protocol"]["head_threshold"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    rows = (
        (f"heads above {threshold:g}", sparsity["share_above_0.1"], _percent),
        ("heads at zero", sparsity["share_zero"], _percent),
        ("Gini", sparsity["gini"], _three),
        ("success", summary["success"]["rate"], _percent),
    )
    for name, estimate, form in rows:
        note = _interval(estimate, form) if estimate["value"] is not None else f"not computed: {estimate['reason']}"
        if name == "success":
            note = f"{note}, {summary['n_counted']} of {summary['n_samples']} samples count"
        table.add_row(name, _value(estimate, form), note)
    return table


def _top_heads(rows: Sequence[Json]) -> RenderableType:
    if not rows:
        return Text("No heads to list.", style="dim")
    table = Table(title="Top heads", title_justify="left", title_style="bold", box=None, padding=(0, 1), pad_edge=False)
    for name in ("rank", "layer", "head", "score", "95%", "active"):
        table.add_column(name, justify="right", header_style="dim", style="dim" if name == "95%" else "")
    for row in rows:
        rank = MISSING if row["rank"] is None else str(row["rank"])
        if row["rank_low"] is not None and row["rank_high"] is not None:
            rank = f"{rank} ({row['rank_low']}–{row['rank_high']})"
        active = MISSING if row["activation_frequency"] is None else _percent(row["activation_frequency"])
        score = MISSING if row["score"] is None else _three(row["score"])
        table.add_row(rank, str(row["layer"]), str(row["head"]), score, _interval(row, _three), active)
    return table


def _success_grid(success: Json) -> Table:
    """Success by length (rows) and depth (columns); a cell that the set does not have stays empty."""
    cells = {(row["length"], row["depth"]): row["rate"] for row in success["by_cell"]}
    lengths = sorted({length for length, _ in cells})
    depths = sorted({depth for _, depth in cells})
    title = "Success by length and depth"
    table = Table(
        min_width=len(title),
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1),
        pad_edge=False,
    )
    table.add_column("tokens", justify="right", header_style="dim", style="dim")
    for depth in depths:
        table.add_column(f"{depth:.3g}%", justify="right", header_style="dim", no_wrap=True)
    for length in lengths:
        found = (cells.get((length, depth)) for depth in depths)
        table.add_row(str(length), *("" if rate is None else _value(rate, _whole_percent) for rate in found))
    return table


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Layers down, query heads across. Coloured cells where the console has colours; without them a dot for zero, a
    shade for up to the threshold, and a digit of tenths above it. Heads that do not fit the width go into a next block.
    """

    layers: tuple[Json, ...]
    scores: Scores
    """Of every (layer, query head) that is scored; None if no sample counted."""
    threshold: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        colour = console.color_system is not None and not console.no_color
        marks = _Marks(colour, self.threshold)
        heads = max((head for _, head in self.scores), default=-1) + 1
        margin = max(len(str(layer["index"])) for layer in self.layers) + 1 if self.layers else 1
        room = max(options.max_width - margin, 2)
        wide = 2 if heads * 2 <= room else 1
        for start in range(0, max(heads, 1), room // wide):
            yield from self._block(range(start, min(start + room // wide, heads)), marks, margin, wide)
        yield Padding(marks.legend(), (0, 0, 0, margin))

    def _block(self, heads: range, marks: _Marks, margin: int, wide: int) -> Iterator[Text]:
        every = 4 if wide == 2 else 8
        ruler = "".join(str(head).ljust(every * wide) for head in heads if (head - heads.start) % every == 0)
        yield Text(" " * margin + ruler.rstrip()[: len(heads) * wide + wide], style="dim", no_wrap=True)
        for layer in self.layers:
            line = Text(f"{layer['index']:>{margin - 1}} ", style="dim", no_wrap=True, overflow="ellipsis")
            if layer["kind"] in SCORED_KINDS:
                own = [head for head in heads if head < layer["query_heads"]]
                line.append_text(Text.assemble(*(marks.cell(self.scores.get((layer["index"], h)), wide) for h in own)))
            else:
                line.append(f"{_plain(layer['kind'])}: no heads to score")
            yield line


@dataclass(frozen=True, slots=True)
class _Marks:
    """How a score looks in a cell."""

    colour: bool
    threshold: float

    def cell(self, score: float | None, wide: int) -> tuple[str, Style]:
        """`wide` characters and their style; the digit of a head above the threshold stands in both kinds of map."""
        if score is None:
            return UNSCORED.ljust(wide), Style(dim=True)
        digit = str(min(int(score * 10 + 1e-9), 9)) if score > self.threshold else ""
        if self.colour:
            dark = math.sqrt(min(max(score, 0.0), 1.0)) < 0.6
            ink = Color.parse("#ffffff" if dark else "#000000")
            return digit.ljust(wide), Style(color=ink, bgcolor=_shade(score), bold=True)
        return (digit or ("░" if score > 0 else "·")).ljust(wide), Style()

    def legend(self) -> Text:
        if not self.colour:
            return Text(f"· zero  ░ up to {self.threshold:g}  1 to 9 tenths, above {self.threshold:g}", style="dim")
        text = Text("score ", style="dim")
        for score in (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0):
            text.append("  ", style=Style(bgcolor=_shade(score)))
            text.append(f" {score:g} ", style="dim")
        text.append(f"\ndigits are tenths, for heads above {self.threshold:g}", style="dim")
        return text


def _shade(score: float) -> Color:
    """Colour of a score on a square-root scale over [0, 1], the same for every model; zero has a colour of its own."""
    if score <= 0:
        return Color.parse(_ZERO)
    place = math.sqrt(min(score, 1.0)) * (len(_RAMP) - 1)
    index = min(int(place), len(_RAMP) - 2)
    start, end = Color.parse(_RAMP[index]).get_truecolor(), Color.parse(_RAMP[index + 1]).get_truecolor()
    red, green, blue = (a + (b - a) * (place - index) for a, b in zip(start, end, strict=True))
    return Color.from_rgb(round(red), round(green), round(blue))


def _value(estimate: Json, form: Format) -> str:
    return MISSING if estimate["value"] is None else form(estimate["value"])


def _interval(estimate: Json, form: Format) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return ""
    return f"{form(estimate['low']).removesuffix('%')}–{form(estimate['high'])}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f}%"


def _whole_percent(share: float) -> str:
    return f"{share * 100:.0f}%"


def _three(value: float) -> str:
    return f"{value:.3f}"
