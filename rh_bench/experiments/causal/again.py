"""The causal experiment made again: heads by the run, prompts by the set and the tokenizer, answers by the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rh_bench.artifacts.run import Run, read_run
from rh_bench.errors import InputError, LimitError
from rh_bench.experiments.causal.derive import CONTROLS, PERMUTATIONS, judge
from rh_bench.experiments.causal.plan import (
    describe_reference,
    make_conditions,
    reference_sequences,
    sample_row,
    unseen_needles,
)
from rh_bench.experiments.failures import RULE_VERSION, Haystack
from rh_bench.experiments.heads import run_ranking
from rh_bench.experiments.kind import Again, Measuring, Remeasured, Verifying
from rh_bench.experiments.sources import load_again, row_differences, run_differences, samples_of, set_of, tokenizer_of
from rh_bench.measure.asking import Asking, ask_as, builder_as, fitting_prompts
from rh_bench.protocol import BOOTSTRAP, HEAD_THRESHOLD
from rh_bench.records import Json, Prompt, Sample, head_grid
from rh_bench.sets.dataset import HaystackSet
from rh_bench.sets.prompts import PromptBuilder

if TYPE_CHECKING:
    from rh_bench.artifacts.levels import Evidence
    from rh_bench.experiments.artifact import Experiment
    from rh_bench.models.load import LoadedModel

CONSTANTS: Json = {
    "retrieval_threshold": HEAD_THRESHOLD,
    "error_rule": RULE_VERSION,
    "permutations": PERMUTATIONS,
    "bootstrap": BOOTSTRAP,
}


def planned(experiment: Experiment, runs: Sequence[Path]) -> Iterator[str]:
    """Heads, random draws and settings against the run's ranking and the constants."""
    settings = experiment.document["settings"]
    run, ranking = read_run(runs[0]), run_ranking(runs[0])
    yield from run_differences(experiment.document, run, ranking, CONSTANTS)
    try:
        conditions, left_out = make_conditions(
            head_grid(run.layers), ranking, settings["top"], settings["draws"], settings["seed"]
        )
    except InputError as error:
        yield f"its conditions cannot be made again: {error.problem}"
        return
    if settings["left_out"] != left_out or len(settings["conditions"]) != len(conditions):
        yield "its conditions are not those that its own settings give"
    for claimed, made in zip(settings["conditions"], conditions, strict=False):
        if claimed != made:
            what = "the strongest heads of the run" if made["kind"] == "top" else f"drawn by seed {made['seed']}"
            yield f"condition {made['condition']} ({made['kind']}, K = {made['k']}): its heads are not {what}"
    yield from _protocol_differences(settings["protocol"], run)


def _protocol_differences(protocol: Json, run: Run) -> Iterator[str]:
    measured = run.document["protocol"]
    for name in ("template", "max_new_tokens", "success_threshold"):
        if protocol[name] != measured[name]:
            yield f"its {name} is {protocol[name]!r}, the run's is {measured[name]!r}"


def reproduced(experiment: Experiment, runs: Sequence[Path], evidence: Evidence) -> Iterable[str]:
    """Samples, prompts and what depends on the haystack, from the set and the tokenizer."""
    haystacks, wrong = set_of(experiment, evidence.haystack)
    tokenizer, strange = tokenizer_of(experiment, evidence.model)
    if wrong or strange:
        return wrong + strange
    run = read_run(runs[0])
    try:
        samples, wrong = _samples(experiment, run, haystacks)
        builder = builder_as(tokenizer, haystacks, samples, run.document)
        prompts = [builder.build(sample) for sample in samples]
    except LimitError:
        raise
    except InputError as error:
        return [error.problem]
    claimed = experiment.document["settings"]["protocol"].get("thinking")
    if claimed != (builder.thinking.to_json() if builder.thinking else None):
        wrong.append("what it says about thoughts is not what its model's chat template gives")
    wrong += _reference_problems(experiment, haystacks, samples, tokenizer)
    needles = haystacks.needles_by_id
    rows = [
        sample_row(prompt, needles[prompt.sample.needle_id].question, builder.haystack_text(prompt))
        for prompt in prompts
    ]
    wrong += row_differences("samples.parquet", experiment.tables["samples"].to_pylist(), rows, "sample_id")
    return wrong or _share_problems(experiment, builder, prompts)


