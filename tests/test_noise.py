"""Noise is Philox, depends on its coordinates alone, and has the distributions it claims."""

from __future__ import annotations

import math

import pytest
import torch

from milr.noise import NoiseRows, NoiseSource, Stream, philox

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers of the Random123 distribution
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    assert philox(torch.tensor(counter), torch.tensor(key)).tolist() == expected


def rows(count: int, step: int = 0) -> NoiseRows:
    return NoiseRows([NoiseSource.of(0, f"prompt {i}") for i in range(count)], [step] * count, list(range(count)), CPU)


def test_a_row_does_not_depend_on_the_batch() -> None:
    assert torch.equal(rows(3).gumbel(Stream.IMAGE, 5, 2, 7)[:1], rows(1).gumbel(Stream.IMAGE, 5, 2, 7))


def test_blocks_of_positions_equal_single_positions() -> None:
    steps = [rows(2).gumbel(Stream.TEXT, position, 1, 6) for position in range(40)]
    assert torch.equal(torch.cat(steps, dim=1), rows(2).gumbel(Stream.TEXT, 0, 40, 6))


def test_padded_rows_repeat_the_first_one() -> None:
    noise = rows(3).padded(2).gumbel(Stream.TEXT, 0, 4, 6)
    assert torch.equal(noise[:3], rows(3).gumbel(Stream.TEXT, 0, 4, 6))
    assert torch.equal(noise[3:], noise[:1].expand(2, -1, -1))


def test_every_coordinate_changes_the_noise() -> None:
    def draw(
        seed: int = 0,
        prompt: str = "a",
        image: int = 0,
        step: int = 0,
        sample: int = 0,
        position: int = 0,
        stream: Stream = Stream.TEXT,
    ) -> tuple[float, ...]:
        source = NoiseRows([NoiseSource.of(seed, prompt, image)], [step], [sample], CPU)
        return tuple(source.uniform(stream, position, 1, 4).flatten().tolist())

    draws = [draw(), draw(seed=1), draw(prompt="b"), draw(image=1), draw(step=1), draw(sample=1), draw(position=1)]
    draws += [draw(stream=stream) for stream in (Stream.IMAGE, Stream.TEXT_LATENT, Stream.IMAGE_LATENT)]
    assert len(set(draws)) == len(draws)


def test_uniform_noise_fills_the_open_interval() -> None:
    numbers = rows(1).uniform(Stream.TEXT, 0, 1, 200_000)
    assert 0 < float(numbers.min()) < 1e-4
    assert 1 - 1e-4 < float(numbers.max()) < 1
    assert abs(float(numbers.mean()) - 0.5) < 3 * math.sqrt(1 / 12 / 200_000)


def test_gumbel_max_samples_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    choices = (logits + rows(1).gumbel(Stream.TEXT, 0, 40_000, 4)[0]).argmax(dim=-1)
    expected = torch.softmax(logits, dim=-1)
    observed = torch.bincount(choices, minlength=4) / 40_000
    assert ((observed - expected).abs() < 3.5 * (expected * (1 - expected) / 40_000).sqrt()).all()


def test_normal_noise_is_standard_normal() -> None:
    noise = NoiseSource.of(0, "a").normal((300, 333), 1, 2, Stream.TEXT_LATENT, CPU)
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01
    assert abs(float((noise**4).mean()) - 3) < 0.1
