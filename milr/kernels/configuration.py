"""Which blocks a product is computed in: tables, not a search, so that a shape always gives the same bits.

Measured on an H200 (torch 2.11, Triton 3.6) with the shapes of Janus-Pro-7B: H = 4096 inputs, 12288 outputs of queries,
keys and values, 11008 of the gate. Two rows, unless said otherwise, alone and in a chain of all 30 layers whose
launches overlap, at length 350. What counted was the chain, in ms a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

FEW_ROWS = 4  # the most that kernels without tensor cores take

_NARROW = 8192  # outputs up to which blocks have to be small for every multiprocessor to have two programs


@dataclass(frozen=True)
class Vectors:
    """The blocks of `milr.kernels.vector`.

    Attributes:
        block_columns: outputs a program (gated: gates, and as many ups).
        warps: warps a program; an iteration takes 16 bytes of each weight row for each of their threads.
    """

    block_columns: int
    warps: int


@dataclass(frozen=True)
class Streams:
    """The blocks of `milr.kernels.streaming`.

    Attributes:
        block_columns: outputs a program has in work at once (gated: gates, and as many ups); a power of two.
        warps: warps a program; an iteration takes 16 weights of each weight row for each of their threads.
        ahead: iterations of which the weights are on their way to registers.
        prefetched: bytes of each weight row of a program's first block to bring into the L2 cache before waiting for
            the previous kernel (a power of two, or 0); only where launches overlap.
        folded: whether a thread adds its four products of a word together before it adds them to one sum, instead of
            keeping four sums: fewer registers, more additions.
    """

    block_columns: int
    warps: int
    ahead: int
    prefetched: int
    folded: bool


@dataclass(frozen=True)
class Tiles:
    """The blocks of `milr.kernels.tiles`.

    Attributes:
        block_rows: rows of x a program, at least 16.
        block_columns: outputs a program.
        block_width: inputs an iteration.
        warps: warps a program.
        stages: iterations of loads in flight.
        prefetched: as in `Streams`.
    """

    block_rows: int
    block_columns: int
    block_width: int
    warps: int
    stages: int
    prefetched: int = 0


def vectors_for(columns: int, width: int, gated: bool) -> Vectors:
    """Up to `FEW_ROWS` rows, weights of x's type.

    bf16: 3695 GB/s of queries, keys and values, 3385 of attention's output, 3936 of gate and up, 3907 of down; 3.459 ms
    a token (3609 GB/s). Streaming kernels for the first of them gave 3.421 ms, which is not worth a second kernel.
    """
    warps = 2 if gated else 4
    while warps > 1 and width < warps * 256:
        warps //= 2
    return Vectors(2 if gated else 4 if columns <= _NARROW else 8, warps)


def streams_for(rows: int, columns: int, width: int, gated: bool, weight: torch.dtype) -> Streams:
    """Up to `FEW_ROWS` rows, quantised weights.

    int8 2.365 to 2.374 ms a token, float8_e4m3fn 2.334 to 2.350, with the vector kernel 3.244 and 2.943.

    The two differ where one setting for both costs one of them more than 0.5 %: four sums a thread pay where int8 is
    unpacked (gate and up 2836 GB/s against 2604, queries, keys and values 2984 against 2735) and cost where fp8 is
    (2402 against 2861, 2562 against 3017); prefetching gate and up costs fp8 0.7 % of the chain; and down's long rows
    are read best as (2, 1 warp, 4 ahead) by int8, 2991 against 2260 GB/s, and as (4, 2 warps) by fp8, 3205 against
    1995. Prefetching attention's output costs int8 1.6 % of the chain and gives fp8 0.2 %. Smaller blocks for
    more than two rows, and for gates of smaller models, are not measured: they leave the sums in registers.
    """
    fp8 = weight == torch.float8_e4m3fn
    if gated and rows <= 2 and columns > _NARROW:
        return Streams(4, 1, 1, 0 if fp8 else 512, folded=fp8)
    if gated:
        return Streams(2, 1, 1, 512, folded=fp8 and rows < 4)
    if columns > _NARROW:
        return Streams(8, 1, 1, 512, folded=fp8) if rows <= 2 else Streams(4, 1, 1, 512, folded=False)
    ahead = 4 if rows <= 2 else 2
    if width <= columns:
        return Streams(2, 1, ahead, 0, folded=False)
    return Streams(4, 2, 1, 512, folded=False) if fp8 else Streams(2, 1, ahead, 512, folded=False)


def tiles_for(rows: int, columns: int, gated: bool, x: torch.dtype) -> Tiles:
    """More rows, quantised weights.

    GB/s of int8 and fp8 weights, alone. Down: 16 rows 2060 and 1753, 64 rows 944 and 793, 128 rows 712 and 603, 256
    rows 503 and 466 to 472. Queries, keys and values: 1287 and 1204, 837 and 694, 477 and 472, 251 and 244. Up to 16
    rows the blocks are those that were best for bf16 weights with overlapping launches; from 33 on, gated ones differ
    where both sums would not fit into registers.
    """
    narrow = columns <= _NARROW
    if x == torch.float32:  # no tensor cores: products are IEEE
        return Tiles(16 if rows <= 16 else 32, 16 if narrow else 32, 32, 4, 3)
    if rows <= 16:
        return Tiles(16, 32, 256, 4, 6, 512) if narrow and not gated else Tiles(16, 32, 128, 2, 4, 512)
    if rows <= 32:
        return Tiles(32, 32, 128, 4, 4)
    if rows <= 64:
        return Tiles(64, 32, 128, 4, 4) if narrow else Tiles(64, 128, 64, 8 if gated else 4, 4)
    if narrow:
        return Tiles(64, 64, 64, 4, 4) if gated else Tiles(64, 64, 128, 4, 3)
    return Tiles(128, 128, 64, 8, 4)
