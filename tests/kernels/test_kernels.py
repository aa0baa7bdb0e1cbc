"""Every kernel against the same mathematics in fp64, in Triton's interpreter (TRITON_INTERPRET=1) or on a GPU."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from milr.decoding.tokens import choose, guide, log_prob
from milr.noise import NoiseRows, NoiseSource, Stream

pytest.importorskip("triton", reason="Triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("no GPU; test_interpreted.py runs this file with TRITON_INTERPRET=1", allow_module_level=True)

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from milr.kernels import attention, elementwise, sampling, streaming  # noqa: E402
from milr.kernels.configuration import Streams  # noqa: E402
from milr.kernels.product import Product  # noqa: E402
from milr.kernels.projection import project  # noqa: E402

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
QUANTISED = [torch.int8, torch.float8_e4m3fn]


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (actual.double() - expected.double()).norm() / expected.double().norm()
    assert error < tolerance, float(error)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.double()
    return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.double()


def quantised(rows: int, width: int, kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, their scales and, in fp64, what they stand for."""
    weight, scale = (random(rows, width) * 30).clamp(-127, 127).to(kind), random(rows).abs() / 30
    return weight, scale, weight.double() * scale.double()[:, None]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("rows", "columns", "width"), [(1, 16, 256), (3, 19, 80)])
def test_a_product_is_that_of_its_matrices(dtype: torch.dtype, rows: int, columns: int, width: int) -> None:
    x, weight = random(rows, width, dtype=dtype), random(columns, width, dtype=dtype)
    close(project(x, weight), x.double() @ weight.double().T, TOLERANCE[dtype])


