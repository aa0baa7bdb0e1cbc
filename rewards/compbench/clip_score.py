"""The critic `clip-score`: T2I-CompBench's score of actions, the cosine of picture and prompt under CLIP ViT-B/32.

As in `CLIPScore_eval/CLIP_similarity.py`: the bare cosine, neither scaled nor cut at 0, so that good pictures score
about 0.3. For prompts of the category "complex" the benchmark leaves the adjectives out of the text; there,
`three-in-one` does so. A prompt longer than CLIP reads is cut, where the official code fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score

from ..networks.open_clip_models import OpenClip
from .noun_phrases import without_adjectives

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

MODEL = "ViT-B-32"
RULE = 1


class ClipScore(Reward):
    """Cosine of picture and prompt under CLIP ViT-B/32: actions and other non-spatial relations (T2I-CompBench).

    Args:
        facts: of the model whose pictures are scored; not used.
        device: where the model runs.
        model: an architecture of open_clip, "hf-hub:OWNER/NAME", or a folder with `open_clip_config.json`.
        pretrained: the checkpoint of an architecture; OpenAI's when not given.
        adjectives: whether the text keeps its adjectives; the benchmark leaves them out of complex prompts.

    Raises:
        UsageError: open_clip is not installed, or the model or the checkpoint is unknown.
    """

    name = "clip-score"
    range = (-1.0, 1.0)
    checkpoint = f"{MODEL} (openai)"
    licence = "MIT"
    size_mb = 605.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = MODEL,
        pretrained: str | None = None,
        adjectives: bool = True,
    ) -> None:
        self._clip = OpenClip(self.name, model, pretrained, device=device)
        self.kin = self._clip.kin
        self._adjectives = adjectives
        self.version = f"{RULE}-{self._clip.version}{'' if adjectives else '-no adjectives'}"

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        self._clip.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        texts = [prompt.text if self._adjectives else without_adjectives(prompt.text) for prompt in prompts]
        cosines = self._clip.cosines(images, texts).tolist()
        return [
            Score(cosine, {"cosine": cosine}, f"cosine with {text!r}")
            for cosine, text in zip(cosines, texts, strict=True)
        ]
