"""Linear layers of a few rows, which are limited by the reading of the weight: `project`.

    out = norm(x) @ weight.T * scale + residual        or, gated, silu(gate) * up

The norm is a prologue: x times the norm's weight goes into the product, and since a row's root mean square is one
factor, the accumulator is divided by it at the end. Quantised weights (int8 or float8_e4m3fn with a scale per output)
are converted in registers. Accumulation is fp32; fp32 products are IEEE, never tf32.

Which kernel: up to `FEW_ROWS` rows, weights of x's own type go to `milr.kernels.vector` and quantised ones to
`milr.kernels.streaming`; more rows of quantised weights, and what streaming does not take, to `milr.kernels.tiles`.
More rows with weights of x's own type are refused, because cuBLAS is faster (16 rows through the 30 layers of a 7B
model: 5.2 ms a token against 6.3 on an H200). Shapes: M rows, K inputs, N outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from milr.kernels import streaming, tiles, vector
from milr.kernels.configuration import FEW_ROWS, streams_for, tiles_for, vectors_for
from milr.kernels.product import Product

_QUANTISED = (torch.int8, torch.float8_e4m3fn)


def project(
    x: Tensor,
    weight: Tensor,
    *,
    out: Tensor | None = None,
    scale: Tensor | None = None,
    norm: Tensor | None = None,
    eps: float = 1e-6,
    residual: Tensor | None = None,
    gated: bool = False,
    overlap: bool = False,
) -> Tensor:
    """[M, N] product of x with a linear layer's weight.

    Args:
        x: [M, K], the elements of a row next to each other.
        weight: [N, K] contiguous (gated: [2N, K], the gate's rows first), of x's type, int8 or float8_e4m3fn.
        out: [M, N] contiguous, to write to; may be `residual` itself.
        scale: [N] fp32 (gated: [2N]), of quantised weights and only of those.
        norm: [K], the weight of an RMSNorm of x.
        residual: [M, N] contiguous, added last.
        gated: silu(gate) * up of the weight's two halves.

    Raises:
        ValueError: the operands do not go together, or are more than `FEW_ROWS` rows with weights of x's own type.
    """
    rows, width = x.shape
    if weight.shape[1] != width or x.stride(1) != 1 or not weight.is_contiguous():
        raise ValueError(f"x {tuple(x.shape)} does not go with weight {tuple(weight.shape)}, or one is not row-major")
    quantised = weight.dtype in _QUANTISED
    if not quantised and weight.dtype != x.dtype:
        raise ValueError(f"weights are {weight.dtype}; expected {x.dtype}, as x is, int8 or float8_e4m3fn")
    if quantised != (scale is not None):
        raise ValueError(f"weights of {weight.dtype} {'need a' if quantised else 'have no'} scale")
    if not quantised and rows > FEW_ROWS:
        raise ValueError(f"{rows} rows of {x.dtype} weights: up to {FEW_ROWS} are faster here, use F.linear for more")
    columns = weight.shape[0] // 2 if gated else weight.shape[0]
    if out is None:
        out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    product = Product(x, weight, scale, norm, residual, out, eps, gated, overlap)
    if not quantised:
        vector.launch(product, vectors_for(columns, width, gated))
    elif rows <= FEW_ROWS and streaming.takes(product):
        streaming.launch(product, streams_for(rows, columns, width, gated, weight.dtype))
    else:
        tiles.launch(product, tiles_for(rows, columns, gated, x.dtype))
    return out
