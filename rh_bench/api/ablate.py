"""Removing heads from a model in memory, inside a `with` block."""

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
    """Remove heads from a model inside the block, in plain calls and in `generate`. No hook is left afterwards.

    Args:
        model: a transformers causal language model, which may be wrapped by PEFT.
        heads: (layer, query head) pairs, as `run.top` gives them, or `Head` objects.
        how: "zero" sets a head's output to zero; "mean" to its average (`means`, from
            `rh_bench.attention.ablation.mean_inputs`); "span" hides some positions from it; "uniform" makes it attend
            equally everywhere. `docs/ablation.md` says which question each answers.
        phase: "prefill" removes heads while the prompt is read, "decode" while the answer is generated, "both" always.
        span, prompt_length: positions to hide, and tokens of the prompt; see `docs/ablation.md`.

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
    """Compiled code does not call hooks added after compilation: heads would silently not be removed.

    Raises:
        InputError: the model, or a part of it, is compiled.
    """
    if hasattr(model, "_orig_mod") or any(
        getattr(part, "_compiled_call_impl", None) is not None for part in getattr(model, "modules", list)()
    ):
        hint = "remove heads from the uncompiled model (model._orig_mod), and call that"
        raise InputError("heads cannot be removed from compiled code", where=type(model).__name__, hint=hint)


def _place(head: Any) -> tuple[int, int]:
    """(layer, head) from a pair of numbers of any type.

    Raises:
        InputError: it is not such a pair.
    """
    pair = getattr(head, "place", head)
    try:
        layer, number = pair
        return index(layer), index(number)
    except (TypeError, ValueError):
        raise InputError(
            f"{str(head)[:60]!r} is not a (layer, head) pair", where="heads", hint="use run.top(10), for example"
        ) from None
