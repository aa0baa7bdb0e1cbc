"""REINFORCE on latents (Williams 1992): advantages, loss, divergence from the start, one clipped fp32 Adam step.

Pure functions of tensors: nothing here knows of models, pictures or prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def advantages(rewards: Tensor, earlier: Sequence[float] = (), baseline: bool = True, scale: bool = True) -> Tensor:
    """How much better each rollout was than expected.

    With several samples the expectation of each is the mean of the others (leave-one-out, Kool et al. 2019), which
    keeps the gradient unbiased. A single sample is compared with the mean of `earlier` rewards of the same search.

    Args:
        rewards: [K] of one step.
        earlier: rewards of the steps before.
        baseline: False takes the rewards as they are.
        scale: divide by the standard deviation of all rewards seen, so that the critic's unit does not matter.

    Returns:
        [K]; zero for a first single sample, which there is nothing to compare with.
    """
    result = rewards
    count = rewards.numel()
    if baseline and count > 1:
        result = (rewards - rewards.mean()) * count / (count - 1)  # = r_k - mean of the others
    elif baseline:
        result = rewards - (sum(earlier) / len(earlier) if earlier else rewards)
    if scale:
        seen = torch.cat([rewards, rewards.new_tensor(list(earlier))])
        spread = seen.std(correction=0)
        result = result / spread if spread > 1e-6 else torch.zeros_like(result)
    return result


def policy_gradient_loss(log_probs: Tensor, advantage: Tensor) -> Tensor:
    """The loss whose gradient is minus the REINFORCE estimate: - mean_k (advantage_k x log p_k).

    Args:
        log_probs: [K], each the sum over the positions that the latents decided.
        advantage: [K], taken as constants.
    """
    return -(advantage.detach() * log_probs).mean()


def divergence(start_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(start || now) of token distributions, summed over positions and averaged over the first dimension.

    Args:
        start_logits, logits: [K, L, V].
    """
    start = torch.log_softmax(start_logits, dim=-1)
    now = torch.log_softmax(logits, dim=-1)
    return (start.exp() * (start - now)).sum(dim=(-2, -1)).mean()


def clipped_step(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], clip: float | None) -> float:
    """One optimiser step with the joint gradient norm clipped; returns the norm before clipping.

    A norm that is not finite skips the step: one absurd reward must not destroy what was learned.
    """
    touched = [parameter for parameter in parameters if parameter.grad is not None]
    if not touched:
        return 0.0
    norm = float(torch.nn.utils.clip_grad_norm_(touched, clip if clip else float("inf")))
    if norm < float("inf"):  # also false for NaN
        optimizer.step()
    return norm
