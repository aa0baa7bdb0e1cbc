"""The critic `numeracy`: what a prompt counts, the benchmark's formula, and a real detector behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr_rewards.compbench.numeracy import Numeracy, counts_of, distinct, parse_counts, score_counts, singular
from milr_rewards.networks.detection import Box, Detection
from milr_rewards.networks.open_vocabulary import OpenVocabularyDetector
from tests.rewards.tiny_compbench import PICTURES

PROMPTS = [Prompt("two cats and a dog"), Prompt("one vase"), Prompt("three dogs")]


def some(name: str, count: int) -> list[Detection]:
    return [Detection(name, 0.9, (20.0 * index, 0, 20.0 * index + 10, 10)) for index in range(count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two dogs", {"dog": 2}),
        ("three mice, one knife and four goldfish", {"mouse": 3, "knife": 1, "goldfish": 4}),
        ("six people gathered for a picnic", {"person": 6}),
        ("four trains carried four people", {"train": 4, "person": 4}),
        ("an egg, a painting, and two fish adorned a room", {"egg": 1, "painting": 1, "fish": 2}),
        ("two red apples and three green apples", {"apple": 5}),
        ("a photo of ten wine glasses", {"wine glass": 10}),
        ("some cats", {}),
    ],
)
def test_what_stands_behind_a_number_is_counted(text: str, expected: dict[str, int]) -> None:
    assert parse_counts(text) == expected


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("tomatoes", "tomato"),
        ("strawberries", "strawberry"),
        ("peaches", "peach"),
        ("boxes", "box"),
        ("vases", "vase"),
        ("women", "woman"),
        ("computer mice", "computer mouse"),
        ("sheep", "sheep"),
        ("scissors", "scissors"),
        ("dresses", "dress"),
        ("ties", "tie"),
    ],
)
def test_plurals_are_searched_for_as_one_thing(plural: str, expected: str) -> None:
    assert singular(plural) == expected


def test_metadata_says_what_the_text_does_not() -> None:
    assert counts_of(Prompt("a zoo", metadata={"counts": {"lion": 2}})) == {"lion": 2}


@pytest.mark.parametrize("given", [{"lion": 0}, {"lion": True}, {"lion": "two"}, ["lion"]])
def test_malformed_metadata_is_refused(given: Any) -> None:
    with pytest.raises(PromptError, match='"counts" of'):
        counts_of(Prompt("a zoo", metadata={"counts": given}))


def test_a_prompt_that_counts_nothing_is_refused() -> None:
    with pytest.raises(PromptError, match="nothing is counted in 'the night sky'"):
        counts_of(Prompt("the night sky"))


def test_a_thing_scores_half_when_found_and_half_when_as_many() -> None:
    found = {"cat": some("cat", 2), "dog": some("dog", 3)}
    score = score_counts(found, {"cat": 2, "dog": 1, "vase": 1})
    assert score.parts == {"cat": 1.0, "dog": 0.5, "vase": 0.0}
    assert score.value == pytest.approx(1.5 / 3)
    assert score.reason == "expected 1 dog, found 3; expected 1 vase, found 0"


def test_a_picture_as_asked_scores_one() -> None:
    score = score_counts({"cat": some("cat", 2)}, {"cat": 2})
    assert (score.value, score.reason) == (1.0, "as asked")


def test_things_that_cover_each_other_count_once() -> None:
    large: Box = (0, 0, 100, 100)
    inside: Box = (10, 10, 20, 20)
    beside: Box = (95, 0, 195, 100)
    boxes = [Detection("cat", 0.9, large), Detection("cat", 0.8, inside), Detection("cat", 0.7, beside)]
    assert [detection.box for detection in distinct(boxes)] == [large, beside]


def test_the_critic_counts_what_its_detector_finds(dino_folder: Path) -> None:
    scores = Numeracy(model=str(dino_folder), threshold=0.2).score(PICTURES[:3], PROMPTS)
    detector = OpenVocabularyDetector("numeracy", str(dino_folder), threshold=0.2)
    found = detector.detect(PICTURES[:3], [["cat", "dog"], ["vase"], ["dog"]])
    for score, each, counts in zip(scores, found, [{"cat": 2, "dog": 1}, {"vase": 1}, {"dog": 3}], strict=True):
        assert score == score_counts(each, counts)
    assert Numeracy(model=str(dino_folder), threshold=0.2).score(PICTURES[:3], PROMPTS) == scores


def test_nothing_to_score_is_no_score(dino_folder: Path) -> None:
    assert Numeracy(model=str(dino_folder)).score([], []) == []


def test_a_prompt_is_refused_before_weights_are_loaded() -> None:
    with pytest.raises(PromptError, match="nothing is counted"):
        Numeracy(model="no/where").check(Prompt("the night sky"))


def test_missing_weights_are_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reward 'numeracy' cannot load") as refused:
        Numeracy(model=str(tmp_path)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)


def test_every_official_prompt_counts_something(official_prompts: Path) -> None:
    lines = (official_prompts / "numeracy_val.txt").read_text("utf-8").splitlines()
    counts = [parse_counts(line) for line in lines]
    assert len(lines) == 300
    assert all(counts)
    assert max(count for each in counts for count in each.values()) == 8
    assert not {"picnic", "recipe", "room"} & {name for each in counts for name in each}


def test_pictures_without_things_score_zero(dino_folder: Path) -> None:
    reward = Numeracy(model=str(dino_folder), threshold=0.9999)
    [score] = reward.score([Image.new("RGB", (40, 40))], [Prompt("two coat racks")])
    assert (score.value, score.reason) == (0.0, "expected 2 coat racks, found 0")
