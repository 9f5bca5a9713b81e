"""Measure a model on a haystack set: set and model in, a finished run on disk out. Goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rh_bench.artifacts.coverage import WHOLE_GRID
from rh_bench.artifacts.journal import NAME as JOURNAL
from rh_bench.artifacts.journal import Entry, Journal, Unwritten, now, open_journal
from rh_bench.artifacts.run import RUN_FILES, MadeRun, compute_run_id, make_run, run_folder, write_run
from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import InputError
from rh_bench.measure.asking import Asking, ask, prompt_ids
from rh_bench.prompting.thinking import AFTER, AUTO, THOUGHT_TOKENS, check_choice
from rh_bench.prompting.thoughts import begins_thought, begun_notes, ends_with, mostly_thoughts
from rh_bench.protocol import constants
from rh_bench.records import IntArray, Json, Needle, Prompt, Sample, SampleResult
from rh_bench.scores.events import copy_events
from rh_bench.scores.rouge import rouge1_recall, succeeds
from rh_bench.sets.dataset import HaystackSet, read_set
from rh_bench.sets.grids import make_samples, spread
from rh_bench.system.environment import describe_environment
from rh_bench.system.environment import refuse_light_install as refuse_light_install
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json

if TYPE_CHECKING:
    from rh_bench.engines.base import Engine
    from rh_bench.models.load import LoadedModel, Prompts

MAX_NEW_TOKENS = 50


@dataclass(frozen=True)
class Request:
    """What to measure, as the command line takes it."""

    model: str
    """Hub id with optional ``@revision``, local folder, or ``gguf:<file>``."""
    haystack: str
    """Folder of a set, or ``org/name[@revision]`` on the Hub."""
    out: Path
    """Folder of runs."""
    lengths: tuple[int, ...] | None = None
    depths: tuple[float, ...] | None = None
    needles: tuple[str, ...] | None = None
    engine: str = "fast"
    device: str = "auto"
    dtype: str = "auto"
    template: str = "auto"
    limit: int | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    trust_remote_code: bool = False
    thinking: str = AUTO
    """What to do about the thoughts of a model that has them: one of `rh_bench.prompting.thinking.CHOICES`."""
    thought_tokens: int | None = None
    """Tokens of a thought, at most, where the answer after it is measured; THOUGHT_TOKENS without it."""
    window: int | None = None
    """Largest number of positions, instead of what the model's configuration says."""
    attestation: Json | None = None
    """What a job of the Hub says of itself in run.json (`rh_bench.submissions.attested_run`)."""

    @property
    def new_tokens(self) -> int:
        """Tokens that may follow a prompt: those of the answer, and of a thought before it."""
        thought = (self.thought_tokens or THOUGHT_TOKENS) if self.thinking == AFTER else 0
        return self.max_new_tokens + thought


def request_for(grid: Json, haystack: str) -> Request:
    """A request for the samples that the `grid` of a document names; for nothing to be measured.

    Args:
        haystack: name or folder of the set.
    """

    def chosen(name: str) -> tuple[Any, ...] | None:
        return None if grid[name] is None else tuple(grid[name])

    lengths, depths, needles = (chosen(name) for name in ("lengths", "depths", "needles"))
    return Request("", haystack, Path(), lengths=lengths, depths=depths, needles=needles, limit=grid["limit"])


@dataclass(frozen=True)
class Step:
    """Where a measurement stands; `done` and `total` are in units of work, for the time left."""

    done: float
    total: float
    samples_done: int
    samples: int
    succeeded: int | None
    """None where success is not what is measured."""


@dataclass(frozen=True)
class Outcome:
    """A finished run, and how it came to be."""

    folder: Path
    document: Json
    resumed: int
    """Samples that an earlier, interrupted session had measured."""
    measured: int
    """Samples that this one measured: 0 where the run was already there."""


OnStep = Callable[[Step], None]
OnStage = Callable[[str], None]
OnNote = Callable[[str], None]
Load = Callable[..., "LoadedModel"]
"""Gives the model to measure; takes `dtype`, `device`, `positions`, `on_plan`, `window` and `prompts` by name, as
:func:`rh_bench.models.load.load_model` does."""


