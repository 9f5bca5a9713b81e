"""Heads removed inside a `with` block, from a model in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, Any, Literal

from rh_bench.errors import InputError
from rh_bench.system.environment import refuse_light_install

if TYPE_CHECKING:
    from rh_bench.attention.ablation import Ablation, MeanInputs


@contextmanager
def ablate(
    model: Any,
    heads: Iterable[Any],
    *,
    how: Literal["zero", "mean", "span", "uniform"] = "zero",
    phase: Literal["both", "prefill", "decode"] = "both",
    means: MeanInputs | None = None,
    span: tuple[int, int] | None = None,
    prompt_length: int | None = None,
) -> Iterator[Ablation]:
    """Remove heads from a model inside the block: in plain calls and in `generate`. After it no hook is left.

    Args:
        model: a transformers causal language model; PEFT may be around it.
        heads: (layer, query head) pairs, as `run.top` gives them, or `Head` objects.
        how: "zero" makes a head's output zero; "mean" makes it what it is on average (`means`, from
            `rh_bench.attention.ablation.mean_inputs`); "span" hides some positions from it; "uniform" makes it look
            alike everywhere. `docs/ablation.md` says which question each of them asks.
        phase: "prefill" removes them while the prompt is read, "decode" while the answer is made, "both" throughout.
        span, prompt_length: positions to hide, and tokens of the prompt, as of `docs/ablation.md`.

    Raises:
        InputError: a head does not exist, or heads of this architecture cannot be removed.

    ```python
    with rh.ablate(model, run.top(2)):
        logits = model(input_ids=ids).logits
    ```
    """
    refuse_light_install("removing heads")
    from rh_bench.attention.ablation import ablate as remove
    from rh_bench.models.in_memory import unwrapped

    chosen = [_place(head) for head in heads]
    _refuse_compiled(model)
    inner = unwrapped(model)
    with remove(inner, chosen, how=how, phase=phase, means=means, span=span, prompt_length=prompt_length) as ablation:
        yield ablation


def _refuse_compiled(model: Any) -> None:
    """Compiled code calls no hook that was put on after it was compiled: its heads would stay, and nobody would know.

    Raises:
        InputError: the model, or a part of it, is compiled.
    """
    if hasattr(model, "_orig_mod") or any(
        getattr(part, "_compiled_call_impl", None) is not None for part in getattr(model, "modules", list)()
    ):
        hint = "remove them from the model that was not compiled (model._orig_mod), and call that"
        raise InputError("heads cannot be removed from compiled code", where=type(model).__name__, hint=hint)


def _place(head: Any) -> tuple[int, int]:
    """(layer, head) of a pair of numbers of any kind.

    Raises:
        InputError: it is none.
    """
    pair = getattr(head, "place", head)
    try:
        layer, number = pair
        return index(layer), index(number)
    except (TypeError, ValueError):
        raise InputError(
            f"{str(head)[:60]!r} is no (layer, head)", where="heads", hint="give run.top(10), say"
        ) from None
