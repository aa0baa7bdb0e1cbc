"""The critic `clip`: cosines in batches, which model it takes, and clear refusals. Nothing is fetched."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt
from milr_rewards import clip
from milr_rewards.clip import Clip
from milr_rewards.networks import open_clip_models
from tests.rewards.tiny import facts_of

PICTURES = [Image.new("RGB", (40, 40), color) for color in ("red", "blue", "red")]
PROMPTS = [Prompt("a photo of a red dog"), Prompt("a photo of a blue cat"), Prompt("a photo of a blue cat")]


def test_a_score_is_the_cosine_of_picture_and_text(clip_folder: Path) -> None:
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    with torch.inference_mode():
        seen = model.encode_image(torch.stack([preprocess(picture) for picture in PICTURES]))
        said = model.encode_text(tokenizer([prompt.text for prompt in PROMPTS]))
    expected = torch.nn.functional.cosine_similarity(seen, said).tolist()
    values = [score.value for score in Clip(model=str(clip_folder)).score(PICTURES, PROMPTS)]
    assert values == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 6) for value in expected}) == 3


def test_batches_of_any_size_give_the_same_scores(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = Clip(model=str(clip_folder))
    whole = [score.value for score in reward.score(PICTURES, PROMPTS)]
    monkeypatch.setattr(open_clip_models, "BATCH", 1)
    assert [score.value for score in reward.score(PICTURES, PROMPTS)] == pytest.approx(whole, abs=1e-5)
    assert reward.score([], []) == []


def test_pictures_of_any_mode_are_scored(clip_folder: Path) -> None:
    assert Clip(model=str(clip_folder)).score([Image.new("LA", (10, 30))], PROMPTS[:1])[0].value is not None


def test_the_version_is_that_of_the_files(clip_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(clip_folder, tmp_path / "other")
    assert Clip(model=str(clip_folder)).version == Clip(model=str(other)).version
    (other / "open_clip_config.json").write_text("{}")
    assert Clip(model=str(clip_folder)).version != Clip(model=str(other)).version


def test_pictures_of_mini_are_scored_by_the_embedded_model(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(clip_folder, tmp_path / "scenes-clip")
    monkeypatch.setattr(clip, "_WEIGHTS", tmp_path)
    assert Clip(facts=facts_of("mini")).version == Clip(model=str(clip_folder)).version
    assert Clip(model="scenes-clip").version == Clip(model=str(clip_folder)).version


def test_other_pictures_are_scored_by_openais_largest() -> None:
    assert Clip(facts=facts_of("janus-pro-7b")).version == "ViT-L-14 (openai)"
    assert Clip().version == "ViT-L-14 (openai)"


def test_any_architecture_and_checkpoint_of_open_clip_can_be_chosen() -> None:
    assert Clip(model="ViT-B-32", pretrained="laion2b_s34b_b79k").version == "ViT-B-32 (laion2b_s34b_b79k)"


def test_an_unknown_architecture_gets_a_suggestion() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown model of reward 'clip': 'ViT-L14'\. Did you mean 'ViT-L-14'\?"
    ):
        Clip(model="ViT-L14")


def test_an_unknown_checkpoint_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown checkpoint of ViT-L-14: 'opnai'\. Did you mean 'openai'\?"):
        Clip(model="ViT-L-14", pretrained="opnai")


def test_a_folder_needs_no_checkpoint(clip_folder: Path) -> None:
    with pytest.raises(UsageError, match="leave out pretrained='openai'"):
        Clip(model=str(clip_folder), pretrained="openai")


def test_a_folder_without_a_model_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected open_clip_config\.json in"):
        Clip(model=str(tmp_path))


@pytest.mark.parametrize("damage", ["missing", "truncated", "another architecture"])
def test_unusable_weights_are_an_error_before_anything_starts(clip_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    weights, config = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        config.write_text(config.read_text().replace('"embed_dim": 16', '"embed_dim": 24'))
    with pytest.raises(UsageError, match=r"reward 'clip' cannot load .*Its files are damaged") as refused:
        Clip(model=str(folder)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)


def test_weights_that_cannot_be_fetched_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    def no_network(*_: Any, **__: Any) -> None:
        raise RuntimeError("Failed to download weights for tag 'openai'.\nretried")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", no_network)
    with pytest.raises(UsageError, match=r"Failed to download.*without a network, give a folder") as refused:
        Clip().check(PROMPTS[0])
    assert "\n" not in str(refused.value)


def test_without_open_clip_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_open_clip(name: str, *rest: Any, **more: Any) -> Any:
        if name == "open_clip":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_open_clip)
    with pytest.raises(UsageError, match=r"pip install 'milr\[critics\]'"):
        Clip()
