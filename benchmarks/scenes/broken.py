"""Broken things: hard negatives of which it is known, by construction, what a picture truly shows.

    broken = break_things(scenes, painter, generator)      cut, fused, merged, smeared, tinted and doubled things
    images = render_broken(painter, broken)
    broken.seen                                            what a careful eye finds: broken things have label -1
    mosaic = splice_tokens(painter, broken, encode, decode, generator)     the same in the space of image tokens

A picture that only hints at a thing should not pass, and a blob of two should not count as two. Up to two things of a
scene are broken, by help of two more slots that are painted last. A thing counts as whole when more than half of its
ink shows (0.55); where it is near that, `unsure` names it, and it is neither asked for nor forbidden.

A thing in two paints is whole, but of no colour: it is seen with colour 0 and marked `mixed`.
Knows nothing about detectors or prompts. Everything is batched, on the device of the scenes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .concepts import COLORS
from .world import IMAGE_SIZE, SIZES, Painter, Scenes, _Rows

KINDS = ("whole", "cut", "fused", "merged", "smeared", "tinted", "doubled")
WHOLE, CUT, FUSED, MERGED, SMEARED, TINTED, DOUBLED = range(len(KINDS))
OVERLAYS = 2  # slots added to a scene, hence how many of its things can be broken
COPIES = 7  # of a smeared thing, averaged
ENOUGH = 0.55  # share of its ink that a whole thing shows
_UNCLEAR = (0.4, 0.65)  # shares of ink at which people would disagree
_TOKEN = 8  # px
_REPLACED_BROKEN = 0.30  # of the tokens under a thing's ink
_REPLACED_WHOLE = 0.06
_HALF_PLANE = 0.4  # share of mosaics with one long seam; the others have a rectangle


@dataclass(frozen=True)
class Broken(_Rows):
    """What is painted, and what is truly there. Slots: the scene's own, then `OVERLAYS` more."""

    drawn: Scenes  # [B, S] as painted
    visible: Tensor  # [B, S, 4] part of each square that is painted, as shares
    smear: Tensor  # [B, OVERLAYS, COPIES, 2] px by which the copies of a smeared thing are moved
    host: Tensor  # [B, OVERLAYS] slot of the thing that an overlay was made for
    kind: Tensor  # [B, S] index into KINDS: what was done to the thing of this slot
    seen: Scenes  # [B, S] broken things have label -1, things in two paints have colour 0
    mixed: Tensor  # [B, S] seen, in two paints
    unsure: Tensor  # [B, S] label of a thing that is neither plainly there nor plainly not; else -1

    def __len__(self) -> int:
        return len(self.kind)

    def joined(self, other: Self) -> Self:
        """These rows, then those."""
        both: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            first, second = getattr(self, name), getattr(other, name)
            both[name] = first.joined(second) if isinstance(first, Scenes) else torch.cat([first, second])
        return replace(self, **both)


@dataclass(frozen=True)
class Mosaic:
    """Pictures decoded from tokens of several pictures, and what is truly in them."""

    images: Tensor  # [B, 3, 96, 96]
    seen: Scenes  # [B, 2 S] the things of the picture itself, then those of the picture it was spliced with
    mixed: Tensor  # [B, 2 S]
    unsure: Tensor  # [B, 2 S] as in `Broken`


