"""Small real detectors of transformers and a CLIP that knows every colour, with random weights, in folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    MaskFormerImageProcessor,
    MaskFormerSwinConfig,
    ResNetConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
    SwinConfig,
)

LABELS = {0: "mouse", 1: "Dog", 2: "unicorn"}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SWIN: dict[str, Any] = {"image_size": 32, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4, "window_size": 2}
DETR: dict[str, Any] = {
    "d_model": 32, "num_queries": 6, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
}  # fmt: skip


def tiny_mask2former_folder(folder: Path) -> Path:
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(**SWIN, out_features=STAGES),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        dim_feedforward=16,
        num_attention_heads=2,
        num_queries=6,
        id2label=LABELS,
    )
    processor = Mask2FormerImageProcessor(size={"height": 64, "width": 64})
    return _saved(Mask2FormerForUniversalSegmentation, config, processor, folder)


def tiny_maskformer_folder(folder: Path) -> Path:
    config = MaskFormerConfig(
        backbone_config=MaskFormerSwinConfig(**SWIN, out_features=STAGES),
        decoder_config=DetrConfig(**DETR),
        fpn_feature_size=32,
        mask_feature_size=32,
        id2label=LABELS,
    )
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64})
    return _saved(MaskFormerForInstanceSegmentation, config, processor, folder)


def tiny_detr_folder(folder: Path) -> Path:
    config = DetrConfig(
        **DETR,
        backbone_config=ResNetConfig(
            embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic", out_features=["stage4"]
        ),
        id2label=LABELS | {3: "N/A"},
    )
    processor = DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 100})
    return _saved(DetrForObjectDetection, config, processor, folder)


def tiny_rt_detr_folder(folder: Path) -> Path:
    config = RTDetrConfig(
        backbone_config=RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8] * 3, depths=[1] * 3, layer_type="basic", out_indices=[1, 2, 3]
        ),
        encoder_in_channels=[8] * 3,
        feat_strides=[4, 8, 16],
        encoder_hidden_dim=16,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16] * 3,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        decoder_layers=1,
        num_queries=6,
        id2label=LABELS,
    )
    return _saved(RTDetrForObjectDetection, config, RTDetrImageProcessor(size={"height": 64, "width": 64}), folder)


def tiny_color_clip_folder(folder: Path) -> Path:
    config: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 16, "width": 16, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    torch.nn.init.normal_(model.token_embedding.weight)  # as first drawn, all words are nearly the same
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}), "utf-8")
    return folder


def _saved(kind: Any, config: Any, processor: Any, folder: Path) -> Path:
    """A model whose queries differ: as first drawn, each sees the same."""
    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
