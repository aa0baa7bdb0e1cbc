"""The detector: reads and writes itself, and reports boxes in pixels of the picture it was given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from milr_rewards.detector import MAX_PER_CLASS, SCORE_FLOOR, DetectorConfig, Peaks, SceneDetector

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
