"""Question answering made again: heads by the run, questions by their data, prompts by the tokenizer, answers by the
model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rh_bench.artifacts.run import read_run
from rh_bench.errors import InputError, LimitError
from rh_bench.experiments.heads import run_ranking
from rh_bench.experiments.kind import Again, Measuring, Remeasured, Verifying
from rh_bench.experiments.qa.derive import FINE_TASKS, MATCHED, NONE, RANDOM, TOP, grade
from rh_bench.experiments.qa.plan import choose_conditions, item_row
from rh_bench.experiments.qa.task_prompts import AnswerPrompts, TaskPrompts, load_prompts
from rh_bench.experiments.sources import load_again, row_differences, run_differences, tokenizer_of
from rh_bench.prompting.thinking import recorded_thinking
from rh_bench.protocol import BOOTSTRAP
from rh_bench.records import Json, head_grid
from rh_bench.scores.answers import RULES_VERSION
from rh_bench.sets.prompts import prompt_sha256
from rh_bench.sets.tasks import Question, TaskData, choose_questions

if TYPE_CHECKING:
    from rh_bench.artifacts.levels import Evidence
    from rh_bench.experiments.artifact import Experiment

CONSTANTS: Json = {"bootstrap": BOOTSTRAP, "rules_version": RULES_VERSION, "how": "zero"}
ROLES = {NONE: "the model as it is", TOP: "without the strongest", RANDOM: "random", MATCHED: "random"}
"""What is judged together."""
NEAR_F1 = 0.25
"""Answers in words whose F1 is as near as that have the same outcome: a word more or less is what rounding does."""
_SYNTHETIC = re.compile(r"synthetic-pairs:([0-9]{1,15}) v[0-9.]{1,20}")
_HUB = re.compile(r"([^@#\s]+/[^@#\s]+)#([^/#\s]+)/([^/#\s]+)")


def planned(experiment: Experiment, runs: Sequence[Path]) -> Iterator[str]:
    """Heads, random draws and settings against the run's ranking and the constants."""
    settings = experiment.document["settings"]
    run, ranking = read_run(runs[0]), run_ranking(runs[0])
    yield from run_differences(experiment.document, run, ranking, CONSTANTS)
    seeds = [one["seed"] for one in settings["conditions"] if one["kind"] == RANDOM]
    if not seeds or not isinstance(seeds[0], int):
        yield "it has no random heads with a seed"
        return
    grid = head_grid(run.layers)
    try:
        made = choose_conditions(grid, ranking, settings["top"], len(seeds), seeds[0], runs[0])
    except InputError as error:
        yield f"its conditions cannot be made again: {error.problem}"
        return
    claimed = settings["conditions"]
    if [one["name"] for one in claimed] != [one.name for one in made]:
        yield "its conditions are not those that its own settings give"
        return
    for one, other in zip(claimed, made, strict=True):
        if one != other.describe():
            what = "the strongest heads of the run" if other.kind == TOP else f"drawn by seed {other.seed}"
            yield f"condition {other.name}: its heads are not {what}"


def reproduced(experiment: Experiment, runs: Sequence[Path], evidence: Evidence) -> Iterable[str]:
    """Questions from their data, prompts with the tokenizer."""
    settings = experiment.document["settings"]
    data, prompts, wrong = _sources(experiment, evidence.haystack)
    tokenizer, strange = tokenizer_of(experiment, evidence.model)
    if wrong or strange:
        return wrong + strange
    questions = choose_questions(data.questions, settings["limit"])
    wrong = row_differences(
        "items.parquet", experiment.tables["items"].to_pylist(), [item_row(one) for one in questions], "item_id"
    )
    try:
        builder = _builder(experiment, tokenizer, prompts)
        ids = {(mode, one.item_id): builder.build(mode, one) for mode in settings["modes"] for one in questions}
    except LimitError:
        raise
    except InputError as error:
        return [*wrong, error.problem]
    if builder.template_name != settings["template"]:
        wrong.append(f"its template is {settings['template']!r}, the model's is {builder.template_name!r}")
    if wrong:
        return wrong
    names = ("condition", "mode", "item_id", "prompt_sha256", "prompt_tokens")
    known = {key: (prompt_sha256(prompt), len(prompt)) for key, prompt in ids.items()}
    return [
        f"responses.parquet, {unit_id(row)}: its prompt is not reproduced"
        for row in experiment.tables["responses"].select(names).to_pylist()
        if known[row["mode"], row["item_id"]] != (row["prompt_sha256"], row["prompt_tokens"])
    ]


def _sources(experiment: Experiment, named: str | None) -> tuple[TaskData, TaskPrompts, list[str]]:
    """The questions and the prompts of the package, and what shows that they are others."""
    from rh_bench.experiments.qa.questions import load_questions

    settings, claimed = experiment.document["settings"], experiment.document["data"]
    data, prompts = load_questions(settings["task"], named or _place(claimed)), load_prompts(settings["task"])
    wrong = []
    if data.source["sha256"] != claimed["sha256"]:
        wrong.append("these are other questions than the experiment's: their SHA-256 differs")
    if data.source["left_out"] != settings["left_out"]:
        wrong.append(
            f"it leaves out {settings['left_out']} questions, its data has {data.source['left_out']} to leave out"
        )
    if (prompts.file, prompts.sha256) != (claimed["prompts"], claimed["prompts_sha256"]):
        wrong.append(f"its prompts, {claimed['prompts']}, are not those that this rh_bench has")
    if settings["stop"] != list(prompts.stop):
        wrong.append("its responses end at other texts than the prompts say")
    return data, prompts, wrong


