"""Where things go: a size and a corner for everything that a request asks for, or for unrelated things.

    scenes = lay_out(requests, generator)           shows what was asked for, plainly
    scenes = clutter(count, classes, generator, (1, 5))

Every thing has its own cell of a 3 x 3 grid, so that a plan that names cells describes the scene fully.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .concepts import COLORS, MAX_OBJECTS, PLACES
from .world import IMAGE_SIZE, MAX_GROUPS, MAX_RELATIONS, SIZES, SNAP, Requests, Scenes, thirds

SIZES_BY_COUNT: dict[int, tuple[int, ...]] = {1: (56, 64), 2: (40, 48), 3: (32, 40), 4: (32,), 5: (32,)}
CANDIDATES = 32  # layouts drawn per scene, of which the best is kept
_UNFIT = 100.0  # the cost of a layout that does not show what was asked for; overlap costs less
BACKGROUNDS = (  # unlike each other, so that few tokens tell them apart; darker than white paint, paler than the others
    (0.78, 0.78, 0.78), (0.58, 0.58, 0.58), (0.80, 0.74, 0.64), (0.60, 0.68, 0.78), (0.66, 0.77, 0.62),
    (0.77, 0.64, 0.74),
)  # fmt: skip


def lay_out(requests: Requests, generator: torch.Generator, candidates: int = CANDIDATES, rounds: int = 1) -> Scenes:
    """Give every thing a size and a corner: the best of some random layouts.

    Best means least overlap among those whose every pair shows the wanted relation plainly, by more than GenEval's
    rule needs. Scenes that none of the candidates fits are drawn again, `rounds` times in all; with one round, a tenth
    of those with several relations or several things in a relation keep their least bad layout.
    """
    scenes, cost = _best_of_random(requests, generator, candidates)
    for _ in range(rounds - 1):
        bad = (cost >= _UNFIT).nonzero()[:, 0]
        if not len(bad):
            break
        again, cost[bad] = _best_of_random(requests[bad], generator, 4 * candidates)
        for field in fields(scenes):
            getattr(scenes, field.name)[bad] = getattr(again, field.name)
    return scenes


def _best_of_random(requests: Requests, generator: torch.Generator, candidates: int) -> tuple[Scenes, Tensor]:
    """Scenes, and what is wrong with each: overlap in px, `_UNFIT` or more where it does not show what was asked."""
    rows, device = len(requests), requests.label.device
    total = requests.count.sum(1)
    slot = torch.arange(MAX_OBJECTS, device=device)
    group = (slot[None, :, None] >= requests.count.cumsum(1)[:, None, :]).sum(-1)  # [B, K], 5 where empty
    filled = group < MAX_GROUPS
    group = group.clamp(max=MAX_GROUPS - 1)

    sizes = torch.full((MAX_OBJECTS + 1, 2), SIZES[0], device=device)
    for count, choices in SIZES_BY_COUNT.items():
        sizes[count] = torch.tensor([choices[0], choices[-1]], device=device)
    pick = torch.randint(2, (rows, MAX_OBJECTS), generator=generator, device=device)
    size = sizes[total][:, None].expand(-1, MAX_OBJECTS, -1).gather(2, pick[..., None])[..., 0]  # [B, K]

    shape = (rows, candidates, MAX_OBJECTS)
    cell = torch.rand(rows, candidates, len(PLACES), generator=generator, device=device).argsort(-1)[..., :MAX_OBJECTS]
    cell = _towards(cell, requests.relation, filled)
    middle = torch.stack([cell % 3, cell // 3], dim=-1) * 32 + 16  # [B, C, K, 2]
    jitter = torch.randint(-2, 3, (*shape, 2), generator=generator, device=device)
    jitter = torch.where((total > 2)[:, None, None, None], jitter.clamp(-1, 1), jitter) * SNAP  # no room for more
    half = (size // 2)[:, None, :, None]
    corner = (middle + jitter - half + SNAP // 2) // SNAP * SNAP
    corner = corner.clamp(min=0).minimum(IMAGE_SIZE - 2 * half)
    centre = corner + half

    apart = (centre[:, :, :, None] - centre[:, :, None]).abs().amax(-1)  # [B, C, K, K] largest axis distance
    reach = half + half.transpose(2, 3)  # [B, 1, K, K]
    pair = filled[:, :, None] & filled[:, None] & (slot[:, None] < slot)
    overlap = ((reach - apart).clamp(min=0) * pair[:, None]).amax((2, 3))  # [B, C]
    third = thirds(centre)
    same_cell = (third[:, :, :, None] == third[:, :, None]).all(-1) & pair[:, None]
    wrong = _relation_shortfall(centre, size, group, filled, requests.relation)
    cost, best = (overlap + _UNFIT * wrong + _UNFIT * same_cell.any(-1).any(-1)).min(1)

    chosen = corner[torch.arange(rows, device=device), best]
    background = torch.tensor(BACKGROUNDS, device=device)
    tone = torch.randint(len(BACKGROUNDS), (rows,), generator=generator, device=device)
    scenes = Scenes(
        label=torch.where(filled, requests.label.gather(1, group), -1),
        color=torch.where(filled, requests.color.gather(1, group), 0),
        size=torch.where(filled, size, SIZES[0]),
        corner=torch.where(filled[..., None], chosen, 0),
        background=background[tone],
    )
    return scenes, cost


def tones(scenes: Scenes) -> Tensor:
    """[B] index into BACKGROUNDS of each scene's ground."""
    known = torch.tensor(BACKGROUNDS, device=scenes.background.device)
    return (scenes.background[:, None] - known).square().sum(-1).argmin(1)


