"""Pictures of few colours as PNG, with NumPy and zlib alone: the site needs no imaging library at run time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def indexed_png(pixels: npt.NDArray[np.uint8], colours: Sequence[tuple[int, int, int]]) -> bytes:
    """A picture whose pixels are places in a list of colours.

    Args:
        pixels: uint8 [height, width], below the number of colours.
        colours: 1 to 256 of red, green, blue, each 0 to 255.

    Returns:
        The same bytes for the same picture, as far as zlib's version is the same.
    """
    if not 1 <= len(colours) <= 256 or (pixels.size and int(pixels.max()) >= len(colours)):
        raise ValueError(f"pixels do not fit {len(colours)} colours")
    height, width = pixels.shape
    # Each row starts with the number of its filter: 0, none, is best for flat colours.
    rows = np.zeros((height, width + 1), dtype=np.uint8)
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = (
        (b"IHDR", header),
        (b"PLTE", bytes(channel for colour in colours for channel in colour)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
