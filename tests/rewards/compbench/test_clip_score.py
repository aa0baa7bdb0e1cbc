"""The critic `clip-score`: bare cosines, with and without adjectives."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt
from milr_rewards.compbench.clip_score import ClipScore
from tests.rewards.tiny_compbench import PICTURES

PROMPTS = [Prompt("a photo of a red dog"), Prompt("a blue cat"), Prompt("a cat")]


def test_a_score_is_the_bare_cosine(clip_folder: Path) -> None:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    with torch.inference_mode():
        seen = model.encode_image(torch.stack([preprocess(picture) for picture in PICTURES[:3]]))
        said = model.encode_text(tokenizer([prompt.text for prompt in PROMPTS]))
    expected = torch.nn.functional.cosine_similarity(seen, said).tolist()
    scores = ClipScore(model=str(clip_folder)).score(PICTURES[:3], PROMPTS)
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-5)
    assert [score.parts["cosine"] for score in scores] == [score.value for score in scores]
    assert ClipScore(model=str(clip_folder)).score([], []) == []


def test_without_adjectives_a_blue_cat_is_a_cat(clip_folder: Path) -> None:
    [blue, plain] = ClipScore(model=str(clip_folder), adjectives=False).score([PICTURES[0]] * 2, PROMPTS[1:])
    [full] = ClipScore(model=str(clip_folder)).score(PICTURES[:1], PROMPTS[1:2])
    assert blue.value == pytest.approx(plain.value)
    assert blue.reason == "cosine with 'a cat'"
    assert full.value != pytest.approx(blue.value, abs=1e-4)


def test_the_model_is_the_benchmarks_own() -> None:
    assert "ViT-B-32 (openai)" in ClipScore().version
    assert ClipScore().version != ClipScore(adjectives=False).version


def test_an_unknown_model_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="unknown model of reward 'clip-score': 'ViT-B-33'"):
        ClipScore(model="ViT-B-33")


def test_damaged_weights_are_an_error_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(UsageError, match="reward 'clip-score' cannot load"):
        ClipScore(model=str(tmp_path)).check(PROMPTS[0])
