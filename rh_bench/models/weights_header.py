"""What safetensors files say that they hold, read from their headers without trust and without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.system.faults import in_words
from rh_bench.system.schema import parse_json

_MOST_HEADER = 100 << 20
"""As the library has it."""
_MOST_DIMENSIONS = 16


def weight_shapes(folder: Path, names: Sequence[str], where: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights in safetensors files, by name.

    Args:
        names: of the files.
        where: the model's name, for errors.

    Raises:
        InputError: a file is no safetensors file, is cut short, or its header says what cannot be.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        path = folder / name
        try:
            for key, tensor in _header(path).items():
                if key != "__metadata__":
                    shapes[key] = _shape(key, tensor, path.stat().st_size)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path.name} cannot be loaded ({in_words(error)})",
                where=where,
                hint="save the model again",
            ) from error
    return shapes


def count_weights(shapes: dict[str, tuple[int, ...]]) -> int:
    """How many numbers they are."""
    return sum(math.prod(shape) for shape in shapes.values())


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MOST_HEADER:
            raise ValueError("its header is too large")
        data = file.read(size)
    if len(data) < size:
        raise ValueError("it is cut short in its header")
    document = parse_json(data.decode("utf-8"))
    if not isinstance(document, dict):
        raise ValueError("its header is not an object")
    return document


def _shape(key: str, tensor: Any, size: int) -> tuple[int, ...]:
    """The shape of a tensor whose entry can be true of a file of `size` bytes."""
    entry = tensor if isinstance(tensor, dict) else {}
    found, offsets = _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
    if found is None or offsets is None or len(offsets) != 2:
        raise ValueError(f"its header gives neither shape nor place for {key[:80]!r}")
    first, last = offsets
    if not first <= last <= size:
        raise ValueError(f"it is cut short: {key[:80]!r} ends at {last} of {size} bytes")
    if math.prod(found) > 2 * (last - first):  # the smallest types pack two numbers into a byte
        raise ValueError(f"its header gives {key[:80]!r} more numbers than bytes")
    return tuple(found)


def _sizes(value: Any) -> list[int] | None:
    whole = isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
    return value if whole and len(value) <= _MOST_DIMENSIONS else None
