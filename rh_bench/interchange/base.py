"""What the readers and writers of all formats share. Readers trust nothing; writers say what a format cannot carry."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from rh_bench.errors import InputError
from rh_bench.interchange.records import LARGEST_SCORE, MEASURES, Head, HeadList, Measure
from rh_bench.system.files import shown

HEAD = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")
MOST_HEADS = 1 << 17
"""Layers × heads of the largest grid that is believed."""
MOST_INDEX = 10_000
"""Layers, and heads of a layer, are counted below it."""
MOST_JSON = 32 << 20
"""Bytes: ten times what the paper's largest released file has, and nothing in it takes a gibibyte of memory."""
_MOST_TEXT = 4 << 20


@dataclass(frozen=True)
class Written:
    """Files by name, the first of them the main one, and what they could not carry."""

    files: dict[str, bytes]
    losses: tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """A format of head lists: how it is read and written, as far as it is.

    An installed package adds one by an entry point of the group `rh_bench.formats` whose object is a `Format`. Its
    reader trusts nothing, and raises InputError for what is wrong.
    """

    name: str
    read: Callable[[Path], HeadList] | None = None
    """From a file, or from a folder of files."""
    write: Callable[[HeadList], Written] | None = None
    """To files, with what they cannot carry."""
    project: str = ""
    """Whose it is, as a site says it; its own name without it."""
    measure: Measure | None = None
    """What its numbers are, by the project's own definition. Without it they have to show it."""
    suffixes: tuple[str, ...] = ()
    """Ends of the names of its files, other than `.json`; an empty one stands for a folder."""
    fits: Callable[[object], bool] | None = None
    """Whether a JSON document is of this format, by what it says of itself."""


def parse_head(text: str, where: object) -> Head:
    """`layer-head`.

    Raises:
        InputError: it is anything else.
    """
    match = HEAD.fullmatch(text)
    if match is None:
        raise InputError(f"{shown(text[:40])!r} is not a head; write heads as layer-head, like 18-6", where=where)
    return int(match[1]), int(match[2])


def parse_pair(pair: object, where: object, layers: int = MOST_INDEX, heads: int = MOST_INDEX) -> Head:
    """`[layer, head]` of a model with so many layers and heads a layer.

    Raises:
        InputError: it is anything else; true and false are no numbers.
    """
    if not (isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)):
        raise InputError(f"{shown(str(pair)[:40])} is not a [layer, head]", where=where)
    if not (0 <= pair[0] < layers and 0 <= pair[1] < heads):
        raise InputError(f"{shown(str(pair)[:40])} is not a [layer, head] of this model", where=where)
    return pair[0], pair[1]


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value of a JSON document is a number that can be added up; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_SCORE


def parse_grid(table: object, layers: object, heads: object, where: object, name: str) -> list[list[float]]:
    """Numbers [layers, heads].

    Args:
        layers, heads: as the file gives them, not checked yet.
        name: of the table, for the message.

    Raises:
        InputError: the sizes are none of a model, or the table is not of these sizes.
    """
    if type(layers) is not int or type(heads) is not int or not (layers > 0 and heads > 0):
        raise InputError("n_layers and n_heads must be numbers above 0", where=where)
    if layers * heads > MOST_HEADS:
        raise InputError(f"gives {layers} layers of {heads} heads, which no model has", where=where)
    rows = table if isinstance(table, list) and len(table) == layers else []
    if not rows or not all(isinstance(row, list) and len(row) == heads and all(map(is_number, row)) for row in rows):
        raise InputError(f"{name} must be n_layers rows of n_heads numbers", where=where)
    return [[float(value) for value in row] for row in rows]


def all_heads(layers: int, heads: int) -> tuple[Head, ...]:
    """Every (layer, head) of a grid, sorted."""
    return tuple((layer, head) for layer in range(layers) for head in range(heads))


def read_text(path: Path) -> str:
    """The text of a small foreign file.

    Raises:
        InputError: it cannot be read, is large or not UTF-8.
    """
    try:
        if not path.is_file():
            raise InputError("there is no such file", where=shown(path))
        with path.open("rb") as file:
            data = file.read(_MOST_TEXT + 1)
        if len(data) > _MOST_TEXT:
            raise InputError(f"is larger than {_MOST_TEXT} bytes", where=shown(path))
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=shown(path)) from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=shown(path)) from None


def mislabelled(heads: HeadList, *carried: str) -> tuple[str, ...]:
    """The loss of a writer whose format takes its numbers for one of the measures `carried`, where they are another."""
    return () if heads.measure in carried else (f"that its numbers are {MEASURES[heads.measure]}",)


def head_names(heads: Sequence[Head], most: int = 5) -> str:
    """A few heads for a message."""
    listed = ", ".join(f"{layer}-{head}" for layer, head in heads[:most])
    return listed + (f" and {len(heads) - most} more" if len(heads) > most else "")
