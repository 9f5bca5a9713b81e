"""What a detector of retrieval heads is: a score for every head on every sample, and a rule that names heads by it.

Detectors measure the same samples, so that what they find can be compared; see
:mod:`rh_bench.experiments.detectors.derive` for what is computed from their scores, and `docs/extending.md` for
how to add one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from rh_bench.engines.base import StopRule
from rh_bench.models.load import LoadedModel
from rh_bench.records import IntArray, Json, Prompt
from rh_bench.sets.prompts import PromptBuilder

Scores = npt.NDArray[np.float64]
"""float64 [S, H] in [-1, 1]: one row per score of the detector, H in the order of `records.head_grid`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Names heads by one score. A detector with several rules names every head that one of them names.

    ```python
    rh.Rule("depth", "top", 10)
    ```

    `above`: mean score above `value`. `top`: the `value` heads with the highest mean score. `share`: the highest share
    `value` of all heads, rounded down, at least one. The last two name no head whose score is not above 0.
    """

    score: str
    kind: Literal["above", "top", "share"]
    value: float


@dataclass(frozen=True)
class Subject:
    """The model under test, and how prompts are made for it; what `Detector.measure` gets.

    ```python
    def measure(self, subject: rh.Subject, prompts, done):
        heads = sum(layer.query_heads for layer in subject.loaded.layers if layer.scored)
        for prompt in prompts:
            logits = subject.model(input_ids=torch.from_numpy(prompt.ids)[None].long()).logits
            ...
    ```
    """

    loaded: LoadedModel
    builder: PromptBuilder
    stop: StopRule
    max_new_tokens: int
    seed: int
    """Of what a detector draws at random."""

    @property
    def model(self) -> Any:
        return self.loaded.model

    @property
    def chunk(self) -> int | None:
        """Prompt tokens in one forward pass; None for what the device mostly takes."""
        return self.loaded.memory.chunk if self.loaded.memory else None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a detector found on one sample: scores in [-1, 1], one row per score, one column per head.

    ```python
    rh.Measured("some-sample", np.zeros((1, 12)), seconds=0.1)
    ```
    """

    sample_id: str
    scores: Scores
    seconds: float
    generated: IntArray | None = None
    """int32 [T]: the answer, from a detector that decodes one; it says whether the sample counts."""


class Detector(Protocol):
    """An idea of what a retrieval head does: a score for every head on every sample, and rules that name heads by it.

    Any object with these members is one; `detect` takes it as it is. It holds no state: one instance serves every
    model. `docs/extending.md` says how a package adds one.

    ```python
    class Early:
        name, version, source = "early", 1, "an example: heads of early layers"
        scores, rules = ("early",), (rh.Rule("early", "top", 2),)
        needs_data, counted_only = False, False

        def measure(self, subject: rh.Subject, prompts, done):
            layers = [layer for layer in subject.loaded.layers if layer.scored]
            row = np.concatenate([np.full(one.query_heads, 1 / (1 + one.index)) for one in layers])
            for prompt in prompts:
                if prompt.sample.sample_id not in done:
                    yield rh.Measured(prompt.sample.sample_id, row[None], seconds=0.0)


    rh.detect(model, tokenizer, haystack="sets/quick", limit=2, detectors=[Early()]).named("early")
    ```
    """

    @property
    def name(self) -> str:
        """What experiments call it: small letters, digits and hyphens, no name of rh_bench's own."""
        ...

    @property
    def version(self) -> int:
        """Goes up whenever a score could change."""
        ...

    @property
    def source(self) -> str:
        """Who proposed it, and where this one differs."""
        ...

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the rows of `Measured.scores`; different ones over all detectors."""
        ...

    @property
    def rules(self) -> tuple[Rule, ...]:
        """As its source names heads."""
        ...

    @property
    def needs_data(self) -> bool:
        """Whether it reads the samples. One that does not still measures once a sample, at the sample's length."""
        ...

    @property
    def counted_only(self) -> bool:
        """Whether only samples that the model answers count for it."""
        ...

    def measure(
        self, subject: Subject, prompts: Sequence[Prompt], done: Mapping[str, Sequence[int]]
    ) -> Iterator[Measured]:
        """Measure each prompt whose sample id is not in `done`, in an order of its own.

        `prompts` is always the whole experiment, and `done` has the tokens generated for each sample that an earlier
        session measured (none from a detector that decodes nothing), so that what samples share is computed in the same
        way whether or not the experiment was interrupted.
        """
        ...


def describe(detector: Detector) -> Json:
    """The detector in an experiment's settings."""
    return {
        "name": detector.name,
        "version": detector.version,
        "source": detector.source,
        "scores": list(detector.scores),
        "rules": [{"score": rule.score, "kind": rule.kind, "value": rule.value} for rule in detector.rules],
        "needs_data": detector.needs_data,
        "counted_only": detector.counted_only,
    }
