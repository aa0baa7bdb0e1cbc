"""The critic `image-reward`: a tiny ImageReward under its authors' names. Nothing is fetched.

The picture's side of the checkpoint is written and read by timm's ViT, whose names the authors use: an implementation
that owes nothing to the one under test.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from transformers import BlipConfig, BlipTextModel

from milr.errors import UsageError
from milr.prompts import Prompt
from milr_rewards import image_reward
from milr_rewards.image_reward import FILE, ImageReward, blip_names
from tests.rewards.tiny_embeddings import (
    PICTURES,
    PROMPTS,
    SIDE,
    WORDS,
    affine,
    predictor_tensors,
    word_tokenizer,
)

VISION = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


class Official:
    """ImageReward as its authors put it together, from parts of timm and transformers."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.config = BlipConfig(
            vision_config=VISION | {"image_size": SIDE, "patch_size": 16, "layer_norm_eps": 1e-6},
            text_config=TEXT | {"vocab_size": len(WORDS), "bos_token_id": 2, "sep_token_id": 3},
        )
        self.vision = timm.models.VisionTransformer(
            img_size=SIDE, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=0, global_pool=""
        ).eval()
        self.text = BlipTextModel(self.config.text_config, add_pooling_layer=False).eval()
        for parameter in [*self.vision.parameters(), *self.text.parameters()]:
            torch.nn.init.normal_(parameter.data, std=0.2)
        self.predictor = predictor_tensors(16)

    def save(self, folder: Path) -> Path:
        tensors = {f"blip.visual_encoder.{name}": tensor for name, tensor in self.vision.state_dict().items()}
        tensors |= {f"blip.text_encoder.{name}": tensor for name, tensor in self.text.state_dict().items()}
        tensors |= {f"mlp.{name}": tensor for name, tensor in self.predictor.items()}
        # What the authors' checkpoint holds besides.
        tensors |= {"blip.vision_proj.weight": torch.ones(8, 24), "blip.text_proj.weight": torch.ones(8, 16)}
        tensors |= {"blip.text_encoder.embeddings.position_ids": torch.arange(512)[None]}
        torch.save(tensors, folder / FILE)
        self.config.save_pretrained(folder)
        word_tokenizer().save_pretrained(str(folder))
        return folder

    @torch.inference_mode()
    def reward(self, image: Image.Image, prompt: Prompt) -> float:
        fitted = image.resize((SIDE * 3 // 2, SIDE), Image.Resampling.BICUBIC)
        middle = np.asarray(fitted.crop((SIDE // 4, 0, SIDE // 4 + SIDE, SIDE))) / 255
        standard = (middle - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
        pixels = torch.tensor(standard, dtype=torch.float32).permute(2, 0, 1)
        seen = self.vision.forward_features(pixels[None])
        tokens = word_tokenizer()(prompt.text, return_tensors="pt", return_token_type_ids=False)
        read = self.text(
            **tokens, encoder_hidden_states=seen, encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long)
        )
        value = affine(self.predictor, read.last_hidden_state[:, 0]).item()
        return (value - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture(scope="module")
def official() -> Official:
    return Official()


@pytest.fixture(scope="module")
def folder(official: Official, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official.save(tmp_path_factory.mktemp("image_reward"))


def values(reward: ImageReward) -> list[float | None]:
    return [score.value for score in reward.score(PICTURES, PROMPTS)]


def test_a_checkpoint_under_the_authors_names_scores_as_theirs(official: Official, folder: Path) -> None:
    expected = [official.reward(picture, prompt) for picture, prompt in zip(PICTURES, PROMPTS, strict=True)]
    assert values(ImageReward(model=str(folder))) == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 3) for value in expected}) == 3


def test_scores_do_not_depend_on_the_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = ImageReward(model=str(folder))
    whole = values(reward)
    monkeypatch.setattr(image_reward, "BATCH", 1)
    assert values(reward) == pytest.approx(whole, abs=1e-5)
    assert reward.score([], []) == []


def test_the_reason_counts_deviations(folder: Path) -> None:
    score = ImageReward(model=str(folder)).score(PICTURES[:1], PROMPTS[:1])[0]
    assert score.reason == f"{score.value:+.2f} deviations from an average picture"


def test_words_beyond_the_35th_token_do_not_count(folder: Path) -> None:
    long = "red " * 33  # and <start> and <end>
    one, other = ImageReward(model=str(folder)).score(PICTURES[:1] * 2, [Prompt(long), Prompt(long + "blue dog")])
    assert one.value == pytest.approx(other.value, abs=1e-5)


def test_pictures_of_any_mode_are_scored(folder: Path) -> None:
    assert ImageReward(model=str(folder)).score([Image.new("LA", (10, 30))], PROMPTS[:1])[0].value is not None


def test_loading_leaves_the_callers_generator_alone(folder: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    ImageReward(model=str(folder)).check(PROMPTS[0])
    assert torch.rand(1).equal(expected)


def test_every_tensor_that_scoring_needs_gets_a_name_of_transformers() -> None:
    official = {
        "blip.visual_encoder.cls_token": "vision.embeddings.class_embedding",
        "blip.visual_encoder.patch_embed.proj.weight": "vision.embeddings.patch_embedding.weight",
        "blip.visual_encoder.blocks.11.attn.proj.bias": "vision.encoder.layers.11.self_attn.projection.bias",
        "blip.visual_encoder.blocks.3.norm2.weight": "vision.encoder.layers.3.layer_norm2.weight",
        "blip.visual_encoder.norm.bias": "vision.post_layernorm.bias",
        "blip.text_encoder.encoder.layer.0.crossattention.self.key.weight": (
            "text.encoder.layer.0.crossattention.self.key.weight"
        ),
        "mlp.layers.7.weight": "head.7.weight",
    }
    renamed = blip_names({name: torch.tensor(float(place)) for place, name in enumerate(official)})
    assert {name: tensor.item() for name, tensor in renamed.items()} == {
        name: float(place) for place, name in enumerate(official.values())
    }


def test_without_a_configuration_the_model_has_the_authors_sizes(folder: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(folder, tmp_path / "plain")
    (plain / "config.json").unlink()
    config: Any = ImageReward(model=str(plain))._config()
    assert (config.vision_config.num_hidden_layers, config.vision_config.hidden_size) == (24, 1024)
    assert config.vision_config.layer_norm_eps == 1e-6
    assert (config.text_config.num_attention_heads, config.text_config.encoder_hidden_size) == (12, 1024)


def test_the_default_is_image_reward_with_the_words_of_bert() -> None:
    version = ImageReward().version
    assert version.startswith("1-zai-org/ImageReward@")
    assert "google-bert/bert-base-uncased@" in version


def test_a_checkpoint_that_lacks_a_tensor_is_refused_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    tensors = torch.load(damaged / FILE, weights_only=True)
    del tensors["blip.visual_encoder.norm.bias"]
    torch.save(tensors, damaged / FILE)
    with pytest.raises(UsageError, match=r"reward 'image-reward' cannot load .*damaged") as refused:
        ImageReward(model=str(damaged)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)


def test_a_folder_without_weights_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"reward 'image-reward' has no weights: there is no file '.*ImageReward\.pt'"):
        ImageReward(model=str(tmp_path)).check(PROMPTS[0])
