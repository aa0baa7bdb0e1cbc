"""What makes tokens belong to the thing or to the ground: pairs of pictures, twins in them, codes for tones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from milr_benchmarks.scenes import tokeniser
from milr_benchmarks.scenes.detectors import DETECTOR_COLORS
from milr_benchmarks.scenes.layout import BACKGROUNDS, clutter
from milr_benchmarks.scenes.recipe import TOY
from milr_benchmarks.scenes.sprites import Sprites, drawn_sprites
from milr_benchmarks.scenes.tokeniser import (
    _FAINT,
    _GROUND,
    _TWINS,
    TOKENS_PER_SIDE,
    _common,
    _differences,
    _elsewhere,
    _likenesses,
    _pairs,
    steadiness,
    train_tokeniser,
)
from milr_benchmarks.scenes.world import IMAGE_SIZE, SNAP, Painter, Scenes
from milr_rewards.networks.scene_detector import DetectorConfig, SceneDetector

TOKENS = TOKENS_PER_SIDE**2  # of a picture
TONES = torch.tensor(BACKGROUNDS)
THING = len(BACKGROUNDS)  # in place of a tone
ROUNDING = 2e-3  # of pixels in half precision


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(drawn_sprites(), "cpu")


@pytest.fixture(scope="module")
def opaque() -> Painter:
    """Of squares without clear pixels, no patch of which is like another."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 11, 64, 64, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    return Painter(Sprites(tuple("abcdefgh"), pixels), "cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def patches(images: Tensor) -> Tensor:
    """[B, 3, 96, 96] -> [B * 144, 3, 64]: what each token covers."""
    return F.unfold(images, SNAP, stride=SNAP).transpose(1, 2).flatten(0, 1).view(-1, 3, SNAP**2)


def not_their_own(twins: Tensor) -> Tensor:
    return twins != torch.arange(len(twins))