def evaluate(
    request: Request,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
    *,
    load: Load | None = None,
) -> Outcome:
    """Measure a model on a set and write the run.

    Args:
        request: what to measure.
        on_step: called when the measuring begins and after every sample.
        on_stage: called with a few words when something begins that takes seconds.
        on_note: called with a line about what is done for this model and not for others; run.json has it, too.
        load: gives the model instead of what `request.model` names, see :data:`Load`.

    Raises:
        InputError: the model, the set, an option or the output folder is wrong; nothing is half written.
    """
    refuse_light_install("evaluate")
    say = on_stage or (lambda words: None)
    task = prepare(request, say, load)
    loaded = task.loaded
    say("Assembling the prompts")
    measurement = _Measurement(request, task.haystacks, task.samples, loaded)
    note = on_note or (lambda line: None)
    for line in (*loaded.notes, *measurement.asking.notes):
        note(line)
    document = measurement.document(task.grid, task.location, task.commit)
    folder = run_folder(request.out, loaded.source.slug, document["run_id"])
    finished = _already_there(folder)
    if finished is not None:
        return Outcome(folder, finished, resumed=0, measured=0)
    _make_folder(folder)
    with open_journal(folder, measurement.identity(document), now()) as journal:
        finished = _already_there(folder)  # another process may have been at work on it until just now
        if finished is not None:
            return Outcome(folder, finished, resumed=0, measured=0)
        _clear_folder(folder)
        try:
            results, resumed = measurement.measure(journal, on_step)
        except BeginsWithThoughtError:  # no run can come of it
            shutil.rmtree(folder, ignore_errors=True)
            raise
        say("Scoring")
        found = measurement.answer_notes(results)
        document["engine"]["notes"] += found
        for line in found:
            note(line)
        document["timings"] = journal.timings(sum(result.seconds for result in results))
        if request.attestation is not None:
            document["attestation"] = request.attestation
        document = write_run(folder, document, loaded.layers, results)
        (folder / JOURNAL).unlink(missing_ok=True)
    return Outcome(folder, document, resumed, len(results) - resumed)


def measure_unwritten(
    request: Request,
    on_step: OnStep | None = None,
    on_stage: OnStage | None = None,
    on_note: OnNote | None = None,
    *,
    load: Load | None = None,
) -> MadeRun:
    """As :func:`evaluate`, with nothing written: the run that would have been. `request.out` is not looked at.

    Raises:
        InputError: the model, the set or an option is wrong.
    """
    refuse_light_install("evaluate")
    say, note = on_stage or (lambda words: None), on_note or (lambda line: None)
    task = prepare(request, say, load)
    say("Assembling the prompts")
    measurement = _Measurement(request, task.haystacks, task.samples, task.loaded)
    for line in (*task.loaded.notes, *measurement.asking.notes):
        note(line)
    document = measurement.document(task.grid, task.location, task.commit)
    journal = Unwritten(now())
    results, _ = measurement.measure(journal, on_step)
    say("Scoring")
    found = measurement.answer_notes(results)
    document["engine"]["notes"] += found
    for line in found:
        note(line)
    document["timings"] = journal.timings(sum(result.seconds for result in results))
    return make_run(document, task.loaded.layers, results)


class BeginsWithThoughtError(InputError):
    """The model begins its answers with thoughts that its prompt does not ask for: it would be measured in them."""


@dataclass(frozen=True)
class Prepared:
    """A request with its set read, its samples chosen and its model loaded."""

    haystacks: HaystackSet
    location: str
    """The set's name for a document."""
    commit: str | None
    """The set's commit on the Hub."""
    samples: tuple[Sample, ...]
    grid: Json
    """Which samples they are, as a document says it."""
    loaded: LoadedModel


