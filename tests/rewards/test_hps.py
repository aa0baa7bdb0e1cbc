"""The critic `hps`: cosines of a tiny CLIP from a checkpoint laid out as HPS's. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

from milr.errors import UsageError
from milr.rewards import Reward
from milr_rewards.hps import FILE, Hps
from milr_rewards.networks import open_clip_models
from tests.rewards.tiny_embeddings import PICTURES, PROMPTS, hps_file, register_architecture


@pytest.fixture
def tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> str:
    return register_architecture(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path, tiny_architecture: str) -> Path:
    hps_file(tmp_path / FILE, tiny_architecture)
    return tmp_path


def test_a_score_is_the_cosine_under_the_weights_in_the_file(folder: Path, tiny_architecture: str) -> None:
    model = open_clip.create_model(tiny_architecture)
    model.load_state_dict(torch.load(folder / FILE, weights_only=True)["state_dict"])
    preprocess = open_clip.image_transform(model.visual.image_size, is_train=False, resize_mode="longest")
    with torch.inference_mode():
        seen = model.eval().encode_image(torch.stack([preprocess(picture) for picture in PICTURES]))
        said = model.encode_text(open_clip.tokenize([prompt.text for prompt in PROMPTS]))
    expected = torch.nn.functional.cosine_similarity(seen, said).tolist()
    scores = Hps(model=str(folder), architecture=tiny_architecture).score(PICTURES, PROMPTS)
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 6) for value in expected}) == 3


def test_scores_do_not_depend_on_the_batch(
    folder: Path, tiny_architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = Hps(model=str(folder), architecture=tiny_architecture)
    whole = [score.value for score in reward.score(PICTURES, PROMPTS)]
    monkeypatch.setattr(open_clip_models, "BATCH", 1)
    assert [score.value for score in reward.score(PICTURES, PROMPTS)] == pytest.approx(whole, abs=1e-6)
    assert reward.score([], []) == []


def test_another_file_is_another_version(folder: Path, tiny_architecture: str) -> None:
    hps_file(folder / "HPS_v2_compressed.pt", tiny_architecture, seed=1)
    newer: Reward = Hps(model=str(folder), architecture=tiny_architecture)
    older: Reward = Hps(model=str(folder), architecture=tiny_architecture, file="HPS_v2_compressed.pt")
    assert newer.version != older.version
    assert newer.score(PICTURES[:1], PROMPTS[:1]) != older.score(PICTURES[:1], PROMPTS[:1])


def test_the_default_is_version_2_1() -> None:
    assert Hps().version.startswith("1-xswu/HPSv2@")
    assert Hps().version.endswith("-HPS_v2.1_compressed.pt")


def test_a_folder_without_the_file_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"reward 'hps' has no weights: there is no file '.*HPS_v2\.1_compressed\.pt'"):
        Hps(model=str(tmp_path)).check(PROMPTS[0])


def test_weights_of_another_architecture_are_refused_before_anything_starts(folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"reward 'hps' cannot load .*HPS_v2\.1_compressed\.pt: .*another kind"
    ) as refused:
        Hps(model=str(folder), architecture="ViT-S-32").check(PROMPTS[0])
    assert "\n" not in str(refused.value)


def test_an_unknown_architecture_is_refused_before_anything_starts(folder: Path) -> None:
    with pytest.raises(UsageError, match="unknown model of reward 'hps': 'ViT-H14'"):
        Hps(model=str(folder), architecture="ViT-H14").check(PROMPTS[0])
