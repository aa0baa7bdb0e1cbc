"""What is asked of the decoder and what it gives back, one row each."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from milr.latents import Prefix
from milr.noise import NoiseSource
from milr.prompts import Prompt


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, the same for all rows of a run.

    Attributes:
        guidance: weight g of the guided image logits u + g (c - u); 1 is no guidance.
        temperature: of image tokens; 0 is greedy.
        reasoning_temperature: of reasoning tokens; 0 is greedy.
        max_reasoning_tokens: where a reasoning that does not end is cut.
    """

    guidance: float
    temperature: float
    reasoning_temperature: float
    max_reasoning_tokens: int


@dataclass(frozen=True)
class Proposal:
    """One rollout that a method asks for.

    Attributes:
        step: with `sample`, the coordinates of this rollout's noise.
        sample: index within the step.
        reasoning_ids: [T] a reasoning to keep as it is; None to write one; empty to draw from the prompt alone.
        text: latents of the reasoning's first tokens; ignored when the reasoning is kept.
        image: latents of the picture's first tokens.
    """

    step: int
    sample: int
    reasoning_ids: Tensor | None = None
    text: Prefix | None = None
    image: Prefix | None = None


@dataclass(frozen=True)
class Request:
    """A proposal with the prompt it is for and the noise of its search."""

    prompt: Prompt
    noise: NoiseSource
    proposal: Proposal


@dataclass(frozen=True)
class Written:
    """One row's reasoning: ids and log-probabilities [T] and the states [T, H] fp32 that the head read."""

    ids: Tensor
    states: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class Drawn:
    """N rows' pictures: tokens and log-probabilities [N, T], states of the first positions [N, L, 2, H] fp32."""

    tokens: Tensor
    states: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class Undeveloped:
    """A rollout whose picture is still in tokens; the fields are those of `Rollout`."""

    request: Request
    reasoning: str
    written: Written
    image_tokens: Tensor
    image_states: Tensor
    image_log_probs: Tensor


@dataclass(frozen=True)
class Rollout:
    """One decoded (reasoning, image tokens, image) with what is needed to learn from it.

    States are what the heads read: the latents where a prefix reached, the model's own last hidden states elsewhere.

    Attributes:
        reasoning: the text, without special tokens.
        reasoning_ids: [T], the stop token included when one was written.
        text_states: [T, H] fp32; [0, H] when the reasoning was kept.
        text_log_probs: [T] fp32, of the tokens that were sampled, at the sampling temperature (at 1 when greedy).
        image_tokens: [N].
        image_states: [Lv, 2, H] fp32, the first Lv = as many as were asked for.
        image_log_probs: [N] fp32, after guidance and temperature.
    """

    prompt: Prompt
    proposal: Proposal
    reasoning: str
    reasoning_ids: Tensor
    text_states: Tensor
    text_log_probs: Tensor
    image_tokens: Tensor
    image_states: Tensor
    image_log_probs: Tensor
    image: Image.Image
