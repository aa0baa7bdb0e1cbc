"""The detector: reads and writes itself, reports boxes in pixels of the picture it was given, learns what is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from milr_benchmarks.scenes.calibration import agreement, broken_figures, calibration_figures, fresh_pictures
from milr_benchmarks.scenes.detectors import (
    DETECTOR_COLORS,
    Diet,
    Sample,
    detection_losses,
    draw_sample,
    train_detector,
)
from milr_benchmarks.scenes.sprites import drawn_sprites
from milr_benchmarks.scenes.training import Schedule
from milr_benchmarks.scenes.world import Painter, Scenes
from milr_rewards.networks.scene_detector import (
    MAX_PER_CLASS,
    SCORE_FLOOR,
    DetectorConfig,
    DetectorOutput,
    Peaks,
    SceneDetector,
)

CONFIG = DetectorConfig(classes=("dog", "cat"), colors=("red", "blue"), width=8)


def peaks_of(*found: tuple[float, int, tuple[float, float, float, float], float]) -> Peaks:
    scores, labels, boxes, reds = zip(*found, strict=True)
    colors = torch.tensor([[[red, 1 - red] for red in reds]])
    return Peaks(torch.tensor([scores]), torch.tensor([labels]), torch.tensor([boxes]), colors)


def test_a_saved_detector_finds_the_same_after_loading(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = SceneDetector(CONFIG).eval()
    detector.half().float().save(tmp_path)
    loaded = SceneDetector.load(tmp_path)
    images = torch.rand(2, 3, 96, 96)
    assert torch.allclose(detector(images).heat, loaded(images).heat, atol=1e-4)
    assert loaded.version == SceneDetector.load(tmp_path).version != "untrained"


def test_boxes_are_in_pixels_of_the_given_picture() -> None:
    named = SceneDetector(CONFIG).name_peaks(peaks_of((0.9, 1, (0.25, 0.5, 0.75, 1.0), 0.8)), [(200, 100)])
    (cat,) = named[0]["cat"]
    assert cat.box == (50, 50, 150, 100)
    assert cat.colors == pytest.approx({"red": 0.8, "blue": 0.2})


def test_weak_detections_are_dropped_and_classes_are_capped() -> None:
    box = (0.0, 0.0, 0.5, 0.5)
    many = [(0.9, 0, box, 0.5)] * (MAX_PER_CLASS + 3) + [(SCORE_FLOOR / 2, 1, box, 0.5)]
    named = SceneDetector(CONFIG).name_peaks(peaks_of(*many), [(96, 96)])
    assert len(named[0]["dog"]) == MAX_PER_CLASS
    assert "cat" not in named[0]


def test_any_kind_of_picture_is_accepted() -> None:
    detector = SceneDetector(CONFIG).eval()
    pictures = [Image.new(mode, (40, 70)) for mode in ("L", "RGBA", "P", "RGB")]
    assert len(detector.detect(pictures)) == 4


def test_no_pictures_give_no_detections() -> None:
    assert SceneDetector(CONFIG).eval().detect([]) == []


def test_a_folder_without_a_detector_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        SceneDetector.load(tmp_path)


def test_weights_without_a_config_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="config"):
        SceneDetector.load(tmp_path)


@pytest.mark.parametrize("context", ["pyramid", "dilated", "attention"])
def test_every_context_gives_maps_of_stride_four(context: Literal["pyramid", "dilated", "attention"]) -> None:
    detector = SceneDetector(replace(CONFIG, context=context)).eval()
    assert detector(torch.rand(2, 3, 96, 96)).heat.shape == (2, 2, 24, 24)


def test_the_detector_with_attention_sees_all_of_the_picture_from_everywhere() -> None:
    detector = SceneDetector(replace(CONFIG, context="attention")).eval()
    image = torch.rand(1, 3, 96, 96, requires_grad=True)
    detector(image).heat[0, :, 0, 0].sum().backward()
    assert image.grad is not None
    assert image.grad[0, :, -8:, -8:].abs().sum() > 0


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(drawn_sprites(), "cpu")


def one_thing(label: int, unsure: int) -> Sample:
    box = torch.tensor([[[24.0, 24.0, 72.0, 72.0]]])
    return Sample(
        torch.zeros(1, 3, 96, 96), *(torch.tensor([[value]]) for value in (label, 0)), box, torch.tensor([[unsure]])
    )


def heat_loss(sample: Sample, label: int) -> float:
    """With a strong peak of a class at the centre of the thing."""
    heat = torch.full((1, 2, 24, 24), -8.0)
    heat[0, label, 12, 12] = 4.0
    half = torch.full((1, 2, 24, 24), 0.5)
    return detection_losses(DetectorOutput(heat, half, half, torch.zeros(1, 11, 24, 24)), sample)["heat"].item()


def test_an_unsure_thing_may_be_found_and_a_broken_one_may_not() -> None:
    assert heat_loss(one_thing(label=-1, unsure=1), label=1) < 0.01
    assert heat_loss(one_thing(label=-1, unsure=1), label=0) > 1
    assert heat_loss(one_thing(label=-1, unsure=-1), label=1) > 1
    assert heat_loss(one_thing(label=1, unsure=-1), label=1) < 0.01


def test_a_sample_has_every_thing_in_its_own_color_or_mixed(painter: Painter) -> None:
    sample = draw_sample(painter, 32, torch.Generator().manual_seed(0), Diet(broken=1.0))
    assert sample.images.shape == (32, 3, 96, 96)
    assert sample.color.max() == len(DETECTOR_COLORS)
    assert ((sample.label >= 0) & (sample.unsure >= 0) & (sample.label != sample.unsure)).sum() == 0


def test_a_detector_without_the_mixed_color_is_not_trained(painter: Painter) -> None:
    with pytest.raises(ValueError, match="mixed"):
        train_detector("d", SceneDetector(CONFIG), painter, Schedule(1, 2, 1e-3), torch.Generator(), Diet())


def test_training_lowers_the_loss_and_freezes_the_detector(painter: Painter) -> None:
    torch.manual_seed(0)
    detector = SceneDetector(DetectorConfig(painter.classes, DETECTOR_COLORS, width=8))
    sample = draw_sample(painter, 16, torch.Generator().manual_seed(1), Diet())
    before = sum(detection_losses(detector(sample.images), sample).values()).item()
    train_detector("d", detector, painter, Schedule(12, 4, 4e-3, warmup=2), torch.Generator().manual_seed(2), Diet())
    after = sum(detection_losses(detector.train()(sample.images), sample).values()).item()
    assert after < before
    assert not any(parameter.requires_grad for parameter in detector.parameters())


def oracle(painter: Painter, scenes: Scenes) -> SceneDetector:
    """A detector that finds what it is told is there, in the order of the pictures."""
    score = (scenes.label >= 0).float()
    order = score.argsort(stable=True, dim=1, descending=True)
    box = (painter.boxes(scenes) / 96).gather(1, order[..., None].expand(-1, -1, 4))
    color = torch.nn.functional.one_hot((scenes.color - 1).clamp(min=0), len(DETECTOR_COLORS)).float()
    color = color.gather(1, order[..., None].expand_as(color))
    return finding(painter, Peaks(score.gather(1, order), scenes.label.clamp(min=0).gather(1, order), box, color))


def finding(painter: Painter, peaks: Peaks) -> SceneDetector:
    detector = SceneDetector(DetectorConfig(painter.classes, DETECTOR_COLORS, width=8))
    detector.find = lambda images, limit=32: peaks
    return detector


def test_a_perfect_detector_is_calibrated(painter: Painter) -> None:
    broken, images = fresh_pictures(painter, 40, 5, share=0.0)
    figures = calibration_figures(oracle(painter, broken.seen), painter, broken, images)
    assert figures["score error"] == 0
    assert figures["color error"] == 0


def test_who_sees_what_was_drawn_accepts_broken_things_and_who_sees_what_is_there_does_not(painter: Painter) -> None:
    broken, images = fresh_pictures(painter, 120, 5)
    careful, gullible = (
        broken_figures(oracle(painter, scenes), painter, broken, images) for scenes in (broken.seen, broken.drawn)
    )
    for kind in ("cut", "fused", "smeared", "merged", "doubled"):
        assert careful[f"{kind} accepted"] == 0
        assert gullible[f"{kind} accepted"] > 0.9
    assert careful["refused"] == careful["refused on top of another"] == 0


def test_agreement_is_the_share_of_equal_verdicts(painter: Painter) -> None:
    rows = [{"tag": "single_object", "include": [{"class": painter.classes[0], "count": 1}]}] * 4
    box = torch.tensor([0.2, 0.2, 0.6, 0.6]).expand(4, 1, 4)
    detectors: dict[str, SceneDetector] = {}
    for name, scores in (("a", [1.0, 1.0, 0.0, 0.0]), ("b", [1.0, 0.0, 0.0, 0.0])):
        color = torch.zeros(4, 1, len(DETECTOR_COLORS))
        peaks = Peaks(torch.tensor(scores)[:, None], torch.zeros(4, 1, dtype=torch.long), box, color)
        detectors[name] = finding(painter, peaks)
    assert agreement(detectors, torch.zeros(4, 3, 96, 96), rows) == {"a = b": 0.75, "all": 0.75}
