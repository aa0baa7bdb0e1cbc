"""Small real models for the critics: a detector and a CLIP with random weights, in folders as training leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from milr.models.base import ModelFacts
from milr_rewards.language.vocabulary import CLASSES, COLORS
from milr_rewards.networks.scene_detector import DetectorConfig, SceneDetector


def facts_of(name: str) -> ModelFacts:
    return ModelFacts(
        name=name,
        hidden_size=32,
        image_tokens=16,
        text_vocabulary=48,
        image_vocabulary=24,
        grid=(4, 4),
        resolution=8,
        context_length=96,
    )


def tiny_detector_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    SceneDetector(DetectorConfig(CLASSES, COLORS, width=4)).save(folder)
    return folder


def tiny_clip_folder(folder: Path) -> Path:
    words = ["<pad>", "<eos>", "a", "photo", "of", "red", "blue", "dog", "cat"]
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": len(words), "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    config["text_cfg"]["hf_tokenizer_name"] = "local"
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}), "utf-8")
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    tokenizer.save_pretrained(str(folder))
    return folder
