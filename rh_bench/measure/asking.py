"""A model asked about samples: its prompts, what ends its answers, and what is done about its thoughts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rh_bench.errors import InputError
from rh_bench.prompting.chat import choose_template
from rh_bench.prompting.stopping import StopRule, stop_rule
from rh_bench.prompting.thinking import AUTO, Thinking, is_older, recorded_thinking, settle_thinking
from rh_bench.prompting.vocabulary import embedding_rows, largest_token, refuse_beyond_embedding
from rh_bench.records import IntArray, Json, Prompt, Sample
from rh_bench.sets.choose import refuse_beyond_window
from rh_bench.sets.dataset import HaystackSet
from rh_bench.sets.prompts import PromptBuilder

if TYPE_CHECKING:
    from rh_bench.engines.base import Thought
    from rh_bench.models.load import LoadedModel, Prompts

FIRST_TOKENS = 12
"""Tokens of an answer that tell whether it starts with a thought."""


@dataclass(frozen=True)
class Asking:
    """What a model is asked, and how its answers are read."""

    builder: PromptBuilder
    prompts: tuple[Prompt, ...]
    stop: StopRule

    @property
    def thinking(self) -> Thinking | None:
        """What is done about thoughts; None if none are known."""
        return self.builder.thinking

    @property
    def thought(self) -> Thought | None:
        """What the model is let think before its answer, for an engine; None if nothing."""
        from rh_bench.engines.base import Thought

        thinking = self.thinking
        if thinking is None or thinking.limit is None:
            return None
        return Thought(thinking.closing_ids, thinking.limit)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know."""
        return (*([self.thinking.note] if self.thinking else []), *self.stop.notes)

    def protocol(self) -> Json:
        """The part of a protocol that says how the model was asked. What an ordinary model does not have is left out,
        so that its runs keep their ids."""
        return {
            "template": self.builder.template_name,
            "stop": self.stop.names,
            **({"turn_token": self.stop.turn[1]} if self.stop.turn else {}),
            **({"thinking": self.thinking.to_json()} if self.thinking else {}),
        }


def ask(
    loaded: LoadedModel,
    haystacks: HaystackSet,
    samples: Sequence[Sample],
    template: str,
    choice: str = AUTO,
    limit: int | None = None,
) -> Asking:
    """Make the prompts of samples for a model.

    Args:
        template: "plain", "chat" or "auto".
        choice: what to do about thoughts, one of `thinking.CHOICES`. AUTO asks the model itself, by the shortest of the
            prompts, where its chat template does not say whether it begins an answer with a thought.
        limit: tokens of a thought, at most, for AFTER.

    Raises:
        InputError: tokenizer, template or needles cannot be used, or no prompt can do what is asked for.
    """
    chat = choose_template(loaded.tokenizer, template)
    if chat is None:
        if choice != AUTO:
            raise InputError("plain prompts have no thoughts", where="--thinking", hint="use --template chat")
        return _asking(loaded, haystacks, samples, template, None)

    def begin(left: Thinking) -> str:
        shortest = min(samples, key=lambda sample: (sample.length, sample.sample_id))
        return _first_words(loaded, _asking(loaded, haystacks, [shortest], template, left))

    return _asking(loaded, haystacks, samples, template, settle_thinking(chat, choice, limit, begin))


def ask_as(loaded: LoadedModel, haystacks: HaystackSet, samples: Sequence[Sample], run: Json) -> Asking:
    """Make the prompts of samples as a run did.

    Args:
        run: its run.json.

    Raises:
        InputError: see :func:`ask`; or the model's chat template cannot have given what the run records.
    """
    builder = builder_as(loaded.tokenizer, haystacks, samples, run)
    return _with_stop(loaded, builder, samples, not is_older(run))


def builder_as(tokenizer: Any, haystacks: HaystackSet, samples: Sequence[Sample], run: Json) -> PromptBuilder:
    """As :func:`ask_as`, for a tokenizer without its model."""
    template = run["protocol"]["template"]
    chat = choose_template(tokenizer, template)
    thinking = None if chat is None else recorded_thinking(chat, run)
    return _builder(tokenizer, haystacks, samples, template, thinking)


def prompt_ids(tokenizer: Any, haystacks: HaystackSet, samples: Sequence[Sample], template: str) -> Iterator[IntArray]:
    """The ids of every sample's prompt before there is a model, and before anything is done about thoughts.

    Raises:
        InputError: a prompt cannot be built.
    """
    builder = _builder(tokenizer, haystacks, samples, template, None)
    return (builder.build(sample).ids for sample in samples)


def fitting_prompts(haystacks: HaystackSet, samples: Sequence[Sample], template: str, new_tokens: int) -> Prompts:
    """Gives the ids of every sample's prompt before there is a model, and refuses what does not fit its window.

    Args:
        new_tokens: what may follow a prompt, at most.
    """

    def ids(tokenizer: Any, window: int | None, model: str) -> Iterator[IntArray]:
        refuse_beyond_window(samples, window, new_tokens, model)
        return prompt_ids(tokenizer, haystacks, samples, template)

    return ids


def _asking(
    loaded: LoadedModel, haystacks: HaystackSet, samples: Sequence[Sample], template: str, thinking: Thinking | None
) -> Asking:
    return _with_stop(loaded, _builder(loaded.tokenizer, haystacks, samples, template, thinking), samples, True)


def _with_stop(loaded: LoadedModel, builder: PromptBuilder, samples: Sequence[Sample], at_turn: bool) -> Asking:
    stop = stop_rule(
        loaded.model,
        loaded.tokenizer,
        builder.text if builder.stops_at_newline else None,
        builder.chat if at_turn else None,
        dict(builder.thinking.variables) if builder.thinking else None,
    )
    prompts = tuple(builder.build(sample) for sample in samples)
    # Once more, with what is done about thoughts.
    largest = largest_token(prompt.ids for prompt in prompts)
    refuse_beyond_embedding(largest, embedding_rows(loaded.model), loaded.tokenizer, loaded.source.id)
    return Asking(builder, prompts, stop)


def _builder(
    tokenizer: Any, haystacks: HaystackSet, samples: Sequence[Sample], template: str, thinking: Thinking | None
) -> PromptBuilder:
    needles = {sample.needle_id for sample in samples}
    used = {key: needle for key, needle in haystacks.needles_by_id.items() if key in needles}
    texts = {needle.haystack_id: haystacks.texts[needle.haystack_id] for needle in used.values()}
    return PromptBuilder(tokenizer, texts, used, template, thinking)


def _first_words(loaded: LoadedModel, asking: Asking) -> str:
    """How the model begins its answer to the one prompt, special tokens and all."""
    from rh_bench.engines import make_engine

    chunk = loaded.memory.chunk if loaded.memory else None
    engine = make_engine("fast", loaded.model, loaded.layers, asking.stop, max_new_tokens=FIRST_TOKENS, chunk=chunk)
    (decoded,) = engine.decode(asking.prompts)
    return asking.builder.raw_text(decoded.generated)
