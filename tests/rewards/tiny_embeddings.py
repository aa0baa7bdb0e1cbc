"""Small real models for the critics on embeddings, with random weights, in folders as their authors lay them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from milr.prompts import Prompt

WORDS = ["<pad>", "<unk>", "<start>", "<end>", "a", "photo", "of", "red", "blue", "dog", "cat"]
NUMBERS = (0, 2, 4, 6, 7)  # of the predictors' linear layers; dropouts stand between them
SIDE = 32  # of what the tiny models see

PICTURES = [Image.effect_mandelbrot((72, 48), (x, -1.0, x + 1.5, 0.5), 60).convert("RGB") for x in (-1.5, -0.7, 0.1)]
PROMPTS = [Prompt("a photo of a red dog"), Prompt("a blue cat"), Prompt("a blue cat")]


def word_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer that knows `WORDS` and puts each text between <start> and <end>."""
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        "<start> $A <end>", special_tokens=[("<start>", WORDS.index("<start>")), ("<end>", WORDS.index("<end>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", **options)


def siglip_folder(folder: Path) -> Path:
    """An open_clip folder of a SigLIP: one with a learned bias."""
    config: dict[str, Any] = {
        "embed_dim": 16,
        "custom_text": True,
        "init_logit_bias": -2.0,
        "vision_cfg": {"image_size": SIDE, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    save_file(open_clip.CustomTextCLIP(**arguments).state_dict(), folder / "open_clip_model.safetensors")
    config["text_cfg"]["hf_tokenizer_name"] = "local"
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}), "utf-8")
    word_tokenizer().save_pretrained(str(folder))
    return folder


def register_architecture(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a tiny architecture that open_clip knows until the test ends."""
    sizes = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": SIDE, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-tiny", sizes)
    return "ViT-tiny"


def pickscore_folder(folder: Path) -> Path:
    """A `CLIPModel` of transformers with its processor."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    end = WORDS.index("<end>")
    config = CLIPConfig(
        projection_dim=16,
        vision_config={**sizes, "image_size": SIDE, "patch_size": 16},
        text_config={**sizes, "vocab_size": len(WORDS), "eos_token_id": end, "bos_token_id": 2, "pad_token_id": 0},
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    pixels = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    CLIPProcessor(pixels, word_tokenizer(eos_token="<end>", model_max_length=77)).save_pretrained(folder)
    return folder


def predictor_tensors(width: int) -> dict[str, torch.Tensor]:
    """Five linear layers under the names of the improved aesthetic predictor."""
    generator = torch.Generator().manual_seed(1)
    tensors, sizes = {}, (width, 12, 10, 8, 6, 1)
    for number, wide, narrow in zip(NUMBERS, sizes[:-1], sizes[1:], strict=True):
        tensors[f"layers.{number}.weight"] = torch.randn(narrow, wide, generator=generator) / 2
        tensors[f"layers.{number}.bias"] = torch.randn(narrow, generator=generator)
    return tensors


def affine(tensors: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """What the five layers of `predictor_tensors` compute, written out."""
    for number in NUMBERS:
        inputs = inputs @ tensors[f"layers.{number}.weight"].T + tensors[f"layers.{number}.bias"]
    return inputs.squeeze(-1)


def hps_file(file: Path, architecture: str, seed: int = 0) -> Path:
    """A checkpoint of an open_clip architecture, laid out as HPS's."""
    torch.manual_seed(seed)
    torch.save({"state_dict": open_clip.create_model(architecture).state_dict()}, file)
    return file
