"""One training loop for every model of the recipe: AdamW, warm-up and cosine, bf16 on a GPU, clipped gradients.

Each stage gives a function from the step number to a loss; what is in a batch is the stage's business. Progress goes to
the log with losses and times, without stopping the GPU for it more than every few seconds.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)
_LOG_SECONDS = 8.0

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    steps: int
    batch: int
    peak_lr: float
    seconds: float = math.inf  # a slow machine ends its training, learning rate and all, when this much has passed
    warmup: int = 100
    final: float = 0.02  # share of the peak that the cosine ends on
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)

    def rate(self, step: int, share: float) -> float:
        """Learning rate at a step, when this share of the training is done."""
        warm = min(1.0, (step + 1) / self.warmup)
        return self.peak_lr * warm * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def train(
    name: str,
    parameters: Iterable[nn.Parameter],
    losses: Callable[[int, float], Losses],
    schedule: Schedule,
    after_step: Callable[[int, float], None] = lambda step, share: None,
) -> None:
    """Minimise the sum of `losses(step, share)` over the schedule; `share` of the training is done by then."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    device = trained[0].device
    optimizer = torch.optim.AdamW(
        trained,
        lr=schedule.peak_lr,
        betas=schedule.betas,
        weight_decay=schedule.weight_decay,
        fused=device.type == "cuda",
    )
    began = logged = time.monotonic()
    for step in range(schedule.steps):
        share = max(step / schedule.steps, (time.monotonic() - began) / schedule.seconds)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step, share)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            terms = losses(step, share)
            total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        after_step(step, share)
        now = time.monotonic()
        if now - logged > _LOG_SECONDS or step in (0, schedule.steps - 1):
            shown = "  ".join(f"{key} {value.item():.4f}" for key, value in terms.items())
            log.info("%s %d/%d  %.1f s  %s", name, step + 1, schedule.steps, now - began, shown)
            logged = now


class Averaged:
    """An exponential moving average of a module's weights, kept beside it."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.average = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, step: int, share: float = 0.0) -> None:
        """Move the average; it follows faster in the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [parameter.detach() for parameter in self.module.parameters()]
        torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the module."""
        for name, value in self.module.named_parameters():
            value.copy_(self.average[name])
