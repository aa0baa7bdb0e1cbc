"""The folder of `mini`: weights in bf16 and every small file that makes it load offline with transformers' own classes.

`README.md`, the model card, is written by hand and left alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    JanusForConditionalGeneration,
    JanusImageProcessor,
    JanusProcessor,
    PreTrainedTokenizerFast,
)

from milr.decoding import Sampling

from . import language
from .language_model import IMAGE_TOKENS
from .world import IMAGE_SIZE

# Chosen on GenEval's prompts with the choosing seed; README.md has the table.
DEFAULT_SAMPLING = Sampling(guidance=1.25, temperature=0.9, reasoning_temperature=0.5, max_reasoning_tokens=96)

# What the milr backend reads beside transformers' own files.
BACKEND_FACTS = {
    "name": "mini",
    "reasoning_prompt": language.REASONING_PROMPT,
    "image_prompt": language.IMAGE_PROMPT,
    "direct_prompt": language.DIRECT_PROMPT,
    "question_prompt": language.QUESTION_PROMPT,
    "describe_prompt": language.DESCRIBE_PROMPT,
    "reasoning_stop": [language.BOI],
    **asdict(DEFAULT_SAMPLING),
    "image_ratio": 0.2,  # the published 0.02 of 576 tokens would be 2 of these 144
    "default_reward": "geneval",
    "licence": "Apache-2.0 (weights); sprites: Noto Color Emoji, SIL OFL 1.1",
}


def save_mini(
    model: JanusForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    max_shard_size: str = "50MB",
) -> None:
    """Write the model folder."""
    pad, bos, boi, eos = (
        tokenizer.convert_tokens_to_ids(name) for name in (language.PAD, language.BOS, language.BOI, language.EOS)
    )
    # A plan ends where the image begins, so text generation stops there too.
    model.generation_config = GenerationConfig(
        bos_token_id=bos,
        pad_token_id=pad,
        eos_token_id=[boi, eos],
        do_sample=True,
        temperature=DEFAULT_SAMPLING.temperature,
        top_k=0,
        guidance_scale=DEFAULT_SAMPLING.guidance,
        max_length=256,
        generation_kwargs={"boi_token_id": boi},
    )
    model.to(torch.bfloat16).save_pretrained(str(folder), max_shard_size=max_shard_size)
    pictures = JanusImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    JanusProcessor(pictures, tokenizer, num_image_tokens=IMAGE_TOKENS).save_pretrained(str(folder))
    (folder / "milr.json").write_text(json.dumps(BACKEND_FACTS, indent=2) + "\n")
