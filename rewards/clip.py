"""The critic `clip`: the cosine similarity of a picture and its prompt under an open_clip model.

Pictures of `mini` are scored by a small model that ships with milr and knows those scenes; any other picture by
OpenAI's ViT-L-14, or another architecture and checkpoint of open_clip, fetched on first use. Values are comparable
between pictures of one prompt, not between prompts, and there is none from which a picture counts as a success.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .networks.open_clip_models import OpenClip

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

DEFAULT = "ViT-L-14"
EMBEDDED = "scenes-clip"
EMBEDDED_WORLD = "mini"  # the model whose pictures the embedded one knows

_WEIGHTS = Path(__file__).parent / "weights"


class Clip(Reward):
    """Cosine similarity of picture and prompt.

    Args:
        facts: of the model whose pictures are scored.
        model: the open_clip model to score with: an architecture, a folder with `open_clip_config.json`,
            "hf-hub:OWNER/NAME", or "scenes-clip", the embedded one; chosen by `facts` when not given.
        pretrained: the checkpoint of the architecture, a tag of open_clip; "openai" where there is one.
        device: where the model runs.

    Raises:
        UsageError: open_clip is not installed, the model or the tag is unknown, or embedded weights are missing.
    """

    name = "clip"
    range = (-1.0, 1.0)
    checkpoint = f"{EMBEDDED} (embedded); for real pictures {DEFAULT} (openai), 1,710 MB"
    licence = "Apache-2.0 (embedded), MIT (OpenAI's), or as the chosen checkpoint says"
    size_mb = 4.5

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        model: str | None = None,
        pretrained: str | None = None,
        device: str = "cpu",
    ) -> None:
        if model is None:
            model = EMBEDDED if facts is not None and facts.name == EMBEDDED_WORLD else DEFAULT
        source = str(_WEIGHTS / EMBEDDED) if model == EMBEDDED else model
        self._clip = OpenClip(self.name, source, pretrained, device=device)
        self.kin = self._clip.kin
        self.version = self._clip.version
        self.size_mb = self._clip.size_mb or self.size_mb

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        self._clip.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        cosines = self._clip.cosines(images, [prompt.text for prompt in prompts])
        return [Score(cosine) for cosine in cosines.tolist()]
