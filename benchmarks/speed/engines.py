"""The engine, drawing image tokens at one batch size, against what the device's copy bandwidth allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from milr.decoding import Engine, Proposal
from milr.models.janus import Janus
from milr.search import default_sampling

from .subjects import IMAGE_PROMPT_TOKENS, fixed_sampling, image_rows, never_stopping, requests
from .timing import clear_memory, peak_memory_gb, repeated, timed
from .traffic import drawing_traffic


@contextmanager
def fresh_engine(model: Janus, rows: int | None = None, capture: bool | None = None) -> Iterator[Engine]:
    """A cold engine, whose memory is given back at the end."""
    clear_memory(model.device)
    engine = Engine(model, rows=rows, capture=capture)
    try:
        yield engine
    finally:
        engine.release()
        del engine
        clear_memory(model.device)


def time_first_image(model: Janus, prompt: str) -> dict[str, Any]:
    """Seconds from weights on the device to a first picture: engine, reasoning, captures, pixels, all of it cold.

    It says what a user waits for only as the first thing that a process does.
    """
    view = never_stopping(model)
    with fresh_engine(view) as engine:
        proposals = [Proposal(0, 0)]
        (rollout,), seconds = timed(
            model.device, lambda: engine.decode(requests(prompt, proposals), fixed_sampling(model))
        )
        _, again = timed(model.device, lambda: engine.decode(requests(prompt, proposals), fixed_sampling(model)))
    return {"seconds": seconds, "seconds_when_warm": again, "reasoning_tokens": len(rollout.reasoning_ids)}


def time_drawing(
    model: Janus,
    batch: int,
    bandwidth: float | None,
    repeats: int,
    patience: float,
    projection_bytes: int | None = None,
) -> dict[str, Any]:
    """Image tokens of `batch` pictures at once.

    Args:
        bandwidth: bytes a second; None where it is not known.
        projection_bytes: of one weight of the backbone's projections; the model's dtype's own when not given.
    """
    rows, sampling, device = image_rows(model, batch), default_sampling(model), model.device
    with fresh_engine(model, rows=batch) as engine:
        timing = repeated(
            device,
            lambda: engine.draw(rows.prompts, rows.prefixes, rows.noise, sampling, 0),
            repeats,
            patience,
        )
        peak = peak_memory_gb(device)
    tokens = model.facts.image_tokens
    config = model.network.config
    traffic = drawing_traffic(config, batch, IMAGE_PROMPT_TOKENS, model.dtype, projection_bytes)
    roofline = traffic.roofline_seconds(tokens, bandwidth) if bandwidth else None
    return {
        "batch": batch,
        "seconds": timing.seconds,
        "all_seconds": timing.repeats,
        "first_seconds": timing.first,
        "warm_up_seconds": timing.warm_up,
        "seconds_per_image": timing.seconds / batch,
        "images_per_second": batch / timing.seconds,
        "ms_per_token": 1000 * timing.seconds / tokens,
        "gb_per_step": traffic.step / 1e9,
        "weights_gb_per_step": traffic.weights / 1e9,
        "cache_gb_per_step": traffic.cache / 1e9,
        "gb_per_second": traffic.step * tokens / timing.seconds / 1e9,
        "roofline_seconds": roofline,
        "ratio_to_roofline": timing.seconds / roofline if roofline else None,
        "peak_memory_gb": peak,
    }


def drawn_tokens(model: Janus, rows: int, capture: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and log-probabilities [N, T] of the first pictures, by a fresh engine."""
    subject = image_rows(model, rows)
    with fresh_engine(model, rows=rows, capture=capture) as engine:
        drawn = engine.draw(subject.prompts, subject.prefixes, subject.noise, default_sampling(model), 0)
        return drawn.tokens.clone(), drawn.log_probs.clone()
