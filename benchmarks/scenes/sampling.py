"""Plans and pictures from a trained model, thousands at a time: what the evaluation of the recipe needs, and no more.

The library's own decoding is batched by prompt and sample and knows latents; this one is a plain cached loop.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, JanusForConditionalGeneration, PreTrainedTokenizerFast

from . import language

_MAX_PLAN = 64


class Setting(NamedTuple):
    """How freely a model samples."""

    guidance: float
    temperature: float
    reasoning_temperature: float

    def __str__(self) -> str:
        return (
            f"guidance {self.guidance}, temperature {self.temperature}, "
            f"reasoning temperature {self.reasoning_temperature}"
        )


@torch.inference_mode()
def write_plans(
    model: JanusForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    temperature: float,
    generator: torch.Generator,
) -> list[str]:
    """One plan per prompt; temperature 0 takes the likeliest word."""
    ids, mask = _batch(tokenizer, [language.REASONING_PROMPT.format(prompt=prompt) for prompt in prompts], model.device)
    backbone, cache = model.model.language_model, DynamicCache()
    embeddings = backbone.embed_tokens(ids)
    boi = tokenizer.convert_tokens_to_ids(language.BOI)
    written: list[Tensor] = []
    open_rows = torch.ones(len(prompts), dtype=torch.bool, device=ids.device)
    for _ in range(_MAX_PLAN):
        hidden = _step(backbone, embeddings, mask, cache)
        token = _sample(model.lm_head(hidden)[:, : len(tokenizer)], temperature, generator)
        open_rows &= token != boi
        written.append(torch.where(open_rows, token, tokenizer.pad_token_id))
        if not open_rows.any():
            break
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        embeddings = backbone.embed_tokens(token)[:, None]
    return tokenizer.batch_decode(torch.stack(written, dim=1), skip_special_tokens=True)


@torch.inference_mode()
def draw(
    model: JanusForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    guidance: float,
    temperature: float,
    generator: torch.Generator,
    batch: int = 1106,
) -> Tensor:
    """Image tokens [N, 144] for complete image prompts."""
    count = model.config.vision_config.num_image_tokens
    backbone = model.model.language_model
    parts = []
    for start in range(0, len(texts), batch):
        ids, mask = _batch(tokenizer, texts[start : start + batch], model.device)
        kept = torch.tensor(
            [tokenizer.convert_tokens_to_ids(name) for name in (language.BOS, language.BOI)], device=ids.device
        )
        blank = torch.where(torch.isin(ids, kept), ids, tokenizer.pad_token_id)
        mask = mask.repeat(2, 1)
        embeddings, cache = backbone.embed_tokens(torch.cat([ids, blank])), DynamicCache()
        tokens: list[Tensor] = []
        for _ in range(count):
            with_text, without = model.model.generation_head(_step(backbone, embeddings, mask, cache)).float().chunk(2)
            token = _sample(without + guidance * (with_text - without), temperature, generator)
            tokens.append(token)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            embeddings = model.prepare_embeddings_for_image_generation(token).repeat(2, 1)[:, None]
        parts.append(torch.stack(tokens, dim=1))
    return torch.cat(parts)


def _batch(tokenizer: PreTrainedTokenizerFast, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
    encoded = tokenizer(texts, padding=True, padding_side="left", add_special_tokens=False, return_tensors="pt")
    return encoded.input_ids.to(device), encoded.attention_mask.to(device)


def _step(backbone: torch.nn.Module, embeddings: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    """Last hidden state [B, H]; positions count only what the mask shows."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -embeddings.shape[1] :]
    output = backbone(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, past_key_values=cache)
    hidden: Tensor = output.last_hidden_state[:, -1]
    return hidden


def _sample(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    shares = (logits.float() / temperature).softmax(-1)
    return torch.multinomial(shares, 1, generator=generator)[:, 0]
