"""What lower precision gains and costs: the engine's speed, and how far it moves the distributions of the tokens.

Pictures drawn by the weights as they are, are read again by both models, each token behind the same tokens. A first
row, `itself`, compares the model's own log-probabilities while drawing with those while reading: the floor below which
a shift is only arithmetic. With random weights the distributions are not those of a trained model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from milr.decoding.tokens import guide, log_prob
from milr.models.janus import Janus
from milr.models.weights import check_precision

from .engines import drawn_tokens, time_drawing
from .subjects import copied, image_rows

_PICTURES = 4


def time_quantized(
    model: Janus, precision: str, batches: Sequence[int], bandwidth: float | None, repeats: int, patience: float
) -> dict[str, Any]:
    """Speed at each batch, and the shift in log-probability per token.

    Raises:
        UsageError: nothing here can quantise.
    """
    other = copied(model, precision=check_precision(precision))
    shift = _shift(model, other)
    engine = {
        str(batch): time_drawing(other, batch, bandwidth, repeats, patience, projection_bytes=1) for batch in batches
    }
    return {"precision": precision, **shift, "engine": engine}


@torch.no_grad()
def _shift(model: Janus, other: Janus) -> dict[str, float]:
    tokens, while_drawing = drawn_tokens(model, _PICTURES, None)
    before, after = distributions(model, tokens), distributions(other, tokens)  # [N, T, V]
    own, moved = log_prob(before, tokens), log_prob(after, tokens)
    divergence = (before.exp() * (before - after)).sum(dim=-1)
    return {
        "mean_shift": float((moved - own).abs().mean()),
        "max_shift": float((moved - own).abs().max()),
        "mean_kl": float(divergence.mean()),
        "itself_mean_shift": float((while_drawing - own).abs().mean()),
        "itself_max_shift": float((while_drawing - own).abs().max()),
        "tokens": tokens.numel(),
    }


@torch.no_grad()
def distributions(model: Janus, tokens: Tensor) -> Tensor:
    """Log-probabilities [N, T, V] of what follows the prompts of `image_rows` and the tokens [N, T] before each."""
    facts = model.facts
    prompts = image_rows(model, len(tokens)).prompts
    pairs = [*prompts, *(model.unconditional_ids(prompt) for prompt in prompts)]
    text = model.embed_text(torch.tensor(pairs, device=model.device))  # [2N, P, H]
    embeddings = torch.cat([text, model.embed_image(tokens[:, :-1]).repeat(2, 1, 1)], dim=1)
    hidden = model.backbone.prefill(embeddings, None)[:, text.shape[1] - 1 :]  # [2N, T, H]
    rows = []
    for conditional, unconditional in zip(*hidden.chunk(2), strict=True):
        logits = guide(model.image_head(conditional), model.image_head(unconditional), facts.guidance)
        rows.append((logits / (facts.temperature or 1.0)).log_softmax(dim=-1))
    return torch.stack(rows)
