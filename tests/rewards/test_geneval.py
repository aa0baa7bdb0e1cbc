"""The critic `geneval` and the judge `scenes-judge`: what they accept, what they say, which detector they use."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Score
from milr_rewards import geneval
from milr_rewards.geneval import GenEval, ScenesJudge, score_objects
from milr_rewards.language.requirements import requirements_of
from milr_rewards.networks import witnesses
from milr_rewards.networks.colors import ColorNamer, crop
from milr_rewards.networks.detection import Detection
from milr_rewards.networks.transformers_detector import TransformersDetector
from tests.rewards.tiny import facts_of
from tests.rewards.tiny_detectors import tiny_color_clip_folder, tiny_mask2former_folder

PICTURES = [Image.new("RGB", (96, 96), color) for color in ("red", "gray", "blue")]


def found(label: str, score: float = 0.65, color: str = "red", box: Any = (0, 0, 40, 40)) -> Detection:
    return Detection(label, score, box, {"red": 0.1, "green": 0.1} | {color: 0.9})


def scored(objects: dict[str, list[Detection]], include: list[dict[str, Any]], mode: str = "dense") -> Score:
    return score_objects(objects, {"tag": "counting", "include": include}, mode=mode)


# What it says of what was found


def test_too_few_objects_are_counted_in_words() -> None:
    score = scored({"cat": [found("cat")]}, [{"class": "cat", "count": 2}])
    assert score.reason == "expected 2 cats, found 1"
    assert score.value == pytest.approx(-0.5)


def test_a_wrong_colour_is_named() -> None:
    score = scored({"apple": [found("apple", color="green")]}, [{"class": "apple", "count": 1, "color": "red"}])
    assert score.reason == "expected a red apple, it is green"
    assert score.parts == pytest.approx({"apple: count": 0.5, "apple: color": -0.8})
    assert score.value == pytest.approx(-0.4)


def test_a_picture_that_passes_is_worth_its_margin_or_one() -> None:
    objects, include = {"apple": [found("apple")]}, [{"class": "apple", "count": 1}]
    dense = scored(objects, include)
    assert dense.value == pytest.approx(0.5)
    assert dense.reason == "as asked"
    assert scored(objects, include, mode="binary") == Score(1.0, {"apple: count": 1.0}, "as asked")


def test_a_picture_that_fails_is_worth_less_than_zero_or_zero() -> None:
    include = [{"class": "apple", "count": 1}]
    assert scored({}, include) == Score(-1.0, {"apple: count": -1.0}, "expected 1 apple, found 0")
    assert scored({}, include, mode="binary") == Score(0.0, {"apple: count": 0.0}, "expected 1 apple, found 0")


def test_a_share_is_worth_the_confidence_of_what_holds() -> None:
    objects = {"apple": [found("apple", color="green")]}
    score = scored(objects, [{"class": "apple", "count": 1, "color": "red"}], mode="share")
    assert score == Score(0.325, {"apple: count": 0.65, "apple: color": 0.0}, "expected a red apple, it is green")


def test_counting_needs_no_more_certainty_than_the_rest() -> None:
    assert scored({"cat": [found("cat", 0.31)] * 2}, [{"class": "cat", "count": 2}], mode="binary").value == 1


# As a critic


def test_pictures_are_scored_in_a_batch_each_by_its_own_prompt(detector_folder: Path) -> None:
    reward = GenEval(detector=str(detector_folder))
    prompts = [
        Prompt("a dog"),
        Prompt("two cats"),
        Prompt("whatever", metadata={"include": [{"class": "cup", "count": 1}]}),
    ]
    scores = reward.score(PICTURES, prompts)
    assert [sorted(score.parts) for score in scores] == [["dog: count"], ["cat: count", "cat: exclude"], ["cup: count"]]
    assert scores == [reward.score([p], [q])[0] for p, q in zip(PICTURES, prompts, strict=True)]


def test_success_is_one_in_binary_mode(detector_folder: Path) -> None:
    binary = GenEval(detector=str(detector_folder), mode="binary")
    assert (binary.range, binary.target) == ((0.0, 1.0), 1.0)
    dense = GenEval(detector=str(detector_folder))
    assert (dense.range, dense.target) == ((-1.0, 1.0), None)
    share = GenEval(detector=str(detector_folder), mode="share")
    assert (share.range, share.target) == ((0.0, 1.0), None)


def test_the_version_tells_modes_and_weights_apart(detector_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(detector_folder, tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    versions = {
        GenEval(detector=str(detector_folder)).version,
        GenEval(detector=str(detector_folder), mode="binary").version,
        GenEval(detector=str(detector_folder), threshold=0.4).version,
        GenEval(detector=str(detector_folder), counting_threshold=0.4).version,
        GenEval(detector=str(other)).version,
    }
    assert len(versions) == 5


@pytest.mark.parametrize("option", ["threshold", "counting_threshold"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, float("nan")])
def test_a_threshold_that_nothing_or_everything_passes_is_refused(option: str, value: float) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(UsageError, match=f"{option} must be at least 0.05 and less than 1"):
        GenEval(**options)


def test_a_prompt_that_cannot_be_graded_is_refused_before_anything_starts(detector_folder: Path) -> None:
    reward = GenEval(detector=str(detector_folder))
    reward.check(Prompt("a photo of two cats"))
    with pytest.raises(PromptError, match="JSON line"):
        reward.check(Prompt("the meaning of life"))


def test_words_that_go_unchecked_are_warned_of_once(detector_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    reward = GenEval(detector=str(detector_folder))
    with caplog.at_level(logging.WARNING):
        reward.check(Prompt("a shiny apple and a unicorn"))
        reward.check(Prompt("a shiny apple and a unicorn"))
    assert [record.getMessage() for record in caplog.records] == [
        "geneval cannot check 'shiny', 'unicorn' in 'a shiny apple and a unicorn'"
    ]


# Which mode, which detector


def test_an_unknown_mode_gets_a_suggestion(detector_folder: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown mode of reward 'geneval': 'denes'\. Did you mean 'dense'\?"):
        GenEval(detector=str(detector_folder), mode="denes")


def test_an_unknown_detector_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"'scenes-critc'\. Did you mean 'scenes-critic'\?"):
        GenEval(detector="scenes-critc")


def test_the_judge_of_scenes_is_used_for_other_pictures_only_when_asked(detector_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"scenes of 'mini'.*--set reward\.scenes-judge\.detector=scenes-judge"):
        ScenesJudge(facts=facts_of("janus-pro-7b"))
    ScenesJudge(facts=facts_of("janus-pro-7b"), detector=str(detector_folder))


def test_missing_weights_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        GenEval(detector=str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x10\0\0\0\0\0\0\0{}"])
def test_broken_weights_are_a_usage_error_before_anything_starts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match="cannot use the weights in"):
        GenEval(detector=str(tmp_path)).check(Prompt("a dog"))


def test_truncated_weights_are_a_usage_error(detector_folder: Path, tmp_path: Path) -> None:
    whole = (detector_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="cannot use the weights in"):
        GenEval(detector=str(tmp_path)).check(Prompt("a dog"))


def test_the_judge_has_weights_of_its_own_and_is_binary(
    detector_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in geneval.EMBEDDED:
        shutil.copytree(detector_folder, tmp_path / name)
    weights = tmp_path / "scenes-judge" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    monkeypatch.setattr(geneval, "_WEIGHTS", tmp_path)
    critic, judge = GenEval(facts=facts_of("mini")), ScenesJudge(facts=facts_of("mini"))
    assert critic.version.rpartition("-")[2] != judge.version.rpartition("-")[2]
    assert (judge.mode, judge.target, critic.mode) == ("binary", 1.0, "dense")
    assert GenEval(detector="scenes-judge", mode="binary").version == judge.version


# Real pictures


@pytest.fixture(scope="module")
def mask2former_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_mask2former_folder(tmp_path_factory.mktemp("mask2former"))


@pytest.fixture(scope="module")
def color_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_color_clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def real(mask2former_folder: Path, color_clip_folder: Path) -> Callable[..., GenEval]:
    """A critic of real pictures; random weights are never sure of anything."""
    options = {"detector": str(mask2former_folder), "colors": str(color_clip_folder)}
    return lambda **more: GenEval(**{**options, "threshold": 0.05, "counting_threshold": 0.05, **more})


NOISE = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)).resize((50, 40), 0)
    for seed in range(3)
]
WISHES = [
    Prompt("a photo of a red dog"),
    Prompt("a dog", metadata={"include": [{"class": "unicorn", "count": 1}, {"class": "dog", "count": 40}]}),
    Prompt("a photo of two dogs"),
]


@pytest.mark.parametrize("mode", geneval.MODES)
def test_real_pictures_are_graded_by_what_is_found_and_the_colours_it_has(
    real: Callable[..., GenEval], mask2former_folder: Path, color_clip_folder: Path, mode: str
) -> None:
    detector = TransformersDetector("geneval", str(mask2former_folder))
    namer = ColorNamer("geneval", str(color_clip_folder))
    for score, image, prompt in zip(real(mode=mode).score(NOISE, WISHES), NOISE, WISHES, strict=True):
        objects = detector.detect([image])[0]
        for name, group in objects.items():
            shares = namer.probabilities([crop(image, detection) for detection in group], [name] * len(group))
            objects[name] = [replace(one, colors=colors) for one, colors in zip(group, shares, strict=True)]
        wanted = requirements_of(prompt, detector.classes).metadata
        expected = score_objects(objects, wanted, mode=mode, threshold=0.05, counting_threshold=0.05)
        assert score.value == pytest.approx(expected.value, abs=1e-4)
        assert score.parts == pytest.approx(expected.parts, abs=1e-4)
        assert score.reason == expected.reason


def test_real_pictures_score_the_same_alone_and_together(
    real: Callable[..., GenEval], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, prompts = NOISE * 4, WISHES * 4
    together = [score.value for score in real().score(images, prompts)]
    monkeypatch.setattr(witnesses, "BATCH", 1)
    assert [score.value for score in real().score(images, prompts)] == pytest.approx(together, abs=1e-4)
    assert real().score([], []) == []


def test_a_class_that_the_detector_lacks_is_refused_before_anything_starts(real: Callable[..., GenEval]) -> None:
    real().check(WISHES[0])
    with pytest.raises(PromptError, match="the detector knows no class 'cat'"):
        real().check(Prompt("a photo of a cat"))


def test_real_pictures_are_seen_by_mask2former_with_the_official_thresholds() -> None:
    assert GenEval(facts=facts_of("janus-pro-7b")).version == (
        "1-dense-facebook/mask2former-swin-small-coco-instance@main@800px-ViT-L-14 (openai)-0.3-0.9"
    )


def test_a_detector_on_the_hub_is_seen_at_its_own_scale() -> None:
    reward = GenEval(facts=facts_of("mini"), detector="facebook/detr-resnet-50", revision="v1", mode="binary")
    assert reward.version == "1-binary-facebook/detr-resnet-50@v1-ViT-L-14 (openai)-0.3-0.9"


def test_the_version_of_a_real_critic_tells_weights_colours_and_thresholds_apart(
    real: Callable[..., GenEval], color_clip_folder: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(color_clip_folder, tmp_path / "other")
    (other / "README").write_text("another")
    versions = {real(**more).version for more in ({}, {"threshold": 0.2}, {"colors": str(other)}, {"mode": "share"})}
    assert len(versions) == 4


def test_unusable_weights_of_a_real_detector_are_an_error_before_anything_starts(
    real: Callable[..., GenEval], mask2former_folder: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(mask2former_folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UsageError, match="reward 'geneval' cannot load"):
        real(detector=str(broken)).check(WISHES[0])


def test_a_folder_that_is_not_there_is_no_detector() -> None:
    with pytest.raises(UnknownNameError, match="A folder or OWNER/NAME will do"):
        GenEval(detector="./no/such/folder")
