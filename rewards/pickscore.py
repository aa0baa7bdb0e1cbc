"""The critic `pickscore`: which picture people would pick for a prompt, by a CLIP-H that learned from their choices.

PickScore is the logit of that CLIP, exp(logit scale) · cosine ("Pick-a-Pic", arXiv 2305.01569, section 3); generated
pictures get about 17 to 24. Differences mean more than values: of two pictures of one prompt, people prefer the first
with probability sigmoid(first - second). Prompts are cut at 77 tokens. Everything is computed in float32, since
bfloat16 cannot tell 21.00 from 21.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .networks.batching import batches, once
from .networks.checkpoints import Weights

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

BATCH = 32  # texts or pictures per forward pass; keeps memory flat
PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # PickScore is fine-tuned from it
TOKENS = 77
RULE_VERSION = 1  # raise it when the same embeddings may score otherwise


class PickScore(Reward):
    """Human preference as PickScore sees it: scaled cosine of picture and prompt under a CLIP-H trained on choices.

    Args:
        facts: of the model whose pictures are scored.
        device: where the model runs.
        model: the weights: a hub id, or a folder with a `CLIPModel` of transformers.
        processor: what prepares pictures and texts: a hub id or a folder; when not given, the folder of the model, or
            the one that PickScore was trained with.

    Raises:
        UsageError: on loading, that there are no such weights.
    """

    name = "pickscore"
    checkpoint = "yuvalkirstain/PickScore_v1"
    licence = "MIT"
    size_mb = 3945.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = checkpoint,
        processor: str | None = None,
    ) -> None:
        self._device = device
        self._weights = Weights(self.name, model)
        self.kin = self._weights.kin
        self._preparation = Weights(
            self.name, processor or (model if self._weights.folder else PROCESSOR), option="processor"
        )

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        version = f"{RULE_VERSION}-{self._weights.version}"
        if self._preparation.source != self._weights.source:
            version += f"-{self._preparation.version}"
        return version

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        _ = self._loaded

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        if not images:
            return []
        model = self._loaded[0]
        wanted = once([prompt.text for prompt in prompts], self._embed_texts, BATCH)  # [images, D]
        seen = torch.cat([self._embed_images(batch) for batch in batches(images, BATCH)])  # [images, D]
        cosines = torch.nn.functional.cosine_similarity(seen, wanted)
        values = model.logit_scale.exp() * cosines
        return [
            Score(value, {"cosine": cosine}) for value, cosine in zip(values.tolist(), cosines.tolist(), strict=True)
        ]

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        model, processor = self._loaded
        tokens = processor(text=list(texts), padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
        return model.get_text_features(**tokens.to(self._device)).pooler_output

    def _embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        model, processor = self._loaded
        pixels = processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        return model.get_image_features(**pixels.to(self._device)).pooler_output

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The model, and what prepares texts and pictures for it."""
        from transformers import CLIPModel, CLIPProcessor

        return self._weights.model(CLIPModel, self._device), self._preparation.processor(CLIPProcessor)