def _samples(experiment: Experiment, run: Run, haystacks: HaystackSet) -> tuple[list[Sample], list[str]]:
    """As they are measured: needles that the run has not seen, in the order of the table."""
    grid = experiment.document["settings"]["grid"]
    samples, wrong = samples_of(haystacks, grid)
    if not grid["needles"]:
        wrong.append("its grid does not name its needles")
    unseen = {needle.needle_id for needle in unseen_needles(haystacks, run, None)}
    seen = sorted({sample.needle_id for sample in samples} - unseen)
    wrong += [f"the run was measured on the needle {name}" for name in seen]
    return sorted(samples, key=lambda s: (s.needle_id, s.length, s.depth, s.sample_id)), wrong


def _share_problems(experiment: Experiment, builder: PromptBuilder, prompts: Sequence[Prompt]) -> list[str]:
    """The share of an answer that repeats the haystack decides the kind of its failure."""
    around = {prompt.sample.sample_id: Haystack(builder.haystack_text(prompt)) for prompt in prompts}
    asked = {row["sample_id"]: row["question"] for row in experiment.tables["samples"].to_pylist()}
    rows = experiment.tables["answers"].select(["condition", "sample_id", "text", "haystack_share"]).to_pylist()
    return [
        f"answers.parquet, {unit_id(row)}: its haystack_share is not reproduced"
        for row in rows
        if around[row["sample_id"]].share_of(row["text"], asked[row["sample_id"]]) != row["haystack_share"]
    ]


def _reference_problems(
    experiment: Experiment, haystacks: HaystackSet, samples: Sequence[Sample], tokenizer: Any
) -> list[str]:
    """What means were taken over, where heads are replaced by their mean."""
    settings = experiment.document["settings"]
    if settings["how"] != "mean":
        return [] if settings["reference"] is None else ["it has reference tokens, and removes heads without them"]
    sequences = reference_sequences(tokenizer, _texts(haystacks, samples))
    wanted = describe_reference(sequences)
    return [] if settings["reference"] == wanted else ["its reference tokens are not those of the set"]


def _texts(haystacks: HaystackSet, samples: Sequence[Sample]) -> dict[str, str]:
    return {sample.haystack_id: haystacks.texts[sample.haystack_id] for sample in samples}


# Measuring again


def unit_id(row: Json) -> str:
    """A condition and a sample."""
    return f"{row['condition']}/{row['sample_id']}"


def units(experiment: Experiment) -> Mapping[str, Sequence[str]]:
    """Every answer, by what it is judged with."""
    known = roles(experiment.document["settings"])
    found: dict[str, list[str]] = {}
    for row in experiment.tables["answers"].select(["condition", "sample_id"]).to_pylist():
        found.setdefault(known[row["condition"]], []).append(unit_id(row))
    return found


def roles(settings: Json) -> list[str]:
    """What is judged together, by the number of the condition: the K that the claim is about stands for itself."""
    within = [
        c["k"] for c in settings["conditions"] if c["kind"] == "top" and c["k"] <= len(settings["retrieval_heads"])
    ]
    k = max(within, default=None)
    names = {("none", 0): "the model as it is", ("top", k): f"without the {k} strongest"}
    names |= {(control, k): f"without {k} random" for control in CONTROLS}
    return [names.get((c["kind"], c["k"]), "at other K") for c in settings["conditions"]]


