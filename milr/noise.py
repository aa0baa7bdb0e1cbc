"""Sampling noise as a pure function of its coordinates.

Every random number is Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") of
(seed, prompt id, image index | sample, step, stream, position, entry). So a result does not depend on batch size,
order, sharding, workers or the point of resume. All of it is integer tensor arithmetic without host synchronisation.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_BLOCK_NUMBERS = 2**22  # how many numbers are worth making at once: tens of megabytes


class Stream(IntEnum):
    """What the noise is for; streams never share a number."""

    TEXT = 0
    IMAGE = 1
    TEXT_LATENT = 2
    IMAGE_LATENT = 3


def philox(counter: Tensor, key: Tensor) -> Tensor:
    """Philox-4x32-10.

    Args:
        counter: [..., 4] int64, each below 2^32.
        key: [..., 2] int64, each below 2^32; broadcasts against `counter`.

    Returns:
        [..., 4] int64, uniform below 2^32.
    """
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for round_index in range(10):
        if round_index:
            k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _MASK, (k1 + _KEY_INCREMENTS[1]) & _MASK
        # The products wrap around as signed 64-bit integers; the mask after the shift undoes the sign.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ k0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ k1,
            product0 & _MASK,
        )
    return torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), dim=-1)


@dataclass(frozen=True)
class NoiseSource:
    """The noise of one search: one (seed, prompt id, image index).

    Attributes:
        key: two integers below 2^32.
    """

    key: tuple[int, int]

    @staticmethod
    def of(seed: int, prompt_id: str, image_index: int = 0) -> NoiseSource:
        """The source of a search."""
        digest = hashlib.sha256(f"{seed}\0{prompt_id}\0{image_index}".encode()).digest()
        return NoiseSource((int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")))

    def normal(self, shape: tuple[int, ...], step: int, sample: int, stream: Stream, device: torch.device) -> Tensor:
        """Standard normal fp32 noise of a shape (Box-Muller)."""
        rows = NoiseRows([self], [step], [sample], device)
        count = math.prod(shape)
        uniform = rows.uniform(stream, 0, 1, 2 * (count + count % 2))[0, 0, : 2 * count].view(2, -1)  # [2, count]
        radius = torch.sqrt(-2 * torch.log(uniform[0]))
        return (radius * torch.cos(2 * math.pi * uniform[1])).view(shape)


class NoiseRows:
    """The noise of the N rows of a batch, each with its own source, step and sample.

    Attributes:
        key: [N, 2] int64.
        step, sample: [N] int64.
    """

    def __init__(self, sources: list[NoiseSource], steps: list[int], samples: list[int], device: torch.device) -> None:
        self.key = torch.tensor([source.key for source in sources], dtype=torch.int64, device=device)  # [N, 2]
        self.step = torch.tensor(steps, dtype=torch.int64, device=device)  # [N]
        self.sample = torch.tensor(samples, dtype=torch.int64, device=device)  # [N]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Key, step and sample."""
        return self.key, self.step, self.sample

    def uniform(self, stream: Stream, position: int, positions: int, entries: int) -> Tensor:
        """[N, positions, entries] fp32 in the open interval (0, 1), from `position` on."""
        device = self.key.device
        block = torch.arange((entries + 3) // 4, device=device)  # one counter gives four numbers
        place = torch.arange(position, position + positions, device=device)
        counter = torch.stack(
            torch.broadcast_tensors(
                block,
                place[:, None],
                (self.step * 8 + int(stream))[:, None, None],
                self.sample[:, None, None],
            ),
            dim=-1,
        )  # [N, positions, blocks, 4]
        bits = philox(counter, self.key[:, None, None]).flatten(-2)[..., :entries]  # [N, positions, entries]
        # 23 bits and a half step: exact in fp32, never 0 and never 1.
        return ((bits >> 9).to(torch.float32) + 0.5) * 2.0**-23

    def gumbel(self, stream: Stream, position: int, positions: int, entries: int) -> Tensor:
        """[N, positions, entries] standard Gumbel noise: argmax(logits + noise) is a sample of softmax(logits)."""
        return -torch.log(-torch.log(self.uniform(stream, position, positions, entries)))

    def padded(self, extra: int) -> NoiseRows:
        """The same with the first row repeated at the end."""
        rows = NoiseRows([], [], [], self.key.device)
        rows.key = torch.cat([self.key, self.key[:1].expand(extra, -1)])
        rows.step = torch.cat([self.step, self.step[:1].expand(extra)])
        rows.sample = torch.cat([self.sample, self.sample[:1].expand(extra)])
        return rows

    @staticmethod
    def block(rows: int, entries: int) -> int:
        """For how many positions of so many rows noise is best made at once."""
        return max(1, min(16, _BLOCK_NUMBERS // max(1, rows * entries)))
