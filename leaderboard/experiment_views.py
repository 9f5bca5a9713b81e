"""Experiments as a reader sees them: verdicts in words, and the geometry of one chart a kind. Templates draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rh_bench.display import formatting as words
from rh_bench.display.axes import Tick, Whisker, whisker
from rh_bench.display.formatting import Figure, head_name, inline, p_text, points, signed
from rh_bench.display.palette import rate_level
from rh_bench.interchange.records import MEASURES
from rh_bench.leaderboard.experiment_badges import Verified, experiment_badge, verified
from rh_bench.records import Json

CLAIM_NAMES = {
    "universality": "Universal",
    "sparsity": "Sparse",
    "intrinsic": "Intrinsic",
    "dynamic": "Dynamic",
    "causal": "Causal",
    "reasoning": "Reasoning",
}
"""The columns of a scorecard across models."""
_MORE_NAMES = {
    "intrinsic_control": "Control: unrelated models",
    "extractive_qa": "Extractive questions",
    "reasoning_more_than_direct": "Reasoning more than answering",
}
_EFFECTS = {
    "universality": "share of heads above 0.1",
    "sparsity": "share of heads above 0.1",
    "intrinsic": "Pearson correlation",
    "intrinsic_control": "Pearson correlation",
    "dynamic": "share of retrieval heads active in fewer than 80% of contexts",
    "causal": "success, less that without random heads",
    "reasoning": "loss, beyond that without random heads",
    "reasoning_more_than_direct": "loss with chain of thought, less that without",
    "extractive_qa": "loss, beyond that without random heads",
}
VERDICTS = {
    "holds": ("holds", "yes", "✓"),
    "does_not_hold": ("does not hold", "no", "✕"),
    "not_enough_evidence": ("not enough evidence", "open", "?"),
}
"""Words, class and sign of each verdict."""
_SOURCES = {
    "run": "the run",
    "extractive_qa": "extractive questions",
    "chain_of_thought": "chain of thought",
}
_KINDS = {"none": "all heads", "top": "without the strongest", "random": "without random", "matched": "without matched"}
_CONTROLS = {"uniform": "random heads", "matched": "random heads of the same layers"}
PART_NAMES = ("begin", "middle", "end")
_PLANE = (560.0, 230.0)
_STRIP_CELL = 13.0


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A claim about one model."""

    claim: str
    name: str
    statement: str
    verdict: str
    verdict_class: str
    sign: str
    effect: Figure | None
    effect_about: str
    p_value: str
    n: str
    source: str
    reason: str
    tests: int
    badge: str = ""
    """How far that which the verdict rests on is verified: a key of `badges.ABOUT`."""


def score_rows(rows: Sequence[Json]) -> tuple[ScoreRow, ...]:
    """A scorecard, of the rows that a card keeps."""
    return tuple(_score_row(row) for row in rows)


def _score_row(row: Json) -> ScoreRow:
    verdict, verdict_class, sign = VERDICTS[row["verdict"]]
    claim = row["claim"]
    form = words.percent if claim in ("universality", "sparsity", "dynamic") else signed
    known = row["effect"] is not None and row["effect"]["value"] is not None
    return ScoreRow(
        claim=claim,
        name=CLAIM_NAMES.get(claim) or _MORE_NAMES.get(claim) or words.visible(claim.replace("_", " ")),
        statement=words.visible(row["statement"]),
        verdict=verdict,
        verdict_class=verdict_class,
        sign=sign,
        effect=words.figure(row["effect"], form) if known else None,
        effect_about=_EFFECTS.get(claim, "effect") if known else "",
        p_value="" if row["p_value"] is None else p_text(row["p_value"]),
        n="" if row["n"] is None else words.thousands(row["n"]),
        source=_SOURCES.get(row["source"]) or str(row["source"] or ""),
        reason=words.visible(row["reason"] or ""),
        tests=row["tests"],
        badge=row.get("badge") or "",
    )


# Causal


@dataclass(frozen=True, slots=True)
class Band:
    """One line of the causal chart."""

    name: str
    colour: str
    line: str
    band: str
    dots: tuple[tuple[float, float, str], ...]
    """Where each point lies, and what it says."""