def _towards(cell: Tensor, relation: Tensor, filled: Tensor) -> Tensor:
    """Deal the cells of most candidates so that the first things lie furthest in the direction of the first relation.

    The others stay as they are: two relations may want the middle thing at the end.
    """
    sorted_ones = torch.arange(cell.shape[1], device=cell.device) % 4 > 0
    reach = torch.stack([cell % 3, cell // 3], dim=-1) * _direction(relation[:, 0])[:, None, None]  # [B, C, K, 2]
    key = reach.sum(-1) - 100 * ~filled[:, None]
    dealt = cell.gather(2, key.argsort(dim=2, descending=True, stable=True))
    return torch.where(sorted_ones[:, None], dealt, cell)


def _direction(relation: Tensor) -> Tensor:
    """[B] -> [B, 2]: the unit vector of a relation, zero for none."""
    return torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], device=relation.device)[relation]


def _relation_shortfall(centre: Tensor, size: Tensor, group: Tensor, filled: Tensor, relation: Tensor) -> Tensor:
    """[B, C] 1 where some pair (a thing of a group, a thing of the next) fails to show its relation plainly."""
    offset = (centre[:, :, :, None] - centre[:, :, None]).float()  # [B, C, K, K, 2] first minus second
    slack = 0.1 * (size[:, :, None] + size[:, None])[:, None, :, :, None]
    shrunk = offset.sign() * (offset.abs() - slack).clamp(min=0)
    toward = shrunk / offset.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    total = offset.abs().sum(-1)
    both = filled[:, :, None] & filled[:, None]
    failed = torch.zeros(centre.shape[:2], dtype=torch.bool, device=centre.device)
    for first in range(MAX_RELATIONS):
        direction = _direction(relation[:, first])[:, None, None, None]
        across = (offset * direction).sum(-1).abs()
        plain = ((toward * direction).sum(-1) > 0.6) & (across >= 1.35 * (total - across))  # [B, C, K, K]
        pair = (
            (group == first)[:, :, None]
            & (group == first + 1)[:, None]
            & both
            & (relation[:, first] > 0)[:, None, None]
        )
        failed |= (pair[:, None] & ~plain).any(-1).any(-1)
    return failed.float()


def clutter(count: int, classes: int, generator: torch.Generator, things: tuple[int, int] | Tensor) -> Scenes:
    """Unrelated things, half of them painted, mostly apart: dense pictures for the tokeniser and the detectors.

    Each scene has between `things[0]` and `things[1]` of them, or as many as the tensor `things` [count] says.
    """
    device = generator.device
    if isinstance(things, Tensor):
        total = things
    else:
        total = torch.randint(things[0], things[1] + 1, (count,), generator=generator, device=device)
    nothing = torch.zeros(count, MAX_GROUPS, dtype=torch.long, device=device)
    request = Requests(
        tag=nothing[:, 0],
        label=nothing,
        color=nothing,
        count=F.pad(total[:, None], (0, MAX_GROUPS - 1)),
        relation=nothing[:, :MAX_RELATIONS],
    )
    scenes = lay_out(request, generator, candidates=12)
    present = scenes.label >= 0
    label = torch.randint(classes, present.shape, generator=generator, device=device)
    paint = torch.randint(1, 1 + len(COLORS), present.shape, generator=generator, device=device)
    painted = torch.rand(present.shape, generator=generator, device=device) < 0.5
    return replace(scenes, label=torch.where(present, label, -1), color=paint * painted * present)
