"""Detectors of any name: real GroundingDINO and OWLv2 with random weights, name by name. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from milr.errors import PromptError, UsageError
from milr_rewards.networks import open_vocabulary
from milr_rewards.networks.detection import Detection, overlap
from milr_rewards.networks.open_vocabulary import OpenVocabularyDetector, write
from tests.rewards.tiny_compbench import PICTURES, tiny_dpt_folder, tiny_grounding_dino_folder, tiny_owl_folder

NAMES = [["cat", "coat rack"], ["dog"], ["coat rack", "vase", "cat"], []]


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_grounding_dino_folder(tmp_path_factory.mktemp("grounding-dino"))


@pytest.fixture(scope="session")
def owl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_owl_folder(tmp_path_factory.mktemp("owl"))


@pytest.fixture(params=["dino_folder", "owl_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.getfixturevalue(request.param)
    return chosen


def plain(detections: list[Detection]) -> list[float]:
    return [number for detection in detections for number in (detection.score, *detection.box)]


def test_every_picture_gets_the_names_it_was_asked_for(folder: Path) -> None:
    found = OpenVocabularyDetector("spatial", str(folder), threshold=0.0).detect(PICTURES, NAMES)
    assert [list(each) for each in found] == NAMES
    assert all(detection.label == name for each in found for name in each for detection in each[name])
    assert all(each[name] for each in found for name in each)


def test_batches_of_any_size_and_mixed_pictures_find_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = OpenVocabularyDetector("spatial", str(folder), threshold=0.0)
    together = detector.detect(PICTURES, NAMES)
    monkeypatch.setattr(open_vocabulary, "BATCH", 1)
    for alone, whole in zip(detector.detect(PICTURES, NAMES), together, strict=True):
        for name, detections in whole.items():
            assert plain(alone[name]) == pytest.approx(plain(detections), abs=1e-4)


def test_detections_fall_in_score_lie_within_the_picture_and_count_once(folder: Path) -> None:
    found = OpenVocabularyDetector("spatial", str(folder), threshold=0.2).detect(PICTURES, NAMES)
    for picture, each in zip(PICTURES, found, strict=True):
        for detections in each.values():
            scores = [detection.score for detection in detections]
            assert scores == sorted(scores, reverse=True)
            assert all(0.2 < score <= 1 for score in scores)
            for place, detection in enumerate(detections):
                left, top, right, bottom = detection.box
                assert 0 <= left < right <= picture.width
                assert 0 <= top < bottom <= picture.height
                assert all(overlap(detection.box, other.box) <= 0.5 for other in detections[:place])


def test_a_name_scores_the_mean_over_its_own_tokens(dino_folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(dino_folder)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(dino_folder).eval()
    inputs = processor(images=PICTURES[0], text="cat. coat rack.", return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    words = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    assert words == ["[CLS]", "cat", ".", "coat", "rack", ".", "[SEP]"]
    scores = output.logits[0].sigmoid()
    expected = {"cat": scores[:, 1], "coat rack": (scores[:, 3] + scores[:, 4]) / 2}
    [found] = OpenVocabularyDetector("spatial", str(dino_folder), threshold=0.0).detect(PICTURES[:1], NAMES[:1])
    for name, values in expected.items():
        surest = int(values.argmax())
        across, down, width, height = output.pred_boxes[0, surest].tolist()
        assert found[name][0].score == pytest.approx(values[surest].item(), abs=1e-5)
        left, top, *_ = found[name][0].box
        assert left == pytest.approx(max(0.0, 40 * (across - width / 2)), abs=1e-3)
        assert top == pytest.approx(max(0.0, 40 * (down - height / 2)), abs=1e-3)


def test_owl_scores_each_name_as_a_query_of_its_own(owl_folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(owl_folder)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(owl_folder).eval()
    inputs = processor(images=PICTURES[2], text=[["a photo of a cat"]], return_tensors="pt", truncation=True)
    with torch.inference_mode():
        output = model(**inputs)
    [expected] = processor.post_process_grounded_object_detection(output, threshold=0.0, target_sizes=[(40, 60)])
    [found] = OpenVocabularyDetector("spatial", str(owl_folder), threshold=0.0).detect(PICTURES[2:3], [["dog", "cat"]])
    visible = (expected["boxes"][:, :2] < torch.tensor([60, 40])).all(-1)
    surest = int((expected["scores"] * visible).argmax())
    assert found["cat"][0].score == pytest.approx(expected["scores"][surest].item(), abs=1e-5)
    box = [
        min(max(0.0, x), limit) for x, limit in zip(expected["boxes"][surest].tolist(), (60, 40, 60, 40), strict=True)
    ]
    assert found["cat"][0].box == pytest.approx(box, abs=1e-3)


def test_a_name_is_asked_for_once(dino_folder: Path) -> None:
    detector = OpenVocabularyDetector("spatial", str(dino_folder), threshold=0.0)
    [twice] = detector.detect(PICTURES[:1], [["cat", "cat"]])
    [once] = detector.detect(PICTURES[:1], [["cat"]])
    assert twice == once


def test_pictures_of_any_mode_are_searched(folder: Path) -> None:
    gray = [PICTURES[0].convert("L"), PICTURES[1].convert("RGBA")]
    assert len(OpenVocabularyDetector("spatial", str(folder)).detect(gray, NAMES[:2])) == 2


def test_nothing_is_loaded_where_nothing_is_asked() -> None:
    assert OpenVocabularyDetector("spatial", "no/where").detect([], []) == []
    assert OpenVocabularyDetector("spatial", "no/where").detect(PICTURES[:1], [[]]) == [{}]


def test_the_text_says_where_each_name_stands() -> None:
    assert write(["Cat", "coat  rack", "mr. dog"]) == ("cat. coat rack. mr dog.", [(0, 3), (5, 14), (16, 22)])


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(PromptError, match=r"'\. ' is the name of nothing"):
        write(["cat", ". "])


def test_more_names_than_the_text_holds_are_refused(dino_folder: Path) -> None:
    with pytest.raises(UsageError, match="140 names are too many"):
        OpenVocabularyDetector("spatial", str(dino_folder)).detect(PICTURES[:1], [[f"cat{i}" for i in range(140)]])


def test_the_version_changes_with_threshold_and_files(dino_folder: Path, owl_folder: Path) -> None:
    versions = {
        OpenVocabularyDetector("spatial", str(folder), threshold=threshold).version
        for folder in (dino_folder, owl_folder)
        for threshold in (0.2, 0.3)
    }
    assert len(versions) == 4


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(UsageError, match=r"reward 'spatial': the threshold must be at least 0"):
        OpenVocabularyDetector("spatial", threshold=threshold)


def test_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reward 'spatial' cannot load"):
        OpenVocabularyDetector("spatial", str(tiny_dpt_folder(tmp_path))).load()


def test_a_missing_folder_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"there is no folder 'weights'.*--set reward\.spatial\.detector=OWNER/NAME"):
        OpenVocabularyDetector("spatial", "weights", option="detector").load()