@dataclass(frozen=True, slots=True)
class CausalView:
    """Success over the number of heads removed, on a plane of `width` × `height`."""

    width: float
    height: float
    bands: tuple[Band, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    retrieval_x: float | None
    """Where as many heads are removed as there are retrieval heads."""
    retrieval_heads: int
    about: str
    rows: tuple[tuple[str, ...], ...]
    """K, without the strongest, without random ones and the difference, twice; and how answers fail without the
    strongest."""
    badge: str = ""
    """How far it is verified."""


def causal_view(chart: Json) -> CausalView:
    """The causal curve. K goes by steps of equal width, since it grows faster and faster."""
    width, height = _PLANE
    places = {k: i for i, k in enumerate([0, *(point["k"] for point in chart["points"])])}
    pitch = width / max(1, len(places) - 1)

    def x(k: int) -> float:
        return round(places[k] * pitch, 1)

    def y(share: float) -> float:
        return round(height * (1 - min(max(share, 0.0), 1.0)), 1)

    def band(name: str, colour: str, estimates: Mapping[int, Json]) -> Band:
        known = [(k, one) for k, one in estimates.items() if one["value"] is not None]
        ends = [(k, one) for k, one in known if one["low"] is not None]
        edge = [(x(k), y(one["high"])) for k, one in ends] + [(x(k), y(one["low"])) for k, one in reversed(ends)]
        dots = tuple(
            (x(k), y(one["value"]), f"{name}, {k} removed: {inline(words.figure(one, words.percent))}")
            for k, one in known
        )
        line = "M" + "L".join(f"{a:g} {b:g}" for a, b, _ in dots) if dots else ""
        return Band(name, colour, line, "M" + "L".join(f"{a:g} {b:g}" for a, b in edge) + "Z" if edge else "", dots)

    base = {0: chart["baseline"]}
    bands = [band("strongest heads", "top", base | {point["k"]: point["top"] for point in chart["points"]})]
    for control, name in _CONTROLS.items():
        own = {point["k"]: point["controls"][control] for point in chart["points"] if control in point["controls"]}
        if own:
            bands.append(band(name, control, base | own))
    return CausalView(
        badge=chart.get("badge") or "",
        width=width,
        height=height,
        bands=tuple(bands),
        x_ticks=tuple(Tick(x(k), str(k)) for k in places),
        y_ticks=tuple(Tick(y(share / 4), f"{share * 25}%") for share in range(5)),
        retrieval_x=_between(chart["retrieval_heads"], places, pitch),
        retrieval_heads=chart["retrieval_heads"],
        about=_causal_about(chart),
        rows=tuple(_causal_row(point) for point in chart["points"]),
    )


_HOW = {"mean": "at their mean", "span": "blind to the answer", "uniform": "blurred, as in the paper's code"}
_PHASE = {"prefill": "before the answer only", "decode": "while the answer is produced only"}


def _causal_about(chart: Json) -> str:
    """What was measured, and how heads were changed where that is not the rule (zero, everywhere)."""
    needles = "one needle" if chart["needles"] == 1 else f"{chart['needles']} needles"
    about = f"{chart['samples']} samples of {needles} that the detection never saw"
    special = [names[key] for names, key in ((_HOW, chart["how"]), (_PHASE, chart["phase"])) if key in names]
    return f"{about}; heads {', '.join(special)}" if special else about


def _between(count: int, places: Mapping[int, int], pitch: float) -> float | None:
    """Where `count` lies on an axis of unequal steps; None beyond its ends."""
    known = sorted(places)
    for low, high in pairwise(known):
        if low <= count <= high:
            return round((places[low] + (count - low) / (high - low)) * pitch, 1)
    return None


def _causal_row(point: Json) -> tuple[str, ...]:
    controls = []
    for control in _CONTROLS:
        if control in point["controls"]:
            difference = words.figure(point["differences"][control], points)
            controls += [
                inline(words.figure(point["controls"][control], words.percent)),
                f"{inline(difference)}, p {p_text(point['p_values'][control])}",
            ]
        else:
            controls += [words.MISSING, words.MISSING]
    failures = [f"{count} {kind.replace('_', ' ')}" for kind, count in point["failures"].items() if count]
    top = inline(words.figure(point["top"], words.percent))
    return (str(point["k"]), top, *controls, ", ".join(failures) or words.MISSING)


# Dynamic


@dataclass(frozen=True, slots=True)
class StripCell:
    """One head: its colour level, and what it says."""

    x: float
    level: int | None
    label: str


@dataclass(frozen=True, slots=True)
class RateRow:
    """One head over the depths."""

    head: str
    score: str
    cells: tuple[tuple[str, int | None, str], ...]
    """Text, level and label of all contexts, then of each depth."""
    depends: str
    parts: tuple[tuple[str, int | None, str], ...]
    """Share of what was copied that lies in each part of the answer: text, level and label."""
    part_q: str


@dataclass(frozen=True, slots=True)
class DynamicView:
    """In which contexts heads are active."""

    contexts: int
    active_heads: int
    retrieval_heads: int
    always_on: str
    strip: tuple[StripCell, ...]
    strip_width: float
    strip_cell: float
    depths: tuple[str, ...]
    parts: tuple[str, ...]
    """Names of the parts of the answer."""
    rows: tuple[RateRow, ...]
    factors: tuple[tuple[str, str, str], ...]
    """A factor, how many heads depend on it, and what qualifies that."""
    strengths: tuple[tuple[str, ...], ...]
    """Class of heads, how many, mean frequency, dependent on context, on the part of the answer."""
    badge: str = ""
    """How far it is verified."""


def dynamic_view(chart: Json, most: int = 20) -> DynamicView:
    """The strip of all kept heads, and a table of the strongest."""
    strip = tuple(
        StripCell(
            round(i * (_STRIP_CELL + 1.5), 1),
            rate_level(row["frequency"]["value"]),
            f"Head {head_name(row['head'])}: active in {inline(words.figure(row['frequency'], words.whole_percent))}",
        )
        for i, row in enumerate(chart["heads"])
    )
    return DynamicView(
        badge=chart.get("badge") or "",
        contexts=chart["contexts"],
        active_heads=chart["active_heads"],
        retrieval_heads=chart["retrieval_heads"],
        always_on=words.MISSING if chart["always_on"] is None else str(chart["always_on"]),
        strip=strip,
        strip_width=round(max(len(strip), 1) * (_STRIP_CELL + 1.5) - 1.5, 1),
        strip_cell=_STRIP_CELL,
        depths=tuple(words.depth(depth) for depth in chart["depths"]),
        parts=_part_names(chart["heads"]),
        rows=tuple(_rate_row(row, chart["depths"]) for row in chart["heads"][:most]),
        factors=tuple(_factor_row(row) for row in chart["factors"]),
        strengths=tuple(_strength_row(row) for row in chart["strengths"]),
    )


def _rate_row(row: Json, depths: Sequence[float]) -> RateRow:
    name, overall = head_name(row["head"]), row["frequency"]["value"]
    cells = [(words.whole_percent(overall), rate_level(overall), f"Head {name}, all contexts")]
    for depth, rate in zip(depths, row["by_depth"], strict=False):
        text = words.MISSING if rate is None else words.whole_percent(rate)
        cells.append((text, rate_level(rate), f"Head {name}, depth {words.depth(depth)}"))
    parts = row["parts"]
    total = sum(parts["copied"])
    return RateRow(
        head=name,
        score=words.score(row["score"]),
        cells=tuple(cells),
        depends=", ".join(row["depends"]),
        parts=tuple(
            (words.whole_percent(c / total), rate_level(c / total), f"Head {name}: {c} copied, {e:.1f} expected")
            for c, e in zip(parts["copied"], parts["expected"], strict=True)
            if total
        ),
        part_q=p_text(parts["q_value"]),
    )


def _part_names(heads: Sequence[Json]) -> tuple[str, ...]:
    count = len(heads[0]["parts"]["copied"]) if heads else 0
    return PART_NAMES if count == len(PART_NAMES) else tuple(str(i + 1) for i in range(count))


def _factor_row(row: Json) -> tuple[str, str, str]:
    confounded = f"not told apart from {' and '.join(row['confounded'])}" if row["confounded"] else ""
    if row["reason"]:
        return row["factor"], words.MISSING, row["reason"]
    return row["factor"], f"{row['dependent']} of {row['tested']}", confounded


def _strength_row(row: Json) -> tuple[str, ...]:
    frequency = words.MISSING if row["mean_frequency"] is None else words.percent(row["mean_frequency"])
    return (
        {"strong": "score above 0.5", "retrieval": "0.1 to 0.5", "weak": "below 0.1"}[row["strength"]],
        str(row["heads"]),
        frequency,
        f"{row['context_dependent']} of {row['context_tested']}",
        f"{row['part_dependent']} of {row['part_tested']}",
    )


# Intrinsic


@dataclass(frozen=True, slots=True)
class PairView:
    """Two models."""

    names: tuple[str, str]
    slugs: tuple[tuple[str, str], tuple[str, str]]
    """Slug and run id of each."""
    relation: str
    note: str
    """What is compared, where it is not retrieval scores."""
    pearson: Figure
    shape: Whisker | None
    at_random: str
    p_value: str
    shared: str
    others: tuple[tuple[str, Figure, str], ...]
    """Other measures: name, value, and what chance would give."""
    badge: str = ""
    """How far it is verified."""


def pair_view(chart: Json) -> PairView:
    """How similar two models are, by all measures."""
    by_name = {row["measure"]: row for row in chart["measures"]}
    first = by_name["pearson"]
    names = [words.visible(model["id"]) for model in chart["models"]]
    runs = [(run["slug"], run["run_id"]) for run in chart["runs"]]
    return PairView(
        badge=chart.get("badge") or "",
        names=(names[0], names[1]),
        slugs=(runs[0], runs[1]),
        relation={"derived": "derived", "unrelated": "unrelated", "unknown": "not said"}[chart["relation"]],
        note="" if chart["numbers"] == "score" else MEASURES[chart["numbers"]],
        pearson=words.figure(first["similarity"], signed),
        shape=whisker(first["similarity"], 1.0, None),
        at_random=words.MISSING if first["at_random"] is None else signed(first["at_random"]),
        p_value=p_text(first["p_value"]),
        shared=f"{chart['shared']} of {chart['retrieval_heads'][0]} and {chart['retrieval_heads'][1]}",
        others=tuple(
            (
                _measure_name(name),
                words.figure(row["similarity"], signed),
                words.MISSING if row["at_random"] is None else signed(row["at_random"]),
            )
            for name, row in by_name.items()
        ),
    )


def _measure_name(name: str) -> str:
    if name.startswith("top_"):
        return f"overlap of the {name.removeprefix('top_')} strongest"
    return {
        "pearson": "Pearson correlation",
        "spearman": "Spearman correlation",
        "jaccard": "Jaccard overlap above 0.1",
    }.get(name, words.visible(name))


# Questions


@dataclass(frozen=True, slots=True)
class AnswersView:
    """Scores of one question set."""

    task: str
    measure: str
    questions: str
    removed: int
    modes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Figure | None, ...]], ...]
    """Which heads are gone, and the score in each mode."""
    losses: tuple[tuple[str, str, Figure, str], ...]
    """Mode, against what, loss of the strongest heads, p."""
    more: tuple[tuple[str, Figure, str], ...]
    """What chain of thought gains, and what it loses beyond direct answers."""
    badge: str = ""
    """How far it is verified."""


