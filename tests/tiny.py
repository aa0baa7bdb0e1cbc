"""A real Janus with tiny random weights, as a checkpoint folder: what a test loads when it needs no trained model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

SPECIAL = ["<unk>", "<pad>", "<bos>", "<eos>", "<think>", "<boi>", "<eoi>", "<image>"]
NOUNS = ["apple", "dog", "cat", "cup", "photo"]
WORDS = ["a", "of", "and", "red", "blue", "green", *NOUNS, "left", "right", "above", "below", "two", "three", *",.;:"]
WORDS += ["is", "are", "there", "the", "yes", "no", "?"]
MILR_JSON = {
    "name": "tiny",
    "reasoning_prompt": "<bos>{prompt}<think>",
    "image_prompt": "<bos>{prompt}<think>{reasoning}<boi>",
    "direct_prompt": "<bos>{prompt}<boi>",
    "question_prompt": "<bos><boi>{image}<eoi>{question}<think>",
    "describe_prompt": "<bos><boi>{image}<eoi><think>",
    "reasoning_stop": ["<boi>"],
    "max_reasoning_tokens": 12,
    "guidance": 3.0,
    "image_ratio": 0.25,
}


def tiny_janus_folder(folder: Path, seed: int = 0) -> Path:
    """Writes a checkpoint of under a megabyte: 16 image tokens, pictures of 8 pixels."""
    torch.manual_seed(seed)
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    config = JanusConfig(
        text_config=LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=96,
            bos_token_id=vocabulary["<bos>"],
            eos_token_id=vocabulary["<eos>"],
            pad_token_id=vocabulary["<pad>"],
        ),
        vision_config=JanusVisionConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=8,
            patch_size=2,
            projection_dim=32,
            num_image_tokens=16,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=24,
            latent_channels=32,
            base_channels=32,
            channel_multiplier=[1, 1],
            num_res_blocks=1,
            projection_dim=32,
            image_token_embed_dim=32,
            num_patches=4,
        ),
        image_token_id=vocabulary["<image>"],
        tie_word_embeddings=False,
    )
    network = JanusForConditionalGeneration(config)
    with torch.no_grad():  # a peaked distribution, so that greedy choices do not hang on the last bit
        network.lm_head.weight.mul_(8)
        network.model.generation_head.vision_head.weight.mul_(8)
    network.generation_config = GenerationConfig(
        pad_token_id=vocabulary["<pad>"],
        bos_token_id=vocabulary["<bos>"],
        eos_token_id=vocabulary["<boi>"],
        generation_kwargs={"boi_token_id": vocabulary["<boi>"]},
    )
    network.save_pretrained(folder)
    word_level = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    word_level.normalizer = normalizers.Lowercase()
    word_level.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_level,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens={
            "boi_token": "<boi>",
            "eoi_token": "<eoi>",
            "image_token": "<image>",
            "think_token": "<think>",
        },
    )
    tokenizer.save_pretrained(folder)
    (folder / "milr.json").write_text(json.dumps(MILR_JSON))
    return folder
