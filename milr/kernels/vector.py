"""Products of a few rows with weights of x's own type, without tensor cores.

Each thread reads wide pieces of the weight straight into registers, multiplies them with every row and sums; threads
are added up at the very end. A program is done after one block of outputs.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment, var-annotated"

from __future__ import annotations

import triton
import triton.language as tl

from milr.kernels.configuration import Vectors
from milr.kernels.overlap import start_next, wait_for_previous
from milr.kernels.product import Product, finish, load_added, prefetch_weights

_PREFETCHED = 512  # bytes of each weight row; the chain is 1.3 % slower without, and 2.6 % with 2048


def launch(product: Product, blocks: Vectors) -> None:
    """Any number of rows, but every one has its own sums in registers."""
    block_width = 512 // product.weight.itemsize * blocks.warps
    _vector_kernel[(triton.cdiv(product.columns, blocks.block_columns),)](
        product.x,
        product.weight,
        product.norm,
        product.residual,
        product.out,
        product.columns,
        product.width,
        product.x.stride(0),
        product.eps,
        rows=product.rows,
        gated=product.gated,
        whole_width=product.width % block_width == 0,
        block_columns=blocks.block_columns,
        block_width=block_width,
        prefetched=_PREFETCHED if product.overlap else 0,
        overlap=product.overlap,
        num_warps=blocks.warps,
        launch_pdl=product.overlap,
    )


@triton.jit
def _vector_kernel(
    x,
    weight,
    norm,
    residual,
    out,
    columns,
    width,
    x_stride,
    eps,
    rows: tl.constexpr,
    gated: tl.constexpr,
    whole_width: tl.constexpr,
    block_columns: tl.constexpr,
    block_width: tl.constexpr,
    prefetched: tl.constexpr,
    overlap: tl.constexpr,
):
    """`block_columns` outputs of all rows."""
    piece: tl.constexpr = 128 // weight.dtype.element_ty.primitive_bitwidth  # what a thread reads in one instruction
    pieces: tl.constexpr = block_width // piece
    start_next(overlap)
    column = tl.program_id(0) * block_columns + tl.arange(0, block_columns)
    depth = tl.arange(0, block_width)
    prefetch_weights(weight, column, columns, width, block_columns, prefetched, gated)
    # Beyond the last output the last one's weights are read again, so that the loop needs no mask.
    weight_row = tl.minimum(column, columns - 1).to(tl.int64)
    weight_tile = weight + weight_row[:, None] * width + depth[None, :]  # [block_columns, block_width]
    up_tile = weight_tile + columns.to(tl.int64) * width
    nothing = tl.zeros((block_columns, pieces), tl.float32)
    products = ()  # one sum for each row of x
    ups = ()
    squares = ()
    for _ in tl.static_range(rows):
        products = products + (nothing,)  # noqa: RUF005
        ups = ups + (nothing if gated else 0,)  # noqa: RUF005
        squares = squares + (tl.zeros((pieces,), tl.float32) if norm is not None else 0,)  # noqa: RUF005
    wait_for_previous(overlap)
    for start in tl.range(0, width, block_width, num_stages=1):
        left = depth < width - start
        if whole_width:
            weights = tl.load(weight_tile + start).to(tl.float32)
        else:
            weights = tl.load(weight_tile + start, mask=left[None, :], other=0.0).to(tl.float32)
        up_weights = weights
        if gated:
            if whole_width:
                up_weights = tl.load(up_tile + start).to(tl.float32)
            else:
                up_weights = tl.load(up_tile + start, mask=left[None, :], other=0.0).to(tl.float32)
        new_products = ()
        new_ups = ()
        new_squares = ()
        for row in tl.static_range(rows):
            inputs = tl.load(x + row * x_stride + start + depth, mask=left, other=0.0).to(tl.float32)
            square = squares[row]
            if norm is not None:
                square += tl.sum(tl.reshape(inputs * inputs, (pieces, piece)), 1)
                inputs *= tl.load(norm + start + depth, mask=left, other=0.0).to(tl.float32)
            new_squares = new_squares + (square,)  # noqa: RUF005
            terms = tl.reshape(weights * inputs[None, :], (block_columns, pieces, piece))
            new_products = new_products + (products[row] + tl.sum(terms, 2),)  # noqa: RUF005
            up_terms = tl.reshape(up_weights * inputs[None, :], (block_columns, pieces, piece))
            new_ups = new_ups + (ups[row] + tl.sum(up_terms, 2) if gated else 0,)  # noqa: RUF005
        products = new_products
        ups = new_ups
        squares = new_squares
    mask = column < columns
    for row in tl.static_range(rows):
        product = tl.sum(products[row], 1)
        up = product
        if gated:
            up = tl.sum(ups[row], 1)
        if norm is not None:
            inverse = tl.rsqrt(tl.sum(squares[row], 0) / width + eps)
            product *= inverse
            up *= inverse
        place = row * columns + column
        added = load_added(residual, place, mask)
        finish(product, up, added, out, place, mask, gated)