def pair(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> Scenes:
    """Two pictures, on the first and the second tone, of the same things of 32 px at these corners."""
    return Scenes(
        label=torch.arange(len(first)).repeat(2, 1),
        color=torch.zeros(2, len(first), dtype=torch.long),
        size=torch.full((2, len(first)), 32),
        corner=torch.tensor([first, second]),
        background=TONES[:2],
    )


def cell(column: int, row: int) -> int:
    return row * TOKENS_PER_SIDE + column


def test_the_second_picture_of_a_pair_shows_the_first_thing_elsewhere() -> None:
    first = clutter(200, 18, generator(), (1, 5))
    second = _elsewhere(first, 18, generator(1))
    for name in ("label", "color", "size"):
        assert torch.equal(getattr(first, name)[:, 0], getattr(second, name)[:, 0])
    assert torch.equal((first.label >= 0).sum(1), (second.label >= 0).sum(1))
    assert (second.corner % SNAP == 0).all()
    assert (second.corner >= 0).all()
    assert (second.corner + second.size[..., None] <= IMAGE_SIZE).all()
    assert (first.corner[:, 0] != second.corner[:, 0]).any(1).float().mean() > 0.8
    assert (first.background != second.background).any(1).float().mean() > 0.7


def test_making_the_second_picture_leaves_the_first_as_it_is() -> None:
    first = clutter(8, 18, generator(), (1, 5))
    before = replace(first, label=first.label.clone(), corner=first.corner.clone(), size=first.size.clone())
    _elsewhere(first, 18, generator(1))
    assert torch.equal(first.label, before.label)
    assert torch.equal(first.corner, before.corner)
    assert torch.equal(first.size, before.size)


def test_a_twin_has_the_same_ink_over_the_ground_of_its_own_picture(painter: Painter) -> None:
    first = clutter(64, len(painter.classes), generator(), (1, 5))
    scenes = first.joined(_elsewhere(first, len(painter.classes), generator(1)))
    images = painter.render(scenes)
    twins, _ = _likenesses(scenes, images)
    alone = replace(scenes, label=torch.where(torch.arange(5) == 0, scenes.label, -1))
    ink, light = (
        patches(painter.render(replace(alone, background=torch.full_like(alone.background, tone)))) for tone in (0, 1)
    )
    ground = scenes.background.repeat_interleave(TOKENS, 0)[..., None]
    expected = ink[twins] + (light - ink)[twins] * ground
    moved = not_their_own(twins)
    assert moved.sum() > 64 * 4
    assert torch.allclose(patches(images)[moved], expected[moved], atol=ROUNDING)


def test_a_moved_thing_has_the_tokens_of_its_first_place(opaque: Painter) -> None:
    scenes = pair([(0, 0)], [(16, 8)])
    twins, _ = _likenesses(scenes, opaque.render(scenes))
    expected = torch.arange(2 * TOKENS)
    for column in range(4):
        for row in range(4):
            expected[TOKENS + cell(column + 2, row + 1)] = cell(column, row)
    assert twins.tolist() == expected.tolist()


def test_what_another_thing_touches_in_either_picture_has_no_twin(opaque: Painter) -> None:
    # In the first picture the lower half of the thing is touched, in the second its right half.
    scenes = pair([(40, 40), (40, 56)], [(0, 0), (16, 0)])
    twins, _ = _likenesses(scenes, opaque.render(scenes))
    found = {int(token) - TOKENS: int(twins[token]) for token in not_their_own(twins).nonzero()[:, 0]}
    assert found == {cell(column, row): cell(column + 5, row + 5) for column in (0, 1) for row in (0, 1)}


def test_twins_of_several_pairs_stay_in_their_pair(opaque: Painter) -> None:
    one, other = pair([(0, 0)], [(8, 0)]), pair([(64, 64)], [(64, 56)])
    scenes = one[:1].joined(other[:1]).joined(one[1:]).joined(other[1:])
    twins, _ = _likenesses(scenes, opaque.render(scenes))
    picture = twins[not_their_own(twins)] // TOKENS
    assert picture.tolist() == [0] * 16 + [1] * 16


def test_bare_patches_are_flat_and_have_the_colour_of_their_tone(painter: Painter) -> None:
    images, _, ground = next(_pairs(painter, 8, generator()))
    shown, bare = patches(images), ground < THING
    assert (shown[bare] - TONES[ground[bare], :, None]).abs().max() < _FAINT
    assert 0.3 < bare.float().mean() < 0.9


def test_every_other_patch_has_ink(painter: Painter) -> None:
    images, _, ground = next(_pairs(painter, 8, generator()))
    tone = ground.view(-1, TOKENS).amin(1).repeat_interleave(TOKENS)  # of each patch's picture
    ink = (patches(images) - TONES[tone, :, None]).abs().amax((1, 2))
    assert (ink[ground == THING] >= _FAINT).all()


def test_ground_inside_the_square_of_a_thing_is_ground(painter: Painter) -> None:
    bat = painter.classes.index("baseball bat")
    scenes = replace(pair([(0, 0)], [(32, 32)]), label=torch.tensor([[bat], [bat]]))
    twins, ground = _likenesses(scenes, painter.render(scenes))
    inside = [TOKENS + cell(column, row) for column in range(4, 8) for row in range(4, 8)]
    assert {int(tone) for tone in ground[inside]} == {1, THING}
    assert torch.equal(not_their_own(twins)[inside], ground[inside] == THING)


def test_a_batch_holds_first_pictures_then_second_ones(opaque: Painter) -> None:
    pairs = _pairs(opaque, 8, generator())
    batches = [next(pairs) for _ in range(3)]
    for images, twins, ground in batches:
        assert images.shape == (16, 3, IMAGE_SIZE, IMAGE_SIZE)
        assert twins.shape == ground.shape == (16 * TOKENS,)
        moved = not_their_own(twins)
        assert not moved[: 8 * TOKENS].any()
        assert torch.equal(twins[moved] // TOKENS + 8, moved.nonzero()[:, 0] // TOKENS)
        assert len(set((twins[moved] // TOKENS).tolist())) > 4
        assert torch.equal(patches(images)[twins], patches(images))
    assert not torch.equal(batches[0][0], batches[1][0])


def test_common_latents_are_those_of_twins_and_the_codes_of_tones() -> None:
    latents, codebook = torch.randn(2, 8, 12, 12, generator=generator()), torch.randn(16, 8, generator=generator(1))
    twins = torch.arange(2 * TOKENS)
    ground = torch.full_like(twins, THING)
    twins[TOKENS + cell(5, 6)] = cell(2, 1)
    ground[cell(0, 3)], ground[TOKENS + cell(7, 0)] = 4, 2
    expected = latents.clone()
    expected[1, :, 6, 5] = latents[0, :, 1, 2]
    expected[0, :, 3, 0] = codebook[4]
    expected[1, :, 0, 7] = codebook[2]
    assert torch.equal(_common(latents, twins, ground, codebook), expected)


def test_common_latents_teach_the_twin_and_not_the_codebook() -> None:
    latents, codebook = torch.zeros(2, 8, 12, 12, requires_grad=True), torch.zeros(16, 8, requires_grad=True)
    twins = torch.arange(2 * TOKENS)
    ground = torch.full_like(twins, THING)
    twins[TOKENS], ground[1] = 0, 3
    _common(latents, twins, ground, codebook).sum().backward()
    taught = latents.grad[:, 0].flatten(1)
    assert taught[:, :3].tolist() == [[2, 0, 1], [0, 1, 1]]
    assert codebook.grad is None


def test_differences_are_means_over_twins_that_differ_and_over_ground() -> None:
    latents = torch.zeros(2, 8, 12, 12)
    common = latents.clone()
    common[1, :2, 6, 5] = torch.tensor([1.0, 2.0])  # things: 5 and 9
    common[1, 7, 6, 6] = -3
    common[0, 3, 0, 0] = 4  # ground: 16 and 0
    ground = torch.full((2 * TOKENS,), THING)
    ground[:2] = torch.tensor([0, 5])
    found = _differences(latents, common, ground)
    assert {name: value.item() for name, value in found.items()} == {
        "twins": pytest.approx(_TWINS * (5 + 9) / 2),
        "ground": pytest.approx(_GROUND * (16 + 0) / 2),
    }


@pytest.mark.parametrize("tone", [0, THING])
def test_pictures_without_twins_or_without_ground_differ_in_nothing(tone: int) -> None:
    latents = torch.ones(2, 8, 12, 12)
    found = _differences(latents, latents.clone(), torch.full((2 * TOKENS,), tone))
    assert [value.item() for value in found.values()] == [0, 0]


def ideal_tokens(images: Tensor) -> Tensor:
    """[B, 144] the tone of bare patches, a number of its own for every other kind of patch."""
    shown = patches(images)
    far = (shown[:, None] - TONES[..., None]).abs().amax((2, 3))  # [B * 144, tones]
    kinds = shown.flatten(1).unique(dim=0, return_inverse=True)[1]
    return torch.where(far.amin(1) < _FAINT, far.argmin(1), THING + kinds).view(-1, TOKENS)


def thing_tokens_of_pictures(images: Tensor) -> Tensor:
    """Right for ground, but things have other tokens in every picture."""
    ideal = ideal_tokens(images)
    return torch.where(ideal < THING, ideal, ideal + 10**6 * torch.arange(len(images))[:, None])


def one_token(images: Tensor) -> Tensor:
    return torch.full((len(images), TOKENS), THING)


@pytest.mark.parametrize(
    ("tokens", "things", "ground"), [(ideal_tokens, 1, 1), (thing_tokens_of_pictures, 0, 1), (one_token, 1, 0)]
)
def test_steadiness_tells_things_and_ground_apart(
    opaque: Painter, monkeypatch: pytest.MonkeyPatch, tokens: Callable[[Tensor], Tensor], things: float, ground: float
) -> None:
    monkeypatch.setattr(tokeniser, "_STEADY", 8)
    monkeypatch.setattr(tokeniser, "encode", lambda model, images: tokens(images))
    assert steadiness(None, opaque, generator()) == (things, ground)


def test_training_keeps_the_first_codes_apart_for_tones(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokeniser, "_RESTART_EVERY", 2)
    features = SceneDetector(DetectorConfig(painter.classes, DETECTOR_COLORS, width=8)).eval().requires_grad_(False)
    schedule, warm_steps = TOY.tokeniser, TOY.tokeniser_warm_steps
    model = train_tokeniser(TOY.vq_config(), painter, features, schedule, generator(), warm_steps)
    codebook = model.quantize.embedding.weight
    assert torch.allclose(codebook[:THING], torch.eye(THING, codebook.shape[1]), atol=1e-5)
    assert torch.allclose(codebook.norm(dim=-1), torch.ones(len(codebook)))
    assert (codebook[THING:, :THING] < 0.999).all()
