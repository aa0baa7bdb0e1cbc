"""Broken things: a picture shows what its labels say, and nothing that they deny."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from milr_benchmarks.scenes.broken import (
    CUT,
    DOUBLED,
    FUSED,
    KINDS,
    MERGED,
    OVERLAYS,
    SMEARED,
    TINTED,
    Broken,
    break_things,
    render_broken,
    splice_tokens,
)
from milr_benchmarks.scenes.layout import clutter
from milr_benchmarks.scenes.sprites import drawn_sprites
from milr_benchmarks.scenes.world import IMAGE_SIZE, Painter, Scenes

TOKEN = 8


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(drawn_sprites(), "cpu")


@pytest.fixture(scope="module")
def single(painter: Painter) -> Broken:
    """Pictures of one thing, always broken."""
    random = torch.Generator().manual_seed(3)
    return break_things(clutter(120, len(painter.classes), random, (1, 1)), painter, random, share=1.0)


def of_kind(broken: Broken, kind: int) -> Broken:
    return broken[(broken.kind == kind).any(1)]


def alone(painter: Painter, scenes: Scenes, slot: int) -> tuple[Tensor, Tensor]:
    """Pictures of one slot on its ground, and where its ink is, wholly: [B, 96, 96]."""
    only = Scenes(
        *(getattr(scenes, name)[:, slot, None] for name in ("label", "color", "size", "corner")), scenes.background
    )
    images = painter.render(only)
    dark, light = (
        painter.render(Scenes(only.label, only.color, only.size, only.corner, torch.full_like(scenes.background, tone)))
        for tone in (0.0, 1.0)
    )
    return images, (dark - light).abs().amax(1) < 0.01


def share_shown(painter: Painter, broken: Broken, images: Tensor, scenes: Scenes, slot: int) -> Tensor:
    """[B] share of a thing's solid pixels that the pictures show."""
    expected, solid = alone(painter, scenes, slot)
    same = ((images - expected).abs().amax(1) < 0.01) & solid
    return same.sum((1, 2)) / solid.sum((1, 2)).clamp(min=1)


def test_unbroken_scenes_are_drawn_as_ever_pixel_for_pixel(painter: Painter) -> None:
    random = torch.Generator().manual_seed(0)
    scenes = clutter(12, len(painter.classes), random, (1, 5))
    broken = break_things(scenes, painter, random, share=0.0)
    assert torch.equal(render_broken(painter, broken), painter.render(scenes))
    assert (broken.kind == 0).all()
    assert not broken.mixed.any()


def test_every_kind_occurs(single: Broken) -> None:
    assert set(single.kind.unique().tolist()) == set(range(len(KINDS)))


def test_a_thing_that_is_seen_shows_most_of_its_ink(painter: Painter) -> None:
    random = torch.Generator().manual_seed(5)
    broken = break_things(clutter(16, len(painter.classes), random, (2, 5)), painter, random, share=1.0)
    images = render_broken(painter, broken)
    for slot in range(broken.kind.shape[1]):
        shown = share_shown(painter, broken, images, broken.drawn, slot)
        certain = (broken.seen.label[:, slot] >= 0) & ~broken.mixed[:, slot] & (broken.unsure[:, slot] < 0)
        assert (shown[certain] > 0.55).all()


def test_a_cut_thing_shows_no_more_than_half_of_its_ink(painter: Painter, single: Broken) -> None:
    cut = of_kind(single, CUT)
    shown = share_shown(painter, cut, render_broken(painter, cut), cut.drawn, 0)
    assert (shown < 0.56).all()
    assert (shown > 0.1).all()
    assert (cut.seen.label < 0).all()


def test_fused_things_differ_and_neither_is_seen(painter: Painter, single: Broken) -> None:
    fused = of_kind(single, FUSED)
    first, second = (fused.drawn.label[fused.kind == FUSED].view(-1, 2)).unbind(1)
    assert (first != second).all()
    assert (fused.seen.label < 0).all()


