"""What a token-based unified model gives to the rest of milr.

A backend is one frozen network that writes text, draws image tokens and turns them into pixels, and that may read
pictures (`facts.reads`). It knows prompts and token ids, embeddings, its backbone and its heads. It knows nothing about
latents, sampling, guidance or rewards: those are the same for every backend. About a hundred lines a backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from milr.models.key_values import KeyValueCache, KeyValueShape

_TOKENS = "image_tokens"  # of a picture's `info`


@dataclass(frozen=True)
class ModelFacts:
    """What a model is and how it likes to be sampled."""

    name: str
    hidden_size: int
    image_tokens: int  # tokens of one picture
    text_vocabulary: int
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
    reads_tokens: bool = (
        False  # whether it reads the very tokens that it draws, and needs no pixels of its own pictures
    )


class Backbone(Protocol):
    """The layers between embeddings and heads, over a static cache; states come after the final norm.

    N rows, T positions, H hidden size. A row's token in column c stands at position c - start of the row and attends
    to its own columns up to c.
    """

    hidden_size: int

    @property
    def key_values(self) -> KeyValueShape:
        """What a cache for this backbone is made of."""
        ...

    def prefill(self, embeddings: Tensor, cache: KeyValueCache | None, first: int = 0) -> Tensor:
        """Many positions of every row at once, into columns `first` and on: [N, T, H] to [N, T, H].

        Args:
            embeddings: what stands before a row's start is ignored.
            cache: holds the columns before `first`; None for rows that start at column 0 and are never continued.
        """
        ...

    def step(self, embeddings: Tensor, cache: KeyValueCache, column: Tensor, length: int) -> Tensor:
        """One position of every row, into a column that the device alone knows: [N, H] to [N, H].

        Never waits for the device, so that it can be captured.

        Args:
            embeddings: may be written over.
            column: [1] int64, where the tokens go.
            length: attention may look at fewer columns than the cache has: at least `column` + 1; all, under capture.
        """
        ...


class UnifiedModel(Protocol):
    """A frozen model that reasons in text and draws image tokens.

    Parameters never require gradients; the heads are differentiable with respect to their input.
    Shapes: N rows, T positions, H hidden size.
    """

    facts: ModelFacts
    device: torch.device
    dtype: torch.dtype
    stop_ids: frozenset[int]  # tokens that end the reasoning
    end_ids: frozenset[int]  # tokens that end any other text
    pad_id: int

    @property
    def backbone(self) -> Backbone:
        """The layers between embeddings and heads."""
        ...

    def __hash__(self) -> int:
        """Models are told apart by who they are."""
        ...

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

        A model with `facts.reads_tokens` answers about pictures of its own from their tokens (`tokens_of`).

        Raises:
            ModelError: the model cannot read; `facts.reads` says so beforehand.
        """
        ...

    def read_picture(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings [N, T, H] after which the model says what it sees in each picture.

        Raises:
            ModelError: the model cannot read.
        """
        ...


def with_tokens(image: Image.Image, tokens: Tensor) -> Image.Image:
    """The picture, which from now on knows the image tokens [T] that it was made from."""
    image.info[_TOKENS] = (hash(image.tobytes()), tokens)
    return image


def tokens_of(images: Sequence[Image.Image]) -> Tensor | None:
    """[N, T] image tokens of pictures that a model drew; None when one of them comes from elsewhere, or was edited."""
    known = [image.info.get(_TOKENS, (None, None)) for image in images]
    if not images or any(seen != hash(image.tobytes()) for image, (seen, _) in zip(images, known, strict=True)):
        return None
    return torch.stack([tokens for _, tokens in known])