def prepare(request: Request, say: OnStage, load: Load | None = None) -> Prepared:
    """Read the set, choose the samples, load the model, and refuse lengths beyond its window.

    Args:
        load: gives the model instead of what `request.model` names, see :data:`Load`.

    Raises:
        InputError: the model, the set or an option is wrong.
    """
    check_choice(request.thinking, request.thought_tokens)
    say("Reading the haystack set")
    haystacks, location, commit = find_set(request.haystack)
    samples, grid = choose_samples(haystacks, request)
    say("Loading the model")
    loaded = (load or _named(request))(
        dtype=request.dtype,
        device=request.device,
        positions=max(sample.length for sample in samples) + request.new_tokens,
        on_plan=lambda memory: say(f"Loading the model ({memory})"),
        window=request.window,
        prompts=fitting_prompts(haystacks, samples, request.template, request.new_tokens),
    )
    return Prepared(haystacks, location, commit, samples, grid, loaded)


def _named(request: Request) -> Load:
    """Loads the model that a request names."""
    from rh_bench.models.load import load_model

    return partial(load_model, request.model, trust_remote_code=request.trust_remote_code)


def fitting_prompts(haystacks: HaystackSet, samples: Sequence[Sample], template: str, new_tokens: int) -> Prompts:
    """Gives the ids of every sample's prompt before there is a model, and refuses what does not fit its window.

    Args:
        new_tokens: what may follow a prompt, at most.
    """

    def ids(tokenizer: Any, window: int | None, model: str) -> Iterator[IntArray]:
        refuse_beyond_window(samples, window, new_tokens, model)
        return prompt_ids(tokenizer, haystacks, samples, template)

    return ids


