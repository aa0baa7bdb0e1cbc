"""The two streams of tokens that are decoded: the reasoning, and the picture as a guided pair of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from milr.decoding.rollout import Sampling
from milr.decoding.tokens import guide
from milr.models.base import UnifiedModel
from milr.noise import Stream


@dataclass(frozen=True)
class TokenStream:
    """What differs between writing and drawing.

    Attributes:
        paths: sequences that together make one row: 1 for text, 2 (conditional, unconditional) for a picture.
        limit: the most tokens of a row.
        temperature: 0 is greedy.
        stops: tokens that end a row; none for a picture.
        embed: [N, T] tokens to [N, T, H].
        head: [N, ..., paths, H] states to [N, ..., paths, V] logits, fp32.
    """

    noise: Stream
    paths: int
    vocabulary: int
    limit: int
    temperature: float
    guidance: float
    stops: frozenset[int]
    embed: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]

    def logits(self, states: Tensor) -> Tensor:
        """[N, ..., paths, H] to [N, ..., V], after guidance and temperature (1 when greedy)."""
        logits = self.head(states)
        first, last = logits[..., 0, :], logits[..., -1, :]
        return (guide(first, last, self.guidance) if self.paths == 2 else first) / (self.temperature or 1.0)


def text_stream(model: UnifiedModel, sampling: Sampling) -> TokenStream:
    """The reasoning."""
    return TokenStream(
        noise=Stream.TEXT,
        paths=1,
        vocabulary=model.facts.text_vocabulary,
        limit=sampling.max_reasoning_tokens,
        temperature=sampling.reasoning_temperature,
        guidance=1.0,
        stops=model.stop_ids,
        embed=model.embed_text,
        head=model.text_head,
    )


def image_stream(model: UnifiedModel, sampling: Sampling) -> TokenStream:
    """The picture."""
    return TokenStream(
        noise=Stream.IMAGE,
        paths=2,
        vocabulary=model.facts.image_vocabulary,
        limit=model.facts.image_tokens,
        temperature=sampling.temperature,
        guidance=sampling.guidance,
        stops=frozenset(),
        embed=model.embed_image,
        head=model.image_head,
    )
