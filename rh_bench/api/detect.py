"""Comparing detectors of retrieval heads on a model: the package's and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rh_bench.api.experiment import Experiment
from rh_bench.api.request import requested
from rh_bench.system.environment import refuse_light_install

if TYPE_CHECKING:
    from rh_bench.detectors.base import Detector
    from rh_bench.measure.session import Step
    from rh_bench.sets.dataset import HaystackSet


def detect(
    model: Any,
    tokenizer: Any = None,
    *,
    haystack: str | Path | HaystackSet,
    detectors: Sequence[str | Detector] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    lengths: Sequence[int] | None = None,
    depths: Sequence[float] | None = None,
    needles: Sequence[str] | None = None,
    limit: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    template: str = "auto",
    thinking: str = "auto",
    max_new_tokens: int = 50,
    window: int | None = None,
    trust_remote_code: bool = False,
    name: str | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Experiment:
    """Run detectors of retrieval heads on the same samples, and measure how well they agree.

    Args:
        detectors: names ("copy", "attention-mass", "induction", or one added by an installed package) or your own
            detectors: instances of a class with the members of `Detector`. By default the package's three.
        out: folder for experiments. By default nothing is written; see `Experiment.save`.
        seed: seed of the detectors' random choices.

    For the other arguments see `evaluate`.

    Raises:
        InputError: the model, the set, a detector or an option is wrong.

    ```python
    experiment = rh.detect(model, tokenizer, haystack="sets/quick", limit=2, detectors=["copy", "attention-mass"])
    experiment.named("attention-mass")[:3]
    ```
    """
    refuse_light_install("comparing detectors")
    from rh_bench.experiments.detectors.run import detect as detect_to_disk
    from rh_bench.experiments.detectors.run import detect_in_memory

    asking = requested(
        model,
        tokenizer,
        name,
        haystack=haystack,
        out=out,
        lengths=lengths,
        depths=depths,
        needles=needles,
        limit=limit,
        device=device,
        dtype=dtype,
        template=template,
        thinking=thinking,
        max_new_tokens=max_new_tokens,
        window=window,
        trust_remote_code=trust_remote_code,
    )
    watching: dict[str, Any] = {"seed": seed, "on_step": on_step, "on_stage": on_stage}
    with asking as request:
        if out is None:
            return Experiment.of(detect_in_memory(request, detectors, **watching))
        return Experiment.read(detect_to_disk(request, detectors, **watching).folder)
