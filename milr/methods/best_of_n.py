"""Best-of-n: fresh rollouts from the model as it is, nothing learned. The control that every method must beat."""

from __future__ import annotations

from milr.decoding import Proposal
from milr.methods.base import Method


class BestOfN(Method):
    """Every step is `samples` new reasonings and pictures; the search keeps the best and stops at the target."""

    def ask(self) -> list[Proposal]:
        return [Proposal(self.step, sample) for sample in range(self.samples)]
