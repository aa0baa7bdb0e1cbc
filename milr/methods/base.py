"""A method: how new latents are proposed and learned from. Ask and tell, as in every black-box optimiser.

A method serves one search: one prompt, one image. It asks for rollouts, is told how they were rewarded, and knows
nothing of models' internals, critics or files. Its constructor takes, keyword-only, what milr gives it (`policy`,
`steps`, `samples`, `noise`) and its own options, each with its best known value as the default.

Step 0 is always the model as it is: `samples` plain rollouts, the first of which every method shares under one seed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from milr.decoding.rollout import Proposal, Rollout
from milr.noise import NoiseSource
from milr.policy import Policy

State = Mapping[str, Tensor]


class Method(ABC):
    """Proposes rollouts and learns from their rewards.

    Args:
        policy: from latents to token distributions.
        steps: how many steps follow step 0.
        samples: rollouts a step.
        noise: a deterministic source of noise for this search.
    """

    # Share of the image tokens whose states each rollout must carry.
    image_ratio: float = 0.0

    def __init__(self, *, policy: Policy, steps: int, samples: int, noise: NoiseSource) -> None:
        self.policy, self.steps, self.samples, self.noise = policy, steps, samples, noise
        self.step = 0

    @abstractmethod
    def ask(self) -> list[Proposal]:
        """The rollouts of the coming step."""

    def tell(self, rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> dict[str, float]:
        """Learn from a step; None is the reward of a rollout that its critic could not score.

        Returns:
            What is worth writing in a trace: loss, gradient norm, ...
        """
        self.step += 1
        return {}

    def state(self) -> State:
        """A snapshot of all that `ask` and `tell` depend on beyond the constructor, for going on after a kill."""
        return {}

    def restore(self, state: State, step: int) -> None:
        """Continue at `step` from a `state` taken before it, whose tensors now belong to the method."""
        self.step = step
