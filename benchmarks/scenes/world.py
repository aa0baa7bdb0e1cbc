"""Scenes: what is asked for, where it goes, and its pixels, in batches of thousands on any device.

    requests = sample_requests(...)      what a prompt says: up to five groups of equal things, and their relations
    scenes = lay_out(requests, ...)      every thing gets a size and a corner
    images = Painter(sprites).render(scenes)

Every thing of a scene has its own cell of a 3 x 3 grid, so that a plan that names cells describes the scene fully.
Sizes and corners are multiples of 8 px: an image token covers 8 px, so a thing of one size is one pattern of tokens
wherever it stands.
Knows nothing about words beyond the indices of `concepts`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .concepts import COLORS, MAX_OBJECTS
from .sprites import Sprites

IMAGE_SIZE = 96
SNAP = 8
MAX_GROUPS = MAX_OBJECTS
MAX_RELATIONS = 2  # a chain: group 0 to group 1, group 1 to group 2
SIZES = (32, 40, 48, 56, 64)

# The mix of prompts: GenEval's six tags, weighted towards what is hard to learn (counts, places), then the harder forms
# of the benchmark `scenes`, then whatever else the groups, colours, counts and relations of a request can say. The
# value is the share of samples.
TAGS: dict[str, float] = {
    "single_object": 0.10,
    "two_object": 0.10,
    "counting": 0.14,
    "colors": 0.14,
    "position": 0.12,
    "color_attr": 0.13,
    "colored_count": 0.02,
    "colored_position": 0.03,
    "two_relations": 0.02,
    "three_objects": 0.02,
    "three_colored_objects": 0.02,
    "five_objects": 0.01,
    "knowledge": 0.05,
    "mixed": 0.10,
}
_GROUPS: dict[str, int] = {
    "two_object": 2,
    "position": 2,
    "color_attr": 2,
    "colored_position": 2,
    "two_relations": 3,
    "three_objects": 3,
    "three_colored_objects": 3,
    "five_objects": 5,
}  # others: one, but "mixed"
_COLORED = ("colors", "color_attr", "colored_count", "three_colored_objects")
_PARTLY_COLORED = ("colored_position", "mixed")


Arrays = dict[str, NDArray[Any]]


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

    def numpy(self) -> Arrays:
        """The same as arrays, to hand to another process."""
        return {field.name: getattr(self, field.name).cpu().numpy() for field in fields(self)}

    @classmethod
    def from_numpy(cls, arrays: Arrays) -> Self:
        return cls(**{name: torch.from_numpy(array) for name, array in arrays.items()})

    def to(self, device: str | torch.device) -> Self:
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Requests(_Rows):
    """What prompts ask for; an empty group has count 0."""

    tag: Tensor  # [B] index into TAGS
    label: Tensor  # [B, 5] index into the world's classes
    color: Tensor  # [B, 5] 0 is natural, else 1 + index into COLORS
    count: Tensor  # [B, 5] several are meant exactly: one more is wrong
    relation: Tensor  # [B, 2] index into RELATIONS: of group 0 to group 1, of group 1 to group 2

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
        column, row = thirds(self.corner + self.size.unsqueeze(-1) // 2).unbind(-1)
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

    groups = torch.tensor([_GROUPS.get(name, 1) for name in names], device=device)[tags]
    groups = torch.where(tagged("mixed"), integers(2, 4), groups)
    slot = torch.arange(MAX_GROUPS, device=device)
    present = slot < groups[:, None]
    size = present.long()
    # Five is rarer than two, three and four: GenEval does not ask for it.
    many = torch.tensor([2, 2, 3, 3, 3, 4, 4, 4, 4, 5], device=device)[integers(0, 10)]
    size[:, 0] = torch.where(tagged("counting", "colored_count"), many, size[:, 0])
    # A mixed request may have several of each of its things, as long as there is room for them.
    both = tagged("mixed") & (groups == 3) & (integers(0, 4) == 0)  # with two relations
    surplus = (torch.rand(count, generator=generator, device=device) * (MAX_OBJECTS - groups + 1)).long()
    for more in range(MAX_OBJECTS - 2):
        several = slot == (torch.rand(count, generator=generator, device=device) * groups).long()[:, None]
        size = size + several * (tagged("mixed") & ~both & (surplus > more))[:, None]
    label = torch.rand(count, classes, generator=generator, device=device).topk(min(MAX_GROUPS, classes), dim=1).indices
    # A first thing must have paint, or a partly painted request would be a plain one.
    some = integers(0, 2, MAX_GROUPS).scatter_(1, integers(0, 2, 1), 1)
    painted = present & (tagged(*_COLORED)[:, None] | (some > 0) & tagged(*_PARTLY_COLORED)[:, None])
    color = integers(1, 1 + len(COLORS), MAX_GROUPS) * painted
    related = tagged("position", "colored_position", "two_relations") | tagged("mixed") & (integers(0, 2) > 0) | both
    relation = integers(1, 5, MAX_RELATIONS) * torch.stack([related, tagged("two_relations") | both], dim=1)
    return Requests(tags, label, color, size, relation)


def thirds(centre: Tensor) -> Tensor:
    """0, 1 or 2 for a coordinate of a centre, with as many positions on either side of the middle."""
    return (centre >= 36).long() + (centre > 60).long()


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