def answers_view(chart: Json) -> AnswersView:
    """A table of heads removed × ways of asking."""
    modes = tuple(dict.fromkeys(row["mode"] for row in chart["rows"]))
    cells = {(row["kind"], row["mode"]): row for row in chart["rows"]}
    kinds = dict.fromkeys(row["kind"] for row in chart["rows"])

    def cell(kind: str, mode: str) -> Figure | None:
        row = cells.get((kind, mode))
        return None if row is None else words.figure(row["score"], words.percent)

    def about(kind: str) -> str:
        draws = max(row["draws"] for row in chart["rows"] if row["kind"] == kind)
        count = "" if kind == "none" else f" {chart['removed']}"
        return f"{_KINDS.get(kind, words.visible(kind))}{count}" + (f", mean of {draws} draws" if draws > 1 else "")

    extra = chart["chain_of_thought"]
    return AnswersView(
        badge=chart.get("badge") or "",
        task=words.visible(chart["task"]),
        measure=words.visible(chart["measure"]),
        questions=words.thousands(chart["questions"]),
        removed=chart["removed"],
        modes=tuple(_mode(mode) for mode in modes),
        rows=tuple((about(kind), tuple(cell(kind, mode) for mode in modes)) for kind in kinds),
        losses=tuple(
            (
                _mode(row["mode"]),
                _KINDS.get(row["control"], words.visible(row["control"])),
                words.figure(row["loss"], points),
                p_text(row["p_value"]),
            )
            for row in chart["comparisons"]
        ),
        more=()
        if extra is None
        else (
            ("gain by chain of thought", words.figure(extra["gain"], points), p_text(extra["gain_p_value"])),
            (
                "loss with it, beyond that without",
                words.figure(extra["extra_loss"], points),
                p_text(extra["extra_loss_p_value"]),
            ),
        ),
    )


