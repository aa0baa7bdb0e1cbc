"""What every kernel of `milr.kernels.projection` shares: the operands, how weights are prefetched, and the epilogue."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from milr.kernels.overlap import prefetch_line

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@dataclass(frozen=True, eq=False)
class Product:
    """The operands of one product, checked; `milr.kernels.projection.project` says what they are."""

    x: Tensor
    weight: Tensor
    scale: Tensor | None
    norm: Tensor | None
    residual: Tensor | None
    out: Tensor
    eps: float
    gated: bool
    overlap: bool

    @property
    def rows(self) -> int:
        return self.x.shape[0]

    @property
    def width(self) -> int:
        return self.x.shape[1]

    @property
    def columns(self) -> int:
        return self.out.shape[1]


@triton.jit
def prefetch_weights(
    weight, column, columns, width, block_columns: tl.constexpr, prefetched: tl.constexpr, gated: tl.constexpr
):
    """Brings the first `prefetched` bytes of each of a program's weight rows into the L2 cache."""
    if prefetched > 0:
        elements: tl.constexpr = 128 // (weight.dtype.element_ty.primitive_bitwidth // 8)
        line = tl.minimum(tl.arange(0, prefetched // 128) * elements, width - 1)
        row = weight + tl.minimum(column, columns - 1).to(tl.int64)[:, None] * width
        prefetch_line((row + line[None, :]).to(tl.int64))
        if gated:
            prefetch_line((row + columns.to(tl.int64) * width + line[None, :]).to(tl.int64))


@triton.jit
def load_added(residual, place, mask):
    """What `finish` adds last: the residual, or zeros."""
    added = tl.zeros(mask.shape, tl.float32)
    if residual is not None:
        added = tl.load(residual + place, mask=mask, other=0.0).to(tl.float32)
    return added


@triton.jit
def finish(product, up, added, out, place, mask, gated: tl.constexpr):
    """The epilogue, from fp32 sums to where they lie in `out`."""
    if gated:
        product = product / (1 + tl.exp(-product)) * up
    tl.store(out + place, (product + added).to(out.dtype.element_ty), mask=mask)
