"""Best-of-n: fresh rollouts from the model as it is, nothing learned. The control that every method must beat."""

from __future__ import annotations

import torch

from milr.decoding import Proposal
from milr.methods.base import Method
from milr.noise import NoiseSource
from milr.policy import Policy


class BestOfN(Method):
    """Every step is `samples` new pictures; the search keeps the best and stops at the target.

    Args:
        reasoning: False draws from the prompt alone, as the model does when nobody asks it to reason first.
        policy, steps, samples, noise: as for every method.
    """

    def __init__(self, *, policy: Policy, steps: int, samples: int, noise: NoiseSource, reasoning: bool = True) -> None:
        super().__init__(policy=policy, steps=steps, samples=samples, noise=noise)
        self.reasoning = reasoning

    def ask(self) -> list[Proposal]:
        nothing = None if self.reasoning else torch.zeros(0, dtype=torch.long)
        return [Proposal(self.step, sample, reasoning_ids=nothing) for sample in range(self.samples)]
