"""From proposals to rollouts: reason, draw, pixels, for B prompts x K samples in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from milr.decoding.cached import Written, draw_image, write_reasoning
from milr.decoding.rollout import Proposal, Rollout, Sampling
from milr.latents import stack_prefixes
from milr.models.base import UnifiedModel
from milr.noise import NoiseRows, NoiseSource
from milr.prompts import Prompt


@dataclass(frozen=True)
class Request:
    """A proposal with the prompt it is for and the noise of its search."""

    prompt: Prompt
    noise: NoiseSource
    proposal: Proposal


def decode_rollouts(
    model: UnifiedModel, requests: Sequence[Request], sampling: Sampling, keep_image_states: int = 0
) -> list[Rollout]:
    """Decodes N rollouts in one batch; each depends on its own request alone.

    Args:
        keep_image_states: for how many of the first image positions a rollout carries its states.
    """
    if not requests:
        return []
    written = _write_reasonings(model, requests, sampling)
    reasonings = [model.decode_text(row.ids.tolist()) for row in written]
    prompts = [
        model.image_ids(request.prompt.text, reasoning) for request, reasoning in zip(requests, reasonings, strict=True)
    ]
    width = model.facts.hidden_size
    prefixes = stack_prefixes([request.proposal.image for request in requests], (2, width), model.device)
    drawn = draw_image(model, prompts, prefixes, _noise_rows(requests, model.device), sampling, keep_image_states)
    images = model.pixels(drawn.tokens)
    return [
        Rollout(
            prompt=request.prompt,
            proposal=request.proposal,
            reasoning=reasonings[row],
            reasoning_ids=written[row].ids,
            text_states=written[row].states,
            text_log_probs=written[row].log_probs,
            image_tokens=drawn.tokens[row],
            image_states=drawn.states[row],
            image_log_probs=drawn.log_probs[row],
            image=images[row],
        )
        for row, request in enumerate(requests)
    ]


def _write_reasonings(model: UnifiedModel, requests: Sequence[Request], sampling: Sampling) -> list[Written]:
    """A reasoning per request: written where the proposal leaves it open, kept as it is elsewhere."""
    width = model.facts.hidden_size
    open_requests = [request for request in requests if request.proposal.reasoning_ids is None]
    written = iter(
        write_reasoning(
            model,
            [model.reasoning_ids(request.prompt.text) for request in open_requests],
            stack_prefixes([request.proposal.text for request in open_requests], (width,), model.device),
            _noise_rows(open_requests, model.device),
            sampling,
        )
        if open_requests
        else ()
    )
    nothing = torch.zeros(0, width, device=model.device)
    return [
        next(written)
        if request.proposal.reasoning_ids is None
        else Written(request.proposal.reasoning_ids.to(model.device), nothing, nothing[:, 0])
        for request in requests
    ]


def _noise_rows(requests: Sequence[Request], device: torch.device) -> NoiseRows:
    return NoiseRows(
        [request.noise for request in requests],
        [request.proposal.step for request in requests],
        [request.proposal.sample for request in requests],
        device,
    )
