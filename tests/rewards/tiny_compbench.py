"""Small real networks for T2I-CompBench's critics: random weights and a real tokenizer, in folders as on the hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    BlipProcessor,
    CLIPTokenizerFast,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    PreTrainedTokenizerFast,
    SwinConfig,
)

WORDS = (
    "a",
    "red",
    "green",
    "book",
    "vase",
    "cat",
    "dog",
    "coat",
    "rack",
    "yes",
    "no",
    "?",
    "the",
    "blue",
    "photo",
    "of",
)
BLIP_RESOLUTION = 32


def noise(seed: int, width: int = 40, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


PICTURES = [noise(0), noise(1), noise(2, width=60), noise(3)]


def bert_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words in which BERT's special tokens and marks have the ids that detectors expect."""
    vocabulary = {f"[unused{index}]": index for index in range(size)}
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 1012: ".", 1029: "?"}
    names = dict(special) | {200 + index: word for index, word in enumerate(WORDS) if word != "?"}
    if size < 1030:  # the language model needs no such ids
        names = {0: "[PAD]", 1: "[UNK]", 2: "[CLS]", 3: "[SEP]"} | {4 + i: word for i, word in enumerate(WORDS)}
    vocabulary = {names.get(index, word): index for word, index in vocabulary.items()}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def tiny_blip_folder(folder: Path) -> Path:
    """A BLIP for questions about pictures of 16 pixels, to be interpolated to `BLIP_RESOLUTION`."""
    tokenizer = bert_tokenizer(30)
    text = {
        "vocab_size": 32,
        "bos_token_id": 30,  # [DEC]; [ENC] comes behind it
        "sep_token_id": 3,
        "pad_token_id": 0,
        "hidden_size": 16,
        "encoder_hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "projection_dim": 16,
        "is_decoder": True,
        "initializer_range": 0.5,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "projection_dim": 16,
        "initializer_range": 0.5,
    }
    torch.manual_seed(0)
    model = BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=vision, projection_dim=16))
    torch.nn.init.normal_(model.vision_model.embeddings.position_embedding)
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer).save_pretrained(folder)
    return folder


def tiny_grounding_dino_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            patch_size=4,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ),
        d_model=32,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        num_queries=12,
        num_feature_levels=4,
    )
    model = GroundingDinoForObjectDetection(config)
    with torch.no_grad():  # so that the names, and the pictures, make a difference
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "norm" not in name:
                weight.add_(0.08 * torch.randn_like(weight))
        for head in model.bbox_embed:  # boxes large enough to overlap
            head.layers[-1].bias[2:] += 1.0
    model.save_pretrained(folder)
    size = {"shortest_edge": 128, "longest_edge": 192}
    GroundingDinoProcessor(GroundingDinoImageProcessor(size=size), bert_tokenizer(1100)).save_pretrained(folder)
    return folder


def tiny_owl_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Owlv2Config(
        text_config={
            "vocab_size": 64,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
            "initializer_range": 0.5,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=16,
    )
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    names = ["!", "<|startoftext|>", "<|endoftext|>", *(f"{word}</w>" for word in WORDS)]
    letters = sorted({letter for word in WORDS for letter in word})
    vocabulary = {name: index for index, name in enumerate([*names, *letters, *(f"{x}</w>" for x in letters)])}
    tokenizer = CLIPTokenizerFast(vocab=vocabulary, merges=[], pad_token="!", model_max_length=16)
    Owlv2Processor(Owlv2ImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def tiny_dpt_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        initializer_range=0.3,
    )
    DPTForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
