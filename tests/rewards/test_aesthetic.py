"""The critic `aesthetic`: a tiny predictor on a tiny CLIP. Nothing is fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from milr.errors import UnknownNameError, UsageError
from milr_rewards.aesthetic import FILE, Aesthetic, linear_layers
from milr_rewards.networks import open_clip_models
from tests.rewards.tiny_embeddings import PICTURES, PROMPTS, affine, predictor_tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aesthetic")
    torch.save(predictor_tensors(16), folder / FILE)
    return folder


def test_a_score_is_affine_in_the_unit_length_embedding(folder: Path, clip_folder: Path) -> None:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    with torch.inference_mode():
        seen = model.encode_image(torch.stack([preprocess(picture) for picture in PICTURES]))
    expected = affine(predictor_tensors(16), seen / seen.norm(dim=-1, keepdim=True)).tolist()
    scores = Aesthetic(model=str(folder), clip=str(clip_folder)).score(PICTURES, PROMPTS)
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-6)
    assert len({round(value, 6) for value in expected}) == 3


def test_the_prompt_is_ignored(folder: Path, clip_folder: Path) -> None:
    reward = Aesthetic(model=str(folder), clip=str(clip_folder))
    one, other = reward.score(PICTURES[:1] * 2, PROMPTS[:2])
    assert one == other


def test_the_reason_says_the_scale(folder: Path, clip_folder: Path) -> None:
    score = Aesthetic(model=str(folder), clip=str(clip_folder)).score(PICTURES[:1], PROMPTS[:1])[0]
    assert score.reason == f"beauty {score.value:.1f} of 10"


def test_scores_do_not_depend_on_the_batch(folder: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = Aesthetic(model=str(folder), clip=str(clip_folder))
    whole = [score.value for score in reward.score(PICTURES, PROMPTS)]
    monkeypatch.setattr(open_clip_models, "BATCH", 1)
    assert [score.value for score in reward.score(PICTURES, PROMPTS)] == pytest.approx(whole, abs=1e-6)
    assert reward.score([], []) == []


def test_a_predictor_may_come_as_safetensors(folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    save_file(predictor_tensors(16), tmp_path / "predictor.safetensors")
    one = Aesthetic(model=str(folder), clip=str(clip_folder))
    other = Aesthetic(model=str(tmp_path), file="predictor.safetensors", clip=str(clip_folder))
    assert other.score(PICTURES, PROMPTS) == one.score(PICTURES, PROMPTS)


def test_predictor_and_clip_are_both_in_the_version(folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    version = Aesthetic(model=str(folder), clip=str(clip_folder)).version
    other = shutil.copytree(clip_folder, tmp_path / "clip")
    (other / "note.txt").write_text("another")
    assert Aesthetic(model=str(folder), clip=str(other)).version != version
    assert Aesthetic(clip=str(clip_folder)).version != version


def test_the_default_reads_openais_clip() -> None:
    version = Aesthetic().version
    assert version.startswith("1-trl-lib/ddpo-aesthetic-predictor@")
    assert version.endswith("ViT-L-14 (openai)")


def test_a_predictor_for_another_clip_is_refused_before_anything_starts(clip_folder: Path, tmp_path: Path) -> None:
    torch.save(predictor_tensors(24), tmp_path / FILE)
    with pytest.raises(UsageError, match=r"reward 'aesthetic' cannot load .*shapes.*another kind") as refused:
        Aesthetic(model=str(tmp_path), clip=str(clip_folder)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)


def test_a_file_that_holds_no_predictor_is_refused_before_anything_starts(clip_folder: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1, 16)}, tmp_path / FILE)
    with pytest.raises(UsageError, match=r"no linear layers are named layers\.0\.weight"):
        Aesthetic(model=str(tmp_path), clip=str(clip_folder)).check(PROMPTS[0])


def test_an_unknown_clip_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model of reward 'aesthetic': 'ViT-L14'\. Did you mean"):
        Aesthetic(clip="ViT-L14")


def test_layers_come_in_the_order_of_their_numbers() -> None:
    tensors = {"head.10.weight": torch.full((1, 2), 2.0), "head.10.bias": torch.zeros(1)}
    tensors |= {"head.9.weight": torch.eye(2)[:, :1], "head.9.bias": torch.ones(2)}
    assert linear_layers(tensors, "head.")(torch.tensor([3.0])).item() == pytest.approx(2 * (3 + 1) + 2 * 1)


def test_an_activation_between_the_layers_is_not_overlooked() -> None:
    with pytest.raises(ValueError, match="no linear layers"):
        linear_layers({**predictor_tensors(16), "layers.1.num_parameters": torch.ones(1)}, "layers.")
