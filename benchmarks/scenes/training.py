"""One training loop for every model of the recipe: AdamW, warm-up and cosine, bf16 on a GPU, clipped gradients.

Each stage gives two functions: `draw` makes a batch, `losses` turns it into loss terms. On a GPU the second one, with
the backward pass and the optimiser, may be captured as one CUDA graph: small networks on small pictures are bound by
launching kernels, not by the GPU. Progress goes to the log with losses and times, without stopping the GPU for it more
than every few seconds.
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
_EAGER_STEPS = 12  # before a capture: libraries choose their kernels and the optimiser makes its state
_STEPS_AHEAD = 10  # steps that may be queued on a GPU; a limit in seconds is blind to what waits there

Losses = dict[str, Tensor]
Batch = tuple[Tensor, ...]


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
    draw: Callable[[int], Batch],
    losses: Callable[[Batch, Tensor], Losses],
    schedule: Schedule,
    after_step: Callable[[int, float], None] = lambda step, share: None,
    capture: bool = False,
) -> None:
    """Minimise the sum of `losses(draw(step), share)` over the schedule.

    Args:
        draw: makes the batch of a step, without gradients.
        losses: loss terms of a batch; `share` (a scalar tensor) says how much of the training is done.
        after_step: called with the number of the step and the share.
        capture: on a GPU, run everything from `losses` to the optimiser's step as one CUDA graph. Then `losses` must
            not wait for the GPU, and batches keep their shapes.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    device = trained[0].device
    on_gpu = device.type == "cuda"
    optimizer = torch.optim.AdamW(
        trained,
        lr=torch.tensor(schedule.peak_lr, device=device) if on_gpu else schedule.peak_lr,
        betas=schedule.betas,
        weight_decay=schedule.weight_decay,
        fused=on_gpu,
        capturable=on_gpu,
    )
    progress = torch.zeros((), device=device)

    def advance(batch: Batch) -> Losses:
        # A cache of cast weights would not survive from one replay of a graph to the next.
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu, cache_enabled=not capture):
            terms = losses(batch, progress)
            total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return terms

    run = _on_side_stream(advance) if capture and on_gpu else advance
    began = logged = time.monotonic()
    for step in range(schedule.steps):
        share = max(step / schedule.steps, (time.monotonic() - began) / schedule.seconds)
        if share >= 1:
            break
        progress.fill_(share)
        for group in optimizer.param_groups:
            rate = schedule.rate(step, share)
            group["lr"] = group["lr"].fill_(rate) if on_gpu else rate
        with torch.no_grad():
            batch = draw(step)
        if capture and on_gpu and step == _EAGER_STEPS:
            optimizer.zero_grad(set_to_none=True)
            try:
                run = _captured(advance, batch)
            except RuntimeError as error:  # slower, not wrong
                log.warning("%s: the step could not be captured: %s", name, error)
                run = advance
        terms = run(batch)
        after_step(step, share)
        if on_gpu and step % _STEPS_AHEAD == 0:
            torch.cuda.synchronize(device)
        now = time.monotonic()
        if now - logged > _LOG_SECONDS or step in (0, schedule.steps - 1):
            shown = "  ".join(f"{key} {value.item():.4f}" for key, value in terms.items())
            log.info("%s %d/%d  %.1f s  %s", name, step + 1, schedule.steps, now - began, shown)
            logged = now


def _on_side_stream(advance: Callable[[Batch], Losses]) -> Callable[[Batch], Losses]:
    """Steps before a capture must not leave gradients that belong to the default stream."""
    side = torch.cuda.Stream()

    def run(batch: Batch) -> Losses:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            terms = advance(batch)
        torch.cuda.current_stream().wait_stream(side)
        return terms

    return run


def _captured(advance: Callable[[Batch], Losses], example: Batch) -> Callable[[Batch], Losses]:
    """One CUDA graph of a step; batches are copied to where it reads."""
    static = tuple(tensor.clone() for tensor in example)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        terms = advance(static)

    def run(batch: Batch) -> Losses:
        for place, value in zip(static, batch, strict=True):
            place.copy_(value)
        graph.replay()
        return terms

    return run


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
