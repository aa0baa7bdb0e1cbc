"""A static cache of keys and values: one allocation for all layers, columns filled from the left as tokens come.

Rows are padded on the left, so that the rows of a batch end at the same column whatever their lengths: row n holds
columns `start[n]` up to the newest one, and its token in column c stands at position c - start[n].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeyValueShape:
    """What one column of one row takes.

    Attributes:
        heads: of keys and values; fewer than those of queries in grouped-query attention.
    """

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def bytes_per_column(self) -> int:
        """Bytes of the keys and values of one token in all layers."""
        return 2 * self.layers * self.heads * self.head_dim * self.dtype.itemsize

    def numbers(self, rows: int, columns: int) -> int:
        """How many numbers a cache of this many rows and columns holds."""
        return 2 * self.layers * rows * self.heads * columns * self.head_dim


@dataclass(frozen=True)
class KeyValueCache:
    """Keys and values of N rows and S columns.

    Attributes:
        keys, values: [layers, N, heads, S, D].
        start: [N] int32, the first column of each row.
        ragged: whether any row starts after column 0; known without asking the device.
    """

    keys: Tensor
    values: Tensor
    start: Tensor
    ragged: bool

    @staticmethod
    def over(numbers: Tensor, shape: KeyValueShape, start: Tensor, columns: int, ragged: bool = True) -> KeyValueCache:
        """A cache laid over the first of `numbers`, a flat tensor of at least `shape.numbers(N, columns)`."""
        sizes = (2, shape.layers, len(start), shape.heads, columns, shape.head_dim)
        both = numbers[: shape.numbers(len(start), columns)].view(sizes)
        return KeyValueCache(both[0], both[1], start, ragged)

    @staticmethod
    def empty(shape: KeyValueShape, start: Tensor, columns: int, ragged: bool = True) -> KeyValueCache:
        """A cache of its own memory, on the device of `start`."""
        numbers = torch.empty(shape.numbers(len(start), columns), dtype=shape.dtype, device=start.device)
        return KeyValueCache.over(numbers, shape, start, columns, ragged)

    @property
    def columns(self) -> int:
        """S"""
        return self.keys.shape[3]