def break_things(scenes: Scenes, painter: Painter, generator: torch.Generator, share: float = 0.5) -> Broken:
    """Break each of up to two things of every scene with probability `share`, in one of six ways."""
    rows, device = len(scenes), scenes.label.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((rows, *shape), generator=generator, device=device)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, (rows, *shape), generator=generator, device=device)

    host = (uniform(0, 1, scenes.label.shape[1]) + (scenes.label < 0)).argsort(1)[:, :OVERLAYS]  # things first
    label, color, size = (each.gather(1, host) for each in (scenes.label, scenes.color, scenes.size))
    corner = scenes.corner.gather(1, host[..., None].expand(-1, -1, 2))
    strikes = (uniform(0, 1, OVERLAYS) < share) & (label >= 0)
    kind = integers(1, len(KINDS), OVERLAYS) * strikes

    # Names and colours of what is painted on top.
    paints, classes = len(COLORS), len(painter.classes)
    first_paint = torch.where(color > 0, color, integers(1, 1 + paints, OVERLAYS))
    second_paint = (first_paint - 1 + integers(1, paints, OVERLAYS)) % paints + 1
    another = (label.clamp(min=0) + integers(1, max(2, classes), OVERLAYS)) % classes
    alike = uniform(0, 1, OVERLAYS) < 0.5
    top_label = torch.where((kind == FUSED) | (kind == MERGED) & ~alike, another, label)
    any_color = torch.where(uniform(0, 1, OVERLAYS) < 0.5, color, integers(0, 1 + paints, OVERLAYS))
    top_color = torch.where((kind == FUSED) | (kind == MERGED), any_color, color)
    top_color = torch.where(kind == TINTED, second_paint, top_color)
    top_label = torch.where((kind == WHOLE) | (kind == CUT), -1, top_label)

    # A merged or doubled thing lies a little beside the one it covers, inside the picture.
    reach = torch.where(kind == DOUBLED, uniform(0.08, 0.2, OVERLAYS), uniform(0.1, 0.35, OVERLAYS))
    angle = uniform(0, 2 * torch.pi, OVERLAYS)
    step = torch.stack([angle.cos(), angle.sin()], dim=-1) * (reach * size)[..., None]
    step = step.round().long() * ((kind == MERGED) | (kind == DOUBLED))[..., None]
    room = (IMAGE_SIZE - size)[..., None]
    fits = (corner + step >= 0) & (corner + step <= room)
    top_corner = torch.where(fits, corner + step, corner - step).clamp(min=0).minimum(room)

    ink = _ink(painter)
    way = integers(0, 4, OVERLAYS)
    keep = torch.where(kind == CUT, uniform(0.25, 0.5, OVERLAYS), uniform(0.4, 0.5, OVERLAYS))
    everything = torch.tensor([0.0, 0.0, 1.0, 1.0], device=device)
    own_part = _part(ink, label, way, keep)
    rest = _rest(own_part, way)  # of the same thing, in another paint
    other_half = _part(ink, top_label, way ^ 1, keep)
    halved = ((kind == CUT) | (kind == FUSED) | (kind == TINTED))[..., None]
    bottom_part = torch.where(halved, own_part, everything)
    top_part = torch.where((kind == FUSED)[..., None], other_half, everything)
    top_part = torch.where((kind == TINTED)[..., None], rest, top_part)

    bottom = replace(
        scenes,
        label=scenes.label.scatter(1, host, torch.where(kind == SMEARED, -1, label)),
        color=scenes.color.scatter(1, host, torch.where(kind == TINTED, first_paint, color)),
    )
    visible = everything.expand(*scenes.label.shape, 4).clone()
    visible.scatter_(1, host[..., None].expand(-1, -1, 4), bottom_part)
    top = Scenes(top_label, top_color * (top_label >= 0), size, top_corner, scenes.background)
    drawn = _beside(bottom, top)
    done = torch.where(kind == SMEARED, WHOLE, kind)
    on_top = torch.where((kind == MERGED) | (kind == DOUBLED) | (kind == CUT), WHOLE, kind)
    everywhere = torch.cat([torch.zeros_like(scenes.label).scatter(1, host, done), on_top], dim=1)
    smear = _smear(size, uniform) * (kind == SMEARED)[..., None, None]
    visible = torch.cat([visible, top_part], dim=1)
    unjudged = Broken(drawn, visible, smear, host, everywhere, drawn, drawn.label < 0, drawn.label)
    return _judged(painter, ink, unjudged)


