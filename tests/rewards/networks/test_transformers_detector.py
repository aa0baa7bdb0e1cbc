"""Detectors of transformers: what they report, against a plain reading of the model's output, and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    DetrForObjectDetection,
    Mask2FormerForUniversalSegmentation,
    MaskFormerForInstanceSegmentation,
    RTDetrForObjectDetection,
)

from milr.errors import UsageError
from milr_rewards.language.vocabulary import CLASSES
from milr_rewards.networks import transformers_detector
from milr_rewards.networks.detection import Detection
from milr_rewards.networks.transformers_detector import TransformersDetector, geneval_name
from tests.rewards import tiny_detectors

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "mask2former": tiny_detectors.tiny_mask2former_folder,
    "maskformer": tiny_detectors.tiny_maskformer_folder,
    "detr": tiny_detectors.tiny_detr_folder,
    "rt_detr": tiny_detectors.tiny_rt_detr_folder,
}
NAMES = ("computer mouse", "dog", "unicorn")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make(tmp_path_factory.mktemp(kind)) for kind, make in FOLDERS.items()}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def flat(found: dict[str, list[Detection]]) -> list[Detection]:
    return sorted((d for group in found.values() for d in group), key=lambda d: (-d.score, d.label))


def output_of(kind: Any, folder: Path, image: Image.Image, **options: Any) -> tuple[Any, tuple[int, int]]:
    """What the model itself says of one picture, and the size (height, width) that it saw."""
    inputs = AutoImageProcessor.from_pretrained(folder)(images=[image], return_tensors="pt", **options)
    with torch.inference_mode():
        return kind.from_pretrained(folder)(**inputs), inputs["pixel_values"].shape[-2:]


# Against a plain reading


@pytest.mark.parametrize(
    ("kind", "model"),
    [("mask2former", Mask2FormerForUniversalSegmentation), ("maskformer", MaskFormerForInstanceSegmentation)],
)
@pytest.mark.parametrize("edge", [None, 96])
def test_masks_are_read_pair_by_pair_as_mmdet_does(
    folders: dict[str, Path], kind: str, model: Any, edge: int | None
) -> None:
    image = picture(60, 40)
    size = {"size": {"shortest_edge": 96, "longest_edge": 160}} if edge else {}
    output, seen = output_of(model, folders[kind], image, **size)
    expected = []
    for query in range(6):
        logits = torch.nn.functional.interpolate(output.masks_queries_logits[:, [query]], seen, mode="bilinear")
        full = torch.nn.functional.interpolate(logits, (40, 60), mode="bilinear")[0, 0].double().numpy()
        mask = full > 0
        if not mask.any():
            continue
        certainty = (1 / (1 + np.exp(-full[mask]))).mean()
        (rows, columns), chances = np.nonzero(mask), output.class_queries_logits[0, query].double().softmax(-1)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        expected += [(float(chances[label] * certainty), name, box, mask) for label, name in enumerate(NAMES)]
    expected = sorted((one for one in expected if one[0] >= 0.05), key=lambda one: -one[0])
    found = flat(TransformersDetector("geneval", str(folders[kind]), shorter_edge=edge).detect([image])[0])
    assert len(found) == len(expected) > 6  # more than there are queries: each may be of several classes
    for detection, (score, name, box, mask) in zip(found, expected, strict=True):
        assert (detection.label, detection.box) == (name, box)
        assert detection.score == pytest.approx(score, rel=1e-4)
        assert detection.mask is not None
        assert (detection.mask == mask).all()


def test_detr_reads_the_best_class_of_each_query(folders: dict[str, Path]) -> None:
    image = picture(60, 40)
    output, _ = output_of(DetrForObjectDetection, folders["detr"], image)
    expected = []
    for logits, (x, y, width, height) in zip(output.logits[0], output.pred_boxes[0].tolist(), strict=True):
        score, label = logits.softmax(-1)[:-1].max(-1)
        box = [60 * (x - width / 2), 40 * (y - height / 2), 60 * (x + width / 2), 40 * (y + height / 2)]
        expected.append((float(score), [*NAMES, "N/A"][int(label)], box))
    found = flat(TransformersDetector("geneval", str(folders["detr"])).detect([image])[0])
    assert len(found) == 6
    for detection, (score, name, box) in zip(found, sorted(expected, key=lambda one: -one[0]), strict=True):
        assert (detection.label, detection.mask) == (name, None)
        assert detection.score == pytest.approx(score, rel=1e-4)
        assert detection.box == pytest.approx(box, abs=1e-3)


def test_rt_detr_reads_the_best_pairs_of_query_and_class(folders: dict[str, Path]) -> None:
    image = picture(60, 40)
    output, _ = output_of(RTDetrForObjectDetection, folders["rt_detr"], image)
    best = output.logits[0].sigmoid().flatten().sort(descending=True).values[:6].tolist()
    found = flat(TransformersDetector("geneval", str(folders["rt_detr"])).detect([image])[0])
    assert [detection.score for detection in found] == pytest.approx([score for score in best if score > 0.05])


# Batches


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_picture_is_seen_the_same_alone_and_among_others(folders: dict[str, Path], kind: str) -> None:
    detector = TransformersDetector("geneval", str(folders[kind]))
    images = [picture(60, 40), picture(32, 80), *(picture(60, 40, seed) for seed in range(1, 6))]
    together, alone = detector.detect(images), [detector.detect([image])[0] for image in images]
    for one, same in zip(together, alone, strict=True):
        scores = {name: [detection.score for detection in group] for name, group in same.items()}
        assert {name: [detection.score for detection in group] for name, group in one.items()} == {
            name: pytest.approx(group, abs=1e-5) for name, group in scores.items()
        }
    assert flat(together[0])[0].score != pytest.approx(flat(together[2])[0].score, abs=1e-5)


def test_no_pictures_show_nothing(folders: dict[str, Path]) -> None:
    assert TransformersDetector("geneval", str(folders["detr"])).detect([]) == []


def test_pictures_of_any_mode_are_seen(folders: dict[str, Path]) -> None:
    assert TransformersDetector("geneval", str(folders["detr"])).detect([picture(30, 30).convert("LA")])[0]


# What is left out


def test_each_class_keeps_its_best(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = TransformersDetector("geneval", str(folders["mask2former"]))
    everything = detector.detect([picture(60, 40)])[0]
    monkeypatch.setattr(transformers_detector, "LIMIT", 2)
    few = detector.detect([picture(60, 40)])[0]
    assert max(map(len, everything.values())) > 2
    for name, group in few.items():
        scores = [detection.score for detection in everything[name]]
        assert [detection.score for detection in group] == sorted(scores, reverse=True)[:2]


@pytest.mark.parametrize("kind", FOLDERS)
def test_unlikely_things_are_left_out(folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = TransformersDetector("geneval", str(folders[kind]))
    scores = [detection.score for detection in flat(detector.detect([picture(60, 40)])[0])]
    floor = (scores[1] + scores[2]) / 2
    monkeypatch.setattr(transformers_detector, "SCORE_FLOOR", floor)
    left = [detection.score for detection in flat(detector.detect([picture(60, 40)])[0])]
    assert left == [score for score in scores if score >= floor]


def test_an_empty_mask_is_no_object(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["mask2former"], tmp_path / "blind")
    weights = load_file(folder / "model.safetensors")
    blind = {name: value * 0 if "mask_embedder" in name else value for name, value in weights.items()}
    assert any("mask_embedder" in name for name in weights)
    save_file(blind, folder / "model.safetensors", metadata={"format": "pt"})
    assert TransformersDetector("geneval", str(folder)).detect([picture(60, 40)]) == [{}]


# Classes


def test_the_classes_are_those_of_the_checkpoint_in_the_words_of_geneval(folders: dict[str, Path]) -> None:
    assert TransformersDetector("geneval", str(folders["mask2former"])).classes == NAMES


def test_numbers_without_a_class_are_none(folders: dict[str, Path]) -> None:
    assert TransformersDetector("geneval", str(folders["detr"])).classes == NAMES


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("mouse", "computer mouse"),
        ("remote", "tv remote"),
        ("Keyboard", "computer keyboard"),
        ("tvmonitor", "tv"),
        ("traffic_light", "traffic light"),
        ("TV", "tv"),
        ("Door-Stuff", "Door-Stuff"),
    ],
)
def test_a_class_that_geneval_has_gets_its_name(label: str, name: str) -> None:
    assert geneval_name(label) == name


def test_names_of_geneval_stay() -> None:
    assert tuple(map(geneval_name, CLASSES)) == CLASSES


# Weights


def test_the_version_tells_weights_and_scales_apart(folders: dict[str, Path]) -> None:
    folder = str(folders["mask2former"])
    versions = [
        TransformersDetector("geneval", folder).version,
        TransformersDetector("geneval", folder, shorter_edge=96).version,
        TransformersDetector("geneval", str(folders["detr"])).version,
    ]
    assert len(set(versions)) == 3
    assert TransformersDetector("geneval", folder).version == versions[0]


def test_the_version_of_a_hub_names_its_revision() -> None:
    assert TransformersDetector("geneval", "nobody/nothing", revision="v1").version == "nobody/nothing@v1"


def test_weights_of_another_head_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["detr"], tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["DetrForSegmentation"]}))
    with pytest.raises(UsageError, match=r"is a DetrForSegmentation, and should be a Mask2Former") as refused:
        TransformersDetector("geneval", str(folder)).load()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_damaged_files_are_refused_in_one_line(folders: dict[str, Path], tmp_path: Path, damaged: str) -> None:
    folder = shutil.copytree(folders["mask2former"], tmp_path / "damaged")
    (folder / damaged).write_bytes((folder / damaged).read_bytes()[:40])
    with pytest.raises(UsageError, match="reward 'geneval' cannot load") as refused:
        TransformersDetector("geneval", str(folder)).load()
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--set reward\.geneval\.detector=OWNER/NAME"):
        TransformersDetector("geneval", "/no/such/folder").load()
