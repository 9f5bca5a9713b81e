"""Bounds on what a model's files may say, before a library builds what they say.

A configuration holds numbers from an untrusted source, by which layers, heads and lists are made one by one:
`num_hidden_layers` of a billion fills any memory before a weight is checked. The bounds are far beyond every model that
there is, and what the safetensors files hold is a bound, too. Neither torch nor transformers is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.models.weights_header import weight_shapes
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json

MOST_LAYERS = 2000
"""As many as a run may have."""
MOST_HEADS = (1 << 15) - 1
"""What the tables of a run can name."""
MOST_EXPERTS = 1 << 14
MOST_PARTS = 1 << 18
"""Layers times experts: what is made one by one."""
MOST_WIDTH = 1 << 24
"""Of a vocabulary, a layer, a head …"""
MOST_POSITIONS = 1 << 31
MOST_OTHER = 1 << 17
"""Of whatever else is counted."""
MOST_LIST = 1 << 16
MOST_CONFIG = 16 << 20
"""Bytes of config.json."""

_LAYERS = r"layers?|n_layer|num_layer|depths?|blocks?|block_count"
_EXPERTS = r"experts?|expert_count|n_routed_experts|num_local_experts"
_RULES = tuple(
    (re.compile(rf"(^|_)({words})$"), most)
    for words, most in (
        (r".*(param|token|step|sample|train|flops|bytes).*|seed|ids?", None),
        (r"window(_size)?|chunk_size|ctx|context|.*positions?|.*position_embeddings|.*seq.*|.*length", MOST_POSITIONS),
        (_LAYERS, MOST_LAYERS),
        (r"heads?|groups?|head_count(_kv)?", MOST_HEADS),
        (_EXPERTS, MOST_EXPERTS),
        (r".*size|.*dim|.*rank|.*width|.*channels|embd|emb|model|ff|kv|inner|state|features|hidden|conv", MOST_WIDTH),
    )
)
_COUNT = re.compile(r"(^|_)(n|num)_")
"""How whatever is counted is called; what of it is one of the above is bounded by that."""
_FILES = (
    (re.compile(r"config\.json|generation_config\.json|tokenizer_config\.json|.*_map\.json|added_tokens\.json"), 16),
    (re.compile(r".*\.jinja"), 2),
    (re.compile(r"tokenizer\.json"), 128),
    (re.compile(r".*\.(json|txt|model)"), 64),
)
"""Mebibytes of a file that is read whole, and takes many times as much in memory."""


def refuse_beyond_bounds(folder: Path, names: list[str], where: str) -> None:
    """Refuse a model's files that say more than any model has.

    Args:
        folder: where its files lie.
        names: of its files.
        where: its name, for errors.

    Raises:
        InputError: names the file, the field and the bound.
    """
    refuse_large_files(folder, names, where)
    if "config.json" not in names:
        return
    config = load_json(folder / "config.json", max_bytes=MOST_CONFIG, constant=lambda text: None)
    problem = next(bounds_problems(config), None)
    if problem is not None:
        raise InputError(f"config.json: {problem}", where=where, hint="this is not a model that can be measured")


def refuse_more_layers_than_weights(folder: Path, names: list[str], where: str) -> None:
    """Refuse a configuration with more layers than the weights have tensors. Arguments as for
    :func:`refuse_beyond_bounds`, of a model within bounds.

    Raises:
        InputError: it is so, or a file of weights cannot be read.
    """
    weights = [name for name in names if name.endswith(".safetensors")]
    config = load_json(folder / "config.json", max_bytes=MOST_CONFIG, constant=lambda text: None)
    layers, tensors = _largest_count(config), len(weight_shapes(folder, weights, where))
    if layers is not None and layers > tensors:
        raise InputError(
            f"config.json: {layers} layers, but its weights have {tensors} tensors",
            where=where,
            hint="use the configuration of these weights",
        )


def refuse_large_files(folder: Path, names: list[str], where: str) -> None:
    """Refuse files that are too large to be read whole.

    Raises:
        InputError: names the file and the bound.
    """
    for name in names:
        most = next((size << 20 for pattern, size in _FILES if pattern.fullmatch(name)), None)
        if most is not None and (folder / name).stat().st_size > most:
            raise InputError(f"{shown(name)} is larger than {most} bytes", where=where, hint="no model needs that much")


def bounds_problems(config: Any) -> Iterator[str]:
    """What of a configuration's numbers and lists is beyond bounds."""
    if not isinstance(config, dict):
        yield "is not a JSON object"
        return
    left: list[tuple[str, Any]] = [("", config)]
    while left:
        place, part = left.pop()
        if isinstance(part, list):
            if len(part) > MOST_LIST:
                yield f"{place} lists {len(part)} values, at most {MOST_LIST} are read"
                continue
            yield from _number_problems(place, part)
            left += [(place, one) for one in part if isinstance(one, dict | list)]
        elif isinstance(part, dict):
            yield from _parts_problems(place, part)
            for name, value in part.items():
                inner = f"{place}/{shown(str(name))[:60]}"
                if isinstance(value, dict | list):
                    left.append((inner, value))
                else:
                    yield from _number_problems(inner, [value])


def _number_problems(place: str, values: list[Any]) -> Iterator[str]:
    most = _most(place.rpartition("/")[2])
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if most is None or not numbers:
        return
    found = sum(numbers) if place.endswith("depths") else max(numbers)
    if found > most:
        yield f"{place} is {found:.15g}, at most {most} are possible"


def _most(name: str) -> int | None:
    """The bound of a number by its name; None for what nothing is made of."""
    name = name.lower()
    for pattern, most in _RULES:
        if pattern.search(name):
            return most
    return MOST_OTHER if _COUNT.search(f"_{name}") else None


def _parts_problems(place: str, part: dict[str, Any]) -> Iterator[str]:
    layers = max(_ints(part, re.compile(rf"(^|_)({_LAYERS})$")), default=0)
    experts = max(_ints(part, re.compile(rf"(^|_)({_EXPERTS})$")), default=0)
    if layers <= MOST_LAYERS and experts <= MOST_EXPERTS and layers * experts > MOST_PARTS:
        yield f"{place or '/'} has {layers} layers of {experts} experts, at most {MOST_PARTS} experts are possible"


def _ints(part: dict[str, Any], pattern: re.Pattern[str]) -> list[int]:
    return [value for name, value in part.items() if type(value) is int and pattern.search(str(name).lower())]


def _largest_count(config: dict[str, Any]) -> int | None:
    """The layers of the language model, as far as the usual names say it."""
    text = config.get("text_config")
    parts = [text if isinstance(text, dict) else {}, config]
    names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    return next((part[name] for part in parts for name in names if type(part.get(name)) is int), None)
