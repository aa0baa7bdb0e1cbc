"""The plain cached loop: one picture at a time, eager, keys and values in a cache that grows, noise as in milr.

It is what a first correct implementation does, the baseline of the figure for a CPU, and what the engine's tokens are
compared with: the same noise gives the same tokens wherever the arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from milr.decoding import Sampling
from milr.decoding.tokens import choose, guide
from milr.models.janus import Janus
from milr.noise import NoiseRows, Stream

from .subjects import noise_rows
from .timing import timed

_NOISE_BLOCK = 16


def picture(model: Janus, prompt: str, sampling: Sampling, sample: int = 0) -> tuple[Image.Image, dict[str, Any]]:
    """A reasoning, its picture, and the seconds of each part."""
    noise, device = noise_rows(model, 1, sample), model.device
    text, text_seconds = timed(device, lambda: reasoning(model, model.reasoning_ids(prompt), noise, sampling))
    ids = model.image_ids(prompt, model.decode_text(text))
    tokens, image_seconds = timed(device, lambda: image_tokens(model, ids, noise, sampling))
    (image,), pixel_seconds = timed(device, lambda: model.pixels(tokens[None]))
    return image, {
        "text_tokens": len(text),
        "text_seconds": text_seconds,
        "image_seconds": image_seconds,
        "pixel_seconds": pixel_seconds,
        "seconds": text_seconds + image_seconds + pixel_seconds,
    }


@torch.no_grad()
def reasoning(model: Janus, prompt: list[int], noise: NoiseRows, sampling: Sampling) -> list[int]:
    """Token ids up to a stop token, which is kept, or `max_reasoning_tokens`."""
    cache = DynamicCache(config=model.network.config.text_config)
    ids = torch.tensor([prompt], device=model.device)
    written: list[int] = []
    while len(written) < sampling.max_reasoning_tokens:
        logits = model.text_head(_last_state(model, model.embed_text(ids), cache))
        logits = logits / (sampling.reasoning_temperature or 1.0)
        sampled = sampling.reasoning_temperature > 0
        gumbel = noise.gumbel(Stream.TEXT, len(written), 1, logits.shape[-1])[:, 0] if sampled else None
        token = choose(logits, gumbel)  # [1]
        written.append(int(token))
        if written[-1] in model.stop_ids:
            break
        ids = token[None]
    return written


@torch.no_grad()
def image_tokens(
    model: Janus, prompt: list[int], noise: NoiseRows, sampling: Sampling, count: int | None = None
) -> Tensor:
    """The first `count` tokens [T] of a picture; all of them when not given."""
    count = count or model.facts.image_tokens
    cache = DynamicCache(config=model.network.config.text_config)
    pair = torch.tensor([prompt, model.unconditional_ids(prompt)], device=model.device)
    embeddings = model.embed_text(pair)  # [2, T, H]
    gumbels = _gumbels(noise, count, model.facts.image_vocabulary) if sampling.temperature > 0 else None
    tokens: list[Tensor] = []
    for _ in range(count):
        logits = model.image_head(_last_state(model, embeddings, cache))  # [2, V]
        logits = guide(logits[:1], logits[1:], sampling.guidance) / (sampling.temperature or 1.0)
        tokens.append(choose(logits, next(gumbels) if gumbels else None))  # [1]
        embeddings = model.embed_image(tokens[-1][:, None]).repeat(2, 1, 1)
    return torch.cat(tokens)


def _last_state(model: Janus, embeddings: Tensor, cache: DynamicCache) -> Tensor:
    """State [N, H] after `embeddings`, which follow what the cache holds."""
    return model.network.model.language_model(
        inputs_embeds=embeddings, past_key_values=cache, use_cache=True
    ).last_hidden_state[:, -1]


def _gumbels(noise: NoiseRows, count: int, entries: int) -> Iterator[Tensor]:
    """[N, entries] noise for one position after the other, made a block of positions at a time."""
    for start in range(0, count, _NOISE_BLOCK):
        positions = min(_NOISE_BLOCK, count - start)
        yield from noise.gumbel(Stream.IMAGE, start, positions, entries).unbind(dim=1)
