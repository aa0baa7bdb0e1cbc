"""The critic `git-vqa`: what is asked, and the share of "yes" in the answers of a real small GIT."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr.rewards import load_reward
from milr_rewards import git_vqa
from milr_rewards.git_vqa import GitVqa, question_of, questions_about, score_answers
from tests.rewards.tiny_vision_language import tiny_git_folder

PICTURES = [Image.new("RGB", (40, 40), "red"), Image.radial_gradient("L"), Image.new("RGB", (64, 48), "blue")]
PROMPTS = [
    Prompt("a photo of three red apples and a fire hydrant"),
    Prompt("a photo of a dog"),
    Prompt("a photo of a blue cat left of a green dog"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_git_folder(tmp_path_factory.mktemp("git"))


@pytest.mark.parametrize(
    ("clause", "question"),
    [
        ({"class": "dog", "count": 1}, "Is this a dog?"),
        ({"class": "dog", "count": 1, "color": "red"}, "Is this a red dog?"),
        ({"class": "bus", "count": 3, "color": "red"}, "Are there 3 red buss?"),
    ],
)
def test_a_clause_is_asked_in_the_words_of_the_reference(clause: dict[str, object], question: str) -> None:
    assert question_of(clause) == question


def test_a_prompt_is_asked_about_clause_by_clause() -> None:
    assert questions_about(PROMPTS[0]) == ["Are there 3 red apples?", "Is this a fire hydrant?"]
    assert questions_about(PROMPTS[2]) == ["Is this a green dog?", "Is this a blue cat?"]


def test_a_score_is_the_mean_share_of_yes(folder: Path) -> None:
    from transformers import AutoProcessor, GitForCausalLM

    model, processor = GitForCausalLM.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    tokenizer = processor.tokenizer
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = []
    for picture, prompt in zip(PICTURES, PROMPTS, strict=True):
        pixels = processor(images=picture.convert("RGB"), return_tensors="pt").pixel_values
        shares = []
        for question in questions_about(prompt):
            tokens = [tokenizer.cls_token_id, *tokenizer(question, add_special_tokens=False).input_ids]
            with torch.inference_mode():
                spread = model(pixel_values=pixels, input_ids=torch.tensor([tokens])).logits[0, -1].softmax(-1)
            shares.append((spread[yes] / (spread[yes] + spread[no])).item())
        expected.append(sum(shares) / len(shares))
    values = [score.value for score in GitVqa(model=str(folder)).score(PICTURES, PROMPTS)]
    assert values == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 4) for value in expected}) == 3


def test_known_logits_give_a_known_score(tmp_path: Path) -> None:
    reward = GitVqa(model=str(tiny_git_folder(tmp_path, {"yes": 2.0, "no": 1.0})))
    score = reward.score(PICTURES[:1], PROMPTS[:1])[0]
    share = 1 / (1 + math.exp(-1))
    assert score.value == pytest.approx(share)
    assert score.parts == pytest.approx({"Are there 3 red apples?": share, "Is this a fire hydrant?": share})


def test_the_reason_names_the_weakest_answer() -> None:
    score = score_answers({"Is this a dog?": 0.75, "Is this a red cat?": 0.25})
    assert score.value == 0.5
    assert score.reason == "Is this a red cat? 25% yes"


def test_batches_of_any_size_give_the_same_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = GitVqa(model=str(folder))
    whole = [score.value for score in reward.score(PICTURES, PROMPTS)]
    monkeypatch.setattr(git_vqa, "BATCH", 1)
    assert [score.value for score in reward.score(PICTURES, PROMPTS)] == pytest.approx(whole, abs=1e-5)
    assert reward.score([], []) == []


def test_the_metadata_of_a_prompt_counts_before_its_text() -> None:
    metadata = {"include": [{"class": "cat", "count": 2}], "exclude": [{"class": "cat", "count": 3}]}
    assert questions_about(Prompt("whatever", metadata=metadata)) == ["Are there 2 cats?"]


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (Prompt("the meaning of life"), "the meaning of life"),
        (Prompt("no dog", metadata={"include": [], "exclude": [{"class": "dog", "count": 1}]}), "nothing to ask about"),
    ],
)
def test_a_prompt_that_cannot_be_asked_about_is_refused_before_any_weights_are_loaded(
    prompt: Prompt, problem: str
) -> None:
    with pytest.raises(PromptError, match=problem):
        GitVqa(model="./nowhere/at/all").check(prompt)


def test_words_that_go_unasked_are_warned_of_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    reward = GitVqa(model=str(folder))
    for _ in range(2):
        reward.check(Prompt("a photo of a shiny apple"))
    assert [record.getMessage() for record in caplog.records] == [
        "git-vqa does not ask about 'shiny' in 'a photo of a shiny apple'"
    ]


def test_missing_weights_are_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reward 'git-vqa' cannot load"):
        GitVqa(model=str(tmp_path)).check(PROMPTS[0])


def test_the_weights_make_the_version(folder: Path, tmp_path: Path) -> None:
    assert GitVqa(model=str(folder)).version != GitVqa(model=str(tiny_git_folder(tmp_path, {"yes": 1.0}))).version
    reward = GitVqa(model=str(folder))
    before = reward.version
    reward.check(PROMPTS[0])
    assert reward.version == before


def test_it_is_found_by_name_with_its_options(folder: Path) -> None:
    assert isinstance(load_reward("git-vqa", options={"git-vqa": {"model": str(folder)}}), GitVqa)
