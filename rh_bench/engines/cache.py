"""A key/value cache in one piece of memory: tokens are written in place, and cutting it back copies nothing."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class BufferLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, each [B, G, capacity, D]; `keys` and `values` are views of what is filled."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Append `keys` and `values` ([B, G, n, D]) and return all there is.

        Raises:
            ValueError: the cache is full.
        """
        if self._buffers is None:
            self._buffers = tuple(x.new_empty((*x.shape[:2], self._capacity, x.shape[3])) for x in (keys, values))  # type: ignore[assignment]
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
            self.cut(0)
        first = self.keys.shape[2]
        last = first + keys.shape[2]
        if last > self._capacity:
            raise ValueError(f"{last} positions do not fit into a cache of {self._capacity}")
        for buffer, new in zip(self._buffers or (), (keys, values), strict=True):
            buffer[:, :, first:last] = new
        self.cut(last)
        return self.keys, self.values

    def cut(self, length: int) -> None:
        """Keep the first `length` positions."""
        if self._buffers is not None:
            self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class BufferCache(DynamicCache):  # type: ignore[misc]
    """A cache of `layers` layers that all keep every position: sliding layers, too, whose window is in their mask."""

    def __init__(self, layers: int, capacity: int) -> None:
        super().__init__()
        self.layers = [BufferLayer(capacity) for _ in range(layers)]

    def repeated(self, rows: int, capacity: int) -> BufferCache:
        """A cache of `rows` rows, each a copy of this one's only row, with room for `capacity` positions."""
        copy = BufferCache(len(self.layers), capacity)
        for own, new in zip(self.layers, copy.layers, strict=True):
            new.update(own.keys.expand(rows, -1, -1, -1), own.values.expand(rows, -1, -1, -1))
        return copy

    def cut(self, length: int) -> None:
        """Keep the first `length` positions of every layer."""
        for layer in self.layers:
            layer.cut(length)
