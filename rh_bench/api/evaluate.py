"""Measure a model: named, or held in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rh_bench.api.load import read_run_folder
from rh_bench.api.request import requested
from rh_bench.api.run import Run
from rh_bench.measure.evaluate import evaluate as evaluate_to_disk
from rh_bench.measure.evaluate import evaluate_in_memory

if TYPE_CHECKING:
    from rh_bench.measure.session import Step
    from rh_bench.sets.dataset import HaystackSet


def evaluate(
    model: Any,
    tokenizer: Any = None,
    *,
    haystack: str | Path | HaystackSet,
    out: str | Path | None = None,
    lengths: Sequence[int] | None = None,
    depths: Sequence[float] | None = None,
    needles: Sequence[str] | None = None,
    limit: int | None = None,
    engine: str = "fast",
    device: str = "auto",
    dtype: str = "auto",
    template: str = "auto",
    thinking: str = "auto",
    thought_tokens: int | None = None,
    max_new_tokens: int = 50,
    window: int | None = None,
    trust_remote_code: bool = False,
    name: str | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Run:
    """Measure every attention head of a model on a haystack set.

    A model in memory is measured where it is and as it is, in evaluation mode: with its adapters, its hooks and its
    quantisation. Afterwards it is as it was. Its run says `origin: in-memory`.

    Args:
        model: a Hub id (`org/name[@revision]`), a local folder, `gguf:<file>`, or a transformers model in memory.
        tokenizer: of a model in memory.
        haystack: folder of a set, or `org/name[@revision]` of one on the Hub.
        out: folder of runs. The run is written there sample by sample, and the same call goes on where an earlier one
            was interrupted. Without it nothing is written, see `Run.save`.
        lengths: context lengths in tokens; with `depths` (percent) they make a grid of their own.
        needles: ids of needles; all of the set's without them.
        limit: measure so many samples, spread evenly over the grid.
        engine: "fast", or "reference" (slow, the oracle).
        device, dtype: where to load a named model, and in which type. A model in memory stays where and what it is.
        template: "auto", "plain" or "chat".
        thinking, thought_tokens: what to do about the thoughts of a model that has them, see `docs/protocol.md`.
        max_new_tokens: tokens of an answer, at most.
        window: largest number of positions, instead of what the model's configuration says.
        trust_remote_code: run Python code that a model's repository ships. Read it first.
        name: what to call a model in memory.
        on_step: called when the measuring begins and after every sample, with what is done of what.
        on_stage: called with a few words when something begins that takes seconds.

    Raises:
        InputError: model, set or an option is wrong, or the model cannot be measured correctly; one line says why.

    ```python
    run = rh.evaluate(model, tokenizer, haystack="sets/quick", limit=2)
    len(run.heads), run.summary["success"]["rate"]["value"], run.notes
    ```
    """
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
        engine=engine,
        device=device,
        dtype=dtype,
        template=template,
        thinking=thinking,
        thought_tokens=thought_tokens,
        max_new_tokens=max_new_tokens,
        window=window,
        trust_remote_code=trust_remote_code,
    )
    with asking as request:
        if out is None:
            return Run.of(evaluate_in_memory(request, on_step, on_stage))
        return read_run_folder(evaluate_to_disk(request, on_step, on_stage).folder)