@pytest.mark.parametrize("kind", [torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("epilogue", ["norm", "residual", "gated", "all"])
def test_prologue_and_epilogue_are_those_of_a_transformer(kind: torch.dtype, epilogue: str) -> None:
    dtype = torch.float32 if kind == torch.float32 else torch.bfloat16
    x, weight, scale = random(2, 48, dtype=dtype), random(40, 48), None
    wide = weight.double()
    if kind != dtype:
        weight, scale, wide = quantised(40, 48, kind)
    norm, residual = random(48, dtype=dtype), random(2, 40, dtype=dtype, seed=1)
    expected = (rms(x, norm) if epilogue in ("norm", "gated", "all") else x.double()) @ wide.T
    asked: dict[str, Any] = {}
    if epilogue in ("norm", "gated", "all"):
        asked["norm"] = norm
    if epilogue in ("residual", "all"):
        asked["residual"], expected = residual, expected + residual.double()
    if epilogue == "gated":
        asked["gated"], expected = True, F.silu(expected[:, :20]) * expected[:, 20:]
    close(project(x, weight, scale=scale, **asked), expected, TOLERANCE[dtype])


def test_the_residual_stream_may_be_updated_in_place() -> None:
    x, weight, residual = random(2, 32), random(16, 32), random(2, 16)
    expected = residual.double() + x.double() @ weight.double().T
    assert project(x, weight, residual=residual, out=residual) is residual
    close(residual, expected, 1e-5)


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("rows", [5, 33, 100])
def test_more_rows_of_quantised_weights_are_products_too(kind: torch.dtype, rows: int) -> None:
    x, norm = random(rows, 70, dtype=torch.bfloat16), random(70, dtype=torch.bfloat16)
    weight, scale, wide = quantised(2 * 24, 70, kind)
    gate, up = (rms(x, norm) @ wide.T).chunk(2, dim=1)
    close(project(x, weight, scale=scale, norm=norm, gated=True), F.silu(gate) * up, 1e-2)


@pytest.mark.parametrize(
    "x",
    [random(2, 96), random(2, 100, dtype=torch.bfloat16), random(2, 98, dtype=torch.bfloat16)[:, :96]],
    ids=["fp32", "a width of no whole words", "rows that begin within words"],
)
def test_quantised_products_of_a_few_rows_are_not_bound_to_their_alignment(x: Tensor) -> None:
    weight, scale, wide = quantised(16, x.shape[1], torch.int8)
    close(project(x, weight, scale=scale), x.double() @ wide.T, TOLERANCE[x.dtype])


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize(
    ("blocks", "width"),
    [(Streams(2, 1, 2, 0, folded=False), 1024), (Streams(8, 1, 1, 512, folded=True), 144)],
    ids=["ahead", "folded"],
)
def test_a_stream_goes_through_all_blocks(
    kind: torch.dtype, blocks: Streams, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_WARPS", 2)
    monkeypatch.setattr(streaming, "_multiprocessors", lambda device: 1)  # two programs
    x, norm = random(3, width, dtype=torch.float16), random(width, dtype=torch.float16)
    weight, scale, wide = quantised(19, width, kind)
    out = torch.empty(3, 19, dtype=torch.float16, device=DEVICE)
    streaming.launch(Product(x, weight, scale, norm, None, out, 1e-6, False, False), blocks)
    close(out, rms(x, norm) @ wide.T, 2e-3)


def test_operands_that_do_not_go_together_are_refused() -> None:
    x = random(2, 32)
    with pytest.raises(ValueError, match="does not go with"):
        project(x, random(16, 48))
    with pytest.raises(ValueError, match=r"expected torch\.float32"):
        project(x, random(16, 32, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="need a scale"):
        project(x, random(16, 32).to(torch.int8))
    with pytest.raises(ValueError, match=r"use F\.linear"):
        project(random(5, 32), random(16, 32))


def attended(
    fresh: Tensor, keys: Tensor, values: Tensor, start: Tensor, column: int, cosine: Tensor, sine: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The attention, the new keys and the new values, row by row in fp64."""
    rows, kv_heads, _, size = keys.shape
    heads = fresh.shape[1] // size - 2 * kv_heads
    outs, new_keys, new_values = [], [], []
    for row in range(rows):
        first = int(start[row])
        angle = (cosine[column - first].double().repeat(2), sine[column - first].double().repeat(2))
        query, key, value = fresh[row].double().view(-1, size).split([heads, kv_heads, kv_heads])
        query, key = (
            vector * angle[0] + torch.cat([-vector[:, size // 2 :], vector[:, : size // 2]], dim=1) * angle[1]
            for vector in (query, key)
        )
        past_keys = torch.cat([keys[row, :, first:column].double(), key[:, None]], dim=1)
        past_values = torch.cat([values[row, :, first:column].double(), value[:, None]], dim=1)
        groups = heads // kv_heads
        outs.append(
            F.scaled_dot_product_attention(
                query[:, None], past_keys.repeat_interleave(groups, 0), past_values.repeat_interleave(groups, 0)
            ).flatten()
        )
        new_keys.append(key)
        new_values.append(value)
    return torch.stack(outs), torch.stack(new_keys), torch.stack(new_values)


@pytest.mark.parametrize(
    ("dtype", "heads", "kv_heads", "size"), [(torch.bfloat16, 2, 2, 64), (torch.float32, 4, 2, 16)]
)
@pytest.mark.parametrize(("splits", "column"), [(1, 37), (4, 37), (4, 3)])
def test_attention_reads_and_extends_the_cache(
    dtype: torch.dtype, heads: int, kv_heads: int, size: int, splits: int, column: int
) -> None:
    fresh = random(3, (heads + 2 * kv_heads) * size, dtype=dtype)
    layers = random(3, 2, kv_heads, 48, size, dtype=dtype)
    keys, values = layers[:, 0], layers[:, 1]  # views with strides of their own
    start = torch.tensor([0, 3, 2], dtype=torch.int32, device=DEVICE)
    angles = torch.outer(torch.arange(48.0), 1e4 ** -torch.linspace(0, 1, size // 2)).to(DEVICE)
    cosine, sine = angles.cos(), angles.sin()
    expected, new_keys, new_values = attended(fresh, keys, values, start, column, cosine, sine)
    before = layers.clone()
    out = attention.attend(
        fresh,
        keys,
        values,
        start,
        torch.tensor(column, device=DEVICE),
        cosine,
        sine,
        configuration=attention.Configuration(splits, 16, 1, 1),
    )
    close(out, expected, TOLERANCE[dtype])
    close(keys[:, :, column], new_keys, TOLERANCE[dtype])
    close(values[:, :, column], new_values, TOLERANCE[dtype])
    untouched = torch.arange(48, device=DEVICE) != column
    assert torch.equal(layers[..., untouched, :], before[..., untouched, :])


def test_what_stands_left_of_a_row_or_right_of_the_new_column_is_never_read() -> None:
    fresh, layers = random(2, 6 * 16), random(2, 2, 2, 32, 16)
    start = torch.tensor([5, 0], dtype=torch.int32, device=DEVICE)
    table = torch.ones(32, 8, device=DEVICE)
    column = torch.tensor(9, dtype=torch.int32, device=DEVICE)
    clean, dirty = layers.clone(), layers.clone()
    dirty[:, 0, :, :5] = torch.nan
    dirty[..., 9:, :] = torch.nan
    outs = [attention.attend(fresh, each[0], each[1], start, column, table, table) for each in (clean, dirty)]
    assert torch.equal(*outs)


def test_a_head_dimension_that_is_no_power_of_two_is_refused() -> None:
    cache, table = random(1, 1, 4, 24), random(4, 12)
    place = torch.zeros(1, dtype=torch.int32)
    with pytest.raises(ValueError, match="power of two"):
        attention.attend(random(1, 72), cache, cache, place, place[0], table, table)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_norm_of_a_sum_is_that_of_the_updated_residual(dtype: torch.dtype) -> None:
    residual, delta, weight = random(3, 70, dtype=dtype), random(3, 70, dtype=dtype, seed=1), random(70, dtype=dtype)
    total = residual.double() + delta.double()
    normed = elementwise.add_rms_norm(residual, delta, weight, 1e-6)
    close(residual, total, TOLERANCE[dtype])  # the interpreter truncates to bf16 where a GPU rounds
    close(normed, rms(residual, weight), TOLERANCE[dtype])
    close(elementwise.rms_norm(residual, weight, 1e-6), rms(residual, weight), TOLERANCE[dtype])


def test_a_gate_is_multiplied_with_what_it_lets_through() -> None:
    both = random(3, 2 * 1100)
    close(elementwise.silu_multiply(both), F.silu(both[:, :1100]) * both[:, 1100:], 1e-6)


def noise(rows: int) -> tuple[NoiseRows, Tensor, Tensor, Tensor]:
    """The noise of some rows, and its coordinates as the kernels take them."""
    sources = [NoiseSource.of(row, "prompt") for row in range(rows)]
    steps, samples = [7 * row for row in range(rows)], [row % 3 for row in range(rows)]
    key = torch.tensor([source.key for source in sources], device=DEVICE)
    return (
        NoiseRows(sources, steps, samples, DEVICE),
        key,
        torch.tensor(steps, device=DEVICE),
        torch.tensor(samples, device=DEVICE),
    )


@triton.jit
def store_uniform(out, key, step, sample, position, first, noise_stream: tl.constexpr, block: tl.constexpr):
    """The noise that `choose_image` and `choose_text` add, before it is made Gumbel noise."""
    row = tl.program_id(0)
    uniform = sampling._uniform(key, step, sample, position, row, first, noise_stream, block)
    tl.store(out + row * block + tl.arange(0, block), uniform)


@pytest.mark.parametrize("stream", [Stream.TEXT, Stream.IMAGE])
def test_the_noise_is_bit_for_bit_that_of_milr_noise(stream: Stream) -> None:
    rows, key, step, sample = noise(3)
    out = torch.empty(3, 64, device=DEVICE)
    position = torch.tensor(41, device=DEVICE)
    store_uniform[(3,)](out, key, step, sample, position, 1024, noise_stream=int(stream), block=64)
    assert torch.equal(out, rows.uniform(stream, 41, 1, 1024 + 64)[:, 0, 1024:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_an_image_token_is_the_guided_choice_and_its_log_probability(dtype: torch.dtype, temperature: float) -> None:
    rows, key, step, sample = noise(4)
    logits = random(4, 2, 1500, dtype=dtype)
    position = torch.tensor(3, dtype=torch.int32, device=DEVICE)
    tokens, log_probs = sampling.choose_image(logits, key, step, sample, position, 5.0, temperature)
    wide = logits.float()
    guided = guide(wide[:, 0], wide[:, 1], 5.0) / (temperature or 1.0)
    expected = choose(guided, rows.gumbel(Stream.IMAGE, 3, 1, 1500)[:, 0] if temperature else None)
    assert torch.equal(tokens, expected)
    torch.testing.assert_close(log_probs, log_prob(guided, expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_a_text_token_is_the_choice_and_its_log_probability(temperature: float) -> None:
    rows, key, step, sample = noise(2)
    logits = random(2, 3001)
    tokens, log_probs = sampling.choose_text(logits, key, step, sample, torch.tensor(0, device=DEVICE), temperature)
    scaled = logits / (temperature or 1.0)
    expected = choose(scaled, rows.gumbel(Stream.TEXT, 0, 1, 3001)[:, 0] if temperature else None)
    assert torch.equal(tokens, expected)
    torch.testing.assert_close(log_probs, log_prob(scaled, expected), atol=1e-5, rtol=1e-5)


def test_of_equal_logits_the_first_is_chosen() -> None:
    _, key, step, sample = noise(1)
    logits = torch.zeros(1, 2500, device=DEVICE)
    logits[0, [1100, 1101, 2400]] = 2.0
    tokens, _ = sampling.choose_text(logits, key, step, sample, torch.tensor(0, device=DEVICE), 0.0)
    assert tokens.tolist() == [1100]
