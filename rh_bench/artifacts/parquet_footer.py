"""The footer of a Parquet file, read here as far as it says how many values each column holds.

pyarrow can tell, too, but there a footer whose statistics do not fit its columns ends the whole process: the C++
exception that constructing a column's metadata throws is caught on the way of reading, and not on the way of asking.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAGIC = b"PAR1"
_MOST_BYTES = 1 << 20
_MOST_DEPTH = 16
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_INTEGERS, _LISTS = (4, 5, 6), (9, 10)
# Numbers of fields in parquet.thrift.
_ROW_GROUPS, _COLUMNS, _META_DATA, _NUM_VALUES = 4, 1, 3, 5


def column_values(path: Path) -> Iterator[int]:
    """How many values, nulls and items of lists among them, each column of each row group claims.

    Raises:
        ValueError: this is no Parquet file, or its footer is damaged or beyond a mebibyte.
        OSError: it cannot be read.
    """
    for group in _items(_Thrift(_footer(path)).structure(), _ROW_GROUPS):
        for column in _items(group, _COLUMNS):
            meta = column.get(_META_DATA) if isinstance(column, dict) else None
            values = meta.get(_NUM_VALUES) if isinstance(meta, dict) else None
            if type(values) is not int or values < 0:
                raise ValueError("the footer does not say how many values a column has")
            yield values


def _items(structure: object, number: int) -> list[Any]:
    found = structure.get(number) if isinstance(structure, dict) else None
    if not isinstance(found, list):
        raise ValueError("the footer lacks a list")
    return found


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 8, 0))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != _MAGIC or length + 8 > size:
            raise ValueError("no Parquet footer")
        if length > _MOST_BYTES:
            raise ValueError(f"a footer of {length} bytes, at most {_MOST_BYTES} are read")
        file.seek(size - 8 - length)
        return file.read(length)


class _Thrift:
    """Thrift's compact protocol: a structure becomes a dict by the fields' numbers."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def structure(self, depth: int = 0) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            kind = head & 15
            if number in fields:  # readers differ in which of the two they take
                raise ValueError("a field of the footer occurs twice")
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self.value(kind, depth + 1)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        if depth > _MOST_DEPTH:
            raise ValueError("the footer is nested too deeply")
        if kind in _INTEGERS:
            return self.integer()
        if kind == _BINARY:
            return self.take(self.varint())
        if kind in _LISTS:
            return self.items(depth)
        if kind == _STRUCT:
            return self.structure(depth)
        if kind in (_TRUE, _FALSE, _BYTE):
            return self.byte()
        if kind == _DOUBLE:
            return self.take(8)
        raise ValueError(f"unknown type {kind} of a field in the footer")

    def items(self, depth: int) -> list[Any]:
        head = self.byte()
        size = head >> 4 if head >> 4 < 15 else self.varint()
        if size > len(self.data) - self.place:  # each item takes a byte at least
            raise ValueError("a list in the footer is longer than the footer")
        return [self.value(head & 15, depth + 1) for _ in range(size)]

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        found = self.data[self.place : self.place + count]
        if len(found) < count:
            raise ValueError("the footer ends early")
        self.place += count
        return found

    def varint(self) -> int:
        result = 0
        for shift in range(0, 70, 7):
            part = self.byte()
            result |= (part & 127) << shift
            if part < 128:
                return result
        raise ValueError("a number in the footer is too long")

    def integer(self) -> int:
        found = self.varint()
        return (found >> 1) ^ -(found & 1)
