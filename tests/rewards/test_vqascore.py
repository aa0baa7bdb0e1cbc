"""The critic `vqascore`: the probability of "Yes", from a real small model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from milr.errors import UsageError
from milr.prompts import Prompt
from milr.rewards import load_reward
from milr_rewards.networks import vision_language
from milr_rewards.networks.checkpoints import Weights
from milr_rewards.networks.vision_language import VisionLanguageModel
from milr_rewards.vqascore import VqaScore
from tests.rewards.tiny_vision_language import (
    scripted_llava_folder,
    tiny_llava_folder,
    tiny_qwen3_folder,
    tiny_tokenizer,
)

PICTURES = [Image.new("RGB", (40, 40), "red"), Image.radial_gradient("L"), Image.new("RGB", (64, 48), "blue")]
PROMPTS = [Prompt("a red dog"), Prompt('two cats and a sign that says "{hello}"'), Prompt("a red dog")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen3_folder(tmp_path_factory.mktemp("qwen3"))


def test_a_score_is_the_probability_of_yes_to_the_official_question(folder: Path) -> None:
    questions = [f'Does this figure show "{prompt.text}"? Please answer Yes or No.' for prompt in PROMPTS]
    model = VisionLanguageModel(Weights("vqascore", str(folder)))
    expected = model.answer_log_probabilities(PICTURES, questions, [("Yes",)]).exp()[:, 0].tolist()
    values = [score.value for score in VqaScore(model=str(folder)).score(PICTURES, PROMPTS)]
    assert values == pytest.approx(expected, rel=1e-4)
    assert len({round(value, 6) for value in expected}) == 3


def test_known_logits_give_known_parts(tmp_path: Path) -> None:
    folder = scripted_llava_folder(tmp_path, {"Yes": 5.0, "No": 4.0, "yes": 3.0})
    score = VqaScore(model=str(folder)).score(PICTURES[:1], PROMPTS[:1])[0]
    others = math.exp(4) + math.exp(3) + len(tiny_tokenizer()) - 3
    yes = math.exp(5) / (math.exp(5) + others)
    assert score.value == pytest.approx(yes, rel=1e-4)
    assert score.parts == pytest.approx({"yes": yes, "yes over no": 1 / (1 + math.exp(-1))}, rel=1e-4)
    assert score.reason == f"it says yes with probability {yes:.2f}"


def test_batches_of_any_size_give_the_same_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = VqaScore(model=str(folder))
    whole = [score.value for score in reward.score(PICTURES, PROMPTS)]
    monkeypatch.setattr(vision_language, "BATCH", 1)
    assert [score.value for score in reward.score(PICTURES, PROMPTS)] == pytest.approx(whole, rel=1e-3)
    assert reward.score([], []) == []


def test_another_question_is_another_score_and_version(folder: Path) -> None:
    plain = VqaScore(model=str(folder))
    other = VqaScore(model=str(folder), question="Is it {prompt}?")
    assert plain.score(PICTURES[:1], PROMPTS[:1]) != other.score(PICTURES[:1], PROMPTS[:1])
    assert plain.version != other.version


def test_another_model_is_another_version(folder: Path, tmp_path: Path) -> None:
    versions = {VqaScore(model=str(model)).version for model in (folder, tiny_llava_folder(tmp_path))}
    assert len(versions) == 2
    assert VqaScore(model="OWNER/NAME", revision="v2").version.endswith("OWNER/NAME@v2")


def test_checking_loads_the_weights_and_keeps_the_version_of_a_folder(folder: Path) -> None:
    reward = VqaScore(model=str(folder))
    before = reward.version
    reward.check(PROMPTS[0])
    assert reward.version == before


def test_missing_weights_are_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reward 'vqascore' cannot load"):
        VqaScore(model=str(tmp_path)).check(PROMPTS[0])


def test_a_question_without_the_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the question 'Is it good\?' has no \{prompt\}"):
        VqaScore(question="Is it good?")


def test_it_is_found_by_name_with_its_options(folder: Path) -> None:
    reward = load_reward("vqascore", options={"vqascore": {"model": str(folder), "question": "{prompt}?"}})
    assert isinstance(reward, VqaScore)
    assert reward.version == VqaScore(model=str(folder), question="{prompt}?").version
