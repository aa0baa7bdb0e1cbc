"""Latents: what is optimised. Vectors behind the first tokens of the reasoning and of the picture.

MILR (arXiv 2509.22761) optimises the last hidden states behind the first `text_ratio` of the reasoning tokens and the
first `image_ratio` of the image tokens, those of a picture as a (conditional, unconditional) pair. They live in fp32
whatever the model's dtype: at |z| >= 8 a bfloat16 coordinate cannot move by a learning rate of 0.03.

A prefix acts on decoding in one of two ways:

- `replace`: the vectors stand in for the model's own states, as published. Each position's token is then drawn
  independently of what was drawn before it, and the vectors go stale when the reasoning changes under them.
- `shift`: the vectors are added to the states that the model has right there. A zero shift is the model itself, and
  the prefix stays fresh whatever was decoded before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["replace", "shift"]


@dataclass(frozen=True)
class Prefix:
    """Latents of the first positions of one stream (the reasoning or the picture).

    Attributes:
        values: fp32, [L, H] for text, [L, 2, H] (conditional, unconditional) for a picture.
        mode: whether they replace the model's states or shift them.
    """

    values: Tensor
    mode: Mode

    def __len__(self) -> int:
        return self.values.shape[0]


def prefix_length(ratio: float, tokens: int) -> int:
    """How many of `tokens` positions a ratio covers: at least one, at most all; none at ratio 0."""
    if ratio <= 0 or tokens == 0:
        return 0
    return min(tokens, max(1, math.floor(ratio * tokens)))


@dataclass(frozen=True)
class PrefixBatch:
    """The prefixes of N rows, padded to one length, ready for a decoding loop.

    Attributes:
        values: [N, L, P, H] fp32, zero beyond a row's own length; P is 1 for text and 2 for a picture.
        replace: [N, L] bool, where the value stands in for the model's state; elsewhere it is added to it.
        settled: how many of the first positions every row replaces: their tokens depend on nothing decoded.
    """

    values: Tensor
    replace: Tensor
    settled: int

    def __len__(self) -> int:
        return self.values.shape[1]

    def padded(self, extra: int) -> PrefixBatch:
        """The same with the first row repeated at the end."""
        values = torch.cat([self.values, self.values[:1].expand(extra, -1, -1, -1)])
        return PrefixBatch(values, torch.cat([self.replace, self.replace[:1].expand(extra, -1)]), self.settled)


def stack_prefixes(prefixes: Sequence[Prefix | None], paths: int, width: int, device: torch.device) -> PrefixBatch:
    """One batch of N optional prefixes; a row without one gets a zero shift.

    Args:
        prefixes: of N rows.
        paths: P.
        width: H.
        device: where decoding runs.
    """
    length = max((len(prefix) for prefix in prefixes if prefix is not None), default=0)
    values = torch.zeros(len(prefixes), length, paths, width, device=device)
    replace = torch.zeros(len(prefixes), length, dtype=torch.bool, device=device)
    for row, prefix in enumerate(prefixes):
        if prefix is not None:
            values[row, : len(prefix)] = prefix.values.view(-1, paths, width)
            replace[row, : len(prefix)] = prefix.mode == "replace"
    replaced = (len(prefix) if prefix is not None and prefix.mode == "replace" else 0 for prefix in prefixes)
    return PrefixBatch(values, replace, min(replaced, default=0))
