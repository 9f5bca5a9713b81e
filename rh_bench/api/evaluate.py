"""Measuring a model, by name or in memory."""

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

    A model in memory is measured in place and as it is, in evaluation mode: with its adapters, hooks and quantisation.
    It is left unchanged. Its run says `origin: in-memory`.

    Args:
        model: a Hub id (`org/name[@revision]`), a local folder, `gguf:FILE`, or a transformers model in memory.
        tokenizer: the tokenizer of a model in memory.
        haystack: folder of a set, or its `org/name[@revision]` on the Hub.
        out: folder for runs. The run is written there sample by sample, and the same call resumes an interrupted one.
            By default nothing is written; see `Run.save`.
        lengths: context lengths in tokens; with `depths` (percent) they make a grid of their own.
        needles: ids of needles (default: all of the set's).
        limit: number of samples, evenly spaced over the grid (default: all).
        engine: "fast", or "reference" (slow; what fast is tested against).
        device, dtype: where to load a named model, and in which type. A model in memory stays as it is.
        template: "auto", "plain" or "chat".
        thinking, thought_tokens: how to treat the thoughts of reasoning models; see `docs/protocol.md`.
        max_new_tokens: most tokens of an answer.
        window: context window in tokens, instead of the one in the model's configuration.
        trust_remote_code: run the Python code in a model's repository. Read it first.
        name: name for a model in memory.
        on_step: called when measuring starts and after every sample, with the progress.
        on_stage: called with a short description when something starts that takes seconds.

    Raises:
        InputError: the model, the set or an option is wrong, or the model cannot be measured correctly; one line says
            why.

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
