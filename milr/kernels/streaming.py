"""Products of a few 16-bit rows with quantised weights, without tensor cores.

About as many programs as fit on the GPU at once, each of which goes through several blocks of outputs and always has
its next weights on their way to registers: of the next block while it finishes this one, and the first before the
previous kernel has ended. Weights are read as words (int32) of four, and unpacked in registers in a few instructions.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment, var-annotated"

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl

from milr.kernels.configuration import Streams
from milr.kernels.overlap import start_next, wait_for_previous
from milr.kernels.product import INTERPRETED, Product, finish, load_added, prefetch_weights

_WARPS = 16  # a multiprocessor, at most: with 8 or 12 the chain is up to 15 % slower, with 24 no faster


def takes(product: Product) -> bool:
    """Whether x and its norm are of 16 bits, and they and the weights can be read as words of four numbers."""
    x, weight, norm = product.x, product.weight, product.norm
    return (
        x.dtype in (torch.bfloat16, torch.float16)
        and product.width % 8 == 0
        and x.stride(0) % 4 == 0
        and x.data_ptr() % 8 == 0
        and weight.data_ptr() % 4 == 0
        and (norm is None or (norm.dtype == x.dtype and norm.data_ptr() % 8 == 0))
    )


def launch(product: Product, blocks: Streams) -> None:
    """What it takes, of any number of rows, but every one has its own sums in registers."""
    block_width = 512 * blocks.warps
    count = triton.cdiv(product.columns, blocks.block_columns)
    rounds = triton.cdiv(count, _multiprocessors(product.x.device) * (_WARPS // blocks.warps))
    _stream_kernel[(triton.cdiv(count, rounds),)](  # fewer programs, where that spreads the blocks more evenly
        product.x,
        product.weight,
        product.scale,
        product.norm,
        product.residual,
        product.out,
        product.columns,
        product.width,
        product.x.stride(0),
        product.eps,
        rows=product.rows,
        gated=product.gated,
        whole_width=product.width % (block_width * blocks.ahead) == 0,
        whole_columns=product.columns % blocks.block_columns == 0,
        block_columns=blocks.block_columns,
        block_width=block_width,
        ahead=blocks.ahead,
        prefetched=blocks.prefetched if product.overlap else 0,
        folded=blocks.folded,
        overlap=product.overlap,
        num_warps=blocks.warps,
        launch_pdl=product.overlap,
    )


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


@triton.jit
def _halves(word, kind: tl.constexpr):
    """Two 16-bit numbers of an int32, as fp32."""
    if kind == tl.bfloat16:
        return (word << 16).to(tl.float32, bitcast=True), (word & -65536).to(tl.float32, bitcast=True)
    low = word.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return low, (word >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _load_inputs(numbers, start, left, block_words: tl.constexpr, whole_width: tl.constexpr):
    """Four fp32 tensors of every fourth of 16-bit numbers, from word `start` on; of `left` words, and then zeros."""
    depth = tl.arange(0, block_words)
    place = numbers.to(tl.pointer_type(tl.int64)) + start + depth
    word = tl.load(place) if whole_width else tl.load(place, mask=depth < left, other=0)
    kind: tl.constexpr = numbers.dtype.element_ty
    return _halves(word.to(tl.int32), kind) + _halves((word >> 32).to(tl.int32), kind)


@triton.jit
def _quarter(word, index: tl.constexpr, kind: tl.constexpr):
    """One 8-bit number of an int32, as fp32."""
    if kind == tl.int8:
        return ((word << (24 - 8 * index)) >> 24).to(tl.float32)
    byte = (word >> (8 * index)) & 255
    size = ((byte & 127) << 20).to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2 ** 120
    return tl.where(byte > 127, -size, size)


@triton.jit
def _quarters(word, kind: tl.constexpr):
    """The four weights of an int32, as fp32."""
    if INTERPRETED:  # which has no assembler
        return _quarter(word, 0, kind), _quarter(word, 1, kind), _quarter(word, 2, kind), _quarter(word, 3, kind)
    elif kind == tl.int8:
        # 2 ** 23 + 128 + weight, of which the bits are the exponent's and the byte's; then the weight.
        return tl.inline_asm_elementwise(
            """{
            .reg .b32 byte<5>;
            xor.b32 byte4, $4, 0x80808080;
            prmt.b32 byte0, byte4, 0x4B000000, 0x7540;
            prmt.b32 byte1, byte4, 0x4B000000, 0x7541;
            prmt.b32 byte2, byte4, 0x4B000000, 0x7542;
            prmt.b32 byte3, byte4, 0x4B000000, 0x7543;
            mov.b32 $0, byte0;
            mov.b32 $1, byte1;
            mov.b32 $2, byte2;
            mov.b32 $3, byte3;
            sub.f32 $0, $0, 0f4B000080;
            sub.f32 $1, $1, 0f4B000080;
            sub.f32 $2, $2, 0f4B000080;
            sub.f32 $3, $3, 0f4B000080;
            }""",
            "=&f,=&f,=&f,=&f,r",
            [word],
            dtype=(tl.float32, tl.float32, tl.float32, tl.float32),
            is_pure=True,
            pack=1,
        )
    else:
        return tl.inline_asm_elementwise(
            """{
            .reg .b16 pair<2>, half<4>;
            .reg .b32 two<2>;
            mov.b32 {pair0, pair1}, $4;
            cvt.rn.f16x2.e4m3x2 two0, pair0;
            cvt.rn.f16x2.e4m3x2 two1, pair1;
            mov.b32 {half0, half1}, two0;
            mov.b32 {half2, half3}, two1;
            cvt.f32.f16 $0, half0;
            cvt.f32.f16 $1, half1;
            cvt.f32.f16 $2, half2;
            cvt.f32.f16 $3, half3;
            }""",
            "=&f,=&f,=&f,=&f,r",
            [word],
            dtype=(tl.float32, tl.float32, tl.float32, tl.float32),
            is_pure=True,
            pack=1,
        )


@triton.jit
def _load_words(
    weight,
    row,
    start,
    columns,
    width_words,
    block_columns: tl.constexpr,
    block_words: tl.constexpr,
    gated: tl.constexpr,
    whole_width: tl.constexpr,
    whole_columns: tl.constexpr,
):
    """The words from `start` on of `block_columns` weight rows from `row` on, and of their ups; past the end, none."""
    depth = tl.arange(0, block_words)
    more = row < columns
    if INTERPRETED:  # the interpreter makes a tensor of one truth value a tensor of integers, which is no mask
        more = depth * 0 < more.to(tl.int32)
    tile = ()
    for index in tl.static_range(block_columns * (2 if gated else 1)):
        own = row + index % block_columns
        if not whole_columns:
            own = tl.minimum(own, columns - 1)
        if index >= block_columns:
            own += columns
        place = weight.to(tl.pointer_type(tl.int32)) + own.to(tl.int64) * width_words + start + depth
        if whole_width:
            words = tl.load(place, mask=more)
        else:
            words = tl.load(place, mask=more & (depth < width_words - start), other=0)
        tile = tile + (words,)  # noqa: RUF005
    return tile


@triton.jit
def _add_up(total, terms, folded: tl.constexpr):
    """total + terms, folded: of every four terms that one thread has."""
    if folded:
        terms = tl.sum(tl.reshape(terms, (terms.shape[0] // 4, 4)), 1)
    return total + terms


@triton.jit
def _stream_kernel(
    x,
    weight,
    scale,
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
    whole_columns: tl.constexpr,
    block_columns: tl.constexpr,
    block_width: tl.constexpr,
    ahead: tl.constexpr,
    prefetched: tl.constexpr,
    folded: tl.constexpr,
    overlap: tl.constexpr,
):
    """Every `num_programs`th block of `block_columns` outputs of all rows."""
    kind: tl.constexpr = weight.dtype.element_ty
    block_words: tl.constexpr = block_width // 4
    sums: tl.constexpr = block_words // 4 if folded else block_words
    both: tl.constexpr = block_columns * (2 if gated else 1)
    start_next(overlap)
    width_words = width // 4
    member = tl.arange(0, block_columns)
    first = tl.program_id(0) * block_columns
    stride = tl.num_programs(0) * block_columns
    tiles = ()  # `ahead` of them; each is loaded anew as soon as it has been used
    for index in tl.static_range(ahead):
        tiles = tiles + _load_words(
            weight, first, index * block_words, columns, width_words,
            block_columns, block_words, gated, whole_width, whole_columns,
        )  # fmt: skip
    prefetch_weights(weight, first + member, columns, width, block_columns, prefetched, gated)
    wait_for_previous(overlap)
    for row in tl.range(first, columns, stride, num_stages=1):
        column = row + member
        mask = column < columns
        added = ()
        for index in tl.static_range(rows):
            added = added + (load_added(residual, index * columns + column, mask),)  # noqa: RUF005
        products = ()
        for _ in tl.static_range(both * rows):
            products = products + (tl.zeros((sums,), tl.float32),)  # noqa: RUF005
        squares = ()
        for _ in tl.static_range(rows):
            squares = squares + (tl.zeros((sums,), tl.float32),)  # noqa: RUF005
        for begin in tl.range(0, width_words, block_words * ahead, num_stages=1):
            ends = begin + block_words * ahead >= width_words
            next_row = tl.where(ends, row + stride, row)
            next_begin = tl.where(ends, 0, begin + block_words * ahead)
            next_tiles = ()
            for turn in tl.static_range(ahead):
                start = begin + turn * block_words
                left = width_words - start
                if norm is not None:
                    factors = _load_inputs(norm, start, left, block_words, whole_width)
                inputs = ()
                new_squares = ()
                for index in tl.static_range(rows):
                    own = _load_inputs(x + index * x_stride, start, left, block_words, whole_width)
                    square = squares[index]
                    if norm is not None:
                        scaled = ()
                        for part in tl.static_range(4):
                            square = _add_up(square, own[part] * own[part], folded)
                            scaled = scaled + (own[part] * factors[part],)  # noqa: RUF005
                        own = scaled
                    new_squares = new_squares + (square,)  # noqa: RUF005
                    inputs = inputs + (own,)  # noqa: RUF005
                squares = new_squares
                new_products = ()
                for index in tl.static_range(both):
                    numbers = _quarters(tiles[turn * both + index], kind)
                    for of in tl.static_range(rows):
                        product = products[index * rows + of]
                        for part in tl.static_range(4):
                            product = _add_up(product, numbers[part] * inputs[of][part], folded)
                        new_products = new_products + (product,)  # noqa: RUF005
                products = new_products
                next_tiles = next_tiles + _load_words(
                    weight, next_row, next_begin + turn * block_words, columns, width_words,
                    block_columns, block_words, gated, whole_width, whole_columns,
                )  # fmt: skip
                if ahead > 1:  # a fence: the compiler would move all loads to the last turn
                    tl.debug_barrier()
            tiles = next_tiles
        for index in tl.static_range(rows):
            product = tl.zeros((block_columns,), tl.float32)
            up = tl.zeros((block_columns,), tl.float32)
            for of in tl.static_range(block_columns):
                product = tl.where(member == of, tl.sum(products[of * rows + index], 0), product)
                if gated:
                    up = tl.where(member == of, tl.sum(products[(block_columns + of) * rows + index], 0), up)
            if norm is not None:
                inverse = tl.rsqrt(tl.sum(squares[index], 0) / width + eps)
                product *= inverse
                up *= inverse
            product *= tl.load(scale + column, mask=mask, other=0.0)
            if gated:
                up *= tl.load(scale + columns + column, mask=mask, other=0.0)
            finish(product, up, added[index], out, index * columns + column, mask, gated)
