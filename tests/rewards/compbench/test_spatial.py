"""The critic `spatial`: real detections under the benchmark's rule, and its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr_rewards.compbench.relations import position_score
from milr_rewards.compbench.spatial import Spatial
from milr_rewards.networks.open_vocabulary import OpenVocabularyDetector
from tests.rewards.tiny_compbench import PICTURES, noise

PROMPTS = [
    Prompt("a cat on the left of a dog"),
    Prompt("a dog near a coat rack"),
    Prompt("whatever", metadata={"objects": ["vase", "vase"], "relation": "top"}),
]


def test_a_score_is_the_formula_over_the_surest_detections(dino_folder: Path) -> None:
    scores = Spatial(model=str(dino_folder), threshold=0.1, cut=0.0).score(PICTURES[:3], PROMPTS)
    detector = OpenVocabularyDetector("spatial", str(dino_folder), threshold=0.1)
    cats, racks, vases = detector.detect(PICTURES[:3], [["cat", "dog"], ["dog", "coat rack"], ["vase"]])
    pairs = [
        (cats["cat"][0], cats["dog"][0], "left", 40),
        (racks["dog"][0], racks["coat rack"][0], "near", 40),
        (vases["vase"][0], vases["vase"][1], "top", 60),
    ]
    for score, (first, second, relation, side) in zip(scores, pairs, strict=True):
        placed = position_score(relation, first.box, second.box, near=150 / 480 * side)
        assert score.value == pytest.approx(0.25 * (first.score + second.score) + 0.5 * placed)
        assert score.parts == {"first": first.score, "second": second.score, relation: placed}


def test_scores_below_a_half_are_zero_unless_asked_otherwise(dino_folder: Path) -> None:
    pictures, prompts = [noise(seed) for seed in range(8)], [PROMPTS[0]] * 8
    dense = Spatial(model=str(dino_folder), threshold=0.1, cut=0.0).score(pictures, prompts)
    cut = Spatial(model=str(dino_folder), threshold=0.1).score(pictures, prompts)
    assert [score.value for score in cut] == [score.value if score.value >= 0.5 else 0.0 for score in dense]
    assert any(0 < score.value < 0.5 for score in dense)


def test_near_is_a_share_of_the_picture(dino_folder: Path) -> None:
    pictures, prompts = [noise(seed) for seed in range(8)], [PROMPTS[1]] * 8
    far = Spatial(model=str(dino_folder), threshold=0.1, near=0.001).score(pictures, prompts)
    near = Spatial(model=str(dino_folder), threshold=0.1, near=1.0).score(pictures, prompts)
    assert all(score.parts["near"] == 1.0 for score in near)
    assert any(score.parts["near"] < 0.5 for score in far)


def test_pictures_are_scored_alike_together_and_alone(dino_folder: Path) -> None:
    reward = Spatial(model=str(dino_folder), threshold=0.1, cut=0.0)
    together = [score.value for score in reward.score(PICTURES[:3], PROMPTS)]
    alone = [reward.score([picture], [prompt])[0].value for picture, prompt in zip(PICTURES[:3], PROMPTS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert reward.score([], []) == []


def test_the_version_tells_options_and_files(dino_folder: Path) -> None:
    options = [{}, {"near": 0.2}, {"cut": 0.0}, {"threshold": 0.2}]
    assert len({Spatial(model=str(dino_folder), **chosen).version for chosen in options}) == 4


def test_a_prompt_is_refused_before_weights_are_loaded() -> None:
    with pytest.raises(PromptError, match="cannot tell which two things 'a cat' relates"):
        Spatial(model="no/where").check(Prompt("a cat"))


@pytest.mark.parametrize("options", [{"near": 0.0}, {"cut": 1.5}, {"cut": -0.1}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"reward 'spatial': expected near > 0 and cut in \[0, 1\]"):
        Spatial(**options)


def test_missing_weights_are_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reward 'spatial' cannot load") as refused:
        Spatial(model=str(tmp_path)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)