def render_broken(painter: Painter, broken: Broken) -> Tensor:
    """Pictures [B, 3, 96, 96], values 0 to 1; a whole thing has the pixels that `Painter.render` gives it."""
    drawn = broken.drawn
    first_overlay = drawn.label.shape[1] - OVERLAYS
    image = drawn.background[:, None, None, :].expand(-1, IMAGE_SIZE, IMAGE_SIZE, -1).to(painter.atlas.dtype)
    for slot in range(drawn.label.shape[1]):
        texel = _layer(painter, drawn, slot, broken.visible)
        if slot >= first_overlay:
            rows = (broken.kind[:, slot] == SMEARED).nonzero()[:, 0]  # few: copies are dear
            texel[rows] = _smeared_layer(painter, broken[rows], slot, slot - first_overlay)
        image = image * (1 - texel[..., 3:]) + texel[..., :3]
    return image.permute(0, 3, 1, 2).float().clamp(0, 1).contiguous()


def splice_tokens(
    painter: Painter,
    broken: Broken,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> Mosaic:
    """Each picture with a region of tokens of the next one, and some of a thing's tokens replaced by stray ones.

    That is how a model that draws tokens fails. `encode` gives tokens [B, 144], `decode` pictures.
    """
    rows, device = len(broken), broken.kind.device
    side = IMAGE_SIZE // _TOKEN
    own = encode(render_broken(painter, broken)).view(rows, side, side)
    other = own.roll(1, 0)
    ink = shown_ink(painter, broken)  # [B, S, 12, 12]
    under = ink > 0.02

    region = _regions(rows, side, generator)
    # One thing of half of the pictures loses from few to nearly all of its tokens to strays.
    present = broken.drawn.label >= 0
    target = (torch.rand(present.shape, generator=generator, device=device) + present).argmax(1)
    rate = torch.rand(rows, 1, 1, generator=generator, device=device).mul(2).sub(1).clamp(min=0)
    struck = torch.rand(region.shape, generator=generator, device=device) < rate
    struck &= under[torch.arange(rows, device=device), target] & ~region
    pool = own[under.any(1)] if under.any() else own.flatten()
    stray = pool[torch.randint(len(pool), own.shape, generator=generator, device=device)]
    tokens = torch.where(struck, stray, torch.where(region, other, own))

    def lost(shown: Tensor, original: Tensor) -> Tensor:
        """[B, S] share of a thing's ink whose token is another one now."""
        changed = (tokens != original)[:, None]
        return (shown * changed).sum((2, 3)) / shown.sum((2, 3)).clamp(min=1e-6)

    def graded(version: Broken, gone: Tensor) -> tuple[Tensor, Tensor]:
        """Labels of what is still seen, and of what is unclear."""
        unclear = (gone > _REPLACED_WHOLE) & (gone < _REPLACED_BROKEN)
        label = torch.where(gone <= _REPLACED_WHOLE, version.seen.label, -1)
        doubt = torch.where(unclear, version.seen.label, torch.where(gone < _REPLACED_BROKEN, version.unsure, -1))
        return label, doubt

    order = torch.arange(rows, device=device).roll(1)  # as `other`
    guest = broken[order]
    own_label, own_doubt = graded(broken, lost(ink, own))
    guest_label, guest_doubt = graded(guest, lost(ink[order], other))
    seen = _beside(replace(broken.seen, label=own_label), replace(guest.seen, label=guest_label))
    mixed = torch.cat([broken.mixed, guest.mixed], dim=1) & (seen.label >= 0)
    return Mosaic(decode(tokens.flatten(1)), seen, mixed, torch.cat([own_doubt, guest_doubt], dim=1))


def shown_ink(painter: Painter, broken: Broken) -> Tensor:
    """[B, S, 12, 12] how much of each token's square is ink of the slot's thing that nothing covers, 0 to 1.

    A thing in two paints has all its ink in the slot where it is seen.
    """
    free: Tensor | float = 1.0
    ink = []
    for slot in reversed(range(broken.kind.shape[1])):
        alpha = _layer(painter, broken.drawn, slot, broken.visible, alpha_only=True)[..., 0].float()
        ink.append(F.avg_pool2d((alpha * free)[:, None], _TOKEN)[:, 0])
        free = free * (1 - alpha)
    shown = torch.stack(ink[::-1], dim=1)
    second = shown * _second_paint(broken.kind)[..., None, None]
    moved = second[:, -OVERLAYS:]
    return (shown - second).scatter_add(1, broken.host[..., None, None].expand_as(moved), moved)


def _second_paint(kind: Tensor) -> Tensor:
    """[B, S] true for the second half of a thing in two paints: it is no thing of its own."""
    return (kind == TINTED) & (torch.arange(kind.shape[1], device=kind.device) >= kind.shape[1] - OVERLAYS)


def _judged(painter: Painter, ink: _Ink, broken: Broken) -> Broken:
    """With what is seen, from how much of each thing shows."""
    drawn, kind = broken.drawn, broken.kind
    whole = ink.mass[drawn.label.clamp(min=0)] * drawn.size**2 / _TOKEN**2
    shown = shown_ink(painter, broken).sum((2, 3)) / whole  # [B, S]
    ruined = (kind == CUT) | (kind == FUSED) | (kind == SMEARED) | _second_paint(kind)
    seen = (drawn.label >= 0) & ~ruined & (shown >= ENOUGH)
    mixed = seen & (kind == TINTED)
    unclear = (drawn.label >= 0) & ~ruined & (shown > _UNCLEAR[0]) & (shown < _UNCLEAR[1])
    truth = replace(drawn, label=torch.where(seen, drawn.label, -1), color=torch.where(seen & ~mixed, drawn.color, 0))
    return replace(broken, seen=truth, mixed=mixed, unsure=torch.where(unclear, drawn.label, -1))


class _Ink(NamedTuple):
    """Where the ink of each class lies in its square."""

    left: Tensor  # [classes, 64] share of the ink up to a column, that column with it
    top: Tensor  # [classes, 64] the same for rows
    mass: Tensor  # [classes] share of the square that is ink


def _ink(painter: Painter) -> _Ink:
    side = SIZES[-1]
    alpha = painter.atlas[int(painter.starts[-1]) :, 3].view(-1, side, side)[:: painter.variants].float()
    total = alpha.sum((1, 2))
    left, top = (alpha.sum(axis).cumsum(1) / total[:, None] for axis in (1, 2))
    return _Ink(left, top, total / side**2)


def _part(ink: _Ink, label: Tensor, way: Tensor, keep: Tensor) -> Tensor:
    """[..., 4] a part of the square with at most `keep` of the ink. Ways: left, right, top, bottom."""
    running = torch.where((way < 2)[..., None], ink.left[label.clamp(min=0)], ink.top[label.clamp(min=0)])
    side = running.shape[-1]
    low = (running <= keep[..., None]).sum(-1) / side  # ends before the ink that would be too much
    high = ((running < 1 - keep[..., None]).sum(-1) + 1) / side
    return _beyond(torch.where(way % 2 == 0, low, high), way)


def _rest(part: Tensor, way: Tensor) -> Tensor:
    """The other part of the square."""
    edges = torch.stack([part[..., 2], part[..., 0], part[..., 3], part[..., 1]], dim=-1)
    return _beyond(edges.gather(-1, way[..., None])[..., 0], way ^ 1)


def _beyond(edge: Tensor, way: Tensor) -> Tensor:
    """The part of a square on one side of an edge."""
    zero, one = torch.zeros_like(edge), torch.ones_like(edge)
    return torch.stack(
        [
            torch.where(way == 1, edge, zero),
            torch.where(way == 3, edge, zero),
            torch.where(way == 0, edge, one),
            torch.where(way == 2, edge, one),
        ],
        dim=-1,
    )


def _smear(size: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
    """[B, OVERLAYS, COPIES, 2] moves of the copies: half of them along a line, half in all directions."""
    reach = uniform(0.16, 0.35, OVERLAYS) * size
    angle = uniform(0, 2 * torch.pi, OVERLAYS, 1)
    along = torch.linspace(-1, 1, COPIES, device=size.device)
    line = torch.stack([angle.cos() * along, angle.sin() * along], dim=-1)
    cloud = uniform(-1, 1, OVERLAYS, COPIES, 2)
    move = torch.where(uniform(0, 1, OVERLAYS, 1, 1) < 0.5, line, cloud)
    return (move * reach[..., None, None]).round().long()


def _layer(
    painter: Painter, scenes: Scenes, slot: int, visible: Tensor, move: Tensor | None = None, alpha_only: bool = False
) -> Tensor:
    """[B, 96, 96, 4] one slot alone, colours multiplied by alpha; or its alpha [B, 96, 96, 1]."""
    corner, size = scenes.corner[:, slot], scenes.size[:, slot, None]
    corner = corner if move is None else corner + move
    axis = torch.arange(IMAGE_SIZE, device=size.device)
    x, y = axis - corner[:, 0, None], axis - corner[:, 1, None]  # [B, 96]
    part = (visible[:, slot] * size)[..., None]  # [B, 4, 1]
    inside_x = (x >= part[:, 0]) & (x < part[:, 2])
    inside_y = (y >= part[:, 1]) & (y < part[:, 3])
    label = scenes.label[:, slot]
    sprite = label.clamp(min=0) * painter.variants + scenes.color[:, slot]
    first = painter.starts[size[:, 0] // 8 - SIZES[0] // 8] + sprite * size[:, 0] ** 2
    index = first[:, None, None] + y[:, :, None] * size[:, :, None] + x[:, None, :]
    inside = inside_y[:, :, None] & inside_x[:, None, :] & (label >= 0)[:, None, None]
    atlas = painter.atlas[:, 3:] if alpha_only else painter.atlas
    return atlas[torch.where(inside, index, 0)] * inside[..., None]


def _smeared_layer(painter: Painter, broken: Broken, slot: int, overlay: int) -> Tensor:
    """[B, 96, 96, 4] copies of a thing averaged, then blurred a little."""
    copies = [
        _layer(painter, broken.drawn, slot, broken.visible, broken.smear[:, overlay, copy]).float()
        for copy in range(COPIES)
    ]
    mean = torch.stack(copies).mean(0).permute(0, 3, 1, 2)
    return F.avg_pool2d(mean, 5, 1, 2).permute(0, 2, 3, 1).to(painter.atlas.dtype)


def _beside(first: Scenes, second: Scenes) -> Scenes:
    """The slots of both, on the ground of the first."""
    label, color, size, corner = (
        torch.cat([getattr(first, name), getattr(second, name)], dim=1) for name in ("label", "color", "size", "corner")
    )
    return Scenes(label, color, size, corner, first.background)


def _regions(rows: int, side: int, generator: torch.Generator) -> Tensor:
    """[B, 12, 12] true where the tokens of another picture go: a rectangle or a half plane."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand((rows, *shape), generator=generator, device=generator.device)

    axis = torch.arange(side, device=generator.device)
    extent = (2 + uniform(2) * (side - 4)).long()  # [B, 2]
    start = (uniform(2) * (side - extent + 1)).long()
    inside = (axis >= start[..., None]) & (axis < (start + extent)[..., None])  # [B, 2, 12]
    rectangle = inside[:, 1, :, None] & inside[:, 0, None, :]
    angle = 2 * torch.pi * uniform(1, 1)
    across = (axis - side / 2 + 0.5) * angle.cos() + ((axis - side / 2 + 0.5) * angle.sin()).transpose(1, 2)
    plane = across > (uniform(1, 1) - 0.5) * side * 0.7
    return torch.where(uniform(1, 1) < _HALF_PLANE, plane, rectangle)
