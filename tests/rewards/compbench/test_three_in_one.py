"""The critic `three-in-one`: which scores apply to a prompt, and their mean over three real networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr.rewards import Score
from milr_rewards.compbench.blip_vqa import BlipVqa
from milr_rewards.compbench.clip_score import ClipScore
from milr_rewards.compbench.spatial import Spatial
from milr_rewards.compbench.three_in_one import ThreeInOne, mean_of, parse_parts, parts_of
from tests.rewards.tiny_compbench import BLIP_RESOLUTION, PICTURES

PROMPTS = [
    Prompt("The red book was next to the green vase."),
    Prompt("The red dog sat near the blue cat."),
    Prompt("The cat looked at the dog."),
]


@pytest.fixture
def critic(blip_folder: Path, dino_folder: Path, clip_folder: Path) -> ThreeInOne:
    return ThreeInOne(
        model=str(blip_folder),
        resolution=BLIP_RESOLUTION,
        detector=str(dino_folder),
        threshold=0.1,
        cut=0.0,
        clip=str(clip_folder),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The red hat was on top of the brown coat rack.", ("attributes", "space")),
        ("the fluffy cat is on the left of the soft pillow", ("attributes", "space")),
        ("The black headphones were next to the green phone.", ("attributes", "space")),
        ("The sleek black cat sat on top of the fluffy white pillow.", ("attributes", "space", "action")),
        ("The cone was suspended in mid-air near the orange pyramid.", ("attributes", "space", "action")),
        ("The rectangular mirror was hung above the white sink.", ("attributes", "action")),
        ("The smooth statue stood in front of the rough grey wall.", ("attributes", "action")),
        ("The fresh omelet cooked the fluffy eggs.", ("attributes", "action")),
    ],
)
def test_a_sentence_says_which_scores_apply(text: str, expected: tuple[str, ...]) -> None:
    assert parse_parts(text) == expected


def test_neither_case_nor_full_stop_matters() -> None:
    text = "The red hat was on top of the brown coat rack."
    assert parse_parts(text.upper()) == parse_parts(text.lower().rstrip(".")) == ("attributes", "space")


def test_metadata_says_which_scores_apply() -> None:
    assert parts_of(Prompt("a cat", metadata={"parts": ["action", "attributes"]})) == ("attributes", "action")


@pytest.mark.parametrize("given", [[], ["colour"], "action"])
def test_malformed_metadata_is_refused(given: object) -> None:
    with pytest.raises(PromptError, match="\"parts\" of 'a cat' must be some of attributes, space, action"):
        parts_of(Prompt("a cat", metadata={"parts": given}))


def test_a_score_is_the_mean_of_those_that_apply(
    critic: ThreeInOne, blip_folder: Path, dino_folder: Path, clip_folder: Path
) -> None:
    blip = BlipVqa(model=str(blip_folder), resolution=BLIP_RESOLUTION)
    spatial = Spatial(model=str(dino_folder), threshold=0.1, cut=0.0)
    clip = ClipScore(model=str(clip_folder), adjectives=False)
    applying = [[blip, spatial], [blip, spatial, clip], [blip, clip]]
    scores = critic.score(PICTURES[:3], PROMPTS)
    for picture, prompt, score, critics in zip(PICTURES, PROMPTS, scores, applying, strict=False):
        values = [each.score([picture], [prompt])[0].value for each in critics]
        assert score.value == pytest.approx(sum(values) / len(values), abs=1e-5)
    assert {"attributes", "space", "action", "attributes: The red dog"} <= scores[1].parts.keys()
    assert "space" not in scores[2].parts


def test_pictures_are_scored_alike_together_and_alone(critic: ThreeInOne) -> None:
    together = [score.value for score in critic.score(PICTURES[:3], PROMPTS)]
    alone = [critic.score([picture], [prompt])[0].value for picture, prompt in zip(PICTURES, PROMPTS, strict=False)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert critic.score([], []) == []


def test_without_one_of_the_scores_there_is_none() -> None:
    assert mean_of({"attributes": Score(0.5), "space": Score(None, error="torn")}) == Score(None, error="space: torn")


def test_the_reason_says_where_the_score_comes_from() -> None:
    score = mean_of({"attributes": Score(0.5, {"a cat": 0.5}, "weakest"), "action": Score(0.25, {}, "cosine")})
    assert score.value == 0.375
    assert score.parts == {"attributes": 0.5, "action": 0.25, "attributes: a cat": 0.5}
    assert score.reason == "attributes 0.50 (weakest); action 0.25 (cosine)"


def test_only_networks_that_apply_are_loaded(blip_folder: Path, clip_folder: Path) -> None:
    critic = ThreeInOne(model=str(blip_folder), detector="no/where", clip=str(clip_folder))
    critic.check(PROMPTS[2])
    with pytest.raises(UsageError, match="there is no folder 'missing'"):
        ThreeInOne(model=str(blip_folder), detector="missing", clip=str(clip_folder)).check(PROMPTS[0])


def test_a_prompt_that_one_critic_refuses_is_refused(blip_folder: Path, clip_folder: Path) -> None:
    critic = ThreeInOne(model=str(blip_folder), clip=str(clip_folder))
    with pytest.raises(PromptError, match="cannot tell which two things"):
        critic.check(Prompt("a cat", metadata={"parts": ["attributes", "space"]}))


def test_the_rule_agrees_with_the_official_lists_but_for_a_sunset(official_prompts: Path) -> None:
    lists = {
        "spatial": ("attributes", "space"),
        "action": ("attributes", "action"),
        "spatialaction": ("attributes", "space", "action"),
    }
    lines = {name: (official_prompts / f"complex_val_{name}.txt").read_text("utf-8").splitlines() for name in lists}
    assert sum(map(len, lines.values())) == 300
    others = [line for name, parts in lists.items() for line in lines[name] if parse_parts(line) != parts]
    assert [line[:28] for line in others] == ["The fiery, blazing sun sank "]
