"""Attention of one new position per row over a static cache, with its rotary embedding and its cache write: `attend`.

The columns start[row]..column of a row are its sequence; what stands left of them is padding and is never read. Where
the sequence ends is read on the GPU, so that one captured graph serves every length. A sequence may be split among
programs (flash decoding), each of which takes the same share of it; a second kernel puts the shares together. The last
share has the new key and value from registers and writes them into the cache.

Each column slot of a block keeps a softmax of its own (maximum, sum, weighted values) over the columns that fall to it:
the loop has no exchange between threads but the sum over the head's dimension. The slots are put together at the end.
M rows, S columns of the cache, D the head's dimension.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment, var-annotated"

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from milr.kernels.overlap import start_next, wait_for_previous

_LOWEST = tl.constexpr(-1e30)  # a maximum of nothing; finite, so that differences of two are no NaN


@dataclass(frozen=True)
class Configuration:
    """How one call is divided.

    Attributes:
        splits: programs that share one row's sequence; a power of two.
        block: columns an iteration.
        warps: warps a program.
        stages: iterations of loads in flight through shared memory; 1 reads straight into registers.
    """

    splits: int
    block: int
    warps: int
    stages: int


def configuration_for(rows: int, kv_heads: int) -> Configuration:
    """Enough programs to fill a GPU, each with as long a share as may be; the same whatever room a cache has.

    Measured on an H200 with 32 heads of 128, at lengths 62, 350 and 638: two rows, in 16 shares, 6.0, 8.8 and 11.4 us
    (in 8 shares the first takes 5.0, but a chain of 30 layers is 0.7 % slower); four, in 8 shares, 5.8, 11.1 and 16.8
    (in 16: 8.6, 13.8 and 19.9). At length 700: 16 rows, undivided, 49 us (3769 GB/s), 64 rows 177 (4137), 256 rows 676
    (4346). Bringing the cache into L2 early, or letting a head's last program put the shares together, made the chain
    0.4 and 0.9 % slower.
    """
    programs = rows * kv_heads
    if programs >= 512:
        return Configuration(1, 16, 2, 4)
    return Configuration(min(16, triton.next_power_of_2(triton.cdiv(1024, programs))), 16, 1, 1)


def attend(
    query_key_value: Tensor,
    keys: Tensor,
    values: Tensor,
    start: Tensor,
    column: Tensor,
    cosine: Tensor,
    sine: Tensor,
    *,
    overlap: bool = False,
    configuration: Configuration | None = None,
) -> Tensor:
    """[M, heads * D], the attention of every row's new position; its key and value are written into the cache.

    Args:
        query_key_value: [M, (heads + 2 * kv_heads) * D] contiguous: queries, keys, values, before rotation.
        keys: [M, kv_heads, S, D], one layer's cache; any strides, but D's elements next to each other.
        values: like `keys`, with the same strides.
        start: [M] int32, the first column of a row's sequence; at most `column`.
        column: [] int32 or int64, where the new position goes in every row. A row's position is column - start.
        cosine: [positions, D / 2] fp32, contiguous; rotation is by halves, as Llama's in transformers.
        sine: like `cosine`.
        configuration: instead of the one chosen from the shapes.
    """
    rows, kv_heads, _, head_size = keys.shape
    heads = query_key_value.shape[1] // head_size - 2 * kv_heads
    if heads < kv_heads or heads % kv_heads or query_key_value.shape[1] % head_size:
        raise ValueError(f"{query_key_value.shape[1]} projections do not divide into heads like keys {(*keys.shape,)}")
    if keys.stride() != values.stride() or keys.stride(3) != 1:
        raise ValueError(f"keys and values have other strides than expected: {keys.stride()} and {values.stride()}")
    if head_size & (head_size - 1) or head_size < 16:
        raise ValueError(f"head dimension {head_size} is not a power of two of at least 16")
    if configuration is None:
        configuration = configuration_for(rows, kv_heads)
    splits = configuration.splits
    out = torch.empty(rows, heads * head_size, dtype=query_key_value.dtype, device=keys.device)
    scratch = None
    if splits > 1:
        scratch = torch.empty(rows * heads * splits * (head_size + 2), dtype=torch.float32, device=keys.device)
    _attend_kernel[(splits, kv_heads, rows)](
        query_key_value,
        keys,
        values,
        start,
        column,
        cosine,
        sine,
        out,
        scratch,
        keys.stride(0),
        keys.stride(1),
        keys.stride(2),
        head_size**-0.5,
        group=heads // kv_heads,
        head_size=head_size,
        splits=splits,
        block=configuration.block,
        stages=configuration.stages,
        overlap=overlap,
        num_warps=configuration.warps,
        launch_pdl=overlap,
    )
    if splits > 1:
        _combine_kernel[(rows * heads,)](
            scratch, out, head_size=head_size, splits=splits, overlap=overlap, num_warps=1, launch_pdl=overlap
        )
    return out


@triton.jit
def _rotated(vector, cosine, sine, position, head_size: tl.constexpr):
    """[D] fp32: the vector at a pointer, turned by its position."""
    entry = tl.arange(0, head_size)
    half: tl.constexpr = head_size // 2
    angle = position * half + entry % half
    partner = tl.load(vector + (entry ^ half)).to(tl.float32)
    turned = tl.where(entry < half, -partner, partner) * tl.load(sine + angle)
    return tl.load(vector + entry).to(tl.float32) * tl.load(cosine + angle) + turned


@triton.jit
def _attend_kernel(
    query_key_value,
    keys,
    values,
    start,
    column,
    cosine,
    sine,
    out,
    scratch,
    row_stride,
    head_stride,
    column_stride,
    softmax_scale,
    group: tl.constexpr,
    head_size: tl.constexpr,
    splits: tl.constexpr,
    block: tl.constexpr,
    stages: tl.constexpr,
    overlap: tl.constexpr,
):
    """One share of one row's sequence, for the `group` heads of one key-value head.

    When something is split, the shares go to `scratch`: values, then (maximum, sum), of every head's every share.
    """
    start_next(overlap)
    split = tl.program_id(0)
    kv_head = tl.program_id(1)
    kv_heads = tl.num_programs(1)
    row = tl.program_id(2)
    entry = tl.arange(0, head_size)
    slot = tl.arange(0, block)
    cache_offset = row.to(tl.int64) * row_stride + kv_head.to(tl.int64) * head_stride
    heads = kv_heads * group
    fresh = query_key_value + row.to(tl.int64) * (heads + 2 * kv_heads) * head_size
    wait_for_previous(overlap)

    first = tl.load(start + row)
    last = tl.load(column).to(tl.int32)
    share = tl.cdiv(last + 1 - first, splits)
    begin = first + split * share
    end = tl.minimum(begin + share, last)  # the new position itself is not read from the cache
    has_new = (begin <= last) & (begin + share > last)
    position = tl.maximum(last - first, 0)

    # The new key and value as they will be read from the cache later: rounded to its type.
    new_key = _rotated(fresh + (heads + kv_head) * head_size, cosine, sine, position, head_size)
    new_key = new_key.to(keys.dtype.element_ty)
    new_value = tl.load(fresh + (heads + kv_heads + kv_head) * head_size + entry).to(values.dtype.element_ty)
    new_place = cache_offset + last.to(tl.int64) * column_stride + entry
    if has_new:
        tl.store(keys + new_place, new_key)
        tl.store(values + new_place, new_value)

    # Where the new position is this share's, the first slot begins with it and the others with nothing.
    begins_new = (slot == 0) & has_new
    queries = ()
    maxima = ()
    sums = ()
    outs = ()
    for member in tl.static_range(group):
        head = kv_head * group + member
        query = _rotated(fresh + head * head_size, cosine, sine, position, head_size) * softmax_scale
        new_score = tl.sum(query * new_key.to(tl.float32), 0)
        queries = queries + (query,)  # noqa: RUF005
        maxima = maxima + (tl.where(begins_new, new_score, _LOWEST),)  # noqa: RUF005
        sums = sums + (tl.where(begins_new, 1.0, 0.0),)  # noqa: RUF005
        outs = outs + (tl.where(begins_new[:, None], new_value.to(tl.float32)[None, :], 0.0),)  # noqa: RUF005

    key_tile = keys + cache_offset + slot.to(tl.int64)[:, None] * column_stride + entry[None, :]  # [block, D]
    value_tile = values + cache_offset + slot.to(tl.int64)[:, None] * column_stride + entry[None, :]
    for at in tl.range(begin, end, block, num_stages=stages):
        there = at + slot < end
        step = at * column_stride  # within one row's one head: 32 bits are enough
        key = tl.load(key_tile + step, mask=there[:, None], other=0.0)
        value = tl.load(value_tile + step, mask=there[:, None], other=0.0)
        new_maxima = ()
        new_sums = ()
        new_outs = ()
        for member in tl.static_range(group):
            score = tl.sum(queries[member][None, :] * key.to(tl.float32), 1)
            score = tl.where(there, score, -float("inf"))
            maximum = tl.maximum(maxima[member], score)
            kept = tl.exp(maxima[member] - maximum)
            chance = tl.exp(score - maximum)
            new_maxima = new_maxima + (maximum,)  # noqa: RUF005
            new_sums = new_sums + (sums[member] * kept + chance,)  # noqa: RUF005
            weighted = outs[member] * kept[:, None] + chance[:, None] * value.to(tl.float32)
            new_outs = new_outs + (weighted,)  # noqa: RUF005
        maxima = new_maxima
        sums = new_sums
        outs = new_outs

    for member in tl.static_range(group):
        top = tl.max(maxima[member], 0)
        factor = tl.exp(maxima[member] - top)
        total = tl.sum(sums[member] * factor, 0)
        result = tl.sum(outs[member] * factor[:, None], 0)
        head = row.to(tl.int64) * heads + kv_head * group + member
        if splits == 1:
            tl.store(out + head * head_size + entry, (result / total).to(out.dtype.element_ty))
        else:
            share_of_head = head * splits + split
            tl.store(scratch + share_of_head * head_size + entry, result)
            pairs = scratch + tl.num_programs(2).to(tl.int64) * heads * splits * head_size
            tl.store(pairs + share_of_head * 2, top)
            tl.store(pairs + share_of_head * 2 + 1, total)


@triton.jit
def _combine_kernel(scratch, out, head_size: tl.constexpr, splits: tl.constexpr, overlap: tl.constexpr):
    """Puts the shares of one row's one head together."""
    start_next(overlap)
    head = tl.program_id(0).to(tl.int64)
    entry = tl.arange(0, head_size)
    share = head * splits + tl.arange(0, splits)
    pairs = scratch + tl.num_programs(0).to(tl.int64) * splits * head_size
    wait_for_previous(overlap)
    maxima = tl.load(pairs + share * 2, cache_modifier=".cg")  # read once, hence past the L1 cache, like all of them
    kept = tl.exp(maxima - tl.max(maxima, 0))
    total = tl.sum(tl.load(pairs + share * 2 + 1, cache_modifier=".cg") * kept, 0)
    shares = tl.load(scratch + share[:, None] * head_size + entry[None, :], cache_modifier=".cg")  # [splits, D]
    result = tl.sum(shares * kept[:, None], 0) / total
    tl.store(out + head * head_size + entry, result.to(out.dtype.element_ty))