def _mode(mode: str) -> str:
    return {"direct": "answer at once", "cot": "chain of thought"}.get(mode, words.visible(mode))


# Detectors


@dataclass(frozen=True, slots=True)
class AgreementView:
    """How far detectors agree."""

    samples: str
    names: tuple[str, ...]
    detectors: tuple[tuple[str, str, str], ...]
    """Name, heads named, samples."""
    rows: tuple[tuple[str, tuple[tuple[str, int | None, str], ...]], ...]
    """A score, and its rank correlation with every other: text, level, label."""
    count: Figure
    heads: tuple[str, ...]
    badge: str = ""
    """How far it is verified."""


def detectors_view(chart: Json) -> AgreementView:
    """A matrix of rank correlations, and the heads that all detectors name."""
    pairs = {(pair["a"], pair["b"]): pair["spearman"] for pair in chart["pairs"]}
    names = list(dict.fromkeys(name for pair in pairs for name in pair))

    def cell(a: str, b: str) -> tuple[str, int | None, str]:
        if a == b:
            return "", None, ""
        found = words.figure(pairs.get((a, b)) or pairs[b, a], signed)
        value = (pairs.get((a, b)) or pairs[b, a])["value"]
        return found.text, rate_level(None if value is None else max(0.0, value)), f"{a} and {b}: {inline(found)}"

    return AgreementView(
        badge=chart.get("badge") or "",
        samples=words.thousands(chart["samples"]),
        names=tuple(words.visible(name) for name in names),
        detectors=tuple(
            (
                words.visible(row["name"]),
                words.MISSING if row["named"] is None else str(row["named"]),
                words.thousands(row["n"]),
            )
            for row in chart["detectors"]
        ),
        rows=tuple((words.visible(a), tuple(cell(a, b) for b in names)) for a in names),
        count=words.figure(chart["count"], words.count),
        heads=tuple(head_name(head) for head in chart["heads"]),
    )


