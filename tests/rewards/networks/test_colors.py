"""Colours of objects: what of a picture is looked at, which colours are asked for, and what CLIP makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from milr.errors import UnknownNameError
from milr_rewards.language.vocabulary import COLORS
from milr_rewards.networks import open_clip_models
from milr_rewards.networks.colors import ColorNamer, crop
from milr_rewards.networks.detection import Box, Detection
from tests.rewards.tiny_detectors import tiny_color_clip_folder

NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
PICTURE = Image.fromarray(NOISE)
CROPS = [Image.new("RGB", (20, 30), color) for color in ("red", "blue", "white")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_color_clip_folder(tmp_path_factory.mktemp("clip"))


def seen(box: Any, mask: Any = None, picture: Image.Image = PICTURE) -> Any:
    return np.asarray(crop(picture, Detection("dog", 1.0, box, mask=mask)))


# What is looked at


def test_what_lies_outside_the_mask_is_grey() -> None:
    mask = np.zeros((30, 40), bool)
    mask[5:9, 10:12] = True
    looked_at = seen((9, 5, 13, 9), mask)
    assert (looked_at[:, 1:3] == NOISE[5:9, 10:12]).all()
    assert (looked_at[:, [0, 3]] == 0x99).all()


def test_without_a_mask_the_box_is_looked_at_as_it_is() -> None:
    assert (seen((3, 4, 20, 25)) == NOISE[4:25, 3:20]).all()


def test_corners_are_rounded_as_pillow_rounds_them() -> None:
    box = (3.5, 4.4, 20.5, 24.6)
    assert (seen(box) == np.asarray(PICTURE.crop(box))).all()


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    assert (seen((-9.0, -3.0, 55.0, 12.0)) == NOISE[:12]).all()


@pytest.mark.parametrize(
    ("box", "pixel"),
    [((7, 7, 7, 7), (7, 7)), ((9, 7, 3, 2), (7, 9)), ((40, 30, 40, 30), (29, 39)), ((-9, -9, -5, -5), (0, 0))],
)
def test_a_box_without_area_shows_one_pixel(box: Box, pixel: tuple[int, int]) -> None:
    assert (seen(box) == NOISE[pixel]).all()
    assert seen(box).shape == (1, 1, 3)


def test_a_picture_of_any_mode_is_looked_at_in_colour() -> None:
    assert seen((0, 0, 5, 5), picture=PICTURE.convert("LA")).shape == (5, 5, 3)


# What CLIP makes of it


def test_probabilities_are_those_of_the_mean_of_three_sentences(folder: Path) -> None:
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    means = []
    with torch.inference_mode():
        for color in COLORS:
            texts = [f"a photo of a {color} tv", f"a photo of a {color}-colored tv", f"a photo of a {color} object"]
            vectors = [vector / vector.norm() for vector in model.encode_text(tokenizer(texts))]
            mean = (vectors[0] + vectors[1] + vectors[2]) / 3
            means.append(mean / mean.norm())
        pictures = model.encode_image(torch.stack([preprocess(image) for image in CROPS]))
        logits = 100 * (pictures / pictures.norm(dim=-1, keepdim=True)) @ torch.stack(means).T
    for found, expected in zip(
        ColorNamer("geneval", str(folder)).probabilities(CROPS, ["tv"] * 3), logits, strict=True
    ):
        assert list(found) == list(COLORS)
        assert list(found.values()) == pytest.approx(expected.softmax(0).tolist(), abs=1e-4)
        assert len({round(share, 6) for share in found.values()}) > 3


def test_each_crop_is_compared_with_its_own_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip_models, "BATCH", 2)
    namer = ColorNamer("geneval", str(folder))
    together = namer.probabilities([*CROPS, CROPS[0]], ["dog", "cat", "dog", "cat"])
    for found, image, name in zip(together, [*CROPS, CROPS[0]], ["dog", "cat", "dog", "cat"], strict=True):
        assert found == pytest.approx(namer.probabilities([image], [name])[0], abs=1e-4)
    assert together[0] != pytest.approx(together[3], abs=1e-4)


def test_nothing_has_no_colours(folder: Path) -> None:
    assert ColorNamer("geneval", str(folder)).probabilities([], []) == []


# Which colours are asked for


def test_only_what_a_clause_asks_about_gets_colours(folder: Path) -> None:
    found = [
        {name: [Detection(name, 0.9, (0, 0, 9, 9))] * 3 for name in ("dog", "cat")},
        {"dog": [Detection("dog", 0.9, (9, 9, 30, 30))]},
    ]
    asked = [
        {"include": [{"class": "dog", "count": 1, "color": "red"}, {"class": "cat", "count": 2}]},
        {"include": [{"class": "dog", "count": 1, "color": "red"}, {"class": "dog", "count": 2, "color": "blue"}]},
    ]
    ColorNamer("geneval", str(folder)).paint([PICTURE, PICTURE], found, asked)
    assert [bool(dog.colors) for dog in found[0]["dog"]] == [True, False, False]
    assert not any(cat.colors for cat in found[0]["cat"])
    (dog,) = found[1]["dog"]
    expected = ColorNamer("geneval", str(folder)).probabilities([crop(PICTURE, dog)], ["dog"])[0]
    assert dog.colors == pytest.approx(expected, abs=1e-5)


def test_a_picture_without_the_class_has_nothing_to_name(folder: Path) -> None:
    found: list[dict[str, list[Detection]]] = [{}]
    ColorNamer("geneval", str(folder)).paint(
        [PICTURE], found, [{"include": [{"class": "dog", "count": 1, "color": "red"}]}]
    )
    assert found == [{}]


def test_an_unknown_model_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"'ViT-L14'\. Did you mean 'ViT-L-14'\?"):
        ColorNamer("geneval", "ViT-L14")
