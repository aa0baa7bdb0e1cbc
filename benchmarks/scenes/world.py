"""Scenes: what is asked for, where it goes, and its pixels, in batches of thousands on any device.

    requests = sample_requests(...)      what a prompt says: up to three groups of equal things, and a relation
    scenes = lay_out(requests, ...)      every thing gets a size and a corner
    images = Painter(sprites).render(scenes)

Every thing of a scene has its own cell of a 3 x 3 grid, so that a plan that names cells describes the scene fully.
Sizes are multiples of 8 px and corners of 4 px: an image token covers 8 px, and few phases keep the tokens few.
Knows nothing about words beyond the indices of `concepts`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .concepts import COLORS, MAX_OBJECTS, PLACES
from .sprites import Sprites

IMAGE_SIZE = 96
SNAP = 4
MAX_GROUPS = 3
SIZES = (24, 32, 40, 48, 56, 64)
SIZES_BY_COUNT: dict[int, tuple[int, ...]] = {1: (48, 56, 64), 2: (32, 40, 48), 3: (32, 40), 4: (24, 32), 5: (24, 32)}
CANDIDATES = 32  # layouts drawn per scene, of which the best is kept
BACKGROUNDS = (
    (0.78, 0.78, 0.78), (0.70, 0.70, 0.70), (0.78, 0.76, 0.72), (0.70, 0.74, 0.78), (0.72, 0.77, 0.71),
    (0.76, 0.71, 0.75),
)  # fmt: skip

# The mix of prompts. GenEval's six tags, weighted towards what is hard to learn (counts, places), and a few forms
# that combine them. The value is the share of samples.
TAGS: dict[str, float] = {
    "single_object": 0.08,
    "two_object": 0.13,
    "counting": 0.24,
    "colors": 0.10,
    "position": 0.19,
    "color_attr": 0.14,
    "colored_count": 0.03,
    "colored_position": 0.03,
    "counted_position": 0.04,
    "three_objects": 0.02,
}
_TWO_GROUPS = ("two_object", "position", "color_attr", "colored_position", "counted_position")
_RELATED = ("position", "colored_position", "counted_position")
_COLORED = ("colors", "color_attr", "colored_count", "colored_position")
COUNTED_TAGS = ("counting", "colored_count", "counted_position")  # the count of group 0 is exact


def tag_index(*names: str, device: str | torch.device = "cpu") -> Tensor:
    """Indices of tags, as requests hold them."""
    return torch.tensor([list(TAGS).index(name) for name in names], device=device)


@dataclass(frozen=True)
class _Rows:
    """A dataclass of tensors that share their first dimension."""

    def __getitem__(self, rows: slice | Tensor) -> Self:
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def joined(self, other: Self) -> Self:
        """These rows, then those."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return replace(self, **{name: torch.cat(pair) for name, pair in pairs.items()})

    def to(self, device: str | torch.device) -> Self:
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Requests(_Rows):
    """What prompts ask for. Group 0 stands in relation to group 1; an empty group has count 0."""

    tag: Tensor  # [B] index into TAGS
    label: Tensor  # [B, 3] index into the world's classes
    color: Tensor  # [B, 3] 0 is natural, else 1 + index into COLORS
    count: Tensor  # [B, 3]
    relation: Tensor  # [B] index into RELATIONS

    def __len__(self) -> int:
        return len(self.tag)


