"""Products of any number of rows with quantised weights, on tensor cores, through shared memory.

Weights are converted to x's type. Up to a few rows this is what `milr.kernels.streaming` does not take.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment"

from __future__ import annotations

import triton
import triton.language as tl

from milr.kernels.configuration import Tiles
from milr.kernels.overlap import start_next, wait_for_previous
from milr.kernels.product import INTERPRETED, Product, finish, load_added, prefetch_weights


def launch(product: Product, blocks: Tiles) -> None:
    row_blocks = triton.cdiv(product.rows, blocks.block_rows)
    _tile_kernel[(row_blocks * triton.cdiv(product.columns, blocks.block_columns),)](
        product.x,
        product.weight,
        product.scale,
        product.norm,
        product.residual,
        product.out,
        product.rows,
        product.columns,
        product.width,
        product.x.stride(0),
        product.eps,
        gated=product.gated,
        whole_width=product.width % blocks.block_width == 0,
        block_rows=blocks.block_rows,
        block_columns=blocks.block_columns,
        block_width=blocks.block_width,
        prefetched=blocks.prefetched if product.overlap else 0,
        overlap=product.overlap,
        num_warps=blocks.warps,
        num_stages=blocks.stages,
        launch_pdl=product.overlap,
    )


@triton.jit
def _multiply(inputs, weights, product):
    """product + inputs @ weights, multiplied in the inputs' type."""
    if INTERPRETED:  # the interpreter holds bf16 as integers and would multiply those; in fp32 products are the same
        return tl.dot(inputs.to(tl.float32), weights.to(tl.float32), product, input_precision="ieee")
    return tl.dot(inputs, weights.to(inputs.dtype), product, input_precision="ieee")


@triton.jit(do_not_specialize=["rows"])
def _tile_kernel(
    x,
    weight,
    scale,
    norm,
    residual,
    out,
    rows,
    columns,
    width,
    x_stride,
    eps,
    gated: tl.constexpr,
    whole_width: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    block_width: tl.constexpr,
    prefetched: tl.constexpr,
    overlap: tl.constexpr,
):
    """One [block_rows, block_columns] tile of the result; programs with the same weights are neighbours."""
    start_next(overlap)
    row_blocks = tl.cdiv(rows, block_rows)
    row = (tl.program_id(0) % row_blocks) * block_rows + tl.arange(0, block_rows)
    column = (tl.program_id(0) // row_blocks) * block_columns + tl.arange(0, block_columns)
    depth = tl.arange(0, block_width)
    prefetch_weights(weight, column, columns, width, block_columns, prefetched, gated)
    # Beyond the last output the last one's weights are read again, so that the loop needs no mask.
    weight_row = tl.minimum(column, columns - 1).to(tl.int64)
    weight_tile = weight + weight_row[None, :] * width + depth[:, None]  # [block_width, block_columns]
    up_tile = weight_tile + columns.to(tl.int64) * width
    x_tile = x + row.to(tl.int64)[:, None] * x_stride + depth[None, :]  # [block_rows, block_width]
    there = (row < rows)[:, None]
    product = tl.zeros((block_rows, block_columns), tl.float32)
    up = tl.zeros((block_rows, block_columns), tl.float32)
    squares = tl.zeros((block_rows, block_width), tl.float32)
    wait_for_previous(overlap)
    for start in range(0, width, block_width):
        if whole_width:
            inputs = tl.load(x_tile + start, mask=there, other=0.0)
            weights = tl.load(weight_tile + start)
        else:
            left = depth < width - start
            inputs = tl.load(x_tile + start, mask=there & left[None, :], other=0.0)
            weights = tl.load(weight_tile + start, mask=left[:, None], other=0.0)
        if norm is not None:
            wide = inputs.to(tl.float32)
            squares += wide * wide
            if whole_width:
                factor = tl.load(norm + start + depth)
            else:
                factor = tl.load(norm + start + depth, mask=depth < width - start, other=0.0)
            inputs = (wide * factor.to(tl.float32)[None, :]).to(x.dtype.element_ty)
        product = _multiply(inputs, weights, product)
        if gated:
            if whole_width:
                up_weights = tl.load(up_tile + start)
            else:
                up_weights = tl.load(up_tile + start, mask=(depth < width - start)[:, None], other=0.0)
            up = _multiply(inputs, up_weights, up)
    if norm is not None:
        inverse = tl.rsqrt(tl.sum(squares, 1) / width + eps)[:, None]
        product *= inverse
        up *= inverse
    product *= tl.load(scale + weight_row)[None, :]
    if gated:
        up *= tl.load(scale + columns + weight_row)[None, :]
    place = row.to(tl.int64)[:, None] * columns + column[None, :]
    mask = there & (column < columns)[None, :]
    added = load_added(residual, place, mask)
    finish(product, up, added, out, place, mask, gated)
