"""What the pages across runs need of one run: a small record that is kept, so that no run has to be in memory with
another, and that an unchanged run need not be read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from rh_bench.artifacts.coverage import OWN, WHOLE_GRID, Coverage
from rh_bench.display import formatting as words
from rh_bench.leaderboard.activity import Activity
from rh_bench.leaderboard.badges import badge
from rh_bench.leaderboard.collect import Entry
from rh_bench.leaderboard.compared_heads import ComparedHeads, compared_heads
from rh_bench.leaderboard.experiment_card import scorecard_rows, thin_experiments
from rh_bench.records import SCORED_KINDS, Json


@dataclass(frozen=True, slots=True)
class RunBrief:
    """One run on pages that show many.

    Names are as the run gives them and may be hostile: pages show `words.visible` of them. An estimate is an object of
    summary.json: value, low, high, n, reason.
    """

    slug: str
    run_id: str
    page: str
    """Path of the run's page below the site's root, made of characters that need no escaping."""
    model: str
    revision: str
    bases: tuple[str, ...]
    """Models that it was derived from, as its card names them."""
    architecture: str
    family: str
    parameters: int
    layers: int
    shape: str
    heads: int
    attention: str
    """What kinds of layers the model has, as in "full" or "full + sliding"."""
    window: int
    set_name: str
    manifest_sha256: str
    haystack: Json
    """What run.json says of the set."""
    protocol: Json
    group: str
    """Equal for runs whose numbers may be compared: the same set, byte for byte, the same protocol, and the same choice
    of samples."""
    facts: tuple[str, ...]
    """What tells this set, protocol and choice from another, in words."""
    table: str
    """Equal for runs that stand in one table: the same set and protocol, whatever was chosen of the set."""
    table_facts: tuple[str, ...]
    coverage: Coverage
    """What the run covers of its set. Only runs over a whole set are ranked."""
    share: Json
    half: Json
    zero: Json
    gini: Json
    effective: Json
    success: Json
    stability: Json
    """Mean Spearman correlation of the head scores over pairs of needles."""
    always_on: int | None
    always_on_reason: str
    counted: int
    samples: int
    started: str
    badge: str
    """A key of `badges.ABOUT`."""
    rh_bench: str
    scorecard: tuple[Json, ...]
    """What is known of each claim, as `experiment_card.scorecard_rows` gives it."""
    experiments: tuple[Json, ...]
    """Valid experiments on this very run, thinned by `experiment_card.thin_experiments`."""
    rejected: tuple[tuple[str, str], ...]
    """Experiments that are not shown: folder, and why."""
    cross: ComparedHeads
    """The heads, for pages that compare them."""

    @property
    def key(self) -> str:
        """Names the run in the address of a page, as in `compare.html#runs=KEY,KEY`."""
        return self.page.removeprefix("models/").removesuffix(".html")

    @property
    def threshold(self) -> float:
        return float(self.protocol["head_threshold"])

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Json) -> RunBrief:
        """Of what `to_json` gave, after any way through JSON."""
        values: dict[str, Any] = {field.name: document[field.name] for field in fields(cls)}
        lists = ("bases", "facts", "table_facts", "scorecard", "experiments")
        values |= {name: tuple(values[name]) for name in lists}
        values["coverage"] = Coverage.from_json(values["coverage"])
        values["rejected"] = tuple((folder, why) for folder, why in values["rejected"])
        return cls(**values | {"cross": ComparedHeads.from_json(document["cross"])})


def make_brief(entry: Entry, activity: Activity | None) -> RunBrief:
    """The brief of a valid run and its activity. The same run gives the same brief."""
    run, summary = entry.run, entry.summary
    model, sparsity, always_on = run["model"], summary["sparsity"], summary["always_on"]
    covered = entry.coverage
    return RunBrief(
        slug=entry.slug,
        run_id=entry.run_id,
        page=page_path(entry),
        model=model["id"],
        revision=model["revision"],
        bases=tuple(model.get("base_model") or ()),
        architecture=model["architecture"],
        family=model["model_type"],
        parameters=model["parameters"],
        layers=len(model["layers"]),
        shape=shape(model["layers"]),
        heads=run["counts"]["heads"],
        attention=" + ".join(sorted({layer["kind"] for layer in model["layers"]})),
        window=model["window"],
        set_name=run["haystack"]["name"],
        manifest_sha256=run["haystack"]["manifest_sha256"],
        haystack=run["haystack"],
        protocol=run["protocol"],
        group=_digest(run, _grid(run, covered)),
        facts=protocol_facts(run, covered),
        table=_digest(run, None),
        table_facts=protocol_facts(run, None),
        coverage=covered,
        share=sparsity["share_above_0.1"],
        half=sparsity["share_above_0.5"],
        zero=sparsity["share_zero"],
        gini=sparsity["gini"],
        effective=sparsity["effective_heads"],
        success=summary["success"]["rate"],
        stability=summary["universality"]["stability"]["by_needle"],
        always_on=None if always_on["heads"] is None else len(always_on["heads"]),
        always_on_reason="" if always_on["heads"] is not None else always_on["reason"] or "not computed",
        counted=run["counts"]["counted"],
        samples=run["counts"]["samples"],
        started=run["timings"]["started"],
        badge=badge(entry.verification).name,
        rh_bench=run["environment"]["rh_bench"],
        scorecard=scorecard_rows(entry),
        experiments=thin_experiments(entry.experiments, entry.records),
        rejected=entry.rejected,
        cross=compared_heads(entry, activity),
    )


def order(brief: RunBrief) -> tuple[str, str, str]:
    """Sorts briefs by model, whatever folders they came from."""
    return brief.model.casefold(), brief.slug, brief.run_id


def page_path(entry: Entry) -> str:
    """Where a run's page goes below the site's root, made of characters that need no escaping anywhere.

    A slug with other characters keeps those that are safe and gets a digest of the whole, so that no two collide.
    """
    return f"models/{safe_name(entry.slug)}/{safe_name(entry.run_id)}.html"


def safe_name(name: str) -> str:
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in name)
    kept = kept.lstrip(".")
    return kept if kept == name else f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _digest(run: Json, grid: Json | None) -> str:
    """Of the set and the protocol, with this choice of samples or whatever it may be."""
    protocol = {**comparable_protocol(run["protocol"]), "grid": grid}
    key = json.dumps([run["haystack"]["manifest_sha256"], protocol], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _grid(run: Json, covered: Coverage) -> Json:
    """The choice of samples; all of a set are one choice, however it was worded."""
    grid: Json = WHOLE_GRID if covered.whole else run["protocol"]["grid"]
    return grid


def comparable_protocol(protocol: Json) -> Json:
    """What of a protocol tells runs apart that may not be compared. By which tokens a model's own chat template ends
    turns and asks for an answer without a thought does not; that answers follow thoughts does."""
    kept = {name: value for name, value in protocol.items() if name not in ("turn_token", "thinking")}
    kept["stop"] = [rule for rule in protocol["stop"] if rule != "turn"]
    limit = (protocol.get("thinking") or {}).get("limit")
    return kept if limit is None else {**kept, "thinking": {"limit": limit}}


def protocol_facts(run: Json, covered: Coverage | None) -> tuple[str, ...]:
    """What tells one set and protocol from another, in words.

    Args:
        covered: what the run covers of its set; None leaves the choice of samples out.
    """
    protocol = comparable_protocol(run["protocol"])
    facts = [
        f"set {run['haystack']['manifest_sha256'][:8]}",
        f"protocol {protocol['version']}, rule “{protocol['rule']}”",
        f"{protocol['template']} template",
        str(protocol["dtype"]),
    ]
    if covered is not None:
        facts += _choice_facts(_grid(run, covered), covered)
    if "thinking" in protocol:
        facts.append(f"answers after a thought of up to {protocol['thinking']['limit']} tokens")
    facts.append(f"up to {protocol['max_new_tokens']} new tokens, stop at {' or '.join(protocol['stop'])}")
    return tuple(words.visible(fact) for fact in facts)


def _choice_facts(grid: Json, covered: Coverage) -> Iterator[str]:
    yield "the whole set" if covered.whole else "a grid of its own" if covered.kind == OWN else "a part of the set"
    if grid["lengths"] is not None:
        yield "lengths " + _listed(grid["lengths"])
    if grid["depths"] is not None:
        yield "depths " + _listed(f"{depth:g}%" for depth in grid["depths"])
    if grid["needles"] is not None:
        yield "needles " + _listed(grid["needles"])
    if grid["limit"] is not None:
        yield f"limited to {grid['limit']} samples"


def _listed(items: Iterable[object], most: int = 6) -> str:
    texts = [str(item) for item in items]
    return ", ".join(texts) if len(texts) <= most else f"{texts[0]} to {texts[-1]} ({len(texts)})"


def shape(layers: list[Json]) -> str:
    """Layers × query heads: `30 × 9`, or `28 × 8–16` where scored layers differ."""
    heads = sorted({layer["query_heads"] for layer in layers if layer["kind"] in SCORED_KINDS})
    if not heads:
        return f"{len(layers)}\u00a0×\u00a00"
    span = str(heads[0]) if len(heads) == 1 else f"{heads[0]}–{heads[-1]}"
    return f"{len(layers)}\u00a0×\u00a0{span}"