@dataclass(frozen=True)
class Scenes(_Rows):
    """Things in pictures; a slot without a thing has label -1. Slots follow the order of the prompt."""

    label: Tensor  # [B, K]
    color: Tensor  # [B, K]
    size: Tensor  # [B, K] px
    corner: Tensor  # [B, K, 2] x, y in px
    background: Tensor  # [B, 3] RGB, 0 to 1

    def __len__(self) -> int:
        return len(self.label)

    def cells(self) -> Tensor:
        """[B, K] index into PLACES of the cell that holds each centre."""
        centre = self.corner + self.size.unsqueeze(-1) // 2
        column, row = (centre * 3 // IMAGE_SIZE).clamp(0, 2).unbind(-1)
        return 3 * row + column


def sample_requests(count: int, classes: int, generator: torch.Generator, tag: str | None = None) -> Requests:
    """Requests of the training mix, or of one tag."""
    device = generator.device
    names = list(TAGS)
    weights = torch.tensor([float(tag == name) if tag else TAGS[name] for name in names], device=device)
    tags = torch.multinomial(weights, count, replacement=True, generator=generator)

    def tagged(*wanted: str) -> Tensor:
        return torch.isin(tags, tag_index(*wanted, device=device))

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, (count, *shape), generator=generator, device=device)

    label = torch.rand(count, classes, generator=generator, device=device).topk(MAX_GROUPS, dim=1).indices
    color = integers(1, 1 + len(COLORS), MAX_GROUPS) * tagged(*_COLORED)[:, None]
    size = torch.zeros(count, MAX_GROUPS, dtype=torch.long, device=device)
    # Five is rarer than two, three and four: GenEval does not ask for it.
    many = torch.tensor([2, 2, 3, 3, 3, 4, 4, 4, 4, 5], device=device)[integers(0, 10)]
    size[:, 0] = torch.where(tagged("counting"), many, 1)
    size[:, 0] = torch.where(tagged("counted_position", "colored_count"), integers(2, 4), size[:, 0])
    size[:, 1] = tagged(*_TWO_GROUPS, "three_objects").long()
    size[:, 2] = tagged("three_objects").long()
    return Requests(tags, label, color * (size > 0), size, integers(1, 5) * tagged(*_RELATED))