@dataclass(frozen=True)
class _Bench:
    """Everything that answers are measured again with."""

    experiment: Experiment
    loaded: LoadedModel
    asking: Asking
    means: Any

    def answer(self, prompt: Prompt, conditions: Sequence[int]) -> list[tuple[int, str, int]]:
        """(condition, text, tokens) of one prompt."""
        from rh_bench.engines.batched import BatchedEngine

        settings, loaded = self.experiment.document["settings"], self.loaded
        limit, rows = settings["protocol"]["max_new_tokens"], min(len(conditions), settings["rows"])
        engine = BatchedEngine(loaded.model, loaded.layers, self.asking.stop, limit, rows=rows)
        sets = [[(layer, head) for layer, head in settings["conditions"][number]["heads"]] for number in conditions]
        how = {"how": settings["how"], "phase": settings["phase"], "means": self.means}
        answers = sorted(engine.answer([prompt], sets, **how), key=lambda one: one.batch)
        generated = [tokens for one in answers for tokens in one.generated]
        texts = [self.asking.builder.text(list(tokens)) for tokens in generated]
        return [(n, text, len(ids)) for n, text, ids in zip(conditions, texts, generated, strict=True)]


def measure(experiment: Experiment, runs: Sequence[Path], chosen: Sequence[str], evidence: Evidence) -> Again:
    """The answers of these units, asked for again."""
    run, settings = read_run(runs[0]), experiment.document["settings"]
    haystacks, wrong = set_of(experiment, evidence.haystack)
    if wrong:
        return wrong
    wanted = set(chosen)
    claimed = [row for row in experiment.tables["answers"].to_pylist() if unit_id(row) in wanted]
    every, _ = _samples(experiment, run, haystacks)
    samples = [sample for sample in every if sample.sample_id in {row["sample_id"] for row in claimed}]
    protocol = settings["protocol"]
    limit = protocol["max_new_tokens"]
    loaded, wrong = load_again(
        experiment,
        evidence,
        dtype=protocol["dtype"],
        positions=max(sample.length for sample in samples) + limit,
        prompts=fitting_prompts(haystacks, samples, protocol["template"], limit),
    )
    if wrong:
        return wrong
    try:
        asking = ask_as(loaded, haystacks, samples, run.document)
    except LimitError:
        raise
    except InputError as error:
        return [error.problem]
    if any(protocol.get(name) != value for name, value in asking.protocol().items()):
        return ["its protocol is not how this model is asked and where its answers end"]
    bench = _Bench(experiment, loaded, asking, _means(settings, loaded, haystacks, every))
    return list(_compare(bench, claimed))


def _means(settings: Json, loaded: LoadedModel, haystacks: HaystackSet, samples: Sequence[Sample]) -> Any:
    if settings["how"] != "mean":
        return None
    from rh_bench.attention.ablation import mean_inputs

    sequences = reference_sequences(loaded.tokenizer, _texts(haystacks, samples))
    return mean_inputs(loaded.model, list(sequences.values()))


def _compare(bench: _Bench, claimed: Sequence[Json]) -> Iterator[Remeasured]:
    settings = bench.experiment.document["settings"]
    known = roles(settings)
    about = {row["sample_id"]: row for row in bench.experiment.tables["samples"].to_pylist()}
    for prompt in bench.asking.prompts:
        name = prompt.sample.sample_id
        rows = {row["condition"]: row for row in claimed if row["sample_id"] == name}
        sample = about[name]
        for number, text, tokens in bench.answer(prompt, sorted(rows)):
            row, given = rows[number], (sample["answer"], sample["question"], sample["own_grams"])
            threshold = settings["protocol"]["success_threshold"]
            success = judge(text, *given, None, threshold)["success"]
            same = (text, tokens) == (row["text"], row["tokens"])
            words = "" if same else f"{row['text'][:60]!r} is claimed, {text[:60]!r} is said"
            yield Remeasured(known[number], unit_id(row), same, success == row["success"], words)


def notes(document: Json) -> Iterator[str]:
    """Choices that were free."""
    settings = document["settings"]
    if settings["seed"] != 0:
        yield f"its random heads were drawn from seed {settings['seed']} on, not from 0: a choice of its maker"
    if (settings["how"], settings["phase"]) != ("zero", "both"):
        yield f"heads were changed by {settings['how']}, phase {settings['phase']}, not removed"


VERIFYING = Verifying(planned, reproduced, Measuring("answers", units, measure), notes)
