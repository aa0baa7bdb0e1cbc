"""The critic `pickscore`: logits of a tiny CLIP of transformers. Nothing is fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from milr.errors import UsageError
from milr.prompts import Prompt
from milr_rewards import pickscore
from milr_rewards.pickscore import PROCESSOR, PickScore
from tests.rewards.tiny_embeddings import PICTURES, PROMPTS, pickscore_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pickscore_folder(tmp_path_factory.mktemp("pickscore"))


def test_a_score_is_the_logit_of_picture_and_text(folder: Path) -> None:
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    inputs = processor(text=[prompt.text for prompt in PROMPTS], images=PICTURES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits_per_image.diagonal().tolist()
    scores = PickScore(model=str(folder)).score(PICTURES, PROMPTS)
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 4) for value in expected}) == 3


def test_the_cosine_is_a_part(folder: Path) -> None:
    scale = CLIPModel.from_pretrained(folder).logit_scale.exp().item()
    for score in PickScore(model=str(folder)).score(PICTURES, PROMPTS):
        assert score.parts["cosine"] == pytest.approx(score.value / scale, abs=1e-6)


def test_scores_do_not_depend_on_the_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = PickScore(model=str(folder))
    whole = [score.value for score in reward.score(PICTURES, PROMPTS)]
    monkeypatch.setattr(pickscore, "BATCH", 1)
    assert [score.value for score in reward.score(PICTURES, PROMPTS)] == pytest.approx(whole, abs=1e-4)
    assert reward.score([], []) == []


def test_pictures_of_any_mode_are_scored(folder: Path) -> None:
    assert PickScore(model=str(folder)).score([Image.new("LA", (10, 30))], PROMPTS[:1])[0].value is not None


def test_words_beyond_the_77th_token_do_not_count(folder: Path) -> None:
    long = "red " * 75  # and <start> and <end>
    reward = PickScore(model=str(folder))
    one, other = reward.score(PICTURES[:1] * 2, [Prompt(long), Prompt(long + "blue dog")])
    assert one.value == pytest.approx(other.value, abs=1e-5)


def test_the_processor_may_be_elsewhere(folder: Path, tmp_path: Path) -> None:
    weights, preparation = tmp_path / "weights", tmp_path / "preparation"
    shutil.copytree(folder, weights, ignore=shutil.ignore_patterns("processor*", "tokenizer*"))
    shutil.copytree(folder, preparation, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    whole, split = PickScore(model=str(folder)), PickScore(model=str(weights), processor=str(preparation))
    assert split.score(PICTURES, PROMPTS) == whole.score(PICTURES, PROMPTS)
    assert split.version != whole.version


def test_the_default_is_pickscore_with_the_processor_it_was_trained_with() -> None:
    assert PickScore().version.startswith("1-yuvalkirstain/PickScore_v1@")
    assert PROCESSOR in PickScore().version


def test_weights_that_are_nowhere_are_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match=r"there is no folder './nowhere'.*--set reward\.pickscore\.model="):
        PickScore(model="./nowhere").check(PROMPTS[0])


def test_damaged_weights_are_refused_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match=r"reward 'pickscore' cannot load .*damaged") as refused:
        PickScore(model=str(damaged)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)