@pytest.mark.parametrize("kind", [MERGED, DOUBLED])
def test_a_covered_thing_does_not_count(painter: Painter, single: Broken, kind: int) -> None:
    pair = of_kind(single, kind)
    shown = share_shown(painter, pair, render_broken(painter, pair), pair.drawn, 0)
    counted = (pair.seen.label[:, 0] >= 0) & (pair.unsure[:, 0] < 0)
    assert (shown[counted] > 0.5).all()
    assert (pair.seen.label[:, 0] < 0).float().mean() > 0.3
    assert (pair.seen.label[:, -OVERLAYS:] >= 0).sum(1).eq(1).all()


def test_a_smeared_thing_is_not_seen_and_not_whole(painter: Painter, single: Broken) -> None:
    smeared = of_kind(single, SMEARED)
    images = render_broken(painter, smeared)
    for slot in range(smeared.kind.shape[1] - OVERLAYS, smeared.kind.shape[1]):
        rows = smeared.kind[:, slot] == SMEARED
        assert (share_shown(painter, smeared, images, smeared.drawn, slot)[rows] < 0.5).all()
    assert (smeared.seen.label < 0).all()


def test_a_thing_in_two_paints_is_seen_once_in_no_color(painter: Painter, single: Broken) -> None:
    tinted = of_kind(single, TINTED)
    assert (tinted.seen.label >= 0).sum(1).eq(1).all()
    assert (tinted.seen.color == 0).all()
    assert torch.equal(tinted.mixed, tinted.seen.label >= 0)
    paints = tinted.drawn.color[tinted.kind == TINTED].view(-1, 2)
    assert (paints > 0).all()
    assert (paints[:, 0] != paints[:, 1]).all()
    whole = painter.render(tinted.drawn[torch.arange(len(tinted))])
    assert (render_broken(painter, tinted) - whole).abs().amax((1, 2, 3)).gt(0.05).all()


def test_broken_pictures_can_be_picked_joined_and_drawn_later(painter: Painter, single: Broken) -> None:
    images = render_broken(painter, single[:8])
    again = single[2:8].joined(single[:2]).to("cpu")
    assert len(again) == 8
    assert torch.equal(render_broken(painter, again), images.roll(-2, 0))


class PatchTokeniser:
    """Loses nothing: a token is a patch that it has seen."""

    def encode(self, images: Tensor) -> Tensor:
        patches = images.unfold(2, TOKEN, TOKEN).unfold(3, TOKEN, TOKEN).permute(0, 2, 3, 1, 4, 5)
        self.patches, tokens = patches.flatten(0, 2).unique(dim=0, return_inverse=True)
        return tokens.view(len(images), -1)

    def decode(self, tokens: Tensor) -> Tensor:
        side = IMAGE_SIZE // TOKEN
        patches = self.patches[tokens].view(len(tokens), side, side, 3, TOKEN, TOKEN)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), 3, IMAGE_SIZE, IMAGE_SIZE)


def test_splicing_tokens_keeps_and_breaks_what_it_says(painter: Painter) -> None:
    random = torch.Generator().manual_seed(8)
    broken = break_things(clutter(40, len(painter.classes), random, (1, 2)), painter, random, share=0.0)
    perfect = PatchTokeniser()
    mosaic = splice_tokens(painter, broken, perfect.encode, perfect.decode, random)
    slots = broken.kind.shape[1]
    whole = lost = 0
    for slot in (0, 1, slots, slots + 1):
        source = broken.drawn if slot < slots else broken.drawn[torch.arange(40).roll(1)]
        # A thing keeps the ground that it was drawn on, so only its solid pixels are compared.
        shown = share_shown(painter, broken, mosaic.images, source, slot % slots)
        here = source.label[:, slot % slots] >= 0
        seen = mosaic.seen.label[:, slot] >= 0
        sure = here & ~seen & (mosaic.unsure[:, slot] < 0)
        assert (shown[seen] > 0.8).all()
        assert (shown[sure] < 0.85).all()
        whole, lost = whole + int(seen.sum()), lost + int(sure.sum())
    assert whole > 20
    assert lost > 20
