"""A real Janus with tiny random weights, as a checkpoint folder: what a test loads when it needs no trained model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import GenerationConfig, JanusForConditionalGeneration, PreTrainedTokenizerFast

from milr_benchmarks.speed.shapes import tiny

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
    config = tiny(len(vocabulary), positions=96, special=SPECIAL)
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
