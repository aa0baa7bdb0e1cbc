"""What stands between products that cuBLAS does: norms of the residual stream and the gate of the feed-forward layer.

`milr.kernels.projection` does these within its products; here they are for more rows than are worth it. A row's K
elements are held by one program. M rows.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from milr.kernels.overlap import start_next, wait_for_previous

_GATE_BLOCK = 1024


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, overlap: bool = False) -> Tensor:
    """[M, K] RMSNorm of contiguous x."""
    return _norm(x, None, weight, eps, overlap)


def add_rms_norm(residual: Tensor, delta: Tensor, weight: Tensor, eps: float, *, overlap: bool = False) -> Tensor:
    """[M, K] RMSNorm of residual + delta; the sum stays in `residual`. All contiguous."""
    return _norm(residual, delta, weight, eps, overlap)


def silu_multiply(gate_up: Tensor, *, overlap: bool = False) -> Tensor:
    """[M, N] silu(gate) * up of contiguous [M, 2N], the gates first."""
    rows, columns = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, columns, dtype=gate_up.dtype, device=gate_up.device)
    _gate_kernel[(rows, triton.cdiv(columns, _GATE_BLOCK))](
        gate_up, out, columns, block=_GATE_BLOCK, overlap=overlap, num_warps=4, launch_pdl=overlap
    )
    return out


def _norm(residual: Tensor, delta: Tensor | None, weight: Tensor, eps: float, overlap: bool) -> Tensor:
    rows, width = residual.shape
    out = torch.empty_like(residual)
    block = triton.next_power_of_2(width)
    warps = max(1, min(8, block // 512))
    _norm_kernel[(rows,)](
        residual, delta, weight, out, width, eps, block=block, overlap=overlap, num_warps=warps, launch_pdl=overlap
    )
    return out


@triton.jit
def _norm_kernel(residual, delta, weight, out, width, eps, block: tl.constexpr, overlap: tl.constexpr):
    """One row. The sum is rounded as it is stored before its mean square is taken."""
    start_next(overlap)
    entry = tl.arange(0, block)
    mask = entry < width
    place = tl.program_id(0).to(tl.int64) * width + entry
    factor = tl.load(weight + entry, mask=mask, other=0.0).to(tl.float32)
    wait_for_previous(overlap)
    stream = tl.load(residual + place, mask=mask, other=0.0)
    if delta is not None:
        total = stream.to(tl.float32) + tl.load(delta + place, mask=mask, other=0.0).to(tl.float32)
        stream = total.to(residual.dtype.element_ty)
        tl.store(residual + place, stream, mask=mask)
    wide = stream.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    tl.store(out + place, (wide * inverse * factor).to(out.dtype.element_ty), mask=mask)


@triton.jit
def _gate_kernel(gate_up, out, columns, block: tl.constexpr, overlap: tl.constexpr):
    """`block` outputs of one row."""
    start_next(overlap)
    row = tl.program_id(0).to(tl.int64)
    entry = tl.program_id(1) * block + tl.arange(0, block)
    mask = entry < columns
    wait_for_previous(overlap)
    gate = tl.load(gate_up + row * 2 * columns + entry, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_up + (row * 2 + 1) * columns + entry, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + row * columns + entry, (gate / (1 + tl.exp(-gate)) * up).to(out.dtype.element_ty), mask=mask)
