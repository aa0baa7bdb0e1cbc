"""Requests with one thing wrong: the wrong class, colour, count or place, and all else kept.

A critic is worth what it can tell apart, so pairs (true caption, nearly true caption) of one picture train the
contrastive model and measure every critic. Every corruption is false under GenEval's rule, not just unlikely.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .concepts import COLORS, MAX_OBJECTS
from .world import MAX_GROUPS, Requests

KINDS: tuple[str, ...] = ("class", "color", "count", "place")
_OPPOSITE = (0, 2, 1, 4, 3)  # another relation may hold as well, the opposite never does


def corrupt(requests: Requests, classes: int, generator: torch.Generator) -> tuple[Requests, Tensor]:
    """Wrong requests and, per row, the index in KINDS of what is wrong; the kind is drawn among those that apply."""
    rows, device = len(requests), requests.tag.device
    counted = requests.count[:, 0] > 1
    colored = (requests.color > 0).any(1)
    applies = torch.stack([torch.ones_like(colored), colored, counted, requests.relation[:, 0] > 0], dim=1)
    kind = torch.multinomial(applies.float(), 1, generator=generator)[:, 0]
    label = torch.where((kind == 0)[:, None], _other_class(requests, classes, generator), requests.label)
    color = torch.where((kind == 1)[:, None], _other_color(requests, generator), requests.color)
    count = requests.count.clone()
    # From two to five: "an apple" is true of three apples.
    shift = torch.randint(1, MAX_OBJECTS - 1, (rows,), generator=generator, device=device)
    count[:, 0] = torch.where(kind == 2, (count[:, 0] - 2 + shift) % (MAX_OBJECTS - 1) + 2, count[:, 0])
    opposite = torch.tensor(_OPPOSITE, device=device)[requests.relation]
    relation = torch.where((kind == 3)[:, None], opposite, requests.relation)
    return replace(requests, label=label, color=color, count=count, relation=relation), kind


def _other_class(requests: Requests, classes: int, generator: torch.Generator) -> Tensor:
    """One group gets a class that no group has."""
    rows, device = len(requests), requests.label.device
    chance = torch.rand(rows, classes, generator=generator, device=device)
    fresh = chance.scatter(1, requests.label, -1.0).argmax(1)
    return torch.where(_one_group(requests.count > 0, generator), fresh[:, None], requests.label)


def _other_color(requests: Requests, generator: torch.Generator) -> Tensor:
    """One painted group gets another colour, or two groups swap theirs where they differ (every second time)."""
    rows, device = len(requests), requests.color.device
    shift = torch.randint(1, len(COLORS), (rows, 1), generator=generator, device=device)
    other = (requests.color - 1 + shift) % len(COLORS) + 1
    changed = torch.where(_one_group(requests.color > 0, generator), other, requests.color)
    differ = (requests.color[:, :2] > 0).all(1) & (requests.color[:, 0] != requests.color[:, 1])
    swap = differ & (torch.rand(rows, generator=generator, device=device) < 0.5)
    return torch.where(swap[:, None], requests.color[:, [1, 0, *range(2, MAX_GROUPS)]], changed)


def _one_group(eligible: Tensor, generator: torch.Generator) -> Tensor:
    """[B, 5] true for one of the eligible groups of each row, for none where none is."""
    chance = torch.rand(eligible.shape, generator=generator, device=eligible.device) * eligible
    chosen = torch.arange(MAX_GROUPS, device=eligible.device) == chance.argmax(1, keepdim=True)
    return chosen & eligible
