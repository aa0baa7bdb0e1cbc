"""What a token-based unified model gives to the rest of milr.

A backend is one frozen network that writes text, draws image tokens and turns them into pixels, and that may read
pictures (`facts.reads`). It knows prompts and token ids, embeddings, its backbone and its heads. It knows nothing about
latents, sampling, guidance or rewards: those are the same for every backend. About a hundred lines a backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class ModelFacts:
    """What a model is and how it likes to be sampled."""

    name: str
    hidden_size: int
    image_tokens: int  # tokens of one picture
    image_vocabulary: int
    grid: tuple[int, int]  # the same tokens as (rows, columns)
    resolution: int  # pixels, both sides
    context_length: int  # text and image tokens that fit together
    guidance: float = 5.0  # classifier-free guidance weight g in u + g (c - u)
    temperature: float = 1.0  # of image tokens
    reasoning_temperature: float = 1.0  # of reasoning tokens; 0 is greedy
    max_reasoning_tokens: int = 256
    text_ratio: float = 0.2  # share of reasoning tokens whose latents are optimised
    image_ratio: float = 0.02  # share of image tokens whose latents are optimised
    default_reward: str | None = None
    licence: str = "unknown"
    reads: bool = False  # whether it answers questions about pictures


class UnifiedModel(Protocol):
    """A frozen model that reasons in text and draws image tokens.

    Parameters never require gradients; the heads are differentiable with respect to their input.
    Shapes: N rows, T positions, H hidden size.
    """

    facts: ModelFacts
    device: torch.device
    dtype: torch.dtype
    stop_ids: frozenset[int]  # tokens that end the reasoning
    pad_id: int

    def fingerprint(self) -> str:
        """SHA-256 of every parameter's name, shape and bytes: proves that nothing changed."""
        ...

    def check_prompt(self, prompt: str) -> None:
        """Refuse a prompt that does not fit the context together with a reasoning and a picture.

        Raises:
            PromptError: it is too long; the message says by how much.
        """
        ...

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of a prompt that the model cannot read, in order; empty for sub-word vocabularies."""
        ...

    def reasoning_ids(self, prompt: str) -> list[int]:
        """Token ids after which the model writes its reasoning."""
        ...

    def image_ids(self, prompt: str, reasoning: str) -> list[int]:
        """Token ids after which the model draws; an empty reasoning asks for the prompt alone."""
        ...

    def unconditional_ids(self, image_ids: Sequence[int]) -> list[int]:
        """The unconditional twin of an image prompt, of the same length."""
        ...

    def decode_text(self, ids: Sequence[int]) -> str:
        """Text of reasoning tokens, without special tokens."""
        ...

    def embed_text(self, ids: Tensor) -> Tensor:
        """[N, T] ids to [N, T, H]."""
        ...

    def embed_image(self, tokens: Tensor) -> Tensor:
        """[N, T] image tokens to [N, T, H]."""
        ...

    def new_cache(self) -> Any:
        """An empty cache of keys and values for `backbone`."""
        ...

    def backbone(self, embeddings: Tensor, cache: Any, attention_mask: Tensor, positions: Tensor) -> Tensor:
        """Last hidden states after the final norm, the heads' input; extends the cache in place.

        Args:
            embeddings: [N, T, H].
            cache: from `new_cache`, with S earlier positions; None for no cache.
            attention_mask: [N, S + T], 1 where a position may be attended to.
            positions: [N, T].

        Returns:
            [N, T, H]
        """
        ...

    def text_head(self, hidden: Tensor) -> Tensor:
        """[..., H] hidden states to [..., text vocabulary] logits, fp32."""
        ...

    def image_head(self, hidden: Tensor) -> Tensor:
        """[..., H] hidden states to [..., image vocabulary] logits, fp32."""
        ...

    def pixels(self, image_tokens: Tensor) -> list[Image.Image]:
        """[N, image_tokens] to N RGB pictures."""
        ...

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[float]:
        """Probability of "yes" against "no" for each (picture, question) pair; pictures may differ in size.

        Raises:
            ModelError: the model cannot read; `facts.reads` says so beforehand.
        """
        ...

    def describe(self, images: Sequence[Image.Image]) -> list[str]:
        """What the model sees in each picture, in its own words, the likeliest word each time.

        Raises:
            ModelError: the model cannot read.
        """
        ...