# One run


@dataclass(frozen=True, slots=True)
class Experiments:
    """Everything about one run."""

    rows: tuple[ScoreRow, ...]
    causal: tuple[CausalView, ...]
    dynamic: tuple[DynamicView, ...]
    pairs: tuple[PairView, ...]
    answers: tuple[AnswersView, ...]
    detectors: tuple[AgreementView, ...]
    rejected: tuple[tuple[str, str], ...]
    verified: tuple[Verified, ...]
    """All of them, with how far each is verified."""


def experiments_view(
    scorecard: Sequence[Json], experiments: Sequence[Json], rejected: Sequence[tuple[str, str]]
) -> Experiments:
    """Scorecard and charts of one run, from what its card keeps."""
    charts: dict[str, list[Json]] = {}
    for one in experiments:
        charts.setdefault(one["kind"], []).append({**one["chart"], "badge": experiment_badge(one.get("record")).name})
    answers = [*charts.get("extractive_qa", []), *charts.get("chain_of_thought", [])]
    return Experiments(
        rows=score_rows(scorecard),
        causal=tuple(causal_view(chart) for chart in charts.get("causal", [])),
        dynamic=tuple(dynamic_view(chart) for chart in charts.get("dynamic", [])),
        pairs=tuple(pair_view(chart) for chart in charts.get("intrinsic", [])),
        answers=tuple(answers_view(chart) for chart in answers),
        detectors=tuple(detectors_view(chart) for chart in charts.get("detectors", [])),
        rejected=tuple((words.visible(folder), words.visible(why)) for folder, why in rejected),
        verified=verified(experiments),
    )
