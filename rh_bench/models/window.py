"""How many positions a model is for: what its configuration says, what a scaled rotary embedding makes of that, or what
the user says.

Neither torch nor transformers is imported: configurations and models are asked for what they hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rh_bench.errors import InputError
from rh_bench.records import Json

_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")
_SCALED = ("linear", "dynamic", "yarn", "longrope", "su", "llama3")
"""Kinds of rotary embedding with which a window grows by a factor."""
_HAS_ORIGINAL = ("yarn", "longrope", "su", "llama3")
"""Those whose formula is about an original window. transformers fills it in where a configuration leaves it out."""
_LARGEST = 2**53
_POSITIONS = re.compile(r"(^|_)(wpe|pos|positions?)(_|$)")
"""How tables of positions are called: wpe, embed_positions, position_embeddings, pos_emb …"""

CONFIGURATION, ROPE_SCALING, OPTION = "configuration", "rope_scaling", "option"


@dataclass(frozen=True)
class Window:
    """The largest number of positions, and who says so. `size` is None if nobody does: then nothing is refused."""

    size: int | None
    origin: str | None
    """"configuration", "rope_scaling" (original window × factor), "option" (`--window`), or None."""


def find_window(config: Any, option: int | None = None) -> Window:
    """The window of a model.

    A configuration that was edited for a longer context often keeps its `max_position_embeddings`: original window ×
    factor counts then, and never less than what the configuration says.

    Args:
        config: as transformers loads it.
        option: what the user says, which goes before all else.
    """
    if option is not None:
        return Window(option, OPTION)
    text, stated = config.get_text_config(decoder=True), stated_positions(config)
    scaled = max(_scaled_windows(text, stated), default=None)
    if scaled is not None and (stated is None or scaled > stated):
        return Window(scaled, ROPE_SCALING)
    return Window(stated, None if stated is None else CONFIGURATION)


def stated_positions(config: Any) -> int | None:
    """The positions that a configuration states, whatever its rotary embedding makes of them; None if it states
    none."""
    text = config.get_text_config(decoder=True)
    return next(filter(None, (_positive(_get(text, name)) for name in _NAMES)), None)


def stated_window(model: Json) -> int | None:
    """The window that the user stated for the `model` of a run, for what is done with that run again; None if the
    model's own counts."""
    return model["window"] if model.get("window_from") == OPTION else None


def _scaled_windows(text: Any, stated: int | None) -> Iterator[int]:
    """Original window × factor, of every rotary embedding for which that can be told."""
    rope = _get(text, "rope_parameters") or _get(text, "rope_scaling")
    if not isinstance(rope, Mapping):
        return
    outer = _positive(_get(text, "original_max_position_embeddings"))
    nested = {str(kind): one for kind, one in rope.items() if isinstance(one, Mapping)}
    if not nested:
        size = _scaled(rope, outer, stated)
        if size is not None:
            yield size
        return
    # One for each type of layer. Sliding layers do not bound what a model reads; and where a type without an original
    # window has a factor (Gemma 3), max_position_embeddings is the window that came of it.
    for kind, one in nested.items():
        size = _scaled(one, outer, None) if "full" in kind else None
        if size is not None:
            yield size


def _scaled(rope: Mapping[str, Any], outer: int | None, stated: int | None) -> int | None:
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if kind not in _SCALED or isinstance(factor, bool) or not isinstance(factor, int | float):
        return None
    original = _positive(rope.get("original_max_position_embeddings")) or (outer if kind in _HAS_ORIGINAL else None)
    if kind == "llama3" and original is not None and stated is not None and stated > original:
        # Its factor divides low frequencies and is no multiple: Llama 3.2 states 131,072, of 8,192 with a factor of 32.
        return None
    original = original or stated
    if original is None or not math.isfinite(factor) or factor < 1:
        return None
    return _positive(int(original * factor))


def _get(config: Any, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except Exception:  # configurations that differ from layer to layer refuse to be asked for one value
        return None


def _positive(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= _LARGEST else None


def position_table(model: Any) -> int | None:
    """Rows of the smallest table of absolute positions in a model, learned or precomputed: it has no position beyond
    them. None if there is no such table.

    Args:
        model: whose modules are those of the text decoder alone: towers for images have tables of their own.
    """
    sizes = [
        int(module.num_embeddings) - int(getattr(module, "offset", 0) or 0)
        for name, module in model.named_modules()
        if hasattr(module, "num_embeddings") and _is_positions(name)
    ]
    sizes += [
        int(table.shape[0])
        for name, table in model.named_buffers()
        if table.ndim == 2 and table.is_floating_point() and _is_positions(name)
    ]
    return min(sizes, default=None)


def _is_positions(name: str) -> bool:
    return _POSITIONS.search(name.rpartition(".")[2]) is not None


def refuse_beyond_table(window: Window, model: Any, where: str) -> None:
    """Refuse a window that the user gave and that the model has no positions for.

    Raises:
        InputError: names the table's size.
    """
    rows = position_table(model)
    if window.origin == OPTION and window.size is not None and rows is not None and window.size > rows:
        raise InputError(
            f"{where} has a table of {rows} positions and none beyond",
            where="--window",
            hint=f"give at most {rows}",
        )
