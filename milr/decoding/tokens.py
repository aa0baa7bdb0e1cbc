"""The arithmetic of one token: guidance, choice, log-probability."""

from __future__ import annotations

import torch
from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance on logits (Ho & Salimans 2022): u + g (c - u)."""
    return unconditional + guidance * (conditional - unconditional)


def choose(logits: Tensor, gumbel: Tensor | None) -> Tensor:
    """[N, V] logits to [N] tokens: a sample by the Gumbel-max trick, or the most likely without noise."""
    return (logits if gumbel is None else logits + gumbel).argmax(dim=-1)


def log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """[..., V] logits and [...] tokens to [...] log-probabilities."""
    return torch.log_softmax(logits, dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
