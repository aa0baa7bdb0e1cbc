"""The critic `self`: one question per clause, the weakest answer decides, and it says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from milr.errors import PromptError, UsageError
from milr.models import load_model
from milr.models.base import UnifiedModel
from milr.prompts import Prompt
from milr.rewards import load_reward
from milr_rewards.language.questions import Question, colored, questions_of, related, things
from milr_rewards.self_answers import SelfAnswers, score_answers
from tests.rewards.tiny import facts_of
from tests.tiny import tiny_janus_folder


class Reader:
    """Answers what it was told to."""

    facts = replace(facts_of("reader"), reads=True)

    def __init__(self, chances: dict[str, float]) -> None:
        self.chances = chances

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[float]:
        return [self.chances[question] for question in questions]


def critic(chances: dict[str, float]) -> SelfAnswers:
    reader: Any = Reader(chances)
    return SelfAnswers(reader=reader)


def texts(*include: dict[str, Any], exclude: Sequence[dict[str, Any]] = ()) -> list[str]:
    return [question.text for question in questions_of({"include": list(include), "exclude": list(exclude)})]


def test_the_wordings() -> None:
    assert things("apple") == "is there an apple?"
    assert things("apple", "red", 2) == "are there two red apples?"
    assert things("knife", None, 3, many="knifes") == "are there three knifes?"
    assert colored("dog", "red") == "is the dog red?"
    assert related("dog", "left of", "cup") == "is the dog left of the cup?"
    assert related("dog", "left of", "cup", (2, 1), wording=1) == "are the dogs to the left of the cup?"


def test_a_thing_its_color_and_its_place_are_asked_apart() -> None:
    cup = {"class": "cup", "count": 1}
    dog = {"class": "dog", "count": 1, "color": "red", "position": ["left of", 0]}
    assert texts(cup, dog) == [
        "is there a cup?",
        "is there a dog?",
        "is there a red dog?",
        "is the dog left of the cup?",
    ]


def test_an_exact_number_is_asked_for_where_one_more_is_excluded() -> None:
    cats = {"class": "cat", "count": 3}
    assert texts(cats, exclude=[{"class": "cat", "count": 4}]) == ["are there three cats?"]
    assert questions_of({"include": [{"class": "cat", "count": 2}]}) == [
        Question("is there a cat?"),
        Question("is there one cat?", wanted=False),
    ]


def test_the_weakest_answer_decides_and_is_named() -> None:
    reward = critic({"is there a dog?": 0.9, "is there a red dog?": 0.2})
    (score,) = reward.score([Image.new("RGB", (8, 8))], [Prompt("a photo of a red dog")])
    assert score.value == pytest.approx(-0.6)
    assert score.parts == {"is there a dog?": 0.9, "is there a red dog?": 0.2}
    assert score.reason == "is there a red dog? no, 80% sure"


def test_a_no_that_is_wanted_counts_as_right() -> None:
    score = score_answers({Question("is there one cat?", wanted=False): 0.1, Question("is there a cat?"): 0.8})
    assert score.value == pytest.approx(0.6)
    assert score.reason == "as asked"


def test_a_batch_scores_each_picture_by_its_own_prompt() -> None:
    reward = critic({"is there a dog?": 0.9, "is there a cat?": 0.1})
    image = Image.new("RGB", (8, 8))
    scores = reward.score([image, image], [Prompt("a photo of a dog"), Prompt("a photo of a cat")])
    assert [score.value for score in scores] == pytest.approx([0.8, -0.8])


def test_a_prompt_that_cannot_be_asked_about_is_refused() -> None:
    with pytest.raises(PromptError):
        critic({}).check(Prompt("harmony"))
    many = Prompt("dogs", metadata={"include": [{"class": "dog", "count": 12}]})
    with pytest.raises(PromptError, match="counts to 10"):
        critic({}).check(many)


def test_without_a_model_it_says_so() -> None:
    with pytest.raises(UsageError, match="no model is loaded"):
        load_reward("self")
    with pytest.raises(UsageError, match="no model is loaded"):
        load_reward("self", facts_of("mini"))


def test_a_model_that_cannot_read_is_refused(tmp_path: Path) -> None:
    class Mute:
        facts = facts_of("mute")

    mute: Any = Mute()
    with pytest.raises(UsageError, match="'mute' only draws"):
        load_reward("self", mute)


def test_a_real_model_scores_its_pictures(tmp_path: Path) -> None:
    model: UnifiedModel = load_model(str(tiny_janus_folder(tmp_path)), device="cpu")
    reward = load_reward("self", model)
    score, _ = reward.score([Image.new("RGB", (8, 8), color) for color in ("red", "blue")], [Prompt("a red apple")] * 2)
    assert -1 <= score.value <= 1
    assert list(score.parts) == ["is there an apple?", "is there a red apple?"]
