"""What is to be measured, and what is made ready for it: the set read, the samples chosen, the model loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rh_bench.measure.asking import fitting_prompts
from rh_bench.measure.session import OnStage
from rh_bench.models.source import base_revision
from rh_bench.models.window import stated_window
from rh_bench.prompting.thinking import AFTER, AUTO, THOUGHT_TOKENS, check_choice
from rh_bench.records import Json, Sample
from rh_bench.sets.choose import Choice, choose_samples
from rh_bench.sets.dataset import HaystackSet
from rh_bench.sets.find import FoundSet, find_set

if TYPE_CHECKING:
    from rh_bench.models.load import LoadedModel, Prompts
    from rh_bench.system.memory import MemoryPlan

MAX_NEW_TOKENS = 50


@dataclass(frozen=True)
class ModelRequest:
    """A model to measure, as the command line takes it."""

    model: str
    """Hub id with optional ``@revision``, local folder, or ``gguf:<file>``."""
    _: KW_ONLY
    device: str = "auto"
    dtype: str | None = "auto"
    """None takes that of the run whose model this is."""
    trust_remote_code: bool = False
    window: int | None = None
    """Largest number of positions; None for what the run says whose model this is, or the model's configuration."""

    def load(
        self,
        *,
        run: Json | None = None,
        positions: int | None = None,
        prompts: Prompts | None = None,
        on_plan: Callable[[MemoryPlan], None] | None = None,
    ) -> LoadedModel:
        """Load the model.

        Args:
            run: the document of the run whose model this is, which says what is not asked for.
            positions, prompts, on_plan: see :func:`rh_bench.models.load.load_model`.

        Raises:
            InputError: it cannot be loaded, or something about it is wrong.
        """
        from rh_bench.models.load import load_model

        return load_model(
            self.model,
            dtype=self.dtype or (run["protocol"]["dtype"] if run else "auto"),
            device=self.device,
            trust_remote_code=self.trust_remote_code,
            positions=positions,
            on_plan=on_plan,
            window=self.window or (stated_window(run["model"]) if run else None),
            base_revision=base_revision(run["model"]) if run else None,
            prompts=prompts,
        )


@dataclass(frozen=True)
class Request(ModelRequest, Choice):
    """What to measure, as the command line takes it."""

    haystack: str
    """Folder of a set, or ``org/name[@revision]`` on the Hub."""
    out: Path
    """Folder of runs."""
    _: KW_ONLY
    engine: str = "fast"
    template: str = "auto"
    max_new_tokens: int = MAX_NEW_TOKENS
    thinking: str = AUTO
    """What to do about the thoughts of a model that has them: one of `rh_bench.prompting.thinking.CHOICES`."""
    thought_tokens: int | None = None
    """Tokens of a thought, at most, where the answer after it is measured; THOUGHT_TOKENS without it."""
    attestation: Json | None = None
    """What a job of the Hub says of itself in run.json (`rh_bench.submissions.attested_run`)."""

    @property
    def new_tokens(self) -> int:
        """Tokens that may follow a prompt: those of the answer, and of a thought before it."""
        thought = (self.thought_tokens or THOUGHT_TOKENS) if self.thinking == AFTER else 0
        return self.max_new_tokens + thought


@dataclass(frozen=True)
class Prepared:
    """A request with its set read, its samples chosen and its model loaded."""

    found: FoundSet
    samples: tuple[Sample, ...]
    grid: Json
    """Which samples they are, as a document says it."""
    loaded: LoadedModel

    @property
    def haystacks(self) -> HaystackSet:
        """The set."""
        return self.found.haystacks


def prepare(request: Request, say: OnStage) -> Prepared:
    """Read the set, choose the samples, load the model, and refuse lengths beyond its window.

    Raises:
        InputError: the model, the set or an option is wrong.
    """
    check_choice(request.thinking, request.thought_tokens)
    say("Reading the haystack set")
    found = find_set(request.haystack)
    samples, grid = choose_samples(found.haystacks, request, request.haystack)
    say("Loading the model")
    loaded = request.load(
        positions=max(sample.length for sample in samples) + request.new_tokens,
        on_plan=lambda memory: say(f"Loading the model ({memory})"),
        prompts=fitting_prompts(found.haystacks, samples, request.template, request.new_tokens),
    )
    return Prepared(found, samples, grid, loaded)
