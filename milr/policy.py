"""From latents to token distributions: the only way in which a method touches the model.

The latent at a position gives a distribution over that position's token through the model's own frozen head. For a
picture the two latents of a position are fused by classifier-free guidance, u + g (c - u), before the temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from milr.decoding.rollout import Sampling
from milr.decoding.tokens import guide
from milr.models.base import UnifiedModel

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Policy:
    """Token distributions given latents, differentiable with respect to them.

    A temperature of 0 draws greedily; its log-probabilities are those of temperature 1.
    """

    text_head: Head
    image_head: Head
    guidance: float = 1.0
    temperature: float = 1.0
    reasoning_temperature: float = 1.0
    text_ratio: float = 0.2
    image_ratio: float = 0.02

    def text_logits(self, states: Tensor) -> Tensor:
        """[..., H] text latents to [..., text vocabulary] logits after temperature."""
        return self.text_head(states) / (self.reasoning_temperature or 1.0)

    def image_logits(self, states: Tensor) -> Tensor:
        """[..., 2, H] image latents to [..., image vocabulary] logits after guidance and temperature."""
        logits = self.image_head(states)
        return guide(logits[..., 0, :], logits[..., 1, :], self.guidance) / (self.temperature or 1.0)


def policy_of(model: UnifiedModel, sampling: Sampling) -> Policy:
    """The policy of a model under the sampling of a run."""
    return Policy(
        model.text_head,
        model.image_head,
        sampling.guidance,
        sampling.temperature,
        sampling.reasoning_temperature,
        model.facts.text_ratio,
        model.facts.image_ratio,
    )


def gaussian_log_density(action: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Log-density, up to a constant, of N(mean, sigma^2) per latent vector: [..., H] and [..., H] to [...]."""
    return -((action - mean) ** 2).sum(dim=-1) / (2 * sigma**2)
