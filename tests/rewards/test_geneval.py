"""The critic `geneval` and the judge `scenes-judge`: what they accept, what they say, which detector they use."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Score
from milr_rewards import geneval
from milr_rewards.detection import Detection
from milr_rewards.geneval import GenEval, ScenesJudge, score_objects
from tests.rewards.tiny import facts_of

PICTURES = [Image.new("RGB", (96, 96), color) for color in ("red", "gray", "blue")]


def found(label: str, score: float = 0.65, color: str = "red", box: Any = (0, 0, 40, 40)) -> Detection:
    return Detection(label, score, box, {"red": 0.1, "green": 0.1} | {color: 0.9})


def scored(objects: dict[str, list[Detection]], include: list[dict[str, Any]], dense: bool = True) -> Score:
    return score_objects(objects, {"tag": "counting", "include": include}, dense=dense)


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
    assert scored(objects, include, dense=False) == Score(1.0, {"apple: count": 1.0}, "as asked")


def test_a_picture_that_fails_is_worth_less_than_zero_or_zero() -> None:
    include = [{"class": "apple", "count": 1}]
    assert scored({}, include) == Score(-1.0, {"apple: count": -1.0}, "expected 1 apple, found 0")
    assert scored({}, include, dense=False) == Score(0.0, {"apple: count": 0.0}, "expected 1 apple, found 0")


def test_counting_needs_no_more_certainty_than_the_rest() -> None:
    assert scored({"cat": [found("cat", 0.31)] * 2}, [{"class": "cat", "count": 2}], dense=False).value == 1


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
    assert (dense.range, dense.target) == ((-1.0, 1.0), GenEval.target)


def test_the_version_tells_modes_and_weights_apart(detector_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(detector_folder, tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    versions = {
        GenEval(detector=str(detector_folder)).version,
        GenEval(detector=str(detector_folder), mode="binary").version,
        GenEval(detector=str(other)).version,
    }
    assert len(versions) == 3


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


@pytest.mark.parametrize("reward", [GenEval, ScenesJudge])
def test_pictures_of_another_model_need_an_explicit_detector(reward: type[GenEval], detector_folder: Path) -> None:
    with pytest.raises(UsageError, match=rf"scenes of 'mini'.*--set reward\.{reward.name}\.detector={reward.embedded}"):
        reward(facts=facts_of("janus-pro-7b"))
    reward(facts=facts_of("janus-pro-7b"), detector=str(detector_folder))


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
