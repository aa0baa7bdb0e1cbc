"""The critic `t2i-compbench`: each picture goes to the critic of its category, and to no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr_rewards.compbench.by_category import ByCategory
from milr_rewards.compbench.clip_score import ClipScore
from milr_rewards.compbench.numeracy import Numeracy
from milr_rewards.compbench.spatial import Spatial
from milr_rewards.compbench.spatial_3d import Spatial3d
from milr_rewards.compbench.three_in_one import ThreeInOne
from tests.rewards.tiny_compbench import PICTURES


@pytest.fixture
def sources(blip_folder: Path, dino_folder: Path, dpt_folder: Path, clip_folder: Path) -> dict[str, str]:
    return {
        "model": str(blip_folder),
        "detector": str(dino_folder),
        "depth_model": str(dpt_folder),
        "clip": str(clip_folder),
    }


def tagged(tag: str, text: str) -> Prompt:
    return Prompt(text, metadata={"tag": tag})


def test_each_picture_has_the_score_of_its_categorys_critic(sources: dict[str, str]) -> None:
    detector = {"model": sources["detector"], "threshold": 0.1}
    three = ThreeInOne(model=sources["model"], detector=sources["detector"], threshold=0.1, clip=sources["clip"])
    pairs = [
        (tagged("non_spatial", "the cat of a dog"), ClipScore(model=sources["clip"])),
        (tagged("spatial", "a cat next to a dog"), Spatial(**detector)),
        (tagged("complex", "The red book was next to the green vase."), three),
        (tagged("3d_spatial", "a cat behind a dog"), Spatial3d(**detector, depth_model=sources["depth_model"])),
        (tagged("numeracy", "two cats"), Numeracy(**detector)),
        (tagged("spatial", "a red book near a vase"), Spatial(**detector)),
    ]
    prompts = [prompt for prompt, _ in pairs]
    pictures = [PICTURES[index % len(PICTURES)] for index in range(len(pairs))]
    critic = ByCategory(**sources, threshold=0.1)
    scores = critic.score(pictures, prompts)
    for picture, (prompt, alone), score in zip(pictures, pairs, scores, strict=True):
        assert score.value == pytest.approx(alone.score([picture], [prompt])[0].value, abs=1e-4)
    assert critic.score([], []) == []


@pytest.mark.parametrize("tag", ["color", "shape", "texture"])
def test_attributes_are_asked_about(tag: str, sources: dict[str, str]) -> None:
    (score,) = ByCategory(**sources).score(PICTURES[:1], [tagged(tag, "a red book and a green vase")])
    assert list(score.parts) == ["a red book", "a green vase"]


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (Prompt("a red book"), "reward 't2i-compbench' needs tag"),
        (tagged("colour", "a red book"), "knows no category 'colour'.*give one of color, shape"),
        (tagged("spatial", "a cat"), "cannot tell which two things"),
    ],
)
def test_a_prompt_that_cannot_be_scored_is_refused(prompt: Prompt, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        ByCategory().check(prompt)


def test_only_networks_that_are_needed_are_loaded(sources: dict[str, str]) -> None:
    critic = ByCategory(**sources | {"detector": "missing", "depth_model": "missing"})
    critic.check(tagged("color", "a red book"))
    critic.check(tagged("non_spatial", "a dog"))


@pytest.mark.parametrize(
    ("tag", "text", "option"),
    [
        ("color", "a red book", "model"),
        ("spatial", "a cat near a dog", "detector"),
        ("3d_spatial", "a cat behind a dog", "depth_model"),
        ("complex", "The red book was next to the green vase.", "model"),
    ],
)
def test_missing_weights_are_told_by_the_option_of_the_whole(
    sources: dict[str, str], tag: str, text: str, option: str
) -> None:
    critic = ByCategory(**sources | {option: "missing"})
    with pytest.raises(UsageError, match=r"as a part of 't2i-compbench'") as refused:
        critic.check(tagged(tag, text))
    assert f"--set reward.t2i-compbench.{option}=OWNER/NAME" in str(refused.value)
    assert str(refused.value).count("--set") == 1
