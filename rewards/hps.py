"""The critic `hps`: Human Preference Score v2, a CLIP ViT-H that learned which pictures people prefer for a prompt.

The value is the cosine of picture and prompt ("Human Preference Score v2", arXiv 2306.09341, section 4), as the
authors' code reports it; generated pictures get about 0.2 to 0.35. Pictures are fitted by their longest side and padded
with black, as theirs are. Version 2.1 of the weights unless another file is named. Prompts are cut at 77 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .networks.checkpoints import Weights
from .networks.open_clip_models import OpenClip

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

ARCHITECTURE = "ViT-H-14"
FILE = "HPS_v2.1_compressed.pt"
RULE_VERSION = 1  # raise it when the same embeddings may score otherwise


class Hps(Reward):
    """Human preference as HPS v2.1 sees it: cosine of picture and prompt under a CLIP ViT-H trained on choices.

    Args:
        facts: of the model whose pictures are scored.
        device: where the model runs.
        model: where the weights are: a hub id or a folder.
        file: the weights, `.pt` or `.safetensors`; "HPS_v2_compressed.pt" is version 2.0.
        architecture: what they are weights of, a name of open_clip.

    Raises:
        UsageError: on loading, that there are no such weights or no such architecture, or open_clip is not installed.
    """

    name = "hps"
    range = (-1.0, 1.0)
    checkpoint = "xswu/HPSv2"
    licence = "Apache-2.0"
    size_mb = 1973.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = checkpoint,
        file: str = FILE,
        architecture: str = ARCHITECTURE,
    ) -> None:
        self._device, self._file, self._architecture = device, file, architecture
        self._weights = Weights(self.name, model)
        self.kin = self._weights.kin

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE_VERSION}-{self._weights.version}-{self._file}"

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        self._clip.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        cosines = self._clip.cosines(images, [prompt.text for prompt in prompts])
        return [Score(cosine) for cosine in cosines.tolist()]

    @cached_property
    def _clip(self) -> OpenClip:
        file = str(self._weights.file(self._file))
        return OpenClip(
            self.name, self._architecture, file, device=self._device, resize="longest", option="architecture"
        )
