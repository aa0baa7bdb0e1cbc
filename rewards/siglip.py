"""The critic `siglip`: how well SigLIP thinks a prompt describes a picture, under any SigLIP model of open_clip.

SigLIP is trained on each pair alone: sigmoid(scale · cosine + bias) is the probability that text and picture belong
together ("Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343, section 3.2; SigLIP 2: arXiv 2502.14786).
The value is the cosine, because the probability is next to 0 for most generated pictures and tells a search nothing
there; the probability, comparable between prompts, is a part. Texts are cut at 64 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .networks.open_clip_models import OpenClip

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

DEFAULT = "ViT-B-16-SigLIP2-256"
RULE_VERSION = 1  # raise it when the same embeddings may score otherwise


class Siglip(Reward):
    """Cosine similarity of picture and prompt under SigLIP 2, with the probability that they match.

    Args:
        facts: of the model whose pictures are scored.
        device: where the model runs.
        model: a SigLIP architecture of open_clip, "hf-hub:OWNER/NAME", or a folder with `open_clip_config.json`.
        pretrained: the checkpoint of the architecture, a tag of open_clip.

    Raises:
        UsageError: open_clip is not installed, or there is no such model; on loading, that it is no SigLIP model.
    """

    name = "siglip"
    range = (-1.0, 1.0)
    checkpoint = f"{DEFAULT} (webli)"
    licence = "Apache-2.0"
    size_mb = 1501.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = DEFAULT,
        pretrained: str | None = None,
    ) -> None:
        self._siglip = OpenClip(self.name, model, pretrained, device=device)
        self.kin = self._siglip.kin
        self.version = f"{RULE_VERSION}-{self._siglip.version}"

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        _ = self._siglip.sigmoid

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        cosines = self._siglip.cosines(images, [prompt.text for prompt in prompts])
        scale, bias = self._siglip.sigmoid
        probabilities = (scale * cosines + bias).sigmoid()
        return [
            Score(cosine, {"probability": probability}, f"matches the prompt with probability {probability:.3g}")
            for cosine, probability in zip(cosines.tolist(), probabilities.tolist(), strict=True)
        ]