def _place(data: Json) -> str:
    """Where questions are to be had, from what an experiment says of them."""
    source: str = data["source"]
    made, hub = _SYNTHETIC.fullmatch(source), _HUB.fullmatch(source)
    if made is not None:
        return f"synthetic:{made[1]}"
    if hub is not None and data["revision"]:
        config = "" if hub[2] == "default" else f"#{hub[2]}/{hub[3]}"
        return f"{hub[1]}@{data['revision']}{config}"
    raise InputError("its data has no address", where=source, hint="name a copy with --haystack")


def _builder(experiment: Experiment, tokenizer: Any, prompts: TaskPrompts) -> AnswerPrompts:
    """As the experiment asked."""
    settings = experiment.document["settings"]
    plain = AnswerPrompts(tokenizer, prompts, settings["template"], settings["shots"])
    if plain.chat is None:
        return plain
    thinking = recorded_thinking(plain.chat, {"schema_version": "1.3", "protocol": settings})
    return AnswerPrompts(tokenizer, prompts, settings["template"], settings["shots"], thinking) if thinking else plain


# Measuring again


def unit_id(row: Json) -> str:
    """A condition, a mode and a question."""
    return f"{row['condition']}/{row['mode']}/{row['item_id']}"


def units(experiment: Experiment) -> Mapping[str, Sequence[str]]:
    """Every response, by the kind of its condition."""
    kinds = {one["name"]: one["kind"] for one in experiment.document["settings"]["conditions"]}
    found: dict[str, list[str]] = {}
    for row in experiment.tables["responses"].select(["condition", "mode", "item_id"]).to_pylist():
        found.setdefault(ROLES[kinds[row["condition"]]], []).append(unit_id(row))
    return found


def measure(experiment: Experiment, runs: Sequence[Path], chosen: Sequence[str], evidence: Evidence) -> Again:
    """The responses of these units, asked for again."""
    from rh_bench.experiments.qa.generate import Generator, rows_that_fit
    from rh_bench.prompting.chat import choose_template

    settings, wanted = experiment.document["settings"], set(chosen)
    data, prompts, wrong = _sources(experiment, evidence.haystack)
    if wrong:
        return wrong
    questions = {one.item_id: one for one in choose_questions(data.questions, settings["limit"])}
    claimed = [row for row in experiment.tables["responses"].to_pylist() if unit_id(row) in wanted]
    loaded, wrong = load_again(experiment, evidence, dtype=settings["dtype"])
    if wrong:
        return wrong
    try:
        builder = _builder(experiment, loaded.tokenizer, prompts)
        ids = [builder.build(row["mode"], questions[row["item_id"]]) for row in claimed]
    except LimitError:
        raise
    except InputError as error:
        return [error.problem]
    generator = Generator(
        loaded, prompts.stop, settings["phase"], choose_template(loaded.tokenizer, settings["template"])
    )
    turn = generator.rule.turn[1] if generator.rule.turn else None
    if settings.get("turn_token") != turn:
        return [f"it says that a turn ends at {settings.get('turn_token')!r}, it ends at {turn!r}"]
    heads = {one["name"]: [(layer, head) for layer, head in one["heads"]] for one in settings["conditions"]}
    found: list[Remeasured] = []
    for mode in settings["modes"]:
        rows = [place for place, row in enumerate(claimed) if row["mode"] == mode]
        limit = settings["max_new_tokens"][mode]
        size = rows_that_fit(loaded, max((len(ids[place]) for place in rows), default=1) + limit)
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            sets = [heads[claimed[place]["condition"]] for place in batch]
            made = generator.run([ids[place] for place in batch], sets, limit)
            for place, one in zip(batch, made, strict=True):
                said = (builder.text(one.ids), len(one.ids), one.finished)
                found.append(_compare(settings, claimed[place], said, questions[claimed[place]["item_id"]]))
    return found


def _compare(settings: Json, row: Json, said: tuple[str, int, bool], question: Question) -> Remeasured:
    kinds = {one["name"]: one["kind"] for one in settings["conditions"]}
    graded = grade(settings["task"], said[0], question.answers, len(question.choices))
    same = said == (row["text"], row["tokens"], row["finished"])
    fine = settings["task"] in FINE_TASKS
    outcome = abs(graded.f1 - row["f1"]) <= NEAR_F1 if fine else graded.correct == row["correct"]
    words = "" if same else f"{row['text'][:60]!r} is claimed, {said[0][:60]!r} is said"
    return Remeasured(ROLES[kinds[row["condition"]]], unit_id(row), same, outcome, words)


def notes(document: Json) -> Iterator[str]:
    """Choices that were free."""
    settings = document["settings"]
    first = min((one["seed"] for one in settings["conditions"] if one["seed"] is not None), default=0)
    if first != 0:
        yield f"its random heads were drawn from seed {first} on, not from 0: a choice of its maker"
    if settings["phase"] != "both":
        yield f"heads were removed in phase {settings['phase']} alone"


VERIFYING = Verifying(planned, reproduced, Measuring("responses", units, measure), notes)