def lay_out(requests: Requests, generator: torch.Generator, candidates: int = CANDIDATES) -> Scenes:
    """Give every thing a size and a corner: the best of some random layouts.

    Best means least overlap among those whose every pair shows the wanted relation plainly, by more than GenEval's
    rule needs. One in twenty scenes with a relation to several things has none such and keeps its least bad layout.
    """
    rows, device = len(requests), requests.label.device
    total = requests.count.sum(1)
    slot = torch.arange(MAX_OBJECTS, device=device)
    group = (slot[None, :, None] >= requests.count.cumsum(1)[:, None, :]).sum(-1)  # [B, K], 3 where empty
    filled = group < MAX_GROUPS
    group = group.clamp(max=MAX_GROUPS - 1)

    sizes = torch.full((MAX_OBJECTS + 1, 3), SIZES[0], device=device)
    for count, choices in SIZES_BY_COUNT.items():
        sizes[count] = torch.tensor([choices[index % len(choices)] for index in range(3)], device=device)
    pick = torch.randint(3, (rows, MAX_OBJECTS), generator=generator, device=device)
    size = sizes[total][:, None].expand(-1, MAX_OBJECTS, -1).gather(2, pick[..., None])[..., 0]  # [B, K]

    shape = (rows, candidates, MAX_OBJECTS)
    cell = torch.rand(rows, candidates, len(PLACES), generator=generator, device=device).argsort(-1)[..., :MAX_OBJECTS]
    cell = _towards(cell, requests.relation, filled)
    middle = torch.stack([cell % 3, cell // 3], dim=-1) * 32 + 16  # [B, C, K, 2]
    jitter = torch.randint(-2, 3, (*shape, 2), generator=generator, device=device) * SNAP
    half = (size // 2)[:, None, :, None]
    corner = (middle + jitter - half).clamp(min=0).minimum(IMAGE_SIZE - 2 * half) // SNAP * SNAP
    centre = corner + half

    apart = (centre[:, :, :, None] - centre[:, :, None]).abs().amax(-1)  # [B, C, K, K] largest axis distance
    reach = half + half.transpose(2, 3)  # [B, 1, K, K]
    pair = filled[:, :, None] & filled[:, None] & (slot[:, None] < slot)
    overlap = ((reach - apart).clamp(min=0) * pair[:, None]).amax((2, 3))  # [B, C]
    same_cell = ((centre // 32)[:, :, :, None] == (centre // 32)[:, :, None]).all(-1) & pair[:, None]
    wrong = _relation_shortfall(centre, size, group, filled, requests.relation)
    cost = overlap + 100.0 * wrong + 100.0 * same_cell.any(-1).any(-1)
    best = cost.argmin(1)

    chosen = corner[torch.arange(rows, device=device), best]
    background = torch.tensor(BACKGROUNDS, device=device)
    tone = torch.randint(len(BACKGROUNDS), (rows,), generator=generator, device=device)
    return Scenes(
        label=torch.where(filled, requests.label.gather(1, group), -1),
        color=torch.where(filled, requests.color.gather(1, group), 0),
        size=torch.where(filled, size, SIZES[0]),
        corner=torch.where(filled[..., None], chosen, 0),
        background=background[tone],
    )


def _towards(cell: Tensor, relation: Tensor, filled: Tensor) -> Tensor:
    """Deal the cells of each candidate so that the first things lie furthest in the direction of the relation."""
    reach = torch.stack([cell % 3, cell // 3], dim=-1) * _direction(relation)[:, None, None]  # [B, C, K, 2]
    key = reach.sum(-1) - 100 * ~filled[:, None]
    return cell.gather(2, key.argsort(dim=2, descending=True, stable=True))


def _direction(relation: Tensor) -> Tensor:
    """[B] -> [B, 2]: the unit vector of a relation, zero for none."""
    return torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], device=relation.device)[relation]


def _relation_shortfall(centre: Tensor, size: Tensor, group: Tensor, filled: Tensor, relation: Tensor) -> Tensor:
    """[B, C] 1 where some pair (a thing of group 0, a thing of group 1) fails to show the relation plainly."""
    offset = (centre[:, :, :, None] - centre[:, :, None]).float()  # [B, C, K, K, 2] first minus second
    slack = 0.1 * (size[:, :, None] + size[:, None])[:, None, :, :, None]
    shrunk = offset.sign() * (offset.abs() - slack).clamp(min=0)
    toward = shrunk / offset.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    direction = _direction(relation)
    shown = (toward * direction[:, None, None, None]).sum(-1)  # [B, C, K, K]
    across = (offset * direction[:, None, None, None]).sum(-1).abs()
    major = across >= 1.35 * (offset.abs().sum(-1) - across)
    pair = (group == 0)[:, :, None] & (group == 1)[:, None] & filled[:, :, None] & filled[:, None]
    failed = pair[:, None] & ~((shown > 0.6) & major)
    return failed.any(-1).any(-1).float() * (relation > 0)[:, None]


def clutter(count: int, classes: int, generator: torch.Generator, things: tuple[int, int]) -> Scenes:
    """Unrelated things, half of them painted, mostly apart: dense pictures for the tokeniser and the detectors.

    Each scene has between `things[0]` and `things[1]` of them.
    """
    device = generator.device
    total = torch.randint(things[0], things[1] + 1, (count, 1), generator=generator, device=device)
    request = Requests(
        tag=torch.zeros(count, dtype=torch.long, device=device),
        label=torch.zeros(count, MAX_GROUPS, dtype=torch.long, device=device),
        color=torch.zeros(count, MAX_GROUPS, dtype=torch.long, device=device),
        count=F.pad(total, (0, MAX_GROUPS - 1)),
        relation=torch.zeros(count, dtype=torch.long, device=device),
    )
    scenes = lay_out(request, generator, candidates=12)
    present = scenes.label >= 0
    label = torch.randint(classes, present.shape, generator=generator, device=device)
    paint = torch.randint(1, 1 + len(COLORS), present.shape, generator=generator, device=device)
    painted = torch.rand(present.shape, generator=generator, device=device) < 0.5
    return replace(scenes, label=torch.where(present, label, -1), color=paint * painted * present)


class Painter:
    """Renders scenes by looking every pixel up in an atlas of ready-made sizes."""

    def __init__(self, sprites: Sprites, device: str | torch.device) -> None:
        self.classes = sprites.classes
        self.variants = sprites.pixels.shape[1]
        natural = torch.from_numpy(sprites.pixels).to(device).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        color, alpha = natural[:, :3], natural[:, 3:]
        atlas: list[Tensor] = []
        starts: list[int] = []
        extents: list[Tensor] = []
        for size in SIZES:
            # Premultiplied, or the colour of clear pixels would bleed into the rim.
            small = F.interpolate(
                torch.cat([color * alpha, alpha], dim=1), (size, size), mode="bilinear", antialias=True
            )
            starts.append(sum(map(len, atlas)))
            extents.append(_extent(small[:: self.variants, 3]))
            atlas.append(small.permute(0, 2, 3, 1).reshape(-1, 4).half())
        self.atlas = torch.cat(atlas)  # [pixels of all sprites at all sizes, 4]
        self.starts = torch.tensor(starts, device=device)
        self.extents = torch.stack(extents)  # [sizes, classes, 4] x0, y0, x1, y1 as a share of the square

    def render(self, scenes: Scenes, visible: Tensor | None = None) -> Tensor:
        """Pictures [B, 3, 96, 96], values 0 to 1. `visible` [B, K, 4] shows only a part of each square (shares)."""
        device = self.atlas.device
        image = scenes.background[:, None, None, :].expand(-1, IMAGE_SIZE, IMAGE_SIZE, -1).to(self.atlas.dtype)
        axis = torch.arange(IMAGE_SIZE, device=device)
        for slot in range(scenes.label.shape[1]):
            size = scenes.size[:, slot, None]
            x = axis - scenes.corner[:, slot, 0, None]  # [B, 96]
            y = axis - scenes.corner[:, slot, 1, None]
            inside_x, inside_y = (x >= 0) & (x < size), (y >= 0) & (y < size)
            if visible is not None:
                part = visible[:, slot, :, None] * size[:, None]  # [B, 4, 1]
                inside_x = inside_x & (x >= part[:, 0]) & (x < part[:, 2])
                inside_y = inside_y & (y >= part[:, 1]) & (y < part[:, 3])
            label = scenes.label[:, slot]
            sprite = label.clamp(min=0) * self.variants + scenes.color[:, slot]
            first = self.starts[size[:, 0] // 8 - SIZES[0] // 8] + sprite * size[:, 0] ** 2
            index = first[:, None, None] + y[:, :, None] * size[:, :, None] + x[:, None, :]
            inside = inside_y[:, :, None] & inside_x[:, None, :] & (label >= 0)[:, None, None]
            texel = self.atlas[torch.where(inside, index, 0)] * inside[..., None]  # [B, 96, 96, 4]
            image = image * (1 - texel[..., 3:]) + texel[..., :3]
        return image.permute(0, 3, 1, 2).float().clamp(0, 1).contiguous()

    def boxes(self, scenes: Scenes) -> Tensor:
        """Tight boxes [B, K, 4] in px; of no meaning where a slot is empty."""
        extent = self.extents[scenes.size // 8 - SIZES[0] // 8, scenes.label.clamp(min=0)]
        return scenes.corner.repeat(1, 1, 2) + extent * scenes.size[..., None]


def _extent(alpha: Tensor) -> Tensor:
    """[N, s, s] -> [N, 4]: where the ink is, as shares of the square."""
    side = alpha.shape[-1]
    ink = alpha > 0.1
    sides = []
    for axis in (1, 2):  # columns (x), then rows (y)
        used = ink.any(axis).float()  # [N, s]
        sides.append((used.argmax(1), side - used.flip(1).argmax(1)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=1) / side
