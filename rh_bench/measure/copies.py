"""What a run measures: which heads copy the needle while the model answers, sample by sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rh_bench.artifacts.journal import Entries
from rh_bench.artifacts.run import compute_run_id
from rh_bench.measure.asking import Asking, ask
from rh_bench.measure.prepare import Prepared, Request
from rh_bench.measure.session import Findings, NothingToKeepError, Progress, Watch, prompts_sha256
from rh_bench.prompting.thoughts import begins_thought, begun_notes, ends_with, mostly_thoughts
from rh_bench.protocol import constants
from rh_bench.records import EVENT_FIELDS, IntArray, Json, Prompt, SampleResult
from rh_bench.scores.events import copy_events
from rh_bench.scores.rouge import rouge1_recall, succeeds
from rh_bench.system.environment import describe_environment

if TYPE_CHECKING:
    from rh_bench.engines.base import Engine


@dataclass(frozen=True)
class Entry:
    """What an engine found on one sample; all else about it follows from the set and the model."""

    sample_id: str
    generated: tuple[int, ...]
    events: IntArray
    """int32 [E, 4], columns EVENT_FIELDS."""
    seconds: float
    thought: tuple[int, ...] = ()
    """Tokens thought before the answer."""

    def line(self) -> Json:
        """As a journal has it."""
        return {
            "sample_id": self.sample_id,
            "generated": list(self.generated),
            "events": self.events.tolist(),
            "seconds": self.seconds,
            **({"thought": list(self.thought)} if self.thought else {}),
        }


def parse_entry(line: Json) -> Entry | None:
    """The entry of a journal's line; None if it is none."""
    try:
        events = np.asarray(line["events"], dtype=np.int32).reshape(-1, len(EVENT_FIELDS))
        generated = tuple(int(token) for token in line["generated"])
        thought = tuple(int(token) for token in line.get("thought", ()))
        return Entry(str(line["sample_id"]), generated, events, float(line["seconds"]), thought)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


class BeginsWithThoughtError(NothingToKeepError):
    """The model begins its answers with thoughts that its prompt does not ask for: it would be measured in them."""


class CopyMeasurement:
    """One model on one list of samples: the prompts, the engine, and what comes out of them.

    A :class:`rh_bench.measure.session.Measurement`; its results are those of every sample, in the order of the samples.
    """

    def __init__(self, request: Request, prepared: Prepared) -> None:
        from rh_bench.engines import make_engine

        loaded = prepared.loaded
        self._request, self._prepared, self._loaded = request, prepared, loaded
        self.asking: Asking = ask(
            loaded,
            prepared.haystacks,
            prepared.samples,
            request.template,
            request.thinking,
            request.thought_tokens,
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

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the model, and of how it is asked."""
        return (*self._loaded.notes, *self.asking.notes)

    def document(self) -> Json:
        """run.json as far as it is known before measuring."""
        loaded, engine, haystacks = self._loaded, self._engine, self._prepared.haystacks
        protocol: Json = {
            **constants(),
            **self.asking.protocol(),
            "max_new_tokens": self._request.max_new_tokens,
            "dtype": loaded.dtype,
            "grid": self._prepared.grid,
        }
        model = loaded.describe()
        manifest = haystacks.manifest
        return {
            "schema": "rh_bench/run",
            "schema_version": "1.5" if loaded.source.memory else "1.4",
            "run_id": compute_run_id(
                model_revision=model["revision"],
                manifest_sha256=haystacks.manifest_sha256,
                protocol=protocol,
                engine_name=engine.name,
                engine_version=engine.version,
            ),
            "origin": loaded.source.origin,
            "model": model,
            "haystack": {
                "location": self._prepared.found.location,
                "revision": self._prepared.found.commit,
                "manifest_sha256": haystacks.manifest_sha256,
                "name": manifest["name"],
                "source": manifest["source"],
                "samples": manifest["counts"]["samples"],
            },
            "protocol": protocol,
            "engine": {"name": engine.name, "version": engine.version, "notes": [*engine.notes, *self.asking.notes]},
            "environment": describe_environment(loaded.device, loaded.device_name),
        }

    def deciding(self) -> Json:
        """The prompts."""
        return {"prompts": prompts_sha256(self._prompts)}

    def parse(self, line: Json) -> Entry | None:
        """As :func:`parse_entry`."""
        return parse_entry(line)

    def measure(self, journal: Entries[Entry], watch: Watch) -> Findings[list[SampleResult]]:
        """Every sample's result, in the order of the samples.

        Raises:
            BeginsWithThoughtError: the model would be measured while it thinks.
        """
        prompts = {prompt.sample.sample_id: prompt for prompt in self._prompts}
        results = {
            entry.sample_id: self._result(prompts[entry.sample_id], entry)
            for entry in journal.entries
            if entry.sample_id in prompts
        }
        resumed = len(results)
        costs = {name: self._engine.cost(prompt) for name, prompt in prompts.items()}
        progress = Progress(watch, sum(costs.values()), len(prompts), succeeds=True)
        for name, result in results.items():
            progress.add(costs[name], succeeded=result.success)
        progress.tell()
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
            journal.write(entry.line())
            result = results[decoded.sample_id] = self._result(prompt, entry)
            progress.add(costs[decoded.sample_id], succeeded=result.success)
            progress.tell()
        self._refuse_thoughts(results.values())
        ordered = [results[prompt.sample.sample_id] for prompt in self._prompts]
        watch.stage("Scoring")
        notes = self._answer_notes(ordered)
        watch.notes(notes)
        seconds = sum(result.seconds for result in ordered)
        return Findings(ordered, seconds, resumed, len(ordered) - resumed, notes)

    def _refuse_thought(self, first: Entry) -> None:
        """A model that begins its first answer with a thought all the same would be measured while it thinks."""
        if self._builder.chat is not None and begins_thought(self._builder.raw_text(first.generated)):
            raise self._measured_thoughts(
                f"the model starts its answer to {first.sample_id} with a thought, which its prompt does not ask for"
            )

    def _refuse_thoughts(self, results: Iterable[SampleResult]) -> None:
        """Nor is a model measured that begins most of its answers so, though not the first."""
        texts = (self._builder.raw_text(result.generated_ids) for result in results)
        if self._builder.chat is not None and mostly_thoughts(texts):
            raise self._measured_thoughts(
                "the model starts more than half of its answers with a thought, which its prompt does not ask for"
            )

    def _measured_thoughts(self, problem: str) -> BeginsWithThoughtError:
        thinking = self.asking.thinking
        hint = "use --thinking after" if thinking and thinking.limit is None else "use --template plain"
        return BeginsWithThoughtError(problem, where=self._loaded.source.id, hint=hint)

    def _answer_notes(self, results: Sequence[SampleResult]) -> list[str]:
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
