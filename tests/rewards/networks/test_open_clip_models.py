"""Embeddings under open_clip models: length, order, repeats, files of weights, clear refusals. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr_rewards.networks import open_clip_models
from milr_rewards.networks.checkpoints import content_hash
from milr_rewards.networks.open_clip_models import OpenClip
from tests.rewards.tiny_embeddings import PICTURES, hps_file, register_architecture, siglip_folder

TEXTS = ["a photo of a red dog", "a blue cat", "a photo of a red dog"]


@pytest.fixture
def tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> str:
    return register_architecture(monkeypatch)


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return siglip_folder(tmp_path_factory.mktemp("siglip"))


def test_embeddings_have_length_one_and_full_precision(clip_folder: Path) -> None:
    clip = OpenClip("colours", str(clip_folder))
    for embedded in (clip.embed_texts(TEXTS), clip.embed_images(PICTURES)):
        assert embedded.shape == (3, 16)
        assert embedded.dtype == torch.float32
        assert embedded.norm(dim=-1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_a_text_that_repeats_is_embedded_once_and_found_at_each_place(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = OpenClip("colours", str(clip_folder))
    seen: list[int] = []
    real = open_clip.CLIP.encode_text

    def watched(model: open_clip.CLIP, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
        seen.append(len(tokens))
        return real(model, tokens, normalize=normalize)

    monkeypatch.setattr(open_clip.CLIP, "encode_text", watched)
    embedded = clip.embed_texts(TEXTS)
    assert seen == [2]
    assert embedded[0].equal(embedded[2])
    assert not embedded[0].equal(embedded[1])


def test_batches_of_any_size_give_the_same_embeddings(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = OpenClip("colours", str(clip_folder))
    texts, images = clip.embed_texts(TEXTS), clip.embed_images(PICTURES)
    monkeypatch.setattr(open_clip_models, "BATCH", 1)
    assert torch.allclose(clip.embed_texts(TEXTS), texts, atol=1e-6)
    assert torch.allclose(clip.embed_images(PICTURES), images, atol=1e-6)


def test_loading_leaves_the_callers_generator_alone(clip_folder: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    OpenClip("colours", str(clip_folder)).load()
    assert torch.rand(1).equal(expected)


def test_a_folder_is_known_by_its_files(clip_folder: Path) -> None:
    clip = OpenClip("colours", str(clip_folder))
    assert clip.version == content_hash(clip_folder)
    weights = (clip_folder / "open_clip_model.safetensors").stat().st_size / 1e6
    assert clip.size_mb == pytest.approx(weights, abs=0.1)


def test_an_architecture_is_known_by_its_names() -> None:
    clip = OpenClip("colours", "ViT-B-32", "laion2b_s34b_b79k")
    assert clip.version == "ViT-B-32 (laion2b_s34b_b79k)"
    assert clip.size_mb is None


def test_openais_weights_are_meant_where_there_are_some_and_the_only_ones_elsewhere() -> None:
    assert OpenClip("colours", "ViT-L-14").version == "ViT-L-14 (openai)"
    assert OpenClip("colours", "ViT-B-16-SigLIP2-256").version == "ViT-B-16-SigLIP2-256 (webli)"


def test_a_file_can_hold_the_weights_of_an_architecture(tmp_path: Path, tiny_architecture: str) -> None:
    file = hps_file(tmp_path / "weights.pt", tiny_architecture)
    weights = torch.load(file, weights_only=True)["state_dict"]
    model = open_clip.create_model(tiny_architecture)
    model.load_state_dict(weights)
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer(tiny_architecture)(TEXTS)
        expected = torch.nn.functional.normalize(model.eval().encode_text(tokens), dim=-1)
    assert torch.allclose(OpenClip("hps", tiny_architecture, str(file)).embed_texts(TEXTS), expected, atol=1e-6)


def test_a_damaged_file_is_named(tmp_path: Path, tiny_architecture: str) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"no weights")
    with pytest.raises(UsageError, match=r"reward 'hps' cannot load .*weights\.pt: .*damaged") as refused:
        OpenClip("hps", tiny_architecture, str(file)).load()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("resize", "black"), [("longest", True), ("shortest", False)])
def test_pictures_that_are_not_square_are_padded_or_cropped(clip_folder: Path, resize: str, black: bool) -> None:
    wide = Image.new("RGB", (64, 32), "white")
    padded = Image.new("RGB", (64, 64), "black")
    padded.paste(wide, (0, 16))
    clip = OpenClip("hps", str(clip_folder), resize=resize)
    one, other = clip.embed_images([wide, padded])
    assert torch.allclose(one, other, atol=0.02) is black


def test_siglip_has_a_scale_and_a_bias(siglip: Path) -> None:
    scale, bias = OpenClip("siglip", str(siglip)).sigmoid
    assert scale == pytest.approx(1 / 0.07, rel=1e-4)
    assert bias == pytest.approx(-2.0)


def test_a_clip_without_a_bias_has_no_probability(clip_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"is no SigLIP model.*--set reward\.siglip\.model="):
        _ = OpenClip("siglip", str(clip_folder)).sigmoid


def test_refusals_name_the_reward_that_asked(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown model of reward 'colours': 'ViT-L14'"):
        OpenClip("colours", "ViT-L14")
    with pytest.raises(UnknownNameError, match=r"--set reward\.colours\.pretrained=NAME"):
        OpenClip("colours", "ViT-L-14", "opnai")
    with pytest.raises(UsageError, match=r"reward 'colours' has no weights: expected open_clip_config\.json"):
        OpenClip("colours", str(tmp_path))


def test_the_option_that_chooses_the_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", no_network)
    with pytest.raises(UsageError, match=r"no network\. Weights are fetched.*--set reward\.aesthetic\.clip=FOLDER"):
        OpenClip("aesthetic", "ViT-L-14", option="clip").load()


@pytest.mark.parametrize(("tag", "quick"), [("openai", True), ("laion2b_s34b_b79k", False)])
def test_openais_checkpoints_get_the_activation_that_they_were_trained_with(
    monkeypatch: pytest.MonkeyPatch, tag: str, quick: bool
) -> None:
    given: dict[str, Any] = {}

    def fetch(*_: Any, **options: Any) -> None:
        given.update(options)
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", fetch)
    with pytest.raises(UsageError, match="no network"):
        OpenClip("clip", "ViT-B-32", tag).load()
    assert given["force_quick_gelu"] == quick
