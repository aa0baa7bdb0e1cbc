"""Autoregressive decoding with a cache of keys and values: the reasoning text and the guided picture.

Rows are independent: each has its own prompt, prefix, noise and end. Ragged prompts are padded on the left. Both loops
know nothing of methods, rewards or pixels. N rows, T positions, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from milr.decoding.rollout import Sampling
from milr.decoding.tokens import choose, guide, log_prob
from milr.latents import PrefixBatch
from milr.models.base import UnifiedModel
from milr.noise import NoiseRows, Stream


@dataclass(frozen=True)
class Written:
    """One row's reasoning: ids and log-probabilities [T] and the states [T, H] fp32 that the head read."""

    ids: Tensor
    states: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class Drawn:
    """N rows' pictures: tokens and log-probabilities [N, T], states of the first positions [N, L, 2, H] fp32."""

    tokens: Tensor
    states: Tensor
    log_probs: Tensor


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and positions, each [N, T], of ragged rows."""
    length = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(dim=1) - 1).clamp(min=0)


@torch.no_grad()
def write_reasoning(
    model: UnifiedModel, prompts: Sequence[Sequence[int]], prefixes: PrefixBatch, noise: NoiseRows, sampling: Sampling
) -> list[Written]:
    """Writes each row's reasoning until its stop token (which is kept) or `max_reasoning_tokens`.

    Args:
        prompts: N rows of token ids.
        prefixes: latents of the first positions.
    """
    device = model.device
    ids, mask, positions = pad_left(prompts, model.pad_id, device)
    cache = model.new_cache()
    hidden = model.backbone(model.embed_text(ids), cache, mask, positions)[:, -1]  # [N, H]
    place = positions[:, -1:] + 1  # [N, 1]
    stops = torch.tensor(sorted(model.stop_ids), device=device)
    sampled = sampling.reasoning_temperature > 0
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    states, tokens, log_probs, live = [], [], [], []
    for position in range(sampling.max_reasoning_tokens):
        state = prefixes.apply(hidden, position)
        logits = model.text_head(state) / (sampling.reasoning_temperature or 1.0)  # [N, V]
        gumbel = noise.gumbel(Stream.TEXT, position, 1, logits.shape[-1])[:, 0] if sampled else None
        token = choose(logits, gumbel)
        states.append(state.float())
        tokens.append(token)
        log_probs.append(log_prob(logits, token))
        live.append(~ended)
        ended = ended | torch.isin(token, stops)
        if bool(ended.all()):
            break
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
        hidden = model.backbone(model.embed_text(token[:, None]), cache, mask, place)[:, -1]
        place = place + 1
    lengths = torch.stack(live).sum(dim=0).tolist()
    by_row = (torch.stack(column, dim=1) for column in (tokens, states, log_probs))  # each [N, T, ...]
    rows = zip(*by_row, lengths, strict=True)
    return [Written(ids[:length], states[:length], log_probs[:length]) for ids, states, log_probs, length in rows]


@torch.no_grad()
def draw_image(
    model: UnifiedModel,
    prompts: Sequence[Sequence[int]],
    prefixes: PrefixBatch,
    noise: NoiseRows,
    sampling: Sampling,
    keep: int,
) -> Drawn:
    """Draws each row's image tokens, a conditional and an unconditional sequence side by side.

    Args:
        prompts: N rows of image prompt ids.
        prefixes: latents of the first positions.
        keep: for how many of the first positions the states are returned.
    """
    rows = len(prompts)
    pairs = [*prompts, *(model.unconditional_ids(prompt) for prompt in prompts)]
    ids, mask, positions = pad_left(pairs, model.pad_id, model.device)
    cache = model.new_cache()
    hidden = model.backbone(model.embed_text(ids), cache, mask, positions)[:, -1]  # [2N, H]
    place = positions[:, -1:] + 1
    count = model.facts.image_tokens
    # The mask of the whole sequence, made once; each step reads a longer part of it.
    mask = torch.cat([mask, mask.new_ones(2 * rows, count)], dim=1)
    entries = model.facts.image_vocabulary
    gumbels = noise.gumbel_steps(Stream.IMAGE, count, entries) if sampling.temperature > 0 else None
    states, tokens, log_probs = [], [], []
    for position in range(count):
        state = prefixes.apply(torch.stack([hidden[:rows], hidden[rows:]], dim=1), position)  # [N, 2, H]
        logits = model.image_head(state)  # [N, 2, V]
        logits = guide(logits[:, 0], logits[:, 1], sampling.guidance) / (sampling.temperature or 1.0)
        token = choose(logits, next(gumbels) if gumbels else None)  # [N]
        if position < keep:
            states.append(state.float())
        tokens.append(token)
        log_probs.append(log_prob(logits, token))
        if position + 1 < count:
            embedding = model.embed_image(token[:, None]).repeat(2, 1, 1)  # [2N, 1, H]
            hidden = model.backbone(embedding, cache, mask[:, : ids.shape[1] + position + 1], place)[:, -1]
            place = place + 1
    kept = torch.stack(states, dim=1) if states else hidden.new_zeros(rows, 0, 2, hidden.shape[-1]).float()
    return Drawn(torch.stack(tokens, dim=1), kept, torch.stack(log_probs, dim=1))