class _Measurement:
    """One model on one list of samples: the prompts, the engine, and what comes out of them."""

    def __init__(
        self, request: Request, haystacks: HaystackSet, samples: Sequence[Sample], loaded: LoadedModel
    ) -> None:
        from rh_bench.engines import make_engine

        self._request, self._set, self._loaded = request, haystacks, loaded
        self.asking: Asking = ask(
            loaded, haystacks, samples, request.template, request.thinking, request.thought_tokens
        )
        self._builder, self._prompts = self.asking.builder, self.asking.prompts
        self._engine: Engine = make_engine(
            request.engine,
            loaded.model,
            loaded.layers,
            self.asking.stop,
            max_new_tokens=request.max_new_tokens,
            chunk=loaded.memory.chunk if loaded.memory else None,
            thought=self.asking.thought,
        )

    def document(self, grid: Json, location: str, commit: str | None) -> Json:
        """run.json as far as it is known before measuring."""
        loaded, engine = self._loaded, self._engine
        protocol: Json = {
            **constants(),
            **self.asking.protocol(),
            "max_new_tokens": self._request.max_new_tokens,
            "dtype": loaded.dtype,
            "grid": grid,
        }
        model = loaded.describe()
        manifest = self._set.manifest
        return {
            "schema": "rh_bench/run",
            "schema_version": "1.5" if loaded.source.memory else "1.4",
            "run_id": compute_run_id(
                model_revision=model["revision"],
                manifest_sha256=self._set.manifest_sha256,
                protocol=protocol,
                engine_name=engine.name,
                engine_version=engine.version,
            ),
            "origin": loaded.source.origin,
            "model": model,
            "haystack": {
                "location": location,
                "revision": commit,
                "manifest_sha256": self._set.manifest_sha256,
                "name": manifest["name"],
                "source": manifest["source"],
                "samples": manifest["counts"]["samples"],
            },
            "protocol": protocol,
            "engine": {"name": engine.name, "version": engine.version, "notes": [*engine.notes, *self.asking.notes]},
            "environment": describe_environment(loaded.device, loaded.device_name),
        }

    def identity(self, document: Json) -> Json:
        """What must be equal for samples of two sessions to belong to one run."""
        environment = document["environment"]
        prompts = hashlib.sha256("".join(prompt.sha256 for prompt in self._prompts).encode()).hexdigest()
        names = ("rh_bench", "torch", "transformers", "device", "device_name", "threads")
        return {"run_id": document["run_id"], "prompts": prompts, **{name: environment[name] for name in names}}

    def measure(self, journal: Journal, on_step: OnStep | None) -> tuple[list[SampleResult], int]:
        """Every sample's result, in the order of the samples, and how many of them the journal had."""
        prompts = {prompt.sample.sample_id: prompt for prompt in self._prompts}
        results = {
            entry.sample_id: self._result(prompts[entry.sample_id], entry)
            for entry in journal.entries
            if entry.sample_id in prompts
        }
        resumed = len(results)
        progress = _Progress(self._engine, self._prompts, on_step)
        progress.report(results)
        done = {name: result.generated_ids for name, result in results.items()}
        for decoded in self._engine.decode(self._prompts, done):
            prompt = prompts[decoded.sample_id]
            entry = Entry(
                sample_id=decoded.sample_id,
                generated=tuple(int(token) for token in decoded.generated),
                events=copy_events(prompt, decoded, self._loaded.layers),
                seconds=round(decoded.seconds, 6),
                thought=tuple(int(token) for token in decoded.thought),
            )
            if not results:
                self._refuse_thought(entry)
            journal.append(entry)
            results[decoded.sample_id] = self._result(prompt, entry)
            progress.report(results)
        self._refuse_thoughts(results.values())
        return [results[prompt.sample.sample_id] for prompt in self._prompts], resumed

    def _refuse_thought(self, first: Entry) -> None:
        """A model that begins its first answer with a thought all the same would be measured while it thinks."""
        if self._builder.chat is not None and begins_thought(self._builder.raw_text(first.generated)):
            thinking = self.asking.thinking
            raise BeginsWithThoughtError(
                f"the model begins its answer to {first.sample_id} with a thought, which its prompt does not ask for",
                where=self._loaded.source.id,
                hint="use --thinking after" if thinking and thinking.limit is None else "use --template plain",
            )

    def _refuse_thoughts(self, results: Iterable[SampleResult]) -> None:
        """Nor is a model measured that begins most of its answers so, though not the first."""
        texts = (self._builder.raw_text(result.generated_ids) for result in results)
        if self._builder.chat is not None and mostly_thoughts(texts):
            thinking = self.asking.thinking
            raise BeginsWithThoughtError(
                "the model begins more than half of its answers with a thought, which its prompt does not ask for",
                where=self._loaded.source.id,
                hint="use --thinking after" if thinking and thinking.limit is None else "use --template plain",
            )

    def answer_notes(self, results: Sequence[SampleResult]) -> list[str]:
        """What a reader of the run should know of its answers."""
        notes = begun_notes(self._builder.raw_text(result.generated_ids) for result in results)
        thinking = self.asking.thinking
        if thinking and thinking.limit is not None:
            open_ = sum(not ends_with(result.thought_ids or (), thinking.closing_ids) for result in results)
            notes += [f"{open_} of {len(results)} thoughts did not end: these samples have no answer"] if open_ else []
        return notes

    def _result(self, prompt: Prompt, entry: Entry) -> SampleResult:
        text = self._builder.text(list(entry.generated))
        recall = rouge1_recall(prompt.answer, text)
        return SampleResult(
            sample=prompt.sample,
            prompt_sha256=prompt.sha256,
            insert_at=prompt.insert_at,
            span_start=prompt.span_start,
            span_ids=tuple(int(i) for i in prompt.span_ids),
            answer=prompt.answer,
            generated_ids=entry.generated,
            text=text,
            rouge1_recall=recall,
            success=succeeds(recall),
            seconds=entry.seconds,
            events=entry.events,
            spelling=self._builder.spelling(prompt.sample.needle_id, entry.generated),
            thought_ids=None if self.asking.thought is None else entry.thought,
        )


class _Progress:
    def __init__(self, engine: Engine, prompts: Sequence[Prompt], on_step: OnStep | None) -> None:
        self._costs = {prompt.sample.sample_id: engine.cost(prompt) for prompt in prompts}
        self._total = sum(self._costs.values())
        self._on_step = on_step

    def report(self, results: dict[str, SampleResult]) -> None:
        if self._on_step is not None:
            done = sum(self._costs[name] for name in results)
            succeeded = sum(result.success for result in results.values())
            self._on_step(Step(done, self._total, len(results), len(self._costs), succeeded))


