"""Damage to the files of a run, with its hashes made right again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rh_bench.artifacts.run import RUN_FILES
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json


def seal(run: Path) -> None:
    edit(run, lambda d: d.update(files={name: sha256_file(run / name) for name in RUN_FILES}))


def footer_changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Thrift's footer knows no offsets of its own, so that it can be changed as one likes."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = change(data[-8 - length : -8])
    path.write_bytes(data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def varint(number: int) -> bytes:
    number, out = number * 2, b""  # zigzag of what is not negative
    while number > 127:
        number, out = number >> 7, out + bytes([number & 127 | 128])
    return out + bytes([number])


def lost_histogram(footer: bytes) -> bytes:
    """A footer without one number of a histogram of levels."""
    place = footer.index(b"\x29\x26")  # repetition levels of a list, two numbers of one byte each; one goes
    return footer[:place] + b"\x29\x16" + footer[place + 2 : place + 3] + footer[place + 4 :]


def edit(run: Path, change: Callable[[dict[str, Any]], object], name: str = "run.json") -> None:
    document = json.loads((run / name).read_text())
    change(document)
    (run / name).write_bytes(dump_json(document))
