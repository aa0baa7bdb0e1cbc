"""Transformers' own image generation, one picture at a time over its static cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from milr.models.janus import Janus

from .subjects import image_rows
from .timing import repeated


def time_generate(model: Janus, measured_tokens: int | None, repeats: int) -> dict[str, Any]:
    """Seconds of a picture's tokens by `JanusForConditionalGeneration.generate(generation_mode="image")`.

    Args:
        measured_tokens: how many to draw; every token reads the whole static cache, so that the time of a picture is
            that of its tokens, whichever were drawn. None draws whole pictures.
    """
    (prompt,) = image_rows(model, 1).prompts
    count = model.facts.image_tokens
    measured = min(measured_tokens or count, count)
    ids = torch.tensor([prompt], device=model.device)
    settings = _generation_config(model, len(prompt) + count)
    with _image_tokens(model, measured):
        timing = repeated(
            model.device,
            lambda: model.network.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_mode="image",
                generation_config=settings,
            ),
            repeats,
            patience=30.0,
        )
    seconds = timing.seconds / measured * count
    return {
        "image_tokens": count,
        "measured_tokens": measured,
        "extrapolated": measured < count,
        "image_seconds": seconds,
        "ms_per_token": 1000 * seconds / count,
        "warm_up_seconds": timing.warm_up,
    }


def _generation_config(model: Janus, max_length: int) -> GenerationConfig:
    tokenizer = model.tokenizer
    return GenerationConfig(
        max_length=max_length,
        do_sample=True,
        guidance_scale=model.facts.guidance,
        pad_token_id=model.pad_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        generation_kwargs={"boi_token_id": tokenizer.convert_tokens_to_ids(model.boi)},
    )


@contextmanager
def _image_tokens(model: Janus, count: int) -> Iterator[None]:
    """Makes `generate` draw that many tokens."""
    config = model.network.model.vision_model.config
    before = config.num_image_tokens
    config.num_image_tokens = count
    try:
        yield
    finally:
        config.num_image_tokens = before
