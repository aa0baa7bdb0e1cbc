"""The world of scenes: layouts keep their promises, pictures show them, corruptions are false."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from milr_benchmarks.scenes.concepts import COLORS, MAX_OBJECTS, RELATIONS
from milr_benchmarks.scenes.corruptions import KINDS, corrupt
from milr_benchmarks.scenes.language import metadata
from milr_benchmarks.scenes.layout import BACKGROUNDS, clutter, lay_out, tones
from milr_benchmarks.scenes.sprites import FontMissingError, drawn_sprites, load_sprites, recolour
from milr_benchmarks.scenes.tokeniser import TOKENS_PER_SIDE
from milr_benchmarks.scenes.world import IMAGE_SIZE, SNAP, TAGS, Painter, Scenes, sample_requests
from milr_rewards.geneval_rule import grade
from milr_rewards.networks.detection import Detection


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(drawn_sprites(), "cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def true_objects(painter: Painter, scenes: Scenes, row: int) -> dict[str, list[Detection]]:
    """What a perfect detector would find."""
    objects: dict[str, list[Detection]] = {}
    names = list(COLORS)
    for label, color, box in zip(scenes.label[row], scenes.color[row], painter.boxes(scenes)[row], strict=True):
        if label >= 0:
            name = painter.classes[int(label)]
            shown = {names[int(color) - 1]: 1.0} if color else {}
            x0, y0, x1, y1 = box.tolist()
            objects.setdefault(name, []).append(Detection(name, 1.0, (x0, y0, x1, y1), shown))
    return objects


def holds(painter: Painter, scenes: Scenes, row: int, wanted: dict[str, object]) -> bool:
    def color_of(found: Detection, name: str) -> str:
        return next(iter(found.colors or {}), "")

    return grade(true_objects(painter, scenes, row), wanted, color_of).correct


@pytest.mark.parametrize("tag", TAGS)
def test_a_scene_shows_what_was_asked_for(painter: Painter, tag: str) -> None:
    requests = sample_requests(64, len(painter.classes), generator(), tag)
    scenes = lay_out(requests, generator(1), rounds=6)
    wanted = metadata(requests, painter.classes)
    assert all(holds(painter, scenes, row, wanted[row]) for row in range(64))


def test_a_mixed_request_says_something_of_every_kind(painter: Painter) -> None:
    requests = sample_requests(300, len(painter.classes), generator(), "mixed")
    assert (requests.count > 1).any(0)[:3].all()
    painted = (requests.color > 0).sum(1)
    named = (requests.count > 0).sum(1)
    assert ((painted > 0) & (painted < named)).any()
    assert (requests.relation[:, 0] > 0).any()
    assert (requests.relation[:, 0] == 0).any()


def test_a_mixed_request_may_count_several_of_its_things_but_has_never_more_than_five() -> None:
    count = sample_requests(1000, 80, generator(), "mixed").count
    assert set(count.sum(1).tolist()) == {2, 3, 4, MAX_OBJECTS}
    counted = {tuple(sorted(row)) for row in count.tolist()}
    assert {(0, 0, 0, 2, 2), (0, 0, 0, 2, 3), (0, 0, 1, 2, 2), (0, 0, 0, 1, 4), (0, 0, 1, 1, 3)} <= counted


def test_a_mixed_request_has_two_relations_only_among_three_single_things() -> None:
    requests = sample_requests(1000, 80, generator(), "mixed")
    chained = requests[requests.relation[:, 1] > 0]
    assert len(chained) > 50
    assert (chained.relation > 0).all()
    assert (chained.count == torch.tensor([1, 1, 1, 0, 0])).all()


def test_a_thing_of_one_size_covers_whole_image_tokens() -> None:
    scenes = lay_out(sample_requests(100, 80, generator()), generator(1))
    assert SNAP * TOKENS_PER_SIDE == IMAGE_SIZE
    assert (scenes.size % SNAP == 0).all()
    assert (scenes.corner % SNAP == 0).all()


def test_a_corrupted_request_is_false(painter: Painter) -> None:
    requests = sample_requests(300, len(painter.classes), generator())
    scenes = lay_out(requests, generator(1))
    wrong, kinds = corrupt(requests, len(painter.classes), generator(2))
    wanted = metadata(wrong, painter.classes)
    assert not any(holds(painter, scenes, row, wanted[row]) for row in range(300))
    assert set(kinds.tolist()) == set(range(len(KINDS)))


def test_things_have_cells_of_their_own_and_stay_inside() -> None:
    scenes = lay_out(sample_requests(500, 80, generator()), generator(1))
    for row in range(500):
        filled = scenes.label[row] >= 0
        cells = scenes.cells()[row][filled].tolist()
        assert len(set(cells)) == len(cells)
        assert (scenes.corner[row][filled] >= 0).all()
        assert (scenes.corner[row][filled] + scenes.size[row][filled, None] <= IMAGE_SIZE).all()


def test_the_same_seed_gives_the_same_pictures(painter: Painter) -> None:
    first, second = (
        painter.render(lay_out(sample_requests(8, len(painter.classes), generator(3)), generator(4))) for _ in range(2)
    )
    assert torch.equal(first, second)


def test_a_box_holds_all_the_ink_of_its_thing(painter: Painter) -> None:
    scenes = lay_out(sample_requests(50, len(painter.classes), generator(), "single_object"), generator(1))
    images = painter.render(scenes)
    bare = scenes.background[:, :, None, None].expand_as(images)
    for image, ground, box in zip(images, bare, painter.boxes(scenes)[:, 0], strict=True):
        rows, columns = torch.where((image - ground).abs().amax(0) > 0.1)
        x0, y0, x1, y1 = box.tolist()
        assert columns.min() >= x0 - 1
        assert columns.max() <= x1
        assert rows.min() >= y0 - 1
        assert rows.max() <= y1


def test_a_hidden_part_of_a_thing_is_not_drawn(painter: Painter) -> None:
    scenes = lay_out(sample_requests(4, len(painter.classes), generator(), "single_object"), generator(1))
    nothing = torch.zeros(4, MAX_OBJECTS, 4)
    assert torch.allclose(
        painter.render(scenes, nothing),
        scenes.background[:, :, None, None].expand(-1, -1, IMAGE_SIZE, IMAGE_SIZE),
        atol=1e-3,
    )


def test_clutter_has_as_many_things_as_it_says() -> None:
    count = (clutter(200, 80, generator(), (2, 4)).label >= 0).sum(1)
    assert count.min() == 2
    assert count.max() == 4


def test_the_tone_of_a_scene_is_that_of_its_ground() -> None:
    scenes = lay_out(sample_requests(100, 80, generator()), generator(1))
    assert torch.equal(torch.tensor(BACKGROUNDS)[tones(scenes)], scenes.background)
    assert set(tones(scenes).tolist()) == set(range(len(BACKGROUNDS)))


def test_the_tone_of_another_ground_is_the_nearest(painter: Painter) -> None:
    grounds = torch.tensor(BACKGROUNDS)
    scenes = clutter(len(grounds), len(painter.classes), generator(), (1, 1))
    scenes = replace(scenes, background=grounds + torch.tensor([0.02, -0.02, 0.02]))
    assert tones(scenes).tolist() == list(range(len(grounds)))


def test_paint_keeps_its_hue_on_dark_and_on_bright_sprites() -> None:
    for base in (30, 220):
        sprite = np.full((8, 8, 4), 255, dtype=np.uint8)
        sprite[..., :3] = base
        sprite[:4, :, :3] += 20
        red = recolour(sprite, COLORS["red"])[..., :3].reshape(-1, 3).astype(int)
        assert (red[:, 0] > 2 * red[:, 1]).all()
        assert recolour(sprite, COLORS["black"])[..., :3].max() < 100
        assert recolour(sprite, COLORS["white"])[..., :3].min() > 190


def test_a_missing_font_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(FontMissingError, match="fonts-noto-color-emoji"):
        load_sprites(tmp_path / "NotoColorEmoji.ttf")


def test_every_relation_has_a_name() -> None:
    requests = sample_requests(400, 80, generator(), "position")
    assert {RELATIONS[index] for index in requests.relation[:, 0].tolist()} == set(RELATIONS[1:])
