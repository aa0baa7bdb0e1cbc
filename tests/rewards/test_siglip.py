"""The critic `siglip`: cosines and probabilities of a tiny SigLIP. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

from milr.errors import UsageError
from milr_rewards.networks import open_clip_models
from milr_rewards.siglip import Siglip
from tests.rewards.tiny_embeddings import PICTURES, PROMPTS, siglip_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return siglip_folder(tmp_path_factory.mktemp("siglip"))


def test_the_value_is_the_cosine_and_the_probability_a_part(folder: Path) -> None:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        seen = model.encode_image(torch.stack([preprocess(picture) for picture in PICTURES]))
        said = model.encode_text(tokenizer([prompt.text for prompt in PROMPTS]))
    cosines = torch.nn.functional.cosine_similarity(seen, said)
    probabilities = 1 / (1 + torch.exp(-(cosines / 0.07 - 2.0)))  # the scale and the bias that a SigLIP is born with
    scores = Siglip(model=str(folder)).score(PICTURES, PROMPTS)
    assert [score.value for score in scores] == pytest.approx(cosines.tolist(), abs=1e-5)
    assert [score.parts["probability"] for score in scores] == pytest.approx(probabilities.tolist(), abs=1e-4)
    assert len({round(score.value, 6) for score in scores}) == 3


def test_the_reason_names_the_probability(folder: Path) -> None:
    score = Siglip(model=str(folder)).score(PICTURES[:1], PROMPTS[:1])[0]
    assert score.reason == f"matches the prompt with probability {score.parts['probability']:.3g}"


def test_scores_do_not_depend_on_the_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = Siglip(model=str(folder))
    whole = [score.value for score in reward.score(PICTURES, PROMPTS)]
    monkeypatch.setattr(open_clip_models, "BATCH", 1)
    assert [score.value for score in reward.score(PICTURES, PROMPTS)] == pytest.approx(whole, abs=1e-6)
    assert reward.score([], []) == []


def test_siglip_2_is_the_default() -> None:
    assert Siglip().version == "1-ViT-B-16-SigLIP2-256 (webli)"


def test_another_siglip_can_be_chosen() -> None:
    assert Siglip(model="ViT-SO400M-14-SigLIP-384", pretrained="webli").version == "1-ViT-SO400M-14-SigLIP-384 (webli)"


def test_a_clip_is_refused_before_anything_starts(clip_folder: Path) -> None:
    with pytest.raises(UsageError, match="is no SigLIP model"):
        Siglip(model=str(clip_folder)).check(PROMPTS[0])


def test_damaged_weights_are_refused_before_anything_starts(tmp_path: Path) -> None:
    folder = siglip_folder(tmp_path)
    (folder / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match=r"reward 'siglip' cannot load .*damaged") as refused:
        Siglip(model=str(folder)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)
