"""The choice of one token per row: guidance, temperature, noise, argmax and log-probability in two kernels.

The noise is that of `milr.noise`: the same Philox bits of the same (key, step, stream, sample, position, entry), turned
into the same Gumbel numbers. A first kernel takes blocks of the vocabulary, so that a single row of a large vocabulary
occupies the whole GPU; a second one puts a row's blocks together. Of equal entries the first wins, as in torch.
N rows, V vocabulary.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from milr.kernels.overlap import start_next, wait_for_previous
from milr.noise import Stream

_BLOCK = 1024


def choose_image(
    logits: Tensor,
    key: Tensor,
    step: Tensor,
    sample: Tensor,
    position: Tensor,
    guidance: float,
    temperature: float,
    *,
    overlap: bool = False,
) -> tuple[Tensor, Tensor]:
    """[N] int64 tokens and [N] fp32 log-probabilities from guided logits u + g (c - u).

    Args:
        logits: [N, 2, V] contiguous, fp32 or of half precision: conditional, unconditional.
        key: [N, 2] int64, each below 2^32.
        step: [N] int64.
        sample: [N] int64.
        position: [] int64 or int32, the token's place in the picture.
        temperature: 0 is greedy, without noise and with log-probabilities at temperature 1.
    """
    return _choose(logits, key, step, sample, position, guidance, temperature, Stream.IMAGE, overlap)


def choose_text(
    logits: Tensor,
    key: Tensor,
    step: Tensor,
    sample: Tensor,
    position: Tensor,
    temperature: float,
    *,
    overlap: bool = False,
) -> tuple[Tensor, Tensor]:
    """[N] int64 tokens and [N] fp32 log-probabilities from [N, V] logits; otherwise like `choose_image`."""
    return _choose(logits, key, step, sample, position, 1.0, temperature, Stream.TEXT, overlap)


def _choose(
    logits: Tensor,
    key: Tensor,
    step: Tensor,
    sample: Tensor,
    position: Tensor,
    guidance: float,
    temperature: float,
    stream: Stream,
    overlap: bool,
) -> tuple[Tensor, Tensor]:
    rows, entries = logits.shape[0], logits.shape[-1]
    if not (logits.is_contiguous() and key.is_contiguous()):
        raise ValueError("logits and key must be contiguous")
    blocks = triton.cdiv(entries, _BLOCK)
    best = torch.empty(rows, blocks, dtype=torch.int32, device=logits.device)
    parts = torch.empty(rows, 4, blocks, dtype=torch.float32, device=logits.device)
    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    log_probs = torch.empty(rows, dtype=torch.float32, device=logits.device)
    _block_kernel[(blocks, rows)](
        logits,
        key,
        step,
        sample,
        position,
        best,
        parts,
        guidance,
        1 / (temperature or 1.0),
        entries,
        guided=logits.dim() == 3,
        sampled=temperature > 0,
        noise_stream=int(stream),
        block=_BLOCK,
        overlap=overlap,
        num_warps=4,
        launch_pdl=overlap,
        enable_fp_fusion=False,  # the roundings of torch, which multiplies and adds apart
    )
    _row_kernel[(rows,)](
        best,
        parts,
        tokens,
        log_probs,
        blocks,
        block=triton.next_power_of_2(blocks),
        overlap=overlap,
        num_warps=1,
        launch_pdl=overlap,
    )
    return tokens, log_probs


@triton.jit
def _philox(c0, c1, c2, c3, k0, k1):
    """Philox-4x32-10 on uint32 tensors; as `milr.noise.philox`."""
    first = tl.full(c0.shape, 0xD2511F53, tl.uint32)
    second = tl.full(c0.shape, 0xCD9E8D57, tl.uint32)
    for round_index in tl.static_range(10):
        if round_index > 0:
            k0 += tl.full(c0.shape, 0x9E3779B9, tl.uint32)
            k1 += tl.full(c0.shape, 0xBB67AE85, tl.uint32)
        high0 = tl.umulhi(c0, first)
        high1 = tl.umulhi(c2, second)
        low0 = c0 * first
        low1 = c2 * second
        c0 = high1 ^ c1 ^ k0
        c1 = low1
        c2 = high0 ^ c3 ^ k1
        c3 = low0
    return c0, c1, c2, c3


@triton.jit
def _uniform(key, step, sample, position, row, first, noise_stream: tl.constexpr, block: tl.constexpr):
    """[block] fp32 of the entries from `first` (a multiple of 4) on; as `milr.noise.NoiseRows.uniform`."""
    counter = first // 4 + tl.arange(0, block // 4)
    nothing = tl.zeros((block // 4,), tl.uint32)
    c1 = nothing + tl.load(position).to(tl.uint32)
    c2 = nothing + (tl.load(step + row) * 8 + noise_stream).to(tl.uint32)
    c3 = nothing + tl.load(sample + row).to(tl.uint32)
    k0 = nothing + tl.load(key + row * 2).to(tl.uint32)
    k1 = nothing + tl.load(key + row * 2 + 1).to(tl.uint32)
    b0, b1, b2, b3 = _philox(counter.to(tl.uint32), c1, c2, c3, k0, k1)
    bits = tl.reshape(tl.join(tl.join(b0, b2), tl.join(b1, b3)), (block,))  # b0, b1, b2, b3 of each counter
    return ((bits >> 9).to(tl.int32).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2^-23


@triton.jit
def _block_kernel(
    logits,
    key,
    step,
    sample,
    position,
    best,
    parts,
    guidance,
    inverse_temperature,
    entries,
    guided: tl.constexpr,
    sampled: tl.constexpr,
    noise_stream: tl.constexpr,
    block: tl.constexpr,
    overlap: tl.constexpr,
):
    """One block of one row: its best entry and (noisy value, logit) of it, and the block's (maximum, sum of exp)."""
    start_next(overlap)
    part = tl.program_id(0)
    parts_each = tl.num_programs(0)
    row = tl.program_id(1).to(tl.int64)
    entry = part * block + tl.arange(0, block)
    mask = entry < entries
    wait_for_previous(overlap)
    if guided:
        conditional = tl.load(logits + row * 2 * entries + entry, mask=mask, other=0.0).to(tl.float32)
        unconditional = tl.load(logits + (row * 2 + 1) * entries + entry, mask=mask, other=0.0).to(tl.float32)
        logit = unconditional + guidance * (conditional - unconditional)
    else:
        logit = tl.load(logits + row * entries + entry, mask=mask, other=0.0).to(tl.float32)
    # torch, too, divides a tensor on the GPU by a number by multiplying with its inverse.
    logit = tl.where(mask, logit * inverse_temperature, -float("inf"))
    noisy = logit
    if sampled:
        uniform = _uniform(key, step, sample, position, row, part * block, noise_stream, block)
        noisy = logit - tl.log(-tl.log(uniform))
    value, index = tl.max(noisy, 0, return_indices=True, return_indices_tie_break_left=True)
    maximum = tl.max(logit, 0)
    total = tl.sum(tl.exp(logit - maximum), 0)
    chosen = tl.max(tl.where(tl.arange(0, block) == index, logit, -float("inf")), 0)
    place = parts + row * 4 * parts_each + part
    tl.store(best + row * parts_each + part, part * block + index)
    tl.store(place, value)
    tl.store(place + parts_each, chosen)
    tl.store(place + 2 * parts_each, maximum)
    tl.store(place + 3 * parts_each, total)


@triton.jit
def _row_kernel(best, parts, tokens, log_probs, blocks, block: tl.constexpr, overlap: tl.constexpr):
    """Puts the blocks of one row together."""
    start_next(overlap)
    row = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, block)
    mask = part < blocks
    place = parts + row * 4 * blocks + part
    wait_for_previous(overlap)
    value = tl.load(place, mask=mask, other=-float("inf"))
    chosen = tl.load(place + blocks, mask=mask, other=-float("inf"))
    maxima = tl.load(place + 2 * blocks, mask=mask, other=-float("inf"))
    totals = tl.load(place + 3 * blocks, mask=mask, other=0.0)
    winner = tl.argmax(value, 0, tie_break_left=True)
    maximum = tl.max(maxima, 0)
    total = tl.sum(totals * tl.exp(maxima - maximum), 0)
    logit = tl.max(tl.where(part == winner, chosen, -float("inf")), 0)
    tl.store(tokens + row, tl.load(best + row * blocks + winner).to(tl.int64))
    tl.store(log_probs + row, logit - maximum - tl.log(total))