def choose_samples(haystacks: HaystackSet, request: Request) -> tuple[tuple[Sample, ...], Json]:
    """The samples to measure, and the `grid` object of the protocol that says which they are.

    Raises:
        InputError: a needle is not in the set, or nothing is left.
    """
    needles = _chosen_needles(haystacks, request.needles)
    made = request.lengths is not None or request.depths is not None
    grid = haystacks.manifest["grid"]
    lengths, depths = request.lengths or tuple(grid["lengths"]), request.depths or tuple(grid["depths"])
    if made:
        samples = make_samples(needles, lengths, depths)
    else:
        names = {needle.needle_id for needle in needles}
        samples = tuple(sample for sample in haystacks.samples if sample.needle_id in names)
    if not samples:
        raise InputError("no samples are left to measure", where=request.haystack, hint="choose other --needles")
    chosen = spread(samples, request.limit)
    if set(chosen) == set(haystacks.samples):  # one choice in other words is not another run
        return haystacks.samples, dict(WHOLE_GRID)
    return chosen, grid_in_words(haystacks, request)


def grid_in_words(haystacks: HaystackSet, request: Request) -> Json:
    """The `grid` object of a choice in the words of the request, as versions before schema 1.4 wrote it also where no
    sample is taken away."""
    made = request.lengths is not None or request.depths is not None
    grid = haystacks.manifest["grid"]
    lengths, depths = request.lengths or tuple(grid["lengths"]), request.depths or tuple(grid["depths"])
    return {
        "kind": "made" if made else "set",
        "lengths": list(lengths) if made else None,
        "depths": [float(depth) for depth in depths] if made else None,
        "needles": sorted(set(request.needles)) if request.needles else None,
        "limit": request.limit,
    }


def _chosen_needles(haystacks: HaystackSet, wanted: tuple[str, ...] | None) -> tuple[Needle, ...]:
    if not wanted:
        return haystacks.needles
    unknown = [name for name in wanted if name not in haystacks.needles_by_id]
    if unknown:
        known = ", ".join(list(haystacks.needles_by_id)[:12])
        raise InputError(f"the set has no needle {shown(unknown[0])!r}", where="--needles", hint=f"it has {known}")
    return tuple(needle for needle in haystacks.needles if needle.needle_id in wanted)


def refuse_beyond_window(samples: Sequence[Sample], window: int | None, max_new_tokens: int, model: str) -> None:
    """Refuse, by name, lengths that leave no room for the answer in the model's window.

    Raises:
        InputError: names the model, its window and the lengths.
    """
    if window is None:
        return
    beyond = sorted({sample.length for sample in samples if sample.length + max_new_tokens > window})
    if beyond:
        listed = ", ".join(str(length) for length in beyond[:8]) + (" …" if len(beyond) > 8 else "")
        raise InputError(
            f"its window of {window} tokens is too small for the lengths {listed} and {max_new_tokens} new tokens",
            where=model,
            hint=f"give --lengths of at most {window - max_new_tokens}, or --window N if the model is for more",
        )


def find_set(text: str) -> tuple[HaystackSet, str, str | None]:
    """The set at a folder or in a repository, its name for run.json, and its commit on the Hub.

    Raises:
        InputError: it cannot be had, or something is wrong with it.
    """
    path = Path(text).expanduser()
    if path.exists() or text.startswith((".", "/", "~")) or text.count("/") != 1:
        return read_set(path), path.resolve().name, None
    from rh_bench.hub.read import fetch_set, parse_repo

    try:
        ref = parse_repo(text)
    except InputError:
        return read_set(path), path.name, None
    folder, commit = fetch_set(ref)
    return read_set(folder), ref.repo_id, commit


def _already_there(folder: Path) -> Json | None:
    """run.json of a run that is finished and sound.

    Raises:
        InputError: it is finished and was damaged since.
    """
    if not (folder / "run.json").exists():
        return None
    problems = [p for p in validate_path(folder) if p.file != JOURNAL]
    if problems:
        first = problems[0]
        raise InputError(
            f"this run is finished but damaged ({first.file}{first.pointer}: {first.message})",
            where=folder,
            hint="remove the folder to measure again",
        )
    (folder / JOURNAL).unlink(missing_ok=True)
    document: Json = load_json(folder / "run.json")
    return document


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=folder) from None


def _clear_folder(folder: Path) -> None:
    """Remove what a process left that died between writing the files of a run and writing run.json. Only who holds the
    journal's lock may: they could be those of a process that lives."""
    try:
        for name in RUN_FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=folder) from None
